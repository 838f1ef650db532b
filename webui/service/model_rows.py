"""The models table: what lies in the model folders and what its files say, as of the last scan. Also the ModelIndex of core.catalog."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from webui.core.catalog import ModelFile, Verdict
from webui.core.errors import MissingModel, StorageError
from webui.core.family import Family
from webui.core.model_details import READER, Details
from webui.core.model_listing import KIND_TITLES, without_ending
from webui.service.database import Database

ORDERS = {"name": "sorted", "date": "mtime", "size": "size"}
UNKNOWN = "unknown"  # as a family to search for: models of which nothing tells it
MENTIONED = ("lora", "embedding", "hypernetwork")  # kinds that prompts mention
ON_CARDS = (
    "title",
    "description",
    "triggers",
    "negative",
    "weight",
    "notes",
    "vae",
    "text_encoder",
    "prediction_type",
    "native_size",
    "base",
    "warnings",
)
LISTED = "path, name, size, mtime, alias, facts, problem"
HASH = (
    "SELECT sha256 FROM hashes WHERE hashes.path = models.path || CASE kind WHEN 'lora' THEN '/lora' ELSE '' END "
    "AND hashes.mtime = models.mtime AND hashes.size = models.size"
)
TWINS = "SELECT count(*) FROM models AS other WHERE other.kind = models.kind AND other.stem = models.stem"
CARD = f"kind, {LISTED}, reader, family, thumbnail, card, ({HASH}) AS sha256, ({TWINS}) AS twins"


class Readable(Protocol):
    def read(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]: ...


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is shown of one model.

    insert: what its click puts into the prompt, "" for kinds that prompts do not mention; hash: 12 digits of a LoRA, 10 of others, ""
    while unknown; thumbnail: "" or a word that changes when the picture does; seen: whether the file was looked into already; family:
    one of core.family.FAMILIES or ""; weight: the preferred one, 1 unless a sidecar says another.
    """

    kind: str
    name: str
    title: str
    insert: str
    family: str
    size: int
    mtime: float
    hash: str
    thumbnail: str
    problem: str
    seen: bool
    description: str = ""
    triggers: str = ""
    negative: str = ""
    weight: float = 1.0
    notes: str = ""
    vae: str = ""
    text_encoder: str = ""
    prediction_type: str = ""
    native_size: int = 0
    base: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CardSearch:
    """A question for cards of one kind.

    q: words that all occur in name, title, trigger words, description or base model; family: a name of core.family.FAMILIES, UNKNOWN, or
    "" for all; sort: one of ORDERS; down: largest first; page: from 0, of `count` cards; folder: models in it and in folders within it,
    or "" for all.
    """

    kind: str
    q: str = ""
    family: str = ""
    sort: str = "name"
    down: bool = False
    page: int = 0
    count: int = 60
    folder: str = ""


class ModelIndexRows:
    """The table as core.catalog asks it; a table that cannot be read counts as empty."""

    def __init__(self, database: Readable):
        self._readable = database

    def files(self, kind: str) -> list[ModelFile]:
        return self._files("kind = ? ORDER BY sorted", (kind,))

    def named(self, kind: str, text: str) -> list[ModelFile]:
        whole, bare = folded(text), folded(without_ending(text))
        parts = ("bare IN (?2, ?3)", "stem IN (?2, ?3)", "alias = ?2")  # each by an index of its own
        chosen = " UNION ".join(f"SELECT rowid FROM models WHERE kind = ?1 AND {part}" for part in parts)
        return self._files(f"rowid IN ({chosen}) ORDER BY sorted", (kind, whole, bare))

    def verdict(self, model: ModelFile) -> Verdict | None:
        where = "kind = 'checkpoint' AND path = ? AND mtime = ? AND size = ? AND reader = ? AND facts != ''"
        found = self._files(where, (str(model.path), model.mtime, model.size, READER))
        return (found[0].family, found[0].problem) if found else None  # what had a problem is looked into again

    def _files(self, where: str, values: Sequence[object]) -> list[ModelFile]:
        try:
            return [model_file(row) for row in self._readable.read(f"SELECT {LISTED} FROM models WHERE {where}", values)]
        except StorageError:
            return []


class ModelRows(ModelIndexRows):
    """The table as the service uses it. Every method raises StorageError where the table cannot be read or written."""

    def __init__(self, database: Database):
        super().__init__(database)
        self._database = database

    def search(self, asked: CardSearch) -> tuple[int, list[Card]]:
        """How many models fit, and those of one page."""
        terms, family, folder = folded(asked.q).split()[:20], asked.family, asked.folder
        within = ["substr(name, 1, length(?)) = ?"] * bool(folder)
        where = " AND ".join(["kind = ?", *["instr(searched, ?) > 0"] * len(terms), *["family = ?"] * bool(family), *within])
        values = [asked.kind, *terms, *["" if family == UNKNOWN else family] * bool(family), *[storable(f"{folder}/")] * 2 * bool(folder)]
        total = int(self._database.read(f"SELECT count(*) FROM models WHERE {where}", values)[0][0])
        order = f"{ORDERS[asked.sort]} {'DESC' if asked.down else 'ASC'}, sorted"
        return total, self._cards(where, values, order, (), (asked.count, asked.page * asked.count))

    def folders(self, kind: str) -> list[str]:
        """The folders in which models of the kind lie, and those around them, sorted."""
        rows = self._database.read("SELECT DISTINCT rtrim(name, replace(name, '/', '')) AS folder FROM models WHERE kind = ?", (kind,))
        around = (PurePosixPath(row["folder"]) for row in rows)
        return sorted(
            {str(each) for folder in around for each in (folder, *folder.parents)} - {"."}, key=lambda folder: folded(folder).split("/")
        )

    def starting_with(self, text: str, kinds: Sequence[str], count: int) -> list[Card]:
        """Models that prompts mention whose name or alias holds `text`; those that begin with it first, short names before long ones."""
        where = f"kind IN ({', '.join('?' * len(kinds))}) AND problem = '' AND (instr(bare, ?) > 0 OR instr(alias, ?) > 0)"
        order = "stem NOT GLOB ? AND alias NOT GLOB ?, length(stem), stem, kind"
        wanted = folded(text)
        begins = "".join(f"[{char}]" if char in "*?[" else char for char in wanted) + "*"
        return self._cards(where, (*kinds, wanted, wanted), order, (begins, begins), (count, 0))

    def card(self, kind: str, name: str) -> Card:
        """Raises MissingModel."""
        return _card(self._row(CARD, kind, name))

    def file(self, kind: str, name: str) -> ModelFile:
        """Raises MissingModel."""
        return model_file(self._row(LISTED, kind, name))

    def details(self, kind: str, name: str) -> dict[str, Any]:
        """The fields of core.model_details.Details as they were stored; {} for a file that was not looked into yet. Raises MissingModel."""
        found: dict[str, Any] = json.loads(self._row("details", kind, name)["details"])
        return found

    def all_details(self, kind: str) -> list[tuple[ModelFile, dict[str, Any]]]:
        """Every file of a kind with its details."""
        rows = self._database.read(f"SELECT {LISTED}, details FROM models WHERE kind = ? ORDER BY sorted", (kind,))
        return [(model_file(row), json.loads(row["details"])) for row in rows]

    def unhashed(self) -> list[tuple[str, ModelFile]]:
        """(kind, file) of what prompts mention and of which no sum is known; and which can be read."""
        kinds = ", ".join(f"'{kind}'" for kind in MENTIONED)
        where = f"kind IN ({kinds}) AND problem = '' AND reader != '' AND NOT EXISTS ({HASH})"
        return [(row["kind"], model_file(row)) for row in self._database.read(f"SELECT kind, {LISTED} FROM models WHERE {where}")]

    def with_hash(self, kind: str, digits: str) -> list[str]:
        """The names of the models whose hash begins with these digits."""
        same = f"SELECT name FROM models WHERE kind = ? AND substr(({HASH}), 1, ?) = ? ORDER BY sorted"
        rows = self._database.read(same, (kind, len(digits), digits))
        return [row["name"] for row in rows]

    def stamps(self, kind: str) -> dict[str, str]:
        """path -> what shows whether file, name or sidecars changed since they were looked into."""
        rows = self._database.read("SELECT path, stamp FROM models WHERE kind = ?", (kind,))
        return {row["path"]: row["stamp"] for row in rows}

    def unseen(self, kind: str) -> set[str]:
        """The paths of files that are to be looked into, also of those with a problem: it may have been their disk's."""
        rows = self._database.read("SELECT path FROM models WHERE kind = ? AND (reader != ? OR problem != '')", (kind, READER))
        return {row["path"] for row in rows}

    def list_anew(self, kind: str, changed: Iterable[ModelFile], gone: Iterable[str]) -> None:
        """Files that are new or changed, not looked into yet, and paths of those that are gone."""
        names = "kind, path, name, mtime, size, stamp, sorted, bare, stem, searched"
        update = ", ".join(f"{name} = excluded.{name}" for name in names.split(", ")[2:-1])
        insert = f"INSERT INTO models ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        sql = f"{insert} ON CONFLICT (kind, path) DO UPDATE SET reader = '', {update}"
        with self._database.write() as connection:
            connection.executemany("DELETE FROM models WHERE kind = ? AND path = ?", [(kind, path) for path in gone])
            connection.executemany(sql, [(kind, *_listed_values(model)) for model in changed])

    def put_details(self, kind: str, found: Iterable[tuple[ModelFile, Details, str]]) -> None:
        """What was found in files: (file, details, version of its thumbnail)."""
        columns = ("reader", "alias", "family", "facts", "problem", "thumbnail", "searched", "card", "details")
        sql = f"UPDATE models SET {', '.join(f'{column} = ?' for column in columns)} WHERE kind = ? AND path = ?"
        with self._database.write() as connection:
            connection.executemany(sql, [(*_details_values(*one), kind, str(one[0].path)) for one in found])

    def _cards(self, where: str, values: Sequence[object], order: str, ordering: Sequence[object], limits: tuple[int, int]) -> list[Card]:
        """The cards that a condition (with `values`) finds, in an order (with `ordering`); limits: how many, and how many not."""
        chosen = f"SELECT rowid FROM models WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"  # so that cards are only made for these
        sql = f"SELECT {CARD} FROM models WHERE rowid IN ({chosen}) ORDER BY {order}"
        return [_card(row) for row in self._database.read(sql, (*values, *ordering, *limits, *ordering))]

    def _row(self, columns: str, kind: str, name: str) -> sqlite3.Row:
        rows = self._database.read(f"SELECT {columns} FROM models WHERE kind = ? AND name = ?", (kind, storable(name)))
        if not rows:
            raise MissingModel(f"there is no {KIND_TITLES.get(kind, 'model')} {name[:200]!r}; refresh the list")
        return rows[0]


def stamp_of(model: ModelFile) -> str:
    """A short text that changes when the file, its name or its sidecars change."""
    parts = (model.name, model.mtime, model.size, *((one.ending, one.mtime, one.size) for one in model.beside))
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16]


def folded(text: str) -> str:
    """`text` as names are compared."""
    return storable(text).casefold()


def storable(text: str) -> str:
    """`text` without halves of surrogate pairs, which no database can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def model_file(row: sqlite3.Row) -> ModelFile:
    family = Family(**json.loads(row["facts"])) if row["facts"] else None
    return ModelFile(Path(row["path"]), row["name"], row["size"], row["mtime"], None, family, row["problem"], row["alias"])


def _listed_values(model: ModelFile) -> tuple[object, ...]:
    bare = without_ending(model.name)
    names = (folded(model.name), folded(bare), folded(model.stem), folded(model.name))
    return (str(model.path), model.name, model.mtime, model.size, stamp_of(model), *names)


def _details_values(model: ModelFile, details: Details, thumbnail: str) -> tuple[object, ...]:
    fields = asdict(details)
    family = details.family
    facts = json.dumps(asdict(family)) if family else ""
    card = json.dumps({name: fields[name] for name in ON_CARDS if fields[name]})
    named = (model.name, details.title, details.alias, details.triggers, details.base, family.title if family else "", details.description)
    searched = folded("\n".join(named))
    alias, problem = folded(details.alias), details.problem
    return (READER, alias, family.config if family else "", facts, problem, thumbnail, searched, card, json.dumps(fields))


def _card(row: sqlite3.Row) -> Card:
    model, told = model_file(row), json.loads(row["card"])
    weight = told.pop("weight", 0.0) or 1.0
    return Card(
        kind=row["kind"],
        name=model.name,
        title=told.pop("title", "") or model.stem,
        insert=_mention(row["kind"], model, weight, row["twins"] > 1),
        family=row["family"],
        size=model.size,
        mtime=model.mtime,
        hash=(row["sha256"] or "")[: 12 if row["kind"] == "lora" else 10],
        thumbnail=row["thumbnail"],
        problem=model.problem,
        seen=row["reader"] != "",
        weight=weight,
        **told,
    )


def _mention(kind: str, model: ModelFile, weight: float, twins: bool) -> str:
    """What a prompt says to use the model; "" for kinds that prompts do not mention, and for names that a prompt cannot hold.

    twins: whether another file has its stem, so that the folder must be named too.
    """
    name = without_ending(model.name) if twins else model.stem
    if kind == "embedding":
        return name
    tag = {"lora": "lora", "hypernetwork": "hypernet"}.get(kind)
    unfit = not tag or any(char in name for char in ":<>")
    return "" if unfit else f"<{tag}:{name}:{weight:g}>"
