"""Finding saved pictures: what a person types, and filters, as conditions of SQL; pages by where the last one ended."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from webui.core.checkpoint_text import ENDING
from webui.core.errors import BadRequest
from webui.service.database import Database
from webui.service.picture_facts import spaced, stands_alone

MOST = 500  # pictures on one page
MAX_TEXT = 500  # characters of a search that count
MAX_TERMS = 32  # words of a search that count
ORDERS = {"newest": ("created", "DESC"), "oldest": ("created", "ASC"), "largest": ("area", "DESC"), "smallest": ("area", "ASC")}
SHAPES = {"portrait": "width < height", "landscape": "width > height", "square": "width = height"}
TERM = re.compile(r'(?P<minus>-?)(?P<field>negative:)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))', re.IGNORECASE)
SIZE = re.compile(r"(\d{1,6})\s*[x×]\s*(\d{1,6})")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is asked for; what is left empty does not narrow. text: words that all occur in prompt, checkpoint, sampler, seed or file name,
    each also as the beginning of a longer one; "in quotes" one after the other; -without; negative:word in the negative prompt.
    checkpoint: as infotexts name it, or its file; size: "512x768", or one of SHAPES; since, until: ISO days (until: that day included) or
    times; trashed: in the trash, else not."""

    text: str = ""
    checkpoint: str = ""
    lora: str = ""
    sampler: str = ""
    tag: str = ""
    size: str = ""
    since: str = ""
    until: str = ""
    favourite: bool = False
    missing: bool = False
    trashed: bool = False
    owner: str | None = None
    order: str = "newest"


Condition = tuple[str, tuple[object, ...]]


def find(database: Database, search: Search, cursor: str, count: int) -> tuple[list[int], str]:
    """The ids of one page, and the cursor of the next one, "" where there is none. cursor "": the first page. Raises BadRequest."""
    if search.order not in ORDERS:
        raise BadRequest(f"pictures cannot be sorted by {search.order[:50]!r}; choose one of: {', '.join(ORDERS)}")
    if not 1 <= count <= MOST:
        raise BadRequest(f"a page of {count} pictures is out of range: 1 to {MOST}")
    column, direction = ORDERS[search.order]
    parts = conditions(search)
    if cursor:
        sign = "<" if direction == "DESC" else ">"
        parts.append((f"({column}, picture) {sign} (?, ?)", _place(cursor)))
    sql = f"SELECT picture, {column} AS place FROM picture_facts {_where(parts)} ORDER BY {column} {direction}, picture {direction} LIMIT ?"
    rows = database.read(sql, (*_values(parts), count + 1))
    last = f"{rows[count - 1]['place']!r}:{rows[count - 1]['picture']}" if len(rows) > count else ""
    return [row["picture"] for row in rows[:count]], last


def count_all(database: Database, search: Search) -> int:
    """How many pictures fit. Raises BadRequest."""
    parts = conditions(search)
    return int(database.read(f"SELECT count(*) FROM picture_facts {_where(parts)}", _values(parts))[0][0])


def conditions(search: Search) -> list[Condition]:
    """What the rows of picture_facts must satisfy, all of it. Raises BadRequest."""
    parts: list[Condition] = [("trashed > 0" if search.trashed else "trashed = 0", ())]
    for column, value in (("checkpoint", search.checkpoint.removesuffix(ENDING)), ("sampler", search.sampler), ("owner", search.owner)):
        if value or (column == "owner" and value is not None):
            parts.append((f"{column} = ?", (value,)))
    for kind, name in (("lora", search.lora), ("tag", search.tag)):
        if name:
            parts.append(("picture IN (SELECT picture FROM picture_labels WHERE kind = ? AND name = ?)", (kind, name)))
    for column in ("favourite", "missing"):
        if getattr(search, column):
            parts.append((f"{column} = 1", ()))
    if search.size:
        parts.append(_size(search.size))
    if search.since:
        parts.append(("created >= ?", (_moment(search.since),)))
    if search.until:
        parts.append(("created < ?", (_moment(search.until, end=True),)))
    wanted, unwanted = terms(search.text)
    matches = "(SELECT rowid FROM picture_words WHERE picture_words MATCH ?)"
    if wanted:
        parts.append((f"picture IN {matches}", (" AND ".join(wanted),)))
    if unwanted:
        parts.append((f"picture NOT IN {matches}", (" OR ".join(unwanted),)))
    return parts


def terms(text: str) -> tuple[list[str], list[str]]:
    """What a person typed as expressions of FTS5: those that must match, and those that must not. Every text gives expressions that
    SQLite takes: whatever is not a word or a number is left out, and the rest stands in quotes."""
    wanted: list[str] = []
    unwanted: list[str] = []
    for found in list(TERM.finditer(text[:MAX_TEXT]))[:MAX_TERMS]:
        phrase = found["phrase"]
        words = _words(found["word"] if phrase is None else phrase)
        if not words:
            continue
        begins = phrase is None and len(words[-1]) > 1 and not stands_alone(words[-1][-1])
        field = "{negative}" if found["field"] else "{prompt rest}"
        expression = f'{field} : ("{" ".join(words)}"{" *" if begins else ""})'
        (unwanted if found["minus"] else wanted).append(expression)
    return wanted, unwanted


def _words(text: str) -> list[str]:
    """The parts of `text` that hold letters or digits, quotes and all else left out."""
    return re.findall(r"[^\W_]+", spaced(text))


def _where(parts: Sequence[Condition]) -> str:
    return "WHERE " + " AND ".join(sql for sql, _ in parts)


def _values(parts: Sequence[Condition]) -> tuple[object, ...]:
    return tuple(value for _, values in parts for value in values)


def _size(text: str) -> Condition:
    if text in SHAPES:
        return SHAPES[text], ()
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise BadRequest(f"size {text[:50]!r} is not known; use one like 512x768, or: {', '.join(SHAPES)}")
    return "width = ? AND height = ?", (int(found[1]), int(found[2]))


def _moment(text: str, end: bool = False) -> float:
    """Unix seconds of an ISO day or time in the server's time zone; end: of the end of that day. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if end and len(text.strip()) <= 10:
            moment += timedelta(days=1)
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadRequest(f"{text[:50]!r} is no date; write it like 2026-03-31") from None


def _place(cursor: str) -> tuple[Any, int]:
    place, _, number = cursor.partition(":")
    try:
        found = (float(place), int(number))
    except ValueError:
        found = (math.nan, 0)
    if not math.isfinite(found[0]) or abs(found[1]) >= 2**63:
        raise BadRequest(f"{cursor[:50]!r} is no cursor; take `next` of the page before, or leave it out")
    return found
