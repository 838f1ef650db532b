"""Small pictures for the gallery, made once each and kept in a cache folder by picture and time of its file."""

import io
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from webui.core.errors import BadRequest, MissingModel
from webui.core.image_metadata import open_image
from webui.service.files import make_folder, write_whole

SIDE = 256  # pixels, at most, of either side
QUALITY = 80  # of WebP
MAX_FILE = 200 * 2**20  # bytes of a picture that is made small


class PictureThumbnails:
    """The cache folder. What is in it can be thrown away at any time."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._shrinking = threading.Semaphore(2)  # large pictures in memory at once

    def get(self, number: int, path: Path) -> bytes:
        """The small picture of picture `number` with file `path`, as WebP. Raises MissingModel where the file is gone or no picture."""
        try:
            told = path.stat()
        except OSError:
            raise MissingModel(f"the file of picture {number} is not there any more: {path.name}") from None
        small = self._place(number) / f"{number}-{told.st_mtime_ns:x}.webp"
        with suppress(OSError):
            return small.read_bytes()
        with self._shrinking:
            data = _shrunk(path, told.st_size)
        with suppress(OSError):  # a full disk keeps nobody from looking at pictures
            self.forget([number])
            make_folder(small.parent)
            write_whole(small, data)
        return data

    def forget(self, numbers: Iterable[int]) -> None:
        """Throw the small pictures of these away."""
        for number in numbers:
            for path in self._place(number).glob(f"{number}-*.webp"):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _place(self, number: int) -> Path:
        return self._folder / f"{number % 256:02x}"


def _shrunk(path: Path, size: int) -> bytes:
    """Raises MissingModel."""
    try:
        if size > MAX_FILE:
            raise BadRequest(f"{path.name} has {size} bytes; {MAX_FILE} are looked at")
        image = open_image(path.read_bytes())
        image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
        image.thumbnail((SIDE, SIDE), reducing_gap=2.0)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY, method=2)
        return buffer.getvalue()
    except (BadRequest, OSError) as error:
        raise MissingModel(f"{path.name} cannot be shown: {error}") from None
