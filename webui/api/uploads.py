"""Pictures that are sent as files: kept as inputs, or read for what they say. The same routes for the page and in /api/v1."""

from typing import Any

from fastapi import APIRouter, UploadFile
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from webui.core import image_metadata, infotext
from webui.core.errors import BadRequest
from webui.core.image_metadata import RECIPE
from webui.core.recipe import read_recipe
from webui.service.fidelity import report
from webui.service.service import Service

MAX_UPLOAD = 200 * 2**20  # bytes


class InputOut(BaseModel):
    """A picture that requests can name."""

    input: str = Field(description="its hash: `init.image`, `init.inpaint.mask`")


def add_upload_routes(router: APIRouter, service: Service) -> None:
    @router.post("/inputs", status_code=201)
    async def keep(file: UploadFile) -> InputOut:
        """Store a picture to start from, or a mask; the same bytes have the same hash."""
        return InputOut(input=await run_in_threadpool(service.add_input, await _content(file)))

    @router.post("/png-info")
    async def png_info(file: UploadFile) -> dict[str, Any]:
        """What a picture file says of how it was made: `text`, `fields`, `source`; how that fares here: `notes`, each
        [applied | approximated | missing | not understood, what, why]; and its `input` hash."""
        return await run_in_threadpool(_told, service, await _content(file))


async def _content(file: UploadFile) -> bytes:
    data = await file.read(MAX_UPLOAD + 1)
    if len(data) > MAX_UPLOAD:
        raise BadRequest(f"the file is larger than {MAX_UPLOAD // 2**20} MB; save the picture smaller and send that")
    return data


def _told(service: Service, data: bytes) -> dict[str, Any]:
    """What the picture file `data` says about itself; foreign text is given as it is."""
    found = image_metadata.read_infotext(data)
    image = image_metadata.open_image(data)
    return {
        "text": found.text,
        "items": found.items,
        "source": found.source,
        "notes": [(note.kind, note.name, note.sentence) for note in report(found, service.catalog, service.models)],
        "recipe": RECIPE in found.items and read_recipe(found.items[RECIPE]) is not None,
        "fields": _fields(found.text),
        "width": image.width,
        "height": image.height,
        "format": image.format or "",
        "input": service.add_input(data),
    }


def _fields(text: str) -> list[tuple[str, str]]:
    """The parsed table: (name, value) rows; empty where the text has no parameters."""
    if not text.strip():
        return []
    told = infotext.read(text)
    prompts = [("Prompt", told.prompt), ("Negative prompt", told.negative_prompt)]
    params = dict(told.params)
    height = params.pop("Size-2", "") if "Size-1" in params else ""  # A1111's readers name the two halves so
    settings = [("Size", f"{value}x{height}") if height and name == "Size-1" else (name, value) for name, value in params.items()]
    return [(name, value) for name, value in prompts if value] + settings
