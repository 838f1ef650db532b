"""SQLite's log beside the database (`<name>-wal`), looked at by itself: SQLite drops commits behind a damaged place without a word.

The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import shutil
import sqlite3
import struct
from pathlib import Path

from webui.service.files import backup_name

HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint number, two salts, two checksums
FRAME = struct.Struct(">6I")  # page, size of the database after a commit (0: none), two salts, two checksums
MAGIC = 0x377F0682  # checksums over little-endian words; with its last bit over big-endian ones
MASK = 0xFFFFFFFF


def keep_damaged_log(connection: sqlite3.Connection, database: Path) -> str:
    """A sentence if the log holds commits that SQLite does not take, "" else; the log is then copied before it is written over.

    connection: to a database in WAL mode to which nothing was written yet. Raises sqlite3.DatabaseError when it is unusable.
    """
    log = database.with_name(f"{database.name}-wal")
    commits = last_commit(log)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    taken = connection.execute("PRAGMA wal_checkpoint").fetchone()[1]  # frames; writes pages to the database, and leaves the log
    if commits <= taken:
        return ""
    kept = backup_name(log)
    try:
        shutil.copyfile(log, kept)
    except OSError as error:
        return (
            f"the database's log was damaged, and no copy of it could be kept ({error.strerror}): the latest changes of queue and settings "
            "may be lost; pictures are looked for in the outputs"
        )
    return (
        f"the database's log was damaged; it is kept as {kept.name}: the latest changes of queue and settings may be lost; pictures are "
        "looked for in the outputs"
    )


def last_commit(log: Path) -> int:
    """How many frames the log has up to its last commit, as each frame says of itself; where the header is damaged, all there are."""
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                return 0
            magic, _, page, _, *salts, first, second = HEADER.unpack(head)
            if (first, second) != _checksum(head[:-8], "<" if magic == MAGIC else ">"):
                return (size - HEADER.size) // (FRAME.size + 512)  # of the smallest pages
            count, last = (size - HEADER.size) // (FRAME.size + page), 0
            for number in range(count):
                file.seek(HEADER.size + number * (FRAME.size + page))
                _, commit, *told = FRAME.unpack(file.read(FRAME.size))
                if commit and told[:2] == salts:  # other salts: left over from before the last checkpoint
                    last = number + 1
            return last
    except OSError:
        return 0


def _checksum(data: bytes, order: str) -> tuple[int, int]:
    first = second = 0
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, two in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & MASK
        second = (second + two + first) & MASK
    return first, second
