"""Sets of pictures to train on: folders below training/ of the data folder, each picture with its caption in a text file beside it."""

import re
import threading
from dataclasses import dataclass
from pathlib import Path

from webui.core import infotext
from webui.core.errors import BadRequest, MissingModel, StorageError
from webui.core.image_metadata import open_image, read_infotext
from webui.core.model_orders import check_file_name
from webui.service.files import make_folder, write_whole

FOLDER = "training"  # below the data folder
REMOVED = "removed"  # folder within a set, for what was taken out
ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp"}
MAX_CAPTION = 10_000  # characters


@dataclass(frozen=True)
class TrainingPicture:
    file: str
    caption: str


class TrainingSets:
    """The sets; a name is a folder's, a file that of a picture in it."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / FOLDER
        self._lock = threading.Lock()  # over new names

    def all(self) -> dict[str, int]:
        """Every set's name, and how many pictures it has."""
        folders = sorted(path for path in self._root.glob("*") if path.is_dir()) if self._root.is_dir() else []
        return {folder.name: len(_files(folder)) for folder in folders}

    def pictures(self, name: str) -> list[TrainingPicture]:
        """Those of a set, by name; [] for one that is not there yet. Raises BadRequest for what is no name."""
        folder = self._folder(name)
        return [TrainingPicture(file.name, _caption(file)) for file in _files(folder)] if folder.is_dir() else []

    def add(self, name: str, data: bytes, called: str) -> TrainingPicture:
        """Put a picture into a set, which is made where there is none; the prompt that it carries is its caption.

        called: the file's name, of which what can be a name is kept. Raises BadRequest, StorageError.
        """
        folder = self._folder(name)
        ending = ENDINGS.get(open_image(data).format or "")
        if ending is None:
            raise BadRequest(f"pictures to train on are {', '.join(ENDINGS)}; save this one as one of them")
        stem = re.sub(r"[^\w -]", "", Path(called).stem).strip()[:80] or "picture"
        caption = infotext.read(read_infotext(data).text).prompt[:MAX_CAPTION]
        try:
            make_folder(folder)
            with self._lock:
                taken = {path.stem for path in folder.rglob("*")}  # the removed ones may come back
                stem = next(each for each in (stem, *(f"{stem} {i}" for i in range(2, len(taken) + 3))) if each not in taken)
                if caption:
                    write_whole(folder / f"{stem}.txt", caption.encode())
                write_whole(folder / f"{stem}{ending}", data)
        except OSError as error:
            raise StorageError(f"the picture could not be stored: {error.strerror}; free disk space") from error
        return TrainingPicture(f"{stem}{ending}", _caption(folder / f"{stem}{ending}"))

    def describe(self, name: str, file: str, caption: str) -> None:
        """Write a picture's caption; "": its file's name counts again. Raises BadRequest, MissingModel, StorageError."""
        path = self.path(name, file).with_suffix(".txt")
        if len(caption) > MAX_CAPTION:
            raise BadRequest(f"the caption is longer than {MAX_CAPTION} characters; shorten it")
        try:
            if caption.strip():
                write_whole(path, caption.strip().encode())
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"the caption could not be stored: {error.strerror}; free disk space") from error

    def remove(self, name: str, file: str) -> None:
        """Take a picture out of a set, into its folder of removed ones. Raises BadRequest, MissingModel, StorageError."""
        path = self.path(name, file)
        self._move(path.parent, path.parent / REMOVED, path)

    def restore(self, name: str, file: str) -> None:
        """Bring a removed picture back. Raises BadRequest, MissingModel, StorageError."""
        folder = self._folder(name)
        path = folder / REMOVED / Path(file).name
        if not path.is_file():
            raise MissingModel(f"{file[:100]!r} is not among the removed pictures of {name}")
        self._move(path.parent, folder, path)

    def path(self, name: str, file: str) -> Path:
        """A picture's file. Raises BadRequest, MissingModel."""
        found = next((path for path in _files(self._folder(name)) if path.name == file), None)
        if found is None:
            raise MissingModel(f"there is no picture {file[:100]!r} in {name}; it may have been removed")
        return found

    def _move(self, old: Path, new: Path, path: Path) -> None:
        try:
            make_folder(new)
            for each in (path, path.with_suffix(".txt")):
                if each.is_file():
                    each.replace(new / each.name)
        except OSError as error:
            raise StorageError(f"{path.name} could not be moved: {error.strerror}") from error

    def _folder(self, name: str) -> Path:
        if not name:
            raise BadRequest("the set of pictures has no name; give it one")
        check_file_name(name)
        return self._root / name


def _files(folder: Path) -> list[Path]:
    endings = (*ENDINGS.values(), ".jpeg")
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in endings and not path.name.startswith("."))


def _caption(picture: Path) -> str:
    try:
        return picture.with_suffix(".txt").read_text("utf-8", "replace")[:MAX_CAPTION].strip()
    except OSError:
        return ""
