"""A collection with pictures in it, without workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.service.handlers import picture, small
from webui.core.request import GenerationRequest
from webui.service.collection import Collection
from webui.service.database import Database, open_database
from webui.service.gallery import Gallery, SavedPicture
from webui.service.inputs import InputStore
from webui.service.queue import JobRow

JOB = JobRow(12, "job", "ann", "running", small(), True, 0.0, 0, 0, 1, "", 0)


class Shelf:
    """One Easel's pictures in `folder`."""

    def __init__(self, folder: Path, database: Database, outputs: str = "outputs"):
        self.folder = folder
        self.database = database
        self.outputs = folder / outputs
        self.inputs = InputStore(folder / "inputs")
        self.gallery = Gallery(database, self.outputs, folder / "tmp")
        self.preferences: dict[str, Any] = {"trash_days": 30}
        self.collection = Collection(
            database,
            self.gallery,
            self.inputs,
            outputs_dir=self.outputs,
            cache_dir=folder / "cache",
            preferences=lambda: self.preferences,
        )

    def save(self, *requests: GenerationRequest, owner: str = "ann", picture_format: str = "png", job: str = "") -> list[SavedPicture]:
        """Save a picture of each; returns them."""
        known = len(self.gallery.recent(1000, 0, None))
        row = replace(JOB, id=job or f"job{known}", number=known, owner=owner)
        self.gallery.save(row, [picture(request, 0) for request in requests], picture_format, 80)
        return list(self.gallery.of_job(row.id))

    def seeds(self, *seeds: int, **values: Any) -> list[SavedPicture]:
        return self.save(*(small(seed=seed, **values) for seed in seeds))


@contextmanager
def opened(folder: Path, outputs: str = "outputs") -> Iterator[Shelf]:
    """The shelf in a folder; the database is closed after the block, as a kill leaves it: nothing else is put in order."""
    database, _ = open_database(folder / "easel.sqlite3")
    try:
        yield Shelf(folder, database, outputs)
    finally:
        database.close()
