"""webui/service/zip_stream.py."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from webui.service.zip_stream import PIECE, zip_stream


def test_names_that_come_twice_are_both_kept(tmp_path: Path) -> None:
    files = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"%d" % number)
        files.append(("猫.png", path))
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_stream(files)))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"猫.png": b"0", "猫-1.png": b"1", "猫-2.png": b"2"}


def test_an_empty_zip_is_a_zip(tmp_path: Path) -> None:
    data = b"".join(zip_stream([("gone.png", tmp_path / "gone.png")]))
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == []


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, 3 * PIECE + 5])
def test_files_of_any_size_come_out_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bytes(number % 251 for number in range(size)))
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_stream([("a.png", path)])))) as archive:
        assert archive.testzip() is None
        assert archive.read("a.png") == path.read_bytes()


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(30 * PIECE))
    tracemalloc.start()
    sent = sum(len(piece) for piece in zip_stream([(f"{number}.png", path) for number in range(3)]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent > 90 * PIECE
    assert peak < 10 * PIECE
