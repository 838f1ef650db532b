"""The one SQLite file: committed means on disk; one process at a time; a damaged file is set aside, never deleted."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from webui.core.errors import StorageError
from webui.service.database_log import keep_damaged_log
from webui.service.files import backup_name
from webui.service.migrations import migrate

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
UNUSABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # by its low byte: damaged, or tables that do not fit


class Database:
    """One connection, shared by all threads under one lock."""

    def __init__(self, path: Path, lock: sqlite3.Connection | None = None):
        """Open or make the file. Raises sqlite3.DatabaseError when it is unusable."""
        self.path = path
        self.warning = ""  # what must be told about it
        self._lock = threading.RLock()
        self._guard = lock
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            self._prepare()
        except sqlite3.DatabaseError:
            self._connection.close()
            raise
        except UnicodeDecodeError:  # what Python makes of an error whose text quotes damaged bytes
            self._connection.close()
            raise sqlite3.DatabaseError("its tables cannot be read") from None

    def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self.warning = keep_damaged_log(self._connection, self.path)
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))
        migrate(self._connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed to disk when the block ends, undone when it raises. Raises StorageError when the disk refuses."""
        with self._lock, self._as_storage_error():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of one query."""
        with self._lock, self._as_storage_error():
            return self._connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the file and let another process have it."""
        with self._lock:
            self._connection.close()
            if self._guard is not None:
                self._guard.close()

    @contextmanager
    def _as_storage_error(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StorageError(f"the database {self.path.name} could not be used ({error}); free disk space or check its folder") from error


class DatabaseReader:
    """The file of another process's Database, only to be read."""

    def __init__(self, path: Path):
        self._path = path
        self._local = threading.local()

    def read(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of one query. Raises StorageError."""
        try:
            if not hasattr(self._local, "connection"):
                connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
                connection.row_factory = sqlite3.Row
                self._local.connection = connection
            rows: list[sqlite3.Row] = self._local.connection.execute(sql, values).fetchall()
            return rows
        except sqlite3.Error as error:
            raise StorageError(f"the database {self._path.name} could not be read ({error})") from error


def open_database(path: Path) -> tuple[Database, tuple[str, ...]]:
    """The database and what must be told about it, where rows are lost: an unusable file is kept as `<name>.bak-<date>` and a new one
    begun, also in the place of one that was emptied; of a damaged log a copy is kept.

    Raises StorageError when another Easel uses it, or when the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = _claim(path)
        emptied = _emptied(path)
    except OSError as error:
        raise StorageError(f"the data folder {path.parent} cannot be used: {error.strerror}; choose another with --data-dir") from error
    try:
        database = Database(path, guard)
        return database, tuple(filter(None, [emptied, database.warning]))
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code not in UNUSABLE and not path.is_dir():
            guard.close()
            raise StorageError(f"the database {path} cannot be opened: {error}; check its folder, or use another --data-dir") from error
        kept = _set_aside(path)
        warning = f"the database was damaged ({error}); it is kept as {kept.name} and a new one was begun: queue and settings start afresh"
        return Database(path, guard), (warning,)


def _claim(path: Path) -> sqlite3.Connection:
    """Hold `<path>.lock` until closed or until this process dies. Raises StorageError when it is another's, or cannot be made."""
    try:
        guard = sqlite3.connect(f"{path}.lock", isolation_level=None, check_same_thread=False, timeout=2)
    except sqlite3.DatabaseError as error:
        why = f"{path.name}.lock: {error}"
        raise StorageError(f"the data folder {path.parent} cannot be used: {why}; choose another with --data-dir") from error
    try:
        guard.execute("BEGIN EXCLUSIVE")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in BUSY:
            guard.close()
            raise StorageError(f"another Easel already uses {path.parent}; stop it, or choose another folder with --data-dir") from error
    return guard


def _emptied(path: Path) -> str:
    """What is to be told of a file without content, "" for others. SQLite takes it for a new one and would delete its log, so that is kept.

    Raises OSError.
    """
    if not path.is_file() or path.stat().st_size:
        return ""
    log = path.with_name(f"{path.name}-wal")
    if not log.is_file() or not log.stat().st_size:
        return "the database was empty: queue and settings start afresh, and pictures are looked for in the outputs"
    kept = f"{_set_aside(path).name}-wal"
    return f"the database was empty; its log is kept as {kept}: queue and settings start afresh, and pictures are looked for in the outputs"


def _set_aside(path: Path) -> Path:
    """Rename the file and its companions to a name that is free; returns the new name."""
    kept = backup_name(path)
    os.replace(path, kept)
    for ending in ("-wal", "-shm"):
        companion = path.with_name(path.name + ending)
        if companion.exists():
            os.replace(companion, kept.with_name(kept.name + ending))
    return kept
