"""sha256 sums of model files: remembered in the database, worked out in the background."""

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from webui.core.catalog import Catalog
from webui.core.errors import EaselError, StorageError
from webui.service.database import Database

LOWEST_PRIORITY = 19
LOOK = 20.0  # seconds
log = logging.getLogger(__name__)


class HashRows:
    """A core.catalog.HashStore whose sums outlive the process. While the database cannot be used, no sum is known or kept."""

    def __init__(self, database: Database):
        self._database = database

    def get(self, path: Path, mtime: float, size: int) -> str | None:
        """The sum, if time and size of the file are those it was made for."""
        sql = "SELECT sha256 FROM hashes WHERE path = ? AND mtime = ? AND size = ?"
        try:
            rows = self._database.read(sql, (str(path), mtime, size))
        except StorageError:
            return None
        return str(rows[0]["sha256"]) if rows else None

    def put(self, path: Path, mtime: float, size: int, sha256: str) -> None:
        """Remember a sum."""
        with suppress(StorageError), self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO hashes (path, mtime, size, sha256) VALUES (?, ?, ?, ?)", (str(path), mtime, size, sha256)
            )


class Hasher:
    """Works out the sums that are not known yet, one file at a time, behind everything else."""

    def __init__(self, catalog: Catalog):
        self._catalog = catalog
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
            if self._hash_all():
                self._catalog.refresh()
            self._stopping.wait(LOOK)

    def _hash_all(self) -> bool:
        """Whether any sum was found."""
        catalog, found = self._catalog, False
        for model in (*catalog.checkpoints(), *catalog.vaes(), *catalog.loras(), *catalog.embeddings(), *catalog.hypernetworks()):
            if self._stopping.is_set():
                return False
            if model.sha256 is None and not model.problem and (model.path, model.mtime) not in self._unreadable:
                try:
                    catalog.with_hash(model)
                    found = True
                except EaselError as error:
                    self._unreadable.add((model.path, model.mtime))
                    log.info("no sha256 of %s: %s", model.name, error)
        return found
