"""Folders below outputs as a source of pictures: what the page may name instead of sending the files."""

from collections.abc import Callable
from pathlib import Path

from webui.core.errors import BadRequest, MissingModel

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class OutputFolders:
    """The folders directly below outputs, and no other place. add_input: bytes -> sha256 in the input store."""

    def __init__(self, outputs_dir: Path, add_input: Callable[[bytes], str]) -> None:
        self._outputs = outputs_dir
        self._add_input = add_input

    def listed(self) -> list[tuple[str, int]]:
        """(name, number of pictures) of each folder that has some, the newest name first."""
        folders = {path.name: len(self._files(path)) for path in self._folders()}
        return [(name, count) for name, count in sorted(folders.items(), reverse=True) if count]

    def inputs(self, name: str, most: int) -> list[tuple[str, str]]:
        """(file name, sha256 in the input store) of the folder's pictures, in order of names; files that are no pictures are left out.

        Raises MissingModel for what is not listed, BadRequest where there are more than `most`, StorageError.
        """
        folder = next((path for path in self._folders() if path.name == name), None)
        if folder is None:
            raise MissingModel(f"there is no folder {name[:100]!r} below outputs; choose one of the list")
        files = self._files(folder)
        if len(files) > most:
            raise BadRequest(f"folder {name} holds {len(files)} pictures; at most {most} are taken at once: choose a smaller one")
        found = []
        for path in files:
            try:
                found.append((path.name, self._add_input(path.read_bytes())))
            except (BadRequest, OSError):
                continue
        return found

    def _folders(self) -> list[Path]:
        """Links that lead elsewhere are left out."""
        if not self._outputs.is_dir():
            return []
        root = self._outputs.resolve()
        return [path for path in self._outputs.iterdir() if path.is_dir() and path.resolve().parent == root and path.name[0] != "."]

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        here = folder.resolve()
        files = (path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.name[0] != ".")
        return sorted(path for path in files if path.is_file() and path.resolve().parent == here)
