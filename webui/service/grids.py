"""Grids: the pictures of one answer as one, stored as a sheet of its job."""

from collections.abc import Sequence
from dataclasses import replace

from webui.core.event import Picture
from webui.core.image_metadata import open_image
from webui.core.request import GenerationRequest
from webui.core.scripts.drawing import small_enough, tiled
from webui.service.gallery import Gallery, SavedPicture
from webui.service.queue import JobQueue


class Grids:
    """Makes grids of pictures that are on disk."""

    def __init__(self, queue: JobQueue, gallery: Gallery):
        self._queue = queue
        self._gallery = gallery

    def make(self, job_id: str, pictures: Sequence[SavedPicture], save: bool) -> SavedPicture:
        """The grid of the pictures, a sheet of the job; its infotext is the first picture's. save False: it is kept for a while only.

        Raises MissingModel where the job is gone, BadRequest where a file is, StorageError.
        """
        row = self._queue.get(job_id)
        images = [small_enough(open_image(picture.path.read_bytes()).convert("RGB"), len(pictures)) for picture in pictures]
        first = pictures[0]
        request = replace(GenerationRequest(), seed=first.seed, width=first.width, height=first.height)
        grid = Picture(tiled(images), request, first.infotext, sheet=True)
        self._gallery.save(replace(row, save=save), [grid], "png", 100)
        return next(picture for picture in self._gallery.of_job(job_id) if picture.sheet)
