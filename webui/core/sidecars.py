"""The notes that lie beside model files: A1111's `name.json`, `name.civitai.info`, `name.txt`. Strangers wrote them: never trusted."""

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from webui.core.errors import BadRequest, EaselError
from webui.core.family import PREDICTION_TYPES
from webui.core.model_listing import Companion
from webui.core.request import MAX_SIDE
from webui.core.safetensors_header import open_model_file, read_exactly

MAX_BYTES = 2_000_000  # of one sidecar
MAX_TEXT = 20_000  # characters of a description
MAX_LINE = 2_000  # characters of trigger words and the like
MAX_WORDS = 100  # trigger words
MAX_WEIGHT = 10.0
TAG = re.compile(r"(<[^<>]*>)")
UNSEEN = ("script", "style")  # HTML whose content is not for reading
NEW_LINE = ("br", "p", "/p", "div", "/div", "li", "/ul", "/ol", "h1", "h2", "h3", "h4", "tr")
WRITTEN = {  # what may be changed, and A1111's name for it
    "description": "description",
    "triggers": "activation text",
    "negative": "negative text",
    "weight": "preferred weight",
    "notes": "notes",
    "vae": "vae",
    "text_encoder": "text encoder",  # Easel's own, like the next two
    "prediction_type": "prediction type",
    "native_size": "native size",
}


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What sidecars say. weight: preferred strength, 0 if none is said; warnings: a sentence for each that could not be read."""

    title: str = ""
    description: str = ""
    triggers: str = ""
    negative: str = ""
    weight: float = 0.0
    notes: str = ""
    vae: str = ""  # the VAE that a checkpoint is to be used with
    text_encoder: str = ""  # the files with the text encoders that it lacks, in one text
    prediction_type: str = ""  # of a checkpoint, where its file says it wrongly: one of PREDICTION_TYPES
    native_size: int = 0  # pixels of one side for which a checkpoint is, where its family does not tell; 0: it does
    base: str = ""  # the family of models it is for, in the words of whoever wrote it
    warnings: tuple[str, ...] = field(default=())


def read_sidecars(beside: Iterable[Companion]) -> Sidecar:
    """What the sidecars of one model say together: A1111's json counts more than civitai.info, both more than plain text."""
    found: dict[str, Any] = {}
    warnings: list[str] = []
    by_ending = {companion.ending: companion for companion in beside}
    for ending, read in READERS.items():
        if ending in by_ending:
            try:
                told = read(_content(by_ending[ending]))
            except (EaselError, ValueError, RecursionError) as error:
                reason = str(error) if isinstance(error, EaselError) else "it is damaged"
                warnings.append(f"{by_ending[ending].path.name} is ignored: {reason}")
            else:
                found = {**{key: value for key, value in told.items() if value}, **found}
    return Sidecar(**found, warnings=tuple(warnings))


def changed_sidecar(old: Companion | None, changes: Mapping[str, Any]) -> bytes:
    """A1111's json with the changes made; what else it says stays. changes: some of WRITTEN. Raises BadRequest, BadModelFile.

    A file that holds no JSON object is refused rather than overwritten.
    """
    content: Any = {}
    if old is not None:
        try:
            content = json.loads(_content(old))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise BadRequest(f"{old.path.name} is damaged, so nothing was written; repair it or move it away first")
    for key, value in changes.items():
        if key not in WRITTEN:
            raise BadRequest(f"a sidecar has no field {key[:50]!r}; those it has: {', '.join(WRITTEN)}")
        content[WRITTEN[key]] = CHECKED.get(key, partial(_checked_text, key))(value)
    return json.dumps(content, indent=4).encode("ascii")


def plain_text(markup: str) -> str:
    """The text of a piece of HTML, in time that grows as its length does. What looks like no tag stays as it is."""
    pieces, unseen = [], ""
    for piece in TAG.split(markup):
        name = piece[1:-1].strip().lower().split(" ", 1)[0].rstrip("/") if piece[:1] == "<" and piece[-1:] == ">" else ""
        if unseen:
            unseen = "" if name == f"/{unseen}" else unseen
        elif name in UNSEEN:
            unseen = name
        elif name in NEW_LINE:
            pieces.append("\n- " if name == "li" else "\n")
        elif not re.fullmatch(r"/?[a-z][a-z0-9]*|!.*", name):
            pieces.append(html.unescape(piece))
    return re.sub(r"\n{3,}", "\n\n", "".join(pieces)).strip()


def bounded(value: Any, most: int = MAX_LINE) -> str:
    """`value` as a text that can be stored and shown: at most `most` characters, no halves of surrogate pairs; "" for what is no text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63:
        value = str(value)
    if not isinstance(value, str):
        return ""
    text = value if len(value) <= most else value[: most - 1] + "…"
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(char for char in text if char in "\n\t" or char.isprintable()).strip()


def words(values: Any) -> str:
    """A list of trigger words as one text; double ones once."""
    parts = values if isinstance(values, list) else [values]
    found = dict.fromkeys(bounded(part).strip(" ,") for part in parts[:MAX_WORDS])
    return bounded(", ".join(part for part in found if part))


def _content(companion: Companion) -> bytearray:
    with open_model_file(companion.path) as file:
        size = min(companion.size, MAX_BYTES + 1)
        if size > MAX_BYTES:
            raise BadRequest(f"it has {companion.size} bytes; more than {MAX_BYTES} are not read")
        return read_exactly(file, size, companion.path.name)


def _a1111(data: bytearray) -> dict[str, Any]:
    content = _object(data)
    return {
        "description": bounded(content.get("description"), MAX_TEXT),
        "triggers": bounded(content.get("activation text")),
        "negative": bounded(content.get("negative text")),
        "weight": _weight(content.get("preferred weight")),
        "notes": bounded(content.get("notes"), MAX_TEXT),
        "vae": bounded(content.get("vae"), 500),
        "text_encoder": bounded(content.get("text encoder"), 500),
        "prediction_type": said if (said := content.get("prediction type")) in PREDICTION_TYPES else "",
        "native_size": _size(content.get("native size")),
        "base": bounded(content.get("sd version"), 100),
    }


def _civitai(data: bytearray) -> dict[str, Any]:
    content = _object(data)
    model = content.get("model") if isinstance(content.get("model"), dict) else {}
    assert isinstance(model, dict)
    described = bounded(content.get("description"), 2 * MAX_TEXT) or bounded(model.get("description"), 2 * MAX_TEXT)
    return {
        "title": bounded(model.get("name"), 200),
        "description": bounded(plain_text(described), MAX_TEXT),
        "triggers": words(content.get("trainedWords") or []),
        "base": bounded(content.get("baseModel"), 100),
    }


def _plain(data: bytearray) -> dict[str, Any]:
    return {"description": bounded(data.decode("utf-8", "replace"), MAX_TEXT)}


READERS: Mapping[str, Callable[[bytearray], dict[str, Any]]] = {  # the first one that says something counts
    ".json": _a1111,
    ".civitai.info": _civitai,
    ".description.txt": _plain,
    ".txt": _plain,
}


def _object(data: bytearray) -> dict[str, Any]:
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def _weight(value: Any) -> float:
    """A strength between -10 and 10; 0, which stands for none, for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return 0.0
    number = float(value[:50]) if isinstance(value, str) and value.strip() else value or 0.0
    return float(number) if isinstance(number, (int, float)) and math.isfinite(number) and abs(number) <= MAX_WEIGHT else 0.0


def _checked_weight(value: Any) -> float:
    try:
        number = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= MAX_WEIGHT:
        raise BadRequest(f"the weight must be a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}; 0 stands for none")
    return number


def _checked_text(key: str, value: Any) -> str:
    most = MAX_TEXT if key in ("description", "notes") else MAX_LINE
    if not isinstance(value, str) or len(value) > most:
        raise BadRequest(f"{key} must be a text of at most {most} characters")
    return value.encode("utf-8", "replace").decode("utf-8")


def _size(value: Any) -> int:
    """Pixels; 0, which stands for nothing said, for what no picture can have."""
    return value if isinstance(value, int) and 64 <= value <= MAX_SIDE and value % 8 == 0 else 0


def _checked_prediction_type(value: Any) -> str:
    if value not in ("", *PREDICTION_TYPES):
        raise BadRequest(f"the prediction type must be one of: {', '.join(PREDICTION_TYPES)}; nothing: as the file says")
    return str(value)


def _checked_size(value: Any) -> int:
    text = str(value or 0)
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1
    if size and not _size(size):
        raise BadRequest(f"the native size must be a multiple of 8 from 64 to {MAX_SIDE} pixels; 0: as its family tells")
    return size


CHECKED: Mapping[str, Callable[[Any], Any]] = {  # what is no text
    "weight": _checked_weight,
    "prediction_type": _checked_prediction_type,
    "native_size": _checked_size,
}
