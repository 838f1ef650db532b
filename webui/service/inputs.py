"""Init images and masks, kept by the hash of their bytes, so that a request can name them."""

import hashlib
import re
from pathlib import Path

from PIL import Image

from webui.core.errors import MissingModel, StorageError
from webui.core.image_metadata import open_image, size_of
from webui.service.files import make_folder, sync_folder, write_whole


class InputStore:
    """Files named by their sha256, just as they were given."""

    def __init__(self, folder: Path):
        self._folder = folder

    def add(self, data: bytes) -> str:
        """Store a picture's bytes; returns their sha256 in hex. Raises BadRequest for what is no picture, StorageError."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._place(sha256)
        if path.exists():
            return sha256
        open_image(data)
        try:
            make_folder(path.parent)
            write_whole(path, data)
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError(f"the picture could not be stored in {self._folder}: {error.strerror}; free disk space") from error
        return sha256

    def path(self, sha256: str) -> Path:
        """Where the bytes lie. Raises MissingModel when nobody gave them."""
        path = self._place(sha256)
        if not path.is_file():
            raise MissingModel(f"there is no input picture {sha256!r}; send it again")
        return path

    def open(self, sha256: str) -> Image.Image:
        """The picture, turned as its EXIF data say. Raises MissingModel."""
        return open_image(self.path(sha256).read_bytes())

    def size(self, sha256: str) -> tuple[int, int]:
        """Width and height of the picture that `open` gives, without decoding it. Raises MissingModel."""
        return size_of(self.path(sha256).read_bytes())

    def _place(self, sha256: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise MissingModel(f"{sha256[:80]!r} is not the sha256 of an input picture: 64 small hex digits")
        return self._folder / sha256[:2] / sha256


def inputs_folder(data_dir: Path) -> Path:
    """Where input pictures lie."""
    return data_dir / "inputs"
