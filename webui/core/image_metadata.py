"""Pictures in and out of files: opening those of strangers safely, infotext in and out of PNG, JPEG and WebP."""

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from webui.core import infotext
from webui.core.containers import PNG_SIGNATURE, exif_texts, make_exif, png_texts
from webui.core.errors import BadRequest
from webui.core.foreign import comfyui, invokeai, novelai, others, stealth
from webui.core.foreign.translation import Note, Translation
from webui.core.named_models import NamedModel

MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "TGA", "ICO")  # decoders that only decode
ORIENTATION = 0x0112  # EXIF
NO_TEXTS: Mapping[str, str] = {}
RECIPE = "easel_recipe"  # PNG chunk: JSON with the whole request
PNG_LEVEL = 4  # of zlib: a quarter of the time of 9 for a few percent more bytes
JPEG_EXIF_LIMIT = 65_533  # bytes of one JPEG segment


@dataclass(frozen=True)
class FoundText:
    """What a picture says about itself. text: its infotext, or what another program wrote in its stead, "" if nothing, in A1111's
    layout where it could be translated; items: its other texts by name; source: the program that seems to have made it, "" if unknown;
    notes: what of another program's recipe could not be taken over as it was; models: those that it names beside its infotext."""

    text: str = ""
    items: dict[str, str] = field(default_factory=dict)
    source: str = ""
    notes: tuple[Note, ...] = ()
    models: tuple[NamedModel, ...] = ()


def open_image(data: bytes) -> Image.Image:
    """The picture in `data`, decoded, turned upright as its EXIF says, in its own mode; of several frames the first.

    Raises BadRequest for what is no picture, is damaged, or has more than MAX_PIXELS pixels.
    """
    image = _opened(data)
    try:
        image.load()
    except Exception as error:  # decoders raise whatever they like over damaged data
        raise BadRequest(f"the picture is damaged ({error}); save it again, or use another") from None
    with contextlib.suppress(Exception):  # a broken EXIF block: the pixels are good
        ImageOps.exif_transpose(image, in_place=True)
    return image


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of the picture in `data` once it is upright, without decoding it. Raises BadRequest for what is no picture."""
    image = _opened(data)
    with contextlib.suppress(Exception):  # a broken EXIF block
        if image.getexif().get(ORIENTATION, 1) >= 5:  # on its side
            return image.height, image.width
    return image.size


def _opened(data: bytes) -> Image.Image:
    """The picture with its size known and its pixels not yet decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadRequest(f"the picture has too many pixels; at most {MAX_PIXELS // 1_000_000} million are taken: make it smaller") from None
    except Exception:  # decoders raise whatever they like over damaged data
        raise BadRequest("this is no picture that Easel can read; use PNG, JPEG or WebP") from None
    if image.width * image.height > MAX_PIXELS:
        raise BadRequest(
            f"the picture has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 1_000_000} million are taken: make it smaller"
        )
    return image


def read_infotext(data: bytes | Path) -> FoundText:
    """The texts in a picture file of any program. Damaged or foreign metadata never raise; BadRequest says that it is no picture."""
    if isinstance(data, Path):
        try:
            data = data.read_bytes()
        except OSError as error:
            raise BadRequest(f"the picture cannot be read: {error.strerror}") from None
    if data.startswith(PNG_SIGNATURE):
        items, exif = png_texts(data)
        texts, comment = exif_texts(exif)
    else:
        info = _opened(data).info
        texts, comment = exif_texts(_as_bytes(info.get("exif")))
        items = {}
        comment = comment or _as_bytes(info.get("comment")).decode("utf-8", "replace").rstrip("\0")
    items = {name: value for name, value in items.items() if value or name != "parameters"}
    for name, value in texts.items():
        items.setdefault(*_labelled(name, value))
    told = _told(comment, items)
    if RECIPE in items or infotext.read(told.text).params:
        return told
    rest = {name: value for name, value in items.items() if name != "parameters"}
    hidden = _hidden(data)
    return _told("", {**rest, **hidden}) if hidden else told


def _told(comment: str, items: Mapping[str, str]) -> FoundText:
    """What the texts of a file say, those of another program translated."""
    rest = {name: value for name, value in items.items() if comment or name != "parameters"}
    text = comment or items.get("parameters", "")
    source, instead = _foreign(text, rest)
    told = _translated(FoundText(text, rest, source))
    return told if told.text else replace(told, text=instead)


def _hidden(data: bytes) -> dict[str, str]:
    """The texts in the picture's transparency; only looked for where the file tells no parameters, as the pixels must be decoded for it."""
    try:
        image = _opened(data)
        return stealth.hidden_texts(image) if image.mode == "RGBA" and image.format in ("PNG", "WEBP") else {}
    except Exception:  # decoders raise whatever they like over damaged data
        return {}


TRANSLATORS: dict[str, Callable[[FoundText], Translation | None]] = {
    "NovelAI": lambda found: None if found.text else novelai.translate(found.items),
    "ComfyUI": lambda found: None if found.text else comfyui.translate(found.items),
    "InvokeAI": lambda found: None if found.text else invokeai.translate(found.items),
    "Fooocus": lambda found: others.fooocus({"parameters": found.text, **found.items}),
    "SwarmUI": lambda found: others.swarmui(found.text),
    "SD.Next": lambda found: others.sdnext(found.text),
    "Civitai": lambda found: others.civitai(found.text),
}


def _translated(found: FoundText) -> FoundText:
    """The same with another program's recipe as infotext, where it can be read."""
    translator = TRANSLATORS.get(found.source)
    try:
        translation = translator(found) if translator else None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):  # strangers' JSON can have any shape
        translation = None
    if translation is None:
        return found
    return replace(found, text=translation.text or found.text, notes=translation.notes, models=translation.models)


def _as_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return value if isinstance(value, bytes) else b""


def _labelled(name: str, value: str) -> tuple[str, str]:
    """ComfyUI keeps its texts in EXIF tags of any name as "prompt:{...}" and "workflow:{...}"; so do we with our recipe."""
    for label in ("prompt", "workflow", RECIPE):
        if value.startswith(label + ":{"):
            return label, value[len(label) + 1 :]
    return name, value


# A text's name, a part of the text, and the program that it speaks of; the first that fits counts.
OTHER_PROGRAMS: tuple[tuple[str, str, str], ...] = (
    ("invokeai_metadata", "", "InvokeAI"),
    ("sd-metadata", "", "InvokeAI"),
    ("Dream", "", "InvokeAI"),
    ("sui_image_params", "", "SwarmUI"),
    ("fooocus_scheme", "", "Fooocus"),
    ("Comment", '"metadata_scheme"', "Fooocus"),  # its JSON, before 2.2
    ("XML:com.adobe.xmp", "Draw Things", "Draw Things"),
    ("prompt", "class_type", "ComfyUI"),
    ("workflow", '"nodes"', "ComfyUI"),
)


def _foreign(text: str, items: Mapping[str, str]) -> tuple[str, str]:
    """(program, its text where there is no infotext)."""
    if RECIPE in items or "Version: Easel" in text:
        return "Easel", ""
    if items.get("Software", "").startswith("NovelAI"):
        return "NovelAI", items.get("Description", "") or items.get("Comment", "")
    if items.get("Software", "").startswith("Fooocus") or '"metadata_scheme"' in text:
        return "Fooocus", ""
    for name, part, program in OTHER_PROGRAMS:
        if name in items and part in items[name]:
            return program, items[name]
    if '"sui_image_params"' in text:
        return "SwarmUI", ""
    for mark, program in (("App: SD.Next", "SD.Next"), ("Version: f", "Forge"), ("Civitai resources: ", "Civitai")):
        if mark in text:
            return program, ""
    if "Steps: " in text:
        return "AUTOMATIC1111", ""
    return "", next((items[name] for name in ("Description", "ImageDescription", "Comment") if name in items), "")


def save_png(
    image: Image.Image,
    target: Path | BinaryIO,
    infotext: str,
    recipe: Mapping[str, Any] | None = None,
    level: int = PNG_LEVEL,
    texts: Mapping[str, str] = NO_TEXTS,
) -> None:
    """Write `image` as PNG; `infotext` becomes its chunk "parameters", `recipe` (plain data) its chunk "easel_recipe" as JSON.

    texts: further chunks by their keywords; those whose keyword no chunk can have are left out.
    """
    chunks = PngInfo()
    _add_chunk(chunks, "parameters", infotext)
    for name, text in texts.items():
        if 0 < len(name) < 80 and name.isascii() and name.isprintable():
            _add_chunk(chunks, name, text)
    if recipe is not None:
        _add_chunk(chunks, RECIPE, json.dumps(recipe, separators=(",", ":")))
    image.save(target, "PNG", pnginfo=chunks, compress_level=level)


def _add_chunk(chunks: PngInfo, name: str, text: str) -> None:
    """tEXt for ASCII, which everybody reads; iTXt with UTF-8 for the rest. Lone surrogates become question marks; no text, no chunk."""
    if text.isascii() and "\0" not in text:
        if text:
            chunks.add_text(name, text)
    else:
        chunks.add_itxt(name, text.encode("utf-8", "replace").decode("utf-8"))


def encode(
    image: Image.Image,
    infotext: str,
    format: str,
    quality: int = 80,
    recipe: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] = NO_TEXTS,
) -> bytes:
    """The picture as a file's bytes, infotext and recipe inside. format: "png", "jpg" or "webp"; quality (1 .. 100): of the last two.

    A JPEG has room for 64 kB of both together: what does not fit is left out, the recipe first. texts: what else is told, by name; files
    but PNGs have one text only, which then ends with what the name "postprocessing" tells, as the field writes it.
    """
    buffer = io.BytesIO()
    described = f"{RECIPE}:{json.dumps(recipe, separators=(',', ':'))}" if recipe is not None else ""
    if format == "png":
        save_png(image, buffer, infotext, recipe, texts=texts)
    elif format in ("jpg", "jpeg", "webp"):
        more = texts.get("postprocessing", "")
        comment = ", ".join(filter(None, [infotext.rstrip(), more])) if more else infotext
        blocks = [make_exif(comment, described), make_exif(comment)] if comment or described else []
        kind = "WEBP" if format == "webp" else "JPEG"
        limit = JPEG_EXIF_LIMIT if kind == "JPEG" else None
        exif = next((block for block in blocks if limit is None or len(block) <= limit), b"")
        if kind == "JPEG":
            image = image.convert("RGB")
        image.save(buffer, kind, quality=quality, exif=exif)
    else:
        raise BadRequest(f"picture format {format!r} is not known; use png, jpg or webp")
    return buffer.getvalue()
