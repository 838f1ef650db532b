"""The rows of pictures, and beside each saved one what it is found by: facts, words, labels (LoRAs and tags) and sources."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from webui.service.picture_facts import PictureFacts, facts_of

PER_ROW = ("picture_facts", "picture_labels", "picture_sources", "picture_moves")  # tables that name pictures by their id
COLUMNS = "job, owner, temporary, path, infotext, request, seed, width, height, created, sheet, place"


@dataclass(frozen=True, kw_only=True)
class NewPicture:
    """A picture to be stored. path: below the outputs, or below the temporary pictures; sha256: of its file; pixels: `pixel_hash` of what
    its file shows, "" where nobody has looked; trashed: unix seconds, 0 for one that is not in the trash."""

    path: str
    infotext: str
    request: str  # JSON
    seed: int
    width: int
    height: int
    created: float
    job: str = ""
    owner: str = ""
    temporary: bool = False
    sheet: bool = False
    place: int = 0
    sha256: str = ""
    pixels: str = ""
    trashed: float = 0.0


def insert_picture(connection: sqlite3.Connection, new: NewPicture) -> int:
    """Store a picture; returns its id. One whose file was found before its own job told of it keeps its id."""
    marks = ", ".join("?" * len(COLUMNS.split(", ")))
    update = ", ".join(f"{name} = excluded.{name}" for name in ("job", "owner", "infotext", "request", "seed", "created", "sheet", "place"))
    sql = f"INSERT INTO pictures ({COLUMNS}) VALUES ({marks}) ON CONFLICT (temporary, path) DO UPDATE SET {update} RETURNING id"
    values = (new.job, new.owner, new.temporary, new.path, new.infotext, new.request, new.seed, new.width, new.height, new.created)
    number = int(connection.execute(sql, (*values, new.sheet, new.place)).fetchone()[0])
    if not new.temporary:
        _put_facts(connection, number, new)
    return number


def fill_facts(connection: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Facts for a row of `pictures` that has none; its file is not looked at."""
    names = ("path", "infotext", "request", "seed", "width", "height", "created", "owner", "place")
    _put_facts(connection, row["id"], NewPicture(**{name: row[name] for name in names}, sheet=bool(row["sheet"])))


def _put_facts(connection: sqlite3.Connection, number: int, new: NewPicture) -> None:
    """Write what a picture is found by. What the user has said of it stays."""
    facts = facts_of(new.infotext, new.request, PurePosixPath(new.path).name, new.sheet, new.place)
    values = (number, new.owner, new.created, new.width, new.height, new.width * new.height, facts.checkpoint, facts.sampler)
    connection.execute(
        "INSERT INTO picture_facts (picture, owner, created, width, height, area, checkpoint, sampler, trashed, sha256, pixels, recipe) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (picture) DO UPDATE SET owner = excluded.owner, "
        "created = excluded.created, checkpoint = excluded.checkpoint, sampler = excluded.sampler, recipe = excluded.recipe",
        (*values, new.trashed, new.sha256, new.pixels, facts.recipe),
    )
    _put_lists(connection, number, facts)


def _put_lists(connection: sqlite3.Connection, number: int, facts: PictureFacts) -> None:
    connection.execute("DELETE FROM picture_words WHERE rowid = ?", (number,))
    connection.execute(
        "INSERT INTO picture_words (rowid, prompt, negative, rest) VALUES (?, ?, ?, ?)", (number, facts.prompt, facts.negative, facts.rest)
    )
    loras = [(name, number) for name in facts.loras]
    connection.executemany("INSERT OR IGNORE INTO picture_labels (kind, name, picture) VALUES ('lora', ?, ?)", loras)
    sources = [(number, relation, sha256) for relation, sha256 in facts.sources]
    connection.executemany("INSERT OR IGNORE INTO picture_sources (picture, relation, sha256) VALUES (?, ?, ?)", sources)


def forget_pictures(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Take away all rows about these pictures."""
    one_each = [(number,) for number in numbers]
    for table in PER_ROW:
        connection.executemany(f"DELETE FROM {table} WHERE picture = ?", one_each)
    connection.executemany("DELETE FROM picture_words WHERE rowid = ?", one_each)
    connection.executemany("DELETE FROM pictures WHERE id = ?", one_each)


def marks(values: Iterable[object]) -> str:
    """As many question marks as there are values, for IN (...)."""
    return ", ".join("?" for _ in values)
