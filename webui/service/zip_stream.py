"""Several files as one ZIP, byte by byte as it is sent: nothing of it is held in memory or on disk."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

PIECE = 2**18  # bytes read at once
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a ZIP can tell


class _Outlet(io.RawIOBase):
    """What a ZipFile writes to: it keeps what was written until it is taken away, and cannot go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def zip_stream(files: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """The ZIP of (name in it, file), stored as they are, for pictures are compressed already. Files that are gone are left out; names
    that come twice get a number."""
    outlet = _Outlet()
    names: set[str] = set()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            try:
                source = path.open("rb")
            except OSError:
                continue
            with source:
                yield from _member(archive, outlet, source, _free(name, names))
    yield outlet.taken()


def _member(archive: zipfile.ZipFile, outlet: _Outlet, source: IO[bytes], name: str) -> Iterator[bytes]:
    info = zipfile.ZipInfo(name, EARLIEST)
    info.external_attr = 0o644 << 16
    with archive.open(info, "w", force_zip64=True) as member:
        while piece := source.read(PIECE):
            member.write(piece)
            yield outlet.taken()


def _free(name: str, names: set[str]) -> str:
    base, dot, ending = name.rpartition(".")
    number, free = 0, name
    while free in names:
        number += 1
        free = f"{base}-{number}{dot}{ending}"
    names.add(free)
    return free
