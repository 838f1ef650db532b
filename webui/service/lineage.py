"""What was made from what: found by the hashes of the pictures that requests name, whatever order the rows came in."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from webui.core.errors import BadRequest
from webui.core.recipe import pixel_hash
from webui.service.database import Database

MOST_CHILDREN = 100
AT_ONCE = 20  # input pictures looked at between two looks at the clock


@dataclass(frozen=True)
class Relative:
    """relation: "img2img", "inpaint", "outpaint", "upscale", or "replay": of the same recipe."""

    picture: int
    relation: str


class Lineage:
    """Reads the sources of pictures; an input picture is one of ours if its file, or else its pixels, are those of a saved one."""

    def __init__(self, database: Database, open_input: Callable[[str], Image.Image]):
        self._database = database
        self._open_input = open_input

    def parents(self, number: int) -> list[Relative]:
        """What the picture was made from, the oldest of equal pictures; one that has its recipe and is older."""
        rows = self._database.read("SELECT relation, sha256 FROM picture_sources WHERE picture = ?", (number,))
        found = [(self._oldest(row["sha256"]), row["relation"]) for row in rows]
        same = self._database.read(
            "SELECT min(other.picture) AS first FROM picture_facts me JOIN picture_facts other ON other.recipe = me.recipe "
            "WHERE me.picture = ? AND me.recipe != '' AND other.picture < me.picture",
            (number,),
        )
        found += [(row["first"], "replay") for row in same]
        return [Relative(parent, relation) for parent, relation in found if parent is not None and parent != number]

    def children(self, number: int) -> list[Relative]:
        """What was made from the picture, the oldest first, at most MOST_CHILDREN of them; later ones of its recipe."""
        sql = """
            WITH me AS (SELECT picture, sha256, pixels, recipe FROM picture_facts WHERE picture = ?)
            SELECT s.picture AS child, s.relation FROM me JOIN picture_sources s ON s.sha256 = me.sha256 WHERE me.sha256 != ''
            UNION
            SELECT s.picture, s.relation FROM me JOIN input_pixels i ON i.pixels = me.pixels JOIN picture_sources s ON s.sha256 = i.sha256
            WHERE me.pixels != ''
            UNION
            SELECT f.picture, 'replay' FROM me JOIN picture_facts f ON f.recipe = me.recipe AND f.picture > me.picture WHERE me.recipe != ''
            ORDER BY child LIMIT ?
        """
        rows = self._database.read(sql, (number, MOST_CHILDREN))
        return [Relative(row["child"], row["relation"]) for row in rows if row["child"] != number]

    def look_at_inputs(self) -> int:
        """Work out the pixel hashes of some input pictures that requests name and nobody has looked at; returns how many."""
        sql = "SELECT DISTINCT sha256 FROM picture_sources WHERE sha256 NOT IN (SELECT sha256 FROM input_pixels) LIMIT ?"
        found = [(row["sha256"], self._pixels(row["sha256"])) for row in self._database.read(sql, (AT_ONCE,))]
        if found:
            with self._database.write() as connection:
                connection.executemany("INSERT OR REPLACE INTO input_pixels (sha256, pixels) VALUES (?, ?)", found)
        return len(found)

    def _oldest(self, sha256: str) -> int | None:
        """The oldest picture with this file, or else with the pixels of this input picture."""
        sql = """
            SELECT coalesce(
                (SELECT min(picture) FROM picture_facts WHERE sha256 = ?1),
                (SELECT min(f.picture) FROM input_pixels i JOIN picture_facts f ON f.pixels = i.pixels
                    WHERE i.sha256 = ?1 AND i.pixels != '')
            ) AS found
        """
        found: int | None = self._database.read(sql, (sha256,))[0]["found"]
        return found

    def _pixels(self, sha256: str) -> str:
        """ "" where the input picture is not there, or cannot be read."""
        try:
            image = self._open_input(sha256)
        except (BadRequest, OSError):
            return ""
        return "" if _is_see_through(image) else pixel_hash(image)


def _is_see_through(image: Image.Image) -> bool:
    return "A" in image.getbands() and image.getextrema()[-1] != (255, 255)
