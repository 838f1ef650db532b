"""What webui/service/files.py asks of the system, watched by a test."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from webui.service import files


class Watch:
    """`os` and `open` of webui/service/files.py: as they are, but for what a subclass does."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def opened(self, path: Path, file: Any) -> Any:
        """Called with each file that was opened; what it returns is what the caller gets."""
        return file

    def open_file(self, path: Path, mode: str) -> Any:
        return self.opened(path, open(path, mode))


class Wrapped:
    """A file with another `write`."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self.file = file
        self.write = write

    def __enter__(self) -> "Wrapped":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@contextmanager
def watched_by(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", watch)
        patch.setattr(files, "open", watch.open_file, raising=False)
        yield
