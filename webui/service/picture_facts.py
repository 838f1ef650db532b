"""What the gallery knows of a picture beside its row: what it can be found by, and from which pictures it was made."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from webui.core.checkpoint_text import ENDING
from webui.core.choices import find_sampler
from webui.core.errors import BadRequest
from webui.core.infotext import read
from webui.core.networks import extract_networks

MAX_WORDS = 20_000  # characters of one text that can be searched
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """loras: names as the prompts have them; recipe: equal for pictures of equal requests, "" where there is none; sources: what it was
    made from, as (relation, sha256 of the input picture), relation being "img2img", "inpaint", "outpaint" or "upscale"; prompt,
    negative, rest: what is searched, as `spaced` writes it."""

    checkpoint: str = ""
    sampler: str = ""
    loras: tuple[str, ...] = ()
    recipe: str = ""
    sources: tuple[tuple[str, str], ...] = ()
    prompt: str = ""
    negative: str = ""
    rest: str = ""


def facts_of(infotext: str, request: str, name: str, sheet: bool = False, place: int = 0) -> PictureFacts:
    """The facts that infotext and request (JSON, "{}" where there is none) tell of the picture in file `name`. Never raises.

    place: which of the pictures that a request names as `images` it was made from.
    """
    told, asked = read(infotext), _loaded(request)
    named = told.params.get("Model file", "") or str("" if "Model" in told.params else asked.get("checkpoint") or "")
    checkpoint = _storable(named.removesuffix(ENDING) or told.params.get("Model", ""))
    sampler = _sampler(_storable(told.params.get("Sampler", "") or str(asked.get("sampler") or "")))
    prompts = (told.prompt, told.params.get("Hires prompt", ""))
    seed = told.params.get("Seed", "")
    return PictureFacts(
        checkpoint=checkpoint,
        sampler=sampler,
        loras=tuple(dict.fromkeys(_storable(lora) for prompt in prompts for lora in _loras(prompt))),
        recipe="" if sheet or not asked or "images" in asked else hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        sources=() if sheet else tuple((relation, sha256) for relation, sha256 in _sources(asked, place) if SHA256.fullmatch(sha256)),
        prompt=spaced("\n".join((*prompts, told.params.get("Template", "")))),
        negative=spaced(told.negative_prompt),
        rest=spaced("\n".join((checkpoint, sampler, seed, name))),
    )


def spaced(text: str) -> str:
    """`text` as its words are found: characters of scripts without spaces between words stand alone; no NUL, no halves of pairs."""
    plain = unicodedata.normalize("NFKC", _storable(text[:MAX_WORDS])).replace("\0", " ")
    return "".join(f" {char} " if stands_alone(char) else char for char in plain)


def stands_alone(char: str) -> bool:
    """Whether a character is a word for the search: Chinese, Japanese kana, Thai, Lao, Khmer, Burmese."""
    code = ord(char)
    spaceless = 0x3040 <= code <= 0x30FF or 0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F or 0x1780 <= code <= 0x17FF
    return spaceless or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3FFFF


def _storable(text: str) -> str:
    """Without halves of surrogate pairs, which no database can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _loaded(request: str) -> dict[str, Any]:
    try:
        asked = json.loads(request)
    except (ValueError, RecursionError):
        return {}
    return asked if isinstance(asked, dict) else {}


def _sampler(name: str) -> str:
    with suppress(BadRequest):
        return find_sampler(name)[0]
    return name[:100]


def _loras(prompt: str) -> list[str]:
    with suppress(BadRequest):
        return [use.name for use in extract_networks(prompt)[1] if use.kind == "lora"]
    return []


def _sources(asked: Mapping[str, Any], place: int) -> Iterator[tuple[str, str]]:
    """The pictures that a request names by hash, masks left out: they are no pictures of ours."""
    init, hires, images = asked.get("init"), asked.get("hires"), asked.get("images")
    if isinstance(init, dict) and init.get("image"):
        kinds = [kind for kind in ("inpaint", "outpaint", "upscale") if init.get(kind)]
        yield kinds[0] if kinds else "img2img", str(init["image"])
    if isinstance(hires, dict) and hires.get("image"):
        yield "upscale", str(hires["image"])
    if isinstance(images, list) and 0 <= place < len(images):
        yield "upscale", str(images[place])
