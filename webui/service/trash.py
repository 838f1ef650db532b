"""The trash: pictures that can come back. Rows say where a file belongs; a move that a kill interrupted is made at the next start."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

from webui.core.errors import StorageError
from webui.service.database import Database
from webui.service.files import make_folder, sync_folder
from webui.service.gallery import TRASH
from webui.service.picture_rows import forget_pictures, marks

TODAY = "(SELECT coalesce(max(number), 0) FROM days_of_use)"
Move = tuple[int, str, str]  # picture, from, to: paths below the outputs


class Trash:
    """Moves the files of saved pictures into a hidden folder of the outputs and back. Every method wants ids of saved pictures."""

    def __init__(self, database: Database, outputs_dir: Path):
        self._database = database
        self._outputs = outputs_dir
        self._lock = threading.Lock()  # between choosing names and moving to them

    def put(self, numbers: Sequence[int]) -> None:
        """Into the trash, those that lie there already left alone. Raises StorageError."""
        taken: set[str] = set()
        with self._lock:
            paths = self._paths(numbers, trashed=False)
            self._carry_out([(number, path, self._free(f"{TRASH}/{path}", taken)) for number, path in paths], time.time())

    def restore(self, numbers: Sequence[int]) -> None:
        """Back to where they were; under another name where there is a new file of the old one. Raises StorageError."""
        taken: set[str] = set()
        with self._lock:
            paths = self._paths(numbers, trashed=True)
            self._carry_out([(number, path, self._free(path.removeprefix(f"{TRASH}/"), taken)) for number, path in paths], 0.0)

    def older_than(self, days: int) -> list[int]:
        """The pictures that were thrown away as many days of use ago: days on which this was asked, so that a clock which is set wrong,
        and right again, empties no trash."""
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO days_of_use (day) VALUES (?)", (date.today().isoformat(),))
        sql = f"SELECT picture FROM picture_facts WHERE trashed > 0 AND trash_day <= {TODAY} - ? ORDER BY picture"
        return [row["picture"] for row in self._database.read(sql, (days,))]

    def delete(self, numbers: Sequence[int]) -> list[int]:
        """Files and rows of pictures in the trash, for ever; returns which. Raises StorageError for a file that cannot be deleted."""
        with self._lock:
            paths = self._paths(numbers, trashed=True)
            for _, path in paths:
                try:
                    (self._outputs / path).unlink(missing_ok=True)
                except OSError as error:
                    raise StorageError(f"{path} cannot be deleted: {error.strerror}; check who may write to its folder") from error
            gone = [number for number, _ in paths]
            with self._database.write() as connection:
                forget_pictures(connection, gone)
            return gone

    def finish(self) -> int:
        """Make the moves that were decided, but not made, when Easel ended; returns how many. What cannot be moved is tried at the next
        start again."""
        rows = self._database.read("SELECT picture, source, target FROM picture_moves")
        moves = [(row["picture"], row["source"], row["target"]) for row in rows]
        with suppress(StorageError):
            self._move(moves)
        return len(moves)

    def _carry_out(self, moves: list[Move], trashed: float) -> None:
        """Decide the moves, and make them. What cannot be made is undecided again, all of it."""
        if not moves:
            return
        self._decide(moves, trashed)
        try:
            self._move(moves)
        except StorageError:
            self._decide([(number, target, source) for number, source, target in moves], 0.0 if trashed else time.time())
            self._move([(number, target, source) for number, source, target in moves])
            raise

    def _decide(self, moves: Sequence[Move], trashed: float) -> None:
        with self._database.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO picture_moves (picture, source, target) VALUES (?, ?, ?)", moves)
            connection.executemany("UPDATE pictures SET path = ? WHERE id = ?", [(target, number) for number, _, target in moves])
            sql = f"UPDATE picture_facts SET trashed = ?, trash_day = {TODAY} WHERE picture = ?"
            connection.executemany(sql, [(trashed, number) for number, _, _ in moves])

    def _move(self, moves: Sequence[Move]) -> None:
        """Files that are gone, or were moved already, are passed over."""
        folders: set[Path] = set()
        for number, source, target in moves:
            old, new = self._outputs / source, self._outputs / target
            try:
                if os.path.lexists(old) and not os.path.lexists(new):
                    make_folder(new.parent)
                    os.rename(old, new)
                    folders |= {old.parent, new.parent}
            except OSError as error:
                raise StorageError(f"picture {number} cannot be moved to {new.parent}: {error.strerror}; check that folder") from error
        for folder in folders:
            with suppress(OSError):
                sync_folder(folder)
        with self._database.write() as connection:
            connection.executemany("DELETE FROM picture_moves WHERE picture = ? AND target = ?", [(move[0], move[2]) for move in moves])

    def _paths(self, numbers: Sequence[int], trashed: bool) -> list[tuple[int, str]]:
        sign = ">" if trashed else "="
        sql = f"SELECT id, path FROM pictures JOIN picture_facts ON picture = id WHERE trashed {sign} 0 AND id IN ({marks(numbers)})"
        return [(row["id"], row["path"]) for row in self._database.read(sql, numbers)]

    def _free(self, path: str, taken: set[str]) -> str:
        """`path`, or the like, that no file and no row has."""
        base, dot, ending = path.rpartition(".")
        number, free = 0, path
        while free in taken or os.path.lexists(self._outputs / free) or self._has_row(free):
            number += 1
            free = f"{base}-{number}{dot}{ending}"
        taken.add(free)
        return free

    def _has_row(self, path: str) -> bool:
        return bool(self._database.read("SELECT 1 FROM pictures WHERE temporary = 0 AND path = ?", (path,)))
