"""sha256 sums of model files: remembered in the database, worked out in the background."""

import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from webui.core.catalog import Catalog, MemoryHashes, ModelFile
from webui.core.errors import EaselError, StorageError
from webui.service.database import Database, DatabaseReader

LOWEST_PRIORITY = 19
LOOK = 20.0  # seconds
log = logging.getLogger(__name__)


class HashReader(MemoryHashes):
    """The sums in another process's database, and those found meanwhile, for as long as this process lives."""

    def __init__(self, database: Database | DatabaseReader):
        super().__init__()
        self._readable = database

    def get(self, path: Path, mtime: float, size: int) -> str | None:
        """The sum, if time and size of the file are those it was made for."""
        sql = "SELECT sha256 FROM hashes WHERE path = ? AND mtime = ? AND size = ?"
        try:
            rows = self._readable.read(sql, (str(path), mtime, size))
        except StorageError:
            rows = []
        return str(rows[0]["sha256"]) if rows else super().get(path, mtime, size)


class HashRows(HashReader):
    """A core.catalog.HashStore whose sums outlive the process. While the database cannot be used, no sum outlives it."""

    def __init__(self, database: Database):
        super().__init__(database)
        self._database = database

    def put(self, path: Path, mtime: float, size: int, sha256: str) -> None:
        """Remember a sum."""
        try:
            with self._database.write() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO hashes (path, mtime, size, sha256) VALUES (?, ?, ?, ?)", (str(path), mtime, size, sha256)
                )
        except StorageError:
            super().put(path, mtime, size, sha256)


class Hasher:
    """Works out the sums that are not known yet, one file at a time, behind everything else."""

    def __init__(self, catalog: Catalog, others: Callable[[], Iterable[tuple[str, ModelFile]]] = tuple):
        """others: takes (kind, file) of LoRAs, embeddings and hypernetworks whose sum is not known."""
        self._catalog = catalog
        self._others = others
        self._stopping = threading.Event()
        self._unreadable: set[tuple[Path, float]] = set()
        self._thread = threading.Thread(target=self._run, name="easel-hashing", daemon=True)

    def start(self) -> None:
        """Begin with what lies there now, and look every LOOK seconds for what the catalog has found since."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after the file it reads."""
        self._stopping.set()

    def _run(self) -> None:
        with suppress(AttributeError, OSError):  # Linux gives threads priorities of their own; elsewhere it stays as it is
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        while not self._stopping.is_set():
            models = (*self._catalog.checkpoints(), *self._catalog.vaes())
            unknown = [model for model in models if model.sha256 is None and not model.problem]
            if sum(self._hash(self._catalog.with_hash, model) for model in unknown):
                self._catalog.refresh()
            for kind, model in self._others():
                self._hash(self._catalog.lora_hash if kind == "lora" else self._catalog.with_hash, model)
            self._stopping.wait(LOOK)

    def _hash(self, work_out: Callable[[ModelFile], object], model: ModelFile) -> bool:
        """Whether the sum was found."""
        if self._stopping.is_set() or (model.path, model.mtime) in self._unreadable:
            return False
        try:
            work_out(model)
            return True
        except EaselError as error:
            self._unreadable.add((model.path, model.mtime))
            log.info("no sha256 of %s: %s", model.name, error)
            return False
