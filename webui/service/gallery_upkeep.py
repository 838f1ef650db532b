"""What the gallery does in the background: facts for pictures of earlier versions, files whose rows were lost, hashes, an old trash."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import EaselError
from webui.core.image_metadata import RECIPE, read_infotext
from webui.core.recipe import read_recipe
from webui.service.database import Database
from webui.service.gallery import Gallery
from webui.service.lineage import Lineage
from webui.service.picture_rows import fill_facts

AT_ONCE = 50  # pictures in one transaction
PAUSE = 3600.0  # seconds between two looks when nothing happens
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upkeeping:
    """What goes on: text for people, "" when nothing does; done of total pictures."""

    text: str = ""
    done: int = 0
    total: int = 0


class GalleryUpkeep:
    """One thread. What it is asked for it does as soon as it can; what it cannot do it tries again later."""

    def __init__(
        self,
        database: Database,
        gallery: Gallery,
        lineage: Lineage,
        *,
        preferences: Callable[[], Mapping[str, Any]],
        empty_trash: Callable[[int], object],
        changed: Callable[[], None],
    ):
        """empty_trash: takes the age, in days of use, of what is to go; changed: called whenever there may be something new to see."""
        self._database = database
        self._gallery = gallery
        self._lineage = lineage
        self._preferences = preferences
        self._empty_trash = empty_trash
        self._changed = changed
        self._stopping = threading.Event()
        self._work = threading.Event()
        self._lost: Sequence[Path] = ()  # files to take in
        self._look_everywhere = False
        self._unfilled = True  # there may be pictures of an earlier version
        self._now = Upkeeping()
        self._thread = threading.Thread(target=self._run, name="easel-gallery", daemon=True)

    @property
    def now(self) -> Upkeeping:
        """What goes on at this moment."""
        return self._now

    def start(self, lost: Sequence[Path] = ()) -> None:
        """Begin, with files whose rows were lost; returns at once."""
        self._lost = lost
        self._work.set()
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has put its work down."""
        self._stopping.set()
        self._work.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """There are new pictures."""
        self._work.set()

    def look_everywhere(self) -> None:
        """Take in files without rows, and see which pictures are missing, soon; returns at once."""
        self._look_everywhere = True
        self._tell("Looking through the folders", 0, 0)
        self._work.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._work.wait(PAUSE)
            self._work.clear()
            try:
                self._do_all()
            except (EaselError, OSError) as error:  # a full disk: later
                log.warning("the gallery's upkeep goes on later: %s", error)
            except Exception:
                log.exception("the gallery's upkeep failed")
            self._tell("", 0, 0)

    def _do_all(self) -> None:
        everywhere, self._look_everywhere = self._look_everywhere, False
        lost, self._lost = self._lost, ()
        if self._unfilled:
            self._fill()
        self._adopt(self._gallery.strangers() if everywhere else lost)
        if everywhere:
            self._find_missing()
        days = int(self._preferences()["trash_days"])
        if days:
            self._empty_trash(days)
        while not self._stopping.is_set() and self._lineage.look_at_inputs():
            continue
        self._hash()

    def _adopt(self, paths: Sequence[Path]) -> None:
        for start in range(0, len(paths), AT_ONCE):
            if self._stopping.is_set():
                return
            self._tell("Taking in pictures", start, len(paths))
            self._gallery.adopt(paths[start : start + AT_ONCE])

    def _fill(self) -> None:
        """Facts for saved pictures that have none: those of an earlier version."""
        missing = "temporary = 0 AND id NOT IN (SELECT picture FROM picture_facts)"
        total = int(self._database.read(f"SELECT count(*) FROM pictures WHERE {missing}")[0][0])
        for start in range(0, total, AT_ONCE):
            if self._stopping.is_set():
                return
            self._tell("Preparing the search", start, total)
            rows = self._database.read(f"SELECT * FROM pictures WHERE {missing} ORDER BY id DESC LIMIT ?", (AT_ONCE,))
            with self._database.write() as connection:
                for row in rows:
                    fill_facts(connection, row)
        self._unfilled = False

    def _find_missing(self) -> None:
        """Note which files are gone, and which are back."""
        last = 0
        while not self._stopping.is_set():
            rows = self._database.read("SELECT picture, missing FROM picture_facts WHERE picture > ? ORDER BY picture LIMIT 1000", (last,))
            if not rows:
                return
            last = rows[-1]["picture"]
            files = self._gallery.files([row["picture"] for row in rows])
            now = {number: not os.path.lexists(path) for number, path in files.items()}
            changed = [(now[row["picture"]], row["picture"]) for row in rows if now.get(row["picture"], row["missing"]) != row["missing"]]
            if changed:
                with self._database.write() as connection:
                    connection.executemany("UPDATE picture_facts SET missing = ? WHERE picture = ?", changed)

    def _hash(self) -> None:
        """The hashes of files that nobody has read since their rows were made."""
        last, done = 0, 0
        unread = "sha256 = '' AND missing = 0"
        total = int(self._database.read(f"SELECT count(*) FROM picture_facts WHERE {unread}")[0][0])
        while not self._stopping.is_set():
            sql = f"SELECT picture FROM picture_facts WHERE {unread} AND picture > ? ORDER BY picture LIMIT ?"
            numbers = [row["picture"] for row in self._database.read(sql, (last, AT_ONCE))]
            if not numbers:
                return
            self._tell("Reading older pictures", done, total)
            last, done = numbers[-1], done + len(numbers)
            found = [(*_hashes(path), number) for number, path in self._gallery.files(numbers).items()]
            sql = "UPDATE picture_facts SET sha256 = ?1, pixels = ?2, missing = (?1 = '') WHERE picture = ?3"
            with self._database.write() as connection:
                connection.executemany(sql, found)

    def _tell(self, text: str, done: int, total: int) -> None:
        told = Upkeeping(text, done, total)
        if told != self._now:
            self._now = told
            self._changed()


def _hashes(path: Path) -> tuple[str, str]:
    """sha256 of the file, and the hash of its pixels where its recipe tells it; both "" where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return "", ""
    pixels = ""
    if path.suffix == ".png":
        with suppress(Exception):  # whatever is wrong with it, the bytes have a hash
            recipe = read_recipe(read_infotext(data).items.get(RECIPE, ""))
            pixels = recipe.pixels if recipe else ""
    return hashlib.sha256(data).hexdigest(), pixels
