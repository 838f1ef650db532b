"""Finished pictures: files under outputs/<date>/, whole or absent, and their rows; those not to be kept lie in a temp folder."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from PIL import Image

from webui.core.errors import BadRequest, MissingModel, StorageError
from webui.core.event import Picture
from webui.core.image_metadata import RECIPE, encode, read_infotext
from webui.core.infotext import read
from webui.core.recipe import Recipe, pixel_hash, read_recipe
from webui.service.database import Database
from webui.service.files import PART, make_folder, remove_parts, sync_folder, write_whole
from webui.service.queue import JobRow

KEPT_TEMPORARY = 500  # newest pictures of jobs that were not to be saved
TRIAL_SIZE = 2**20  # bytes
ENDINGS = (".png", ".jpg", ".webp")


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


class Gallery:
    """Stores and finds pictures."""

    def __init__(self, database: Database, outputs_dir: Path, temp_dir: Path):
        self._database = database
        self._outputs = outputs_dir
        self._temporary = temp_dir / "pictures"
        self._naming = threading.Lock()  # between choosing a free name and taking it

    def save(self, job: JobRow, pictures: Sequence[Picture], picture_format: str, quality: int, again: bool = False) -> None:
        """Write the pictures of one batch, then their rows. again: some may be stored already, by an earlier try; those are left alone.

        Raises StorageError; what was written before the failure is kept.
        """
        known = self._known(job.id) if again else []
        folder = self._folder(job)
        rows: dict[Path, tuple[object, ...]] = {}
        try:
            for picture in pictures:
                request = json.dumps(picture.request.to_json())
                if (request, picture.sheet, picture.place) in known:
                    known.remove((request, picture.sheet, picture.place))
                    continue
                ending = "png" if picture.sheet else picture_format  # sheets may be larger than the others can be
                data = _encoded(picture, ending, quality)
                name = f"{job.number:05d}-{'grid' if picture.sheet else picture.request.seed}"
                path = self._write(folder, name, ending, data, rows)
                rows[path] = self._values(job, picture, path, request)
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
        """A job's pictures: sheets first, then the others by their place, else in the order they were made."""
        return self._find("SELECT * FROM pictures WHERE job = ? ORDER BY sheet DESC, place, id", (job_id,))

    def exact_files(self, job_id: str) -> dict[int, tuple[Path, ...]]:
        """The files of a job's pictures by their place, sheets and files with loss left out."""
        files: dict[int, tuple[Path, ...]] = {}
        for row in self._database.read("SELECT * FROM pictures WHERE job = ? AND sheet = 0 ORDER BY place, id", (job_id,)):
            path = self._picture(row).path
            if path.suffix == ".png":
                files[row["place"]] = (*files.get(row["place"], ()), path)
        return files

    def get(self, picture_id: int) -> SavedPicture:
        """Raises MissingModel when there is no such picture."""
        found = () if picture_id.bit_length() > 63 else self._find("SELECT * FROM pictures WHERE id = ?", (picture_id,))
        if not found:
            raise MissingModel(f"there is no picture {picture_id}")
        return found[0]

    def recent(self, limit: int, offset: int, owner: str | None) -> list[SavedPicture]:
        """Saved pictures, the newest first; owner None: of everybody."""
        where, values = ("AND owner = ?", [owner]) if owner is not None else ("", [])
        return list(
            self._find(f"SELECT * FROM pictures WHERE temporary = 0 {where} ORDER BY id DESC LIMIT ? OFFSET ?", (*values, limit, offset))
        )

    def sweep(self) -> None:
        """At start-up: remove half-written files that a kill left in the newest folders."""
        dated = sorted(self._outputs.glob("????-??-??"))[-2:]
        for folder in (*dated, self._temporary):
            remove_parts(folder)

    def strangers(self) -> list[Path]:
        """The pictures under outputs that no row names."""
        known = {row["path"] for row in self._database.read("SELECT path FROM pictures WHERE temporary = 0")}
        files = sorted(path for path in self._outputs.glob("????-??-??/*") if path.suffix in ENDINGS)
        return [path for path in files if self._stored_path(path)[1] not in known]

    def adopt(self, paths: Iterable[Path]) -> int:
        """Make rows for pictures whose rows were lost, from what the files say; returns how many."""
        count = 0
        for path in paths:
            with suppress(BadRequest, OSError, StorageError, sqlite3.IntegrityError):
                self._insert([self._found_values(path)])
                count += 1
        return count

    def _found_values(self, path: Path) -> tuple[object, ...]:
        found = read_infotext(path)
        with Image.open(path) as image:
            width, height = image.size
        seed = read(found.text).params.get("Seed", "")
        recipe = read_recipe(found.items.get(RECIPE, ""))
        request = json.dumps(recipe.request.to_json()) if recipe else "{}"
        number = int(seed) if seed.isdecimal() and len(seed) < 19 else 0
        return ("", "", *self._stored_path(path), found.text, request, number, width, height, path.stat().st_mtime, False, 0)

    def _write(self, folder: Path, stem: str, ending: str, data: bytes, taken: Container[Path]) -> Path:
        """Put `data` under a name that nobody has; a file with the very same bytes that no row names is taken as it is."""
        try:
            make_folder(folder)
            with self._naming:
                path, exists = self._free_name(folder, stem, ending, data, taken)
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

    def _free_name(self, folder: Path, stem: str, ending: str, data: bytes, taken: Container[Path]) -> tuple[Path, bool]:
        """A path that no row and none of `taken` names, and whether the file is there already, written just before a kill."""
        number = 0
        while True:
            path = folder / (f"{stem}.{ending}" if number == 0 else f"{stem}-{number}.{ending}")
            if path not in taken and not self._has_row(path):
                if not os.path.lexists(path):
                    return path, False
                if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                    return path, True
            number += 1

    def _has_row(self, path: Path) -> bool:
        temporary, stored = self._stored_path(path)
        return bool(self._database.read("SELECT 1 FROM pictures WHERE temporary = ? AND path = ?", (temporary, stored)))

    def _stored_path(self, path: Path) -> tuple[int, str]:
        temporary = path.is_relative_to(self._temporary)
        return int(temporary), path.relative_to(self._temporary if temporary else self._outputs).as_posix()

    def _values(self, job: JobRow, picture: Picture, path: Path, request: str) -> tuple[object, ...]:
        width, height = picture.image.size
        seed, stored = picture.request.seed, self._stored_path(path)
        return (job.id, job.owner, *stored, picture.infotext, request, seed, width, height, time.time(), picture.sheet, picture.place)

    def _insert(self, rows: Iterable[tuple[object, ...]]) -> None:
        names = "job, owner, temporary, path, infotext, request, seed, width, height, created, sheet, place"
        with self._database.write() as connection:
            connection.executemany(f"INSERT INTO pictures ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

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

    def _picture(self, row: sqlite3.Row) -> SavedPicture:
        return SavedPicture(
            id=row["id"],
            path=(self._temporary if row["temporary"] else self._outputs) / row["path"],
            infotext=row["infotext"],
            seed=row["seed"],
            width=row["width"],
            height=row["height"],
            job=row["job"],
            owner=row["owner"],
            created=row["created"],
            sheet=bool(row["sheet"]),
        )


def _refusal(folder: Path, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(f"the picture could not be saved in {folder}: {reason}; free disk space or check the folder")


def _encoded(picture: Picture, ending: str, quality: int) -> bytes:
    """The bytes of a picture's file, with its recipe; a sheet has none, for no request alone makes it."""
    recipe = None if picture.sheet else Recipe(picture.request, **picture.facts, pixels=pixel_hash(picture.image)).to_json()
    return encode(picture.image, picture.infotext, ending, quality, recipe)
