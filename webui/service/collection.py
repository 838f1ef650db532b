"""The collection: all that UI and API may ask of, and do with, the saved pictures. Methods take the owner whose pictures alone count."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import BadRequest, MissingModel, NotAllowed
from webui.service.database import Database
from webui.service.gallery import Gallery, SavedPicture
from webui.service.gallery_search import Search, count_all, find
from webui.service.gallery_upkeep import GalleryUpkeep, Upkeeping
from webui.service.inputs import InputStore
from webui.service.lineage import Lineage, Relative
from webui.service.picture_rows import forget_pictures, marks
from webui.service.picture_thumbnails import PictureThumbnails
from webui.service.trash import Trash
from webui.service.zip_stream import zip_stream

MOST_AT_ONCE = 10_000  # pictures in one order
MAX_TAG = 60  # characters
MOST_TAGS = 50  # of one picture, in one order
MOST_FACETS = 200  # names in one list of filters


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture as the gallery shows it. missing: its file is gone; trashed: unix seconds, or 0."""

    picture: SavedPicture
    favourite: bool
    tags: tuple[str, ...]
    checkpoint: str
    sampler: str
    missing: bool
    trashed: float


@dataclass(frozen=True)
class Page:
    """next: the cursor of the next page, "" after the last."""

    pictures: list[Shown]
    next: str


class Collection:
    """Search, favourites, tags, lineage, trash, thumbnails and ZIPs of saved pictures."""

    def __init__(
        self,
        database: Database,
        gallery: Gallery,
        inputs: InputStore,
        *,
        outputs_dir: Path,
        cache_dir: Path,
        preferences: Callable[[], Mapping[str, Any]],
    ):
        self._database = database
        self._gallery = gallery
        self._trash = Trash(database, outputs_dir)
        self._thumbnails = PictureThumbnails(cache_dir)
        self._lineage = Lineage(database, inputs.open)
        self._upkeep = GalleryUpkeep(
            database, gallery, self._lineage, preferences=preferences, empty_trash=self._empty_older, changed=self._changed
        )
        self._revision = int(time.time() * 1000)  # so that a page which outlives a restart sees another number
        self._revising = threading.Lock()
        gallery.tell(self._note_new)

    @property
    def revision(self) -> int:
        """A number that rises with every change that a gallery on a page should show."""
        return self._revision

    @property
    def upkeeping(self) -> Upkeeping:
        """What goes on in the background."""
        return self._upkeep.now

    def start(self, lost: Sequence[Path]) -> None:
        """End the moves that a kill interrupted, and begin what goes on in the background, with files whose rows were lost."""
        self._trash.finish()
        self._upkeep.start(lost)

    def stop(self) -> None:
        self._upkeep.stop()

    def look_again(self) -> None:
        """Take in files without rows and find out which are missing, in the background; see `upkeeping`."""
        self._upkeep.look_everywhere()

    # looking

    def search(self, search: Search, cursor: str = "", count: int = 100) -> Page:
        """One page. cursor: `next` of the page before. Raises BadRequest."""
        numbers, following = find(self._database, search, cursor, count)
        return Page(self._shown(numbers), following)

    def count(self, search: Search) -> int:
        """How many pictures fit: a question of its own, as it takes longer than a page. Raises BadRequest."""
        return count_all(self._database, search)

    def get(self, number: int, owner: str | None = None) -> Shown:
        """Raises MissingModel; NotAllowed for one of another owner."""
        self._check([number], owner)
        return self._shown([number])[0]

    def facets(self, owner: str | None = None) -> dict[str, list[tuple[str, int]]]:
        """What pictures outside the trash can be narrowed by: checkpoints, samplers, sizes, loras, tags, each (name, how many)."""
        mine, values = ("AND owner = ?", (owner,)) if owner is not None else ("", ())
        found = {}
        for name, columns in (("checkpoints", "checkpoint"), ("samplers", "sampler"), ("sizes", "width, height")):
            counted = f"SELECT {columns}, count(*) AS many FROM picture_facts WHERE trashed = 0 {mine} GROUP BY {columns}"
            rows = self._database.read(f"{counted} ORDER BY many DESC LIMIT ?", (*values, MOST_FACETS))
            named = [("x".join(str(part) for part in tuple(row)[:-1]), row["many"]) for row in rows]
            found[name] = [(title, many) for title, many in named if title]
        for name, kind in (("loras", "lora"), ("tags", "tag")):
            sql = (
                "SELECT name, count(*) AS many FROM picture_labels JOIN picture_facts USING (picture) "
                f"WHERE kind = ? AND trashed = 0 {mine} GROUP BY name ORDER BY many DESC LIMIT ?"
            )
            found[name] = [(row["name"], row["many"]) for row in self._database.read(sql, (kind, *values, MOST_FACETS))]
        return found

    def relatives(self, number: int, owner: str | None = None) -> tuple[list[tuple[str, Shown]], list[tuple[str, Shown]]]:
        """What the picture was made from, and what was made from it: (relation, picture). Raises MissingModel, NotAllowed."""
        self._check([number], owner)
        return self._related(self._lineage.parents(number), owner), self._related(self._lineage.children(number), owner)

    def thumbnail(self, number: int, owner: str | None = None) -> bytes:
        """A WebP of at most 256 pixels a side. Raises MissingModel, NotAllowed."""
        if owner is not None:
            self._check([number], owner)
        return self._thumbnails.get(number, self._gallery.get(number).path)

    def zipped(self, numbers: Sequence[int], owner: str | None = None) -> Iterator[bytes]:
        """The files as a ZIP, piece by piece. Raises BadRequest, MissingModel, NotAllowed, before the first piece."""
        self._check(numbers, owner)
        files = self._gallery.files(numbers)
        return zip_stream((f"{files[number].parent.name}/{files[number].name}", files[number]) for number in dict.fromkeys(numbers))

    # changing

    def set_favourite(self, numbers: Sequence[int], favourite: bool, owner: str | None = None) -> None:
        """Raises BadRequest, MissingModel, NotAllowed."""
        self._check(numbers, owner)
        with self._database.write() as connection:
            sql = "UPDATE picture_facts SET favourite = ? WHERE picture = ?"
            connection.executemany(sql, [(favourite, number) for number in numbers])
        self._changed()

    def tag(self, numbers: Sequence[int], add: Sequence[str] = (), remove: Sequence[str] = (), owner: str | None = None) -> None:
        """Raises BadRequest, MissingModel, NotAllowed."""
        self._check(numbers, owner)
        new, old = _tags(add), _tags(remove)
        with self._database.write() as connection:
            sql = "DELETE FROM picture_labels WHERE kind = 'tag' AND name = ? AND picture = ?"
            connection.executemany(sql, [(name, number) for name in old for number in numbers])
            sql = "INSERT OR IGNORE INTO picture_labels (kind, name, picture) VALUES ('tag', ?, ?)"
            connection.executemany(sql, [(name, number) for name in new for number in numbers])
        self._changed()

    def set_tags(self, number: int, tags: Sequence[str], owner: str | None = None) -> None:
        """The picture has these tags and no others. Raises BadRequest, MissingModel, NotAllowed."""
        self.tag([number], add=tags, remove=[name for name in self.get(number, owner).tags if name not in _tags(tags)], owner=owner)

    def trash(self, numbers: Sequence[int], owner: str | None = None) -> None:
        """Into the trash, from which `restore` brings them back. Raises BadRequest, MissingModel, NotAllowed, StorageError."""
        self._check(numbers, owner)
        self._trash.put(numbers)
        self._changed()

    def restore(self, numbers: Sequence[int], owner: str | None = None) -> None:
        """Out of the trash. Raises as `trash` does."""
        self._check(numbers, owner)
        self._trash.restore(numbers)
        self._changed()

    def delete(self, numbers: Sequence[int], owner: str | None = None) -> int:
        """For ever, those of them that lie in the trash; returns how many. Raises as `trash` does."""
        self._check(numbers, owner)
        return self._delete(numbers)

    def empty_trash(self, owner: str | None = None) -> int:
        """Delete for ever what lies in the trash; returns how many. Raises StorageError."""
        mine, values = ("AND owner = ?", (owner,)) if owner is not None else ("", ())
        rows = self._database.read(f"SELECT picture FROM picture_facts WHERE trashed > 0 {mine}", values)
        return self._delete([row["picture"] for row in rows])

    def forget(self, numbers: Sequence[int], owner: str | None = None) -> int:
        """Take pictures whose files are gone out of the gallery; returns how many. Raises BadRequest where one is still there."""
        self._check(numbers, owner)
        for number, path in self._gallery.files(numbers).items():
            if os.path.lexists(path):
                raise BadRequest(f"the file of picture {number} is there: {path.name}; put it into the trash instead")
        with self._database.write() as connection:
            forget_pictures(connection, numbers)
        self._thumbnails.forget(numbers)
        self._changed()
        return len(numbers)

    # inside

    def _note_new(self) -> None:
        self._changed()
        self._upkeep.wake()

    def _changed(self) -> None:
        with self._revising:
            self._revision += 1

    def _empty_older(self, days: int) -> None:
        self._delete(self._trash.older_than(days))

    def _delete(self, numbers: Sequence[int]) -> int:
        gone: list[int] = []
        for start in range(0, len(numbers), MOST_AT_ONCE):
            gone += self._trash.delete(numbers[start : start + MOST_AT_ONCE])
        if gone:
            self._thumbnails.forget(gone)
            self._changed()
        return len(gone)

    def _check(self, numbers: Sequence[int], owner: str | None) -> None:
        """Raises BadRequest for too many, MissingModel for one that is no saved picture, NotAllowed for one of somebody else."""
        if len(numbers) > MOST_AT_ONCE:
            raise BadRequest(f"{len(numbers)} pictures at once are too many; at most {MOST_AT_ONCE}")
        wanted = [number for number in numbers if abs(number) < 2**63]
        rows = self._database.read(f"SELECT picture, owner FROM picture_facts WHERE picture IN ({marks(wanted)})", wanted)
        owners = {row["picture"]: row["owner"] for row in rows}
        for number in numbers:
            if number not in owners:
                raise MissingModel(f"there is no picture {number}")
            if owner is not None and owners[number] != owner:
                raise NotAllowed(f"picture {number} belongs to somebody else")

    def _related(self, found: Sequence[Relative], owner: str | None) -> list[tuple[str, Shown]]:
        shown = {each.picture.id: each for each in self._shown([relative.picture for relative in found])}
        pairs = [(relative.relation, shown[relative.picture]) for relative in found if relative.picture in shown]
        return [(relation, each) for relation, each in pairs if owner is None or each.picture.owner == owner]

    def _shown(self, numbers: Sequence[int]) -> list[Shown]:
        chosen = marks(numbers)
        sql = f"SELECT picture, favourite, checkpoint, sampler, trashed FROM picture_facts WHERE picture IN ({chosen})"
        facts = {row["picture"]: row for row in self._database.read(sql, numbers)}
        pictures = {each.id: each for each in self._gallery.many(numbers)}
        sql = f"SELECT picture, name FROM picture_labels WHERE kind = 'tag' AND picture IN ({chosen}) ORDER BY name"
        tags: dict[int, list[str]] = {}
        for row in self._database.read(sql, numbers):
            tags.setdefault(row["picture"], []).append(row["name"])
        return [
            Shown(
                picture=pictures[number],
                favourite=bool(facts[number]["favourite"]),
                tags=tuple(tags.get(number, ())),
                checkpoint=facts[number]["checkpoint"],
                sampler=facts[number]["sampler"],
                missing=not os.path.lexists(pictures[number].path),
                trashed=facts[number]["trashed"],
            )
            for number in numbers
            if number in facts and number in pictures
        ]


def _tags(names: Sequence[str]) -> list[str]:
    """Tags as they are kept: without spaces around them and commas in them, each once. Raises BadRequest for those that are too long."""
    if len(names) > MOST_TAGS:
        raise BadRequest(f"{len(names)} tags at once are too many; at most {MOST_TAGS}")
    tidy = [" ".join(name.replace(",", " ").encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split()) for name in names]
    for name in tidy:
        if len(name) > MAX_TAG:
            raise BadRequest(f"the tag {name[:30]!r}... has {len(name)} characters; at most {MAX_TAG}")
    return [name for name in dict.fromkeys(tidy) if name]
