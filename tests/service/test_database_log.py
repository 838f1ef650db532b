"""webui/service/database_log.py: commits that SQLite drops without a word are told of; what was never committed is not."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from webui.service.database import open_database
from webui.service.database_log import FRAME, HEADER, last_commit

PAGE = 4096
FRAMES = FRAME.size + PAGE
COMMITS = 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A database as a kill leaves it: COMMITS preferences are in its log alone."""
    live = tmp_path / "live" / "easel.sqlite3"
    opened, _ = open_database(live)
    opened.read("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(COMMITS):
        with opened.write() as connection:
            connection.execute("INSERT INTO preferences VALUES (?, ?)", (str(number), "x" * 5000))
    shutil.copytree(live.parent, tmp_path / "killed")
    opened.close()
    return tmp_path / "killed" / "easel.sqlite3"


def log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def reopened(database: Path) -> tuple[int, tuple[str, ...]]:
    """How many preferences there are, and what is told."""
    opened, warnings = open_database(database)
    count = opened.read("SELECT count(*) FROM preferences")[0][0]
    assert opened.read("PRAGMA integrity_check")[0][0] == "ok"
    opened.close()
    return count, warnings


def flip(at: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


def in_frame(number: int, at: int) -> Callable[[bytearray], None]:
    """A bit of the frame of that number, from the end if negative."""

    def change(data: bytearray) -> None:
        start = HEADER.size + number * FRAMES if number >= 0 else len(data) + number * FRAMES
        data[start + at] ^= 1

    return change


def test_a_sound_log_says_nothing(killed: Path) -> None:
    assert reopened(killed) == (COMMITS, ())


@pytest.mark.parametrize(
    "damage",
    [flip(0), flip(9), flip(17), flip(30), in_frame(0, 500), in_frame(3, 0), in_frame(3, 9), in_frame(3, 18), in_frame(-1, 700)],
    ids=["magic", "page size", "salt", "checksum", "first page", "page number", "a frame's salt", "a frame's checksum", "last page"],
)
def test_a_damaged_log_is_kept_and_told_and_what_comes_before_is_there(killed: Path, damage: Callable[[bytearray], None]) -> None:
    log = log_of(killed)
    data = bytearray(log.read_bytes())
    damage(data)
    log.write_bytes(data)
    count, (warning,) = reopened(killed)
    assert count < COMMITS
    (kept,) = killed.parent.glob("easel.sqlite3-wal.bak-????-??-??")
    assert kept.read_bytes() == data
    assert f"log was damaged; it is kept as {kept.name}: the latest changes of queue and settings may be lost" in warning
    assert reopened(killed) == (count, ())


def test_what_was_written_half_was_never_committed(killed: Path) -> None:
    """As a power cut leaves it: SQLite has told nobody that this was stored."""
    log = log_of(killed)
    data = log.read_bytes()
    for end in range(len(data), len(data) - 2 * FRAMES, -512):
        folder = killed.parent.parent / f"cut {end}"
        shutil.copytree(killed.parent, folder)
        (folder / log.name).write_bytes(data[:end])
        assert reopened(folder / killed.name)[1] == ()


def test_frames_from_before_the_last_checkpoint_are_no_lost_commits(tmp_path: Path) -> None:
    path = tmp_path / "live" / "easel.sqlite3"
    opened, _ = open_database(path)
    for number in range(20):
        with opened.write() as connection:
            connection.execute("INSERT INTO preferences VALUES (?, ?)", (str(number), "x" * 5000))
    opened.read("PRAGMA wal_checkpoint(RESTART)")
    with opened.write() as connection:
        connection.execute("DELETE FROM preferences WHERE name = '1'")
    shutil.copytree(path.parent, tmp_path / "killed")
    opened.close()
    log = log_of(tmp_path / "killed" / path.name)
    assert last_commit(log) < (log.stat().st_size - HEADER.size) // FRAMES
    assert reopened(tmp_path / "killed" / path.name) == (19, ())


@pytest.mark.parametrize("content", [b"", b"x" * 31, struct.pack(">8I", *[0] * 8)])
def test_a_log_without_a_frame_has_nothing_to_lose(killed: Path, content: bytes) -> None:
    log_of(killed).write_bytes(content)
    assert reopened(killed) == (0, ())
