"""Extra networks in a prompt: `<lora:name:1>` and its like are taken out of the text and become plain data.

The rules are A1111 1.10's: `<word:...>` is taken out whatever the word is, only the tag itself, so the spaces around it stay; what is
between the colons is the name and the numbers in order, or `key=value`. `<lyco:...>` is another way to write `<lora:...>`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from webui.core.errors import BadRequest

KINDS = ("lora", "hypernet")
ALIASES = {"lyco": "lora"}
MAX_STRENGTH = 10_000.0


@dataclass(frozen=True)
class NetworkUse:
    """One tag. kind: "lora", "hypernet" or any other word, in lower case; positional, named: texts as they were written."""

    kind: str
    name: str
    positional: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """The tag as one could write it."""
        parts = (self.kind, self.name, *self.positional, *(f"{key}={value}" for key, value in self.named.items()))
        return f"<{':'.join(parts)}>"


@dataclass(frozen=True)
class LoraStrengths:
    """How strongly a LoRA changes the text encoders and the UNet (1: as trained); dyn: use only the first so many ranks."""

    te: float
    unet: float
    dyn: int | None = None


def extract_networks(prompt: str) -> tuple[str, tuple[NetworkUse, ...]]:
    """The prompt without its tags, and what they say, in order. Time is linear in the length.

    Raises BadRequest for tags of one of KINDS without a name. Tags of other kinds are the caller's to warn about.
    """
    pieces: list[str] = []
    uses: list[NetworkUse] = []
    begin = at = 0
    while (at := prompt.find("<", at)) >= 0:
        colon = _word_end(prompt, at + 1)
        end = prompt.find(">", colon)
        if end < 0:
            break
        if colon > at + 1 and prompt[colon] == ":" and end > colon + 1:
            pieces.append(prompt[begin:at])
            uses.append(_parse(prompt[at + 1 : colon], prompt[colon + 1 : end]))
            begin = at = end + 1
        else:
            at = colon
    return "".join([*pieces, prompt[begin:]]), tuple(uses)


def lora_strengths(use: NetworkUse) -> LoraStrengths:
    """`:te:unet:dyn` or `te=`, `unet=`, `dyn=`; the UNet's is the text encoder's where it is not given, and that one is 1.

    Raises BadRequest for what is no number.
    """
    values = {**dict(zip(("te", "unet", "dyn"), use.positional, strict=False)), **use.named}
    te = _number(use, values["te"]) if "te" in values else 1.0
    unet = _number(use, values["unet"]) if "unet" in values else te
    return LoraStrengths(te, unet, _rank(use, values["dyn"]) if "dyn" in values else None)


def hypernetwork_strength(use: NetworkUse) -> float:
    """The first number, 1 where there is none. Raises BadRequest for what is no number."""
    return _number(use, use.positional[0]) if use.positional else 1.0


def _word_end(text: str, at: int) -> int:
    while at < len(text) and (text[at].isalnum() or text[at] == "_"):
        at += 1
    return at


def _parse(word: str, rest: str) -> NetworkUse:
    kind = ALIASES.get(word.lower(), word.lower())
    positional: list[str] = []
    named: dict[str, str] = {}
    name, *parts = rest.split(":")
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and "=" not in value:
            named[key.strip()] = value
        else:
            positional.append(part)
    if kind in KINDS and not name.strip():
        raise BadRequest(f"<{word}:{rest[:40]}> names nothing; write <{word}:name:1>")
    return NetworkUse(kind, name, tuple(positional), named)


def _number(use: NetworkUse, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_STRENGTH:
        raise BadRequest(
            f"{text[:40]!r} in {use.tag[:120]} is no strength; write a number between {-MAX_STRENGTH:g} and {MAX_STRENGTH:g}, "
            f"as in <{use.kind}:{use.name[:40]}:0.8>"
        )
    return value


def _rank(use: NetworkUse, text: str) -> int:
    """A whole number from 1 up."""
    if text.strip().isdecimal() and len(text) < 10 and int(text) > 0:
        return int(text)
    raise BadRequest(f"{text[:40]!r} in {use.tag[:120]} is no rank; write a whole number from 1 up after dyn=, or leave it out")
