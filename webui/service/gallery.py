"""Finished pictures: files under outputs/<date>/, whole or absent, and their rows; those not to be kept lie in a temp folder."""

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from PIL import Image

from webui.core.errors import MissingModel, StorageError
from webui.core.event import Picture
from webui.core.image_metadata import RECIPE, encode, read_infotext
from webui.core.infotext import read
from webui.core.recipe import Recipe, pixel_hash, read_recipe
from webui.core.request import GenerationRequest
from webui.service.database import Database
from webui.service.files import PART, make_folder, remove_parts, sync_folder, write_whole
from webui.service.picture_rows import NewPicture, insert_picture, marks
from webui.service.queue import JobRow

KEPT_TEMPORARY = 500  # newest pictures of jobs that were not to be saved
TRIAL_SIZE = 2**20  # bytes
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
TRASH = ".trash"  # folder below the outputs; in it pictures lie in folders as they did outside
NOT_IN_TRASH = f"substr(path, 1, {len(TRASH) + 1}) != '{TRASH}/'"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedPicture:
    """A picture on disk."""

    id: int
    path: Path
    infotext: str
    seed: int
    width: int  # pixels
    height: int
    job: str = ""
    owner: str = ""
    created: float = 0.0  # unix seconds
    sheet: bool = False  # it shows others of its job
    place: int = 0  # where it stands among its job's pictures, or among its sheets


class Gallery:
    """Stores and finds pictures."""

    def __init__(self, database: Database, outputs_dir: Path, temp_dir: Path):
        self._database = database
        self._outputs = outputs_dir
        self._temporary = temp_dir / "pictures"
        self._naming = threading.Lock()  # between choosing a free name and taking it
        self._tell: Callable[[], None] = lambda: None

    def tell(self, act: Callable[[], None]) -> None:
        """Call `act` whenever pictures were stored."""
        self._tell = act

    def save(self, job: JobRow, pictures: Sequence[Picture], picture_format: str, quality: int, again: bool = False) -> None:
        """Write the pictures of one batch, then their rows. again: some may be stored already, by an earlier try; those are left alone.

        Raises StorageError; what was written before the failure is kept.
        """
        known = self._known(job.id) if again else []
        folder = self._folder(job)
        rows: dict[Path, NewPicture] = {}
        try:
            for picture in pictures:
                request = json.dumps(picture.request.to_json())
                if (request, picture.sheet, picture.place) in known:
                    known.remove((request, picture.sheet, picture.place))
                    continue
                ending = "png" if picture.sheet else picture_format  # sheets may be larger than the others can be
                pixels = pixel_hash(picture.image)
                data = encoded(picture, ending, quality, pixels)
                path = self._write(folder, job, f"{label(picture)}.{ending}", data, rows)
                rows[path] = self._new(job, picture, path, request, data, pixels)
        finally:
            if rows:
                self._sync(folder)
                self._insert(rows.values())
        if not job.save:
            self._prune(job.id)

    def try_to_write(self, job: JobRow) -> None:
        """Raises StorageError while the folder for the job's pictures takes no file of a picture's size."""
        folder = self._folder(job)
        trial = folder / f"trial{PART}"
        try:
            make_folder(folder)
            write_whole(trial, bytes(TRIAL_SIZE))
            trial.unlink()
        except OSError as error:
            raise _refusal(folder, error) from error

    def _folder(self, job: JobRow) -> Path:
        return self._outputs / date.today().isoformat() if job.save else self._temporary

    def of_job(self, job_id: str) -> tuple[SavedPicture, ...]:
        """A job's pictures, those in the trash left out: sheets first, then the others by their place, else in the order they were made."""
        return self._find(f"SELECT * FROM pictures WHERE job = ? AND {NOT_IN_TRASH} ORDER BY sheet DESC, place, id", (job_id,))

    def exact_files(self, job_id: str) -> dict[int, tuple[Path, ...]]:
        """The files of a job's pictures by their place, sheets and files with loss left out."""
        files: dict[int, tuple[Path, ...]] = {}
        for row in self._database.read("SELECT * FROM pictures WHERE job = ? AND sheet = 0 ORDER BY place, id", (job_id,)):
            path = self._picture(row).path
            if path.suffix == ".png":
                files[row["place"]] = (*files.get(row["place"], ()), path)
        return files

    def get(self, picture_id: int) -> SavedPicture:
        """Also one that lies in the trash. Raises MissingModel when there is no such picture."""
        found = () if picture_id.bit_length() > 63 else self._find("SELECT * FROM pictures WHERE id = ?", (picture_id,))
        if not found:
            raise MissingModel(f"there is no picture {picture_id}")
        return found[0]

    def many(self, numbers: Sequence[int]) -> tuple[SavedPicture, ...]:
        """Those of these ids that there are, in any order."""
        return self._find(f"SELECT * FROM pictures WHERE id IN ({marks(numbers)})", numbers)

    def files(self, numbers: Sequence[int]) -> dict[int, Path]:
        """Where the files of these pictures should lie."""
        rows = self._database.read(f"SELECT id, temporary, path FROM pictures WHERE id IN ({marks(numbers)})", numbers)
        return {row["id"]: self._place(row) for row in rows}

    def recent(self, limit: int, offset: int, owner: str | None) -> list[SavedPicture]:
        """Saved pictures that are not in the trash, the newest first; owner None: of everybody."""
        where, values = ("AND owner = ?", [owner]) if owner is not None else ("", [])
        where = f"+temporary = 0 AND {NOT_IN_TRASH} {where}"  # the plus: by id, not by the index of names
        return list(self._find(f"SELECT * FROM pictures WHERE {where} ORDER BY id DESC LIMIT ? OFFSET ?", (*values, limit, offset)))

    def sweep(self) -> None:
        """At start-up: remove half-written files that a kill left in the newest folders."""
        dated = sorted(self._outputs.glob("????-??-??"))[-2:]
        for folder in (*dated, self._temporary):
            remove_parts(folder)

    def strangers(self) -> list[Path]:
        """The pictures below outputs, the trash included, that no row names, the oldest folders first. Links are not followed."""
        known = {row["path"] for row in self._database.read("SELECT path FROM pictures WHERE temporary = 0")}
        return [path for path in _picture_files(self._outputs) if self._stored_path(path)[1] not in known]

    def adopt(self, paths: Iterable[Path]) -> int:
        """Make rows for pictures whose rows were lost, from what the files say; returns how many. Raises StorageError."""
        found: list[NewPicture] = []
        for path in paths:
            try:
                new = self._found(path)
                new.path.encode("utf-8")  # which not every name of a file can be
                found.append(new)
            except Exception as error:  # decoders raise whatever they like over damaged files
                log.info("%r is not taken into the gallery: %s", path.name, error)
        if found:
            self._insert(found)
        return len(found)

    def _found(self, path: Path) -> NewPicture:
        data = path.read_bytes()
        found = read_infotext(data)
        with Image.open(path) as image:
            width, height = image.size
        recipe = read_recipe(found.items.get(RECIPE, ""))
        stored = self._stored_path(path)[1]
        return NewPicture(
            path=stored,
            infotext=found.text.encode("utf-8", "replace").decode("utf-8"),
            request=json.dumps(recipe.request.to_json()) if recipe else "{}",
            seed=told_seed(found.text),
            width=width,
            height=height,
            created=path.stat().st_mtime,
            sheet=recipe is None and "-grid" in path.stem,
            sha256=hashlib.sha256(data).hexdigest(),
            pixels=recipe.pixels if recipe and path.suffix == ".png" else "",
            trashed=time.time() if stored.startswith(f"{TRASH}/") else 0.0,
        )

    def _write(self, folder: Path, job: JobRow, name: str, data: bytes, taken: Container[Path]) -> Path:
        """Put `data` under a name that nobody has; a file of the job's with the very same bytes is taken as it is."""
        try:
            make_folder(folder)
            with self._naming:
                path, exists = self._free_name(folder, job, name, data, taken)
                if not exists:
                    write_whole(path, data)
                return path
        except OSError as error:
            raise _refusal(folder, error) from error

    def _sync(self, folder: Path) -> None:
        try:
            sync_folder(folder)
        except OSError as error:
            raise _refusal(folder, error) from error

    def _free_name(self, folder: Path, job: JobRow, name: str, data: bytes, taken: Container[Path]) -> tuple[Path, bool]:
        """A path that no row and none of `taken` names, and whether the file is there already: written just before a kill, or by the same
        job in an earlier try whose rows were lost, so that it was found again as nobody's."""
        number, (stem, ending) = 0, name.rsplit(".", 1)
        while True:
            path = folder / f"{job.number:05d}-{stem}{f'-{number}' if number else ''}.{ending}"
            sql = "SELECT job = '' AND created >= ? FROM pictures WHERE temporary = ? AND path = ?"
            rows = self._database.read(sql, (job.created, *self._stored_path(path)))
            if path not in taken and (not rows or rows[0][0]):
                if not rows and not os.path.lexists(path):
                    return path, False
                if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                    return path, True
            number += 1

    def _stored_path(self, path: Path) -> tuple[int, str]:
        temporary = path.is_relative_to(self._temporary)
        return int(temporary), path.relative_to(self._temporary if temporary else self._outputs).as_posix()

    def _new(self, job: JobRow, picture: Picture, path: Path, request: str, data: bytes, pixels: str) -> NewPicture:
        temporary, stored = self._stored_path(path)
        return NewPicture(
            path=stored,
            infotext=picture.infotext,
            request=request,
            seed=seed_of(picture),
            width=picture.image.width,
            height=picture.image.height,
            created=time.time(),
            job=job.id,
            owner=job.owner,
            temporary=bool(temporary),
            sheet=picture.sheet,
            place=picture.place,
            sha256=hashlib.sha256(data).hexdigest(),
            pixels=pixels if path.suffix == ".png" else "",  # the others have lost some
        )

    def _insert(self, rows: Iterable[NewPicture]) -> None:
        with self._database.write() as connection:
            for new in rows:
                insert_picture(connection, new)
        self._tell()

    def _known(self, job_id: str) -> list[tuple[str, bool, int]]:
        """What tells a job's stored pictures apart: request, whether it is a sheet, place."""
        rows = self._database.read("SELECT request, sheet, place FROM pictures WHERE job = ?", (job_id,))
        return [(row["request"], bool(row["sheet"]), row["place"]) for row in rows]

    def _prune(self, job_id: str) -> None:
        """Forget the oldest temporary pictures, those of this job excepted."""
        old = self._find(
            "SELECT * FROM pictures WHERE temporary = 1 AND job != ? ORDER BY id DESC LIMIT -1 OFFSET ?", (job_id, KEPT_TEMPORARY)
        )
        if old:
            with self._database.write() as connection:
                connection.executemany("DELETE FROM pictures WHERE id = ?", [(picture.id,) for picture in old])
        for picture in old:
            with suppress(OSError):  # somebody may be reading it: then it stays
                picture.path.unlink(missing_ok=True)

    def _find(self, sql: str, values: Sequence[object]) -> tuple[SavedPicture, ...]:
        return tuple(self._picture(row) for row in self._database.read(sql, values))

    def _place(self, row: sqlite3.Row) -> Path:
        return (self._temporary if row["temporary"] else self._outputs) / str(row["path"])

    def _picture(self, row: sqlite3.Row) -> SavedPicture:
        return SavedPicture(
            id=row["id"],
            path=self._place(row),
            infotext=row["infotext"],
            seed=row["seed"],
            width=row["width"],
            height=row["height"],
            job=row["job"],
            owner=row["owner"],
            created=row["created"],
            sheet=bool(row["sheet"]),
            place=row["place"],
        )


def _refusal(folder: Path, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(f"the picture could not be saved in {folder}: {reason}; free disk space or check the folder")


def _picture_files(folder: Path) -> Iterator[Path]:
    """All picture files below a folder, hidden ones and those in hidden folders left out, except the trash's."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") or (name == TRASH and Path(root) == folder))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(ENDINGS):
                yield Path(root, name)


def encoded(picture: Picture, ending: str, quality: int, pixels: str) -> bytes:
    """The bytes of a picture's file, with its recipe; a sheet has none, for no request alone makes it, nor has an enlarged picture."""
    if picture.sheet or not isinstance(picture.request, GenerationRequest):
        return encode(picture.image, picture.infotext, ending, quality, texts=picture.texts)
    recipe = Recipe(picture.request, **picture.facts, pixels=pixels).to_json()
    return encode(picture.image, picture.infotext, ending, quality, recipe, picture.texts)


def label(picture: Picture) -> str:
    """What a picture's file is called after its job's number."""
    if picture.sheet:
        return "grid"
    return str(picture.request.seed) if isinstance(picture.request, GenerationRequest) else f"upscaled-{picture.place + 1}"


def seed_of(picture: Picture) -> int:
    """The seed that made it; of an enlarged picture that of the old one, 0 where nothing tells it."""
    return picture.request.seed if isinstance(picture.request, GenerationRequest) else told_seed(picture.infotext)


def told_seed(infotext: str) -> int:
    """The seed that an infotext tells, 0 where it tells none."""
    seed = read(infotext).params.get("Seed", "")
    return int(seed) if seed.isdecimal() and len(seed) < 19 else 0
