"""Pictures that the disk would not take, kept in memory so that they can be seen and downloaded all the same."""

import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from webui.core.event import Picture
from webui.core.recipe import pixel_hash
from webui.service.gallery import SavedPicture, encoded, label, seed_of
from webui.service.queue import JobRow

MEMORY = Path("/dev/shm")  # where Linux keeps files in memory; elsewhere the system's folder for temporary files must do
FIRST_ID = 2**52  # above every row's id, and still a number that JavaScript can hold
KEPT = 50  # the newest


class Unsaved:
    """Files and facts of such pictures; both end with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: dict[int, SavedPicture] = {}
        self._count = 0
        self._folder: Path | None = None

    def add(self, job: JobRow, pictures: Sequence[Picture]) -> None:
        """Keep these, as PNG. Raises OSError where there is no memory for them either."""
        for picture in pictures:
            data = encoded(picture, "png", 100, pixel_hash(picture.image))
            with self._lock:
                self._add(job, picture, data)

    def _add(self, job: JobRow, picture: Picture, data: bytes) -> None:
        number = FIRST_ID + self._count
        self._count += 1
        path = self._home() / f"{job.number:05d}-{label(picture)}-{self._count}.png"
        path.write_bytes(data)
        self._pictures[number] = SavedPicture(
            id=number,
            path=path,
            infotext=picture.infotext,
            seed=seed_of(picture),
            width=picture.image.width,
            height=picture.image.height,
            job=job.id,
            owner=job.owner,
            created=time.time(),
            sheet=picture.sheet,
        )
        while len(self._pictures) > KEPT:
            self._pictures.pop(next(iter(self._pictures))).path.unlink(missing_ok=True)

    def of_job(self, job_id: str) -> tuple[SavedPicture, ...]:
        """In the order in which they were made."""
        with self._lock:
            return tuple(picture for picture in self._pictures.values() if picture.job == job_id)

    def get(self, number: int) -> SavedPicture | None:
        """By id; None where it is not kept (any more)."""
        with self._lock:
            return self._pictures.get(number)

    def _home(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="easel-unsaved-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder
