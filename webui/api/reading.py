"""What Easel tells of files that are there: the infotext of a picture, the embeddings and whether they fit."""

import re
from typing import Any

from webui.api.convert import decode_picture
from webui.api.schemas import Embedding, Embeddings, SkippedEmbedding
from webui.core import image_metadata, infotext
from webui.core.catalog import ModelFile


def png_info(text: str) -> dict[str, Any]:
    """The answer of png-info for a picture sent as base64; "" where a picture carries no infotext. Raises BadRequest."""
    if not text.strip():
        return {"info": "", "items": {}, "parameters": {}}
    found = image_metadata.read_infotext(decode_picture("image", text))
    items = {key: _readable(value) for key, value in found.items.items()}
    info = _readable(found.text)
    return {"info": info, "items": items, "parameters": _parameters(info) if info else {}}


def _parameters(text: str) -> dict[str, str]:
    """The fields of an infotext as A1111 names them: "Size" comes as "Size-1" and "Size-2"."""
    read = infotext.read(text)
    fields = {"Prompt": read.prompt, "Negative prompt": read.negative_prompt}
    for key, value in read.params.items():
        size = re.fullmatch(r"(\d+)x(\d+)", str(value))
        fields |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: str(value)}
    return fields


def _readable(text: Any) -> str:
    """Text that UTF-8 can carry."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def embeddings(files: list[tuple[ModelFile, dict[str, Any]]], family: str) -> Embeddings:
    """The embeddings' list. files: each with its details; family: of the chosen checkpoint, "" where it is not known."""
    answer = Embeddings(loaded={}, skipped={})
    for file, told in files:
        said = dict(told.get("rows", ()))
        step = said.get("step", "")
        facts = {
            "step": int(step) if step.isdecimal() and len(step) < 19 else None,
            "sd_checkpoint": said.get("sd_checkpoint"),
            "sd_checkpoint_name": said.get("sd_checkpoint_name"),
            "shape": told.get("width", 0),
            "vectors": told.get("vectors", 0),
        }
        reason = file.problem
        if file.family and family and file.family.config != family:
            reason = f"it is for {file.family.title}; the chosen checkpoint is of another family"
        if reason:
            answer.skipped[file.stem] = SkippedEmbedding(**facts, reason=reason)
        else:
            answer.loaded[file.stem] = Embedding(**facts)
    return answer
