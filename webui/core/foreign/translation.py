"""What readers of other programs' recipes share: the infotext that they write, the report beside it, lenient access to JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from webui.core.key_values import joined
from webui.core.named_models import NamedModel

APPLIED, APPROXIMATED, MISSING, NOT_UNDERSTOOD = "applied", "approximated", "missing", "not understood"
MOST_NOTES = 40
MAX_JSON = 4_000_000  # characters


@dataclass(frozen=True)
class Note:
    """One line of the report on how faithfully a recipe was taken over. kind: one of the four words above."""

    kind: str
    name: str  # of the setting, as the other program or the infotext has it
    sentence: str


@dataclass(frozen=True)
class Translation:
    """A recipe as infotext in A1111's layout, and what could not be taken over as it was."""

    text: str
    notes: tuple[Note, ...] = ()
    models: tuple[NamedModel, ...] = ()  # that the recipe names where no infotext has a place for them


@dataclass
class Recipe:
    """An infotext in the making; None and "" stand for settings that the program did not tell."""

    prompt: str = ""
    negative_prompt: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    models: list[NamedModel] = field(default_factory=list)

    def set(self, key: str, value: Any) -> None:
        """One setting, in the order in which they come."""
        text = written(value)
        if text:
            self.settings[key] = text

    def approximated(self, name: str, sentence: str) -> None:
        """The setting was taken over, but will not do quite the same."""
        self._note(APPROXIMATED, name, sentence)

    def not_understood(self, name: str, sentence: str) -> None:
        """The setting was left out."""
        self._note(NOT_UNDERSTOOD, name, sentence)

    def _note(self, kind: str, name: str, sentence: str) -> None:
        note = Note(kind, name[:60], sentence)
        if len(self.notes) < MOST_NOTES and note not in self.notes:
            self.notes.append(note)

    def translation(self) -> Translation:
        """The finished text; "" where nothing was told."""
        parts = [self.prompt] if self.prompt else []
        if self.negative_prompt:
            parts.append(f"Negative prompt: {self.negative_prompt}")
        if self.settings:
            parts.append(joined(self.settings.items()))
        return Translation("\n".join(parts), tuple(self.notes), tuple(dict.fromkeys(self.models)))


def written(value: Any) -> str:
    """A number or text of JSON as an infotext has it; "" for everything else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:  # nan, and 10 ** 400
        return ""
    return str(int(value)) if value == int(value) else repr(round(value, 6))


def size(width: Any, height: Any) -> str:
    """ "512x768", "" unless both are whole numbers."""
    sides = written(width), written(height)
    return "x".join(sides) if all(side.isdigit() for side in sides) else ""


def loads(text: str) -> dict[str, Any]:
    """The JSON object in `text`, {} where there is none. Never raises."""
    if len(text) > MAX_JSON:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def part(value: Any, key: str) -> dict[str, Any]:
    """value[key] where both are objects, else {}."""
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, dict) else {}


def entries(value: Any) -> Sequence[Any]:
    """A JSON list, () where it is none."""
    return value if isinstance(value, list) else ()


def stem(name: Any) -> str:
    """The bare name of a model file: no folders of either kind, no ending."""
    text = written(name).replace("\\", "/").rpartition("/")[2]
    for ending in (".safetensors", ".ckpt", ".pt", ".pth", ".bin"):
        text = text.removesuffix(ending)
    return text


def lora_tag(name: Any, unet: Any, text_encoder: Any = None) -> str:
    """`<lora:name:1>` for the prompt; with two strengths where they differ; "" without a name."""
    bare = stem(name).replace(":", "").replace(">", "").replace("<", "")
    strength = written(unet) or "1"
    other = written(text_encoder)
    return f"<lora:{bare}:{f'{other}:{strength}' if other and other != strength else strength}>" if bare else ""
