"""What studies found out: a folder of files for each job, the newest kept, whatever else is asked of them worked out when it is asked."""

import hashlib
import json
import re
import shutil
import threading
from pathlib import Path
from typing import Any

from webui.core.errors import MissingModel, StorageError
from webui.core.event import Record
from webui.service.files import make_folder, remove_parts, write_whole

KEPT = 24  # studies
MAX_BYTES = 512_000_000  # of one study's files
OWN_NAME = "job.txt"  # in each folder: whose it is
NAME = re.compile(r"[a-z]+(-[a-z0-9]+)?\.(json|webp|png|npz|bin)")


class Xrays:
    """The folders. Records come from a supervisor's thread, questions from any."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # over making and removing folders
        self._bytes: dict[str, int] = {}  # job -> of the files that came since the start

    def keep(self, job_id: str, record: Record) -> None:
        """Store one file; beyond MAX_BYTES it is dropped. Raises StorageError."""
        size = self._bytes.get(job_id, 0) + len(record.data)
        if not NAME.fullmatch(record.name) or size > MAX_BYTES:
            return
        folder = self._place(job_id)
        try:
            with self._lock:
                if job_id not in self._bytes:
                    make_folder(folder)
                    write_whole(folder / OWN_NAME, job_id.encode())
                    self._prune()
                self._bytes[job_id] = size
            write_whole(folder / record.name, record.data)
        except OSError as error:
            raise StorageError(f"what was recorded could not be stored in {self._folder}: {error.strerror}; free disk space") from error

    def path(self, job_id: str, name: str) -> Path:
        """A file. Raises MissingModel where there is none."""
        path = self._place(job_id) / name
        if not NAME.fullmatch(name) or not path.is_file():
            raise MissingModel(f"this X-ray has no file {name[:80]!r}; it may be older than the {KEPT} that are kept: make it again")
        return path

    def jobs(self) -> list[str]:
        """The ids of the jobs whose studies are kept, the newest first."""
        names = sorted(self._folder.glob(f"*/{OWN_NAME}"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.read_text("utf-8", "replace") for path in names]

    def told(self, job_id: str, after: int = 0) -> dict[str, Any]:
        """The JSON files by the names before their endings; of the steps those after step `after`, in a list "steps"; maps are left out."""
        folder = self._place(job_id)
        answer: dict[str, Any] = {"steps": []}
        for path in sorted(folder.glob("*.json")):
            kind, _, number = path.stem.partition("-")
            if kind == "step" and int(number) > after:
                answer["steps"].append(_read(path))
            elif kind not in ("step", "maps"):
                answer[path.stem] = _read(path)
        answer["files"] = sorted(path.name for path in folder.glob("*") if NAME.fullmatch(path.name) and not path.name.endswith("json"))
        return answer

    def _place(self, job_id: str) -> Path:
        """Job ids may hold dots and colons."""
        return self._folder / hashlib.sha256(job_id.encode("utf-8", "replace")).hexdigest()[:32]

    def _prune(self) -> None:
        """Remove all but the newest KEPT; and what a kill left half written."""
        folders = sorted((path for path in self._folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for old in folders[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        for folder in folders[-KEPT:]:
            remove_parts(folder)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):  # pruned, or damaged: as if it were not there
        return None
