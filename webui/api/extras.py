"""Extras: the routes of /sdapi/v1 as A1111's clients know them, and the page's own.

GET  /internal/extras/folders -> {"folders": [{"name", "count"}, ...]}: those below outputs that hold pictures
POST /internal/extras {"order": fields of core.extras.ExtrasRequest, "folder": "", "client": ""} -> {"job", "inputs": [[name, sha256], ...]}
     folder: one of those above, whose pictures take the place of the order's
"""

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body

from webui.api import schemas as wire
from webui.api.convert import decode_picture
from webui.api.failure import failure
from webui.api.waiting import Patience
from webui.core.choices import PIXEL_UPSCALERS
from webui.core.errors import BadRequest, Busy, EngineError
from webui.core.extras import MAX_IMAGES, ExtrasRequest
from webui.core.model_listing import ModelFile
from webui.core.upscalers import told_scale, upscaler_name
from webui.service.service import Service

NO_FACES = "Easel restores no faces"


def add_extras_routes(router: APIRouter, service: Service, patience: Patience) -> None:
    """Put the wire protocol's routes on its router."""

    @router.post("/extra-single-image")
    async def single(body: wire.ExtrasSingle) -> wire.ExtrasPicture:
        """One picture made larger; answers when it is done."""
        images, info = await patience.run(run_extras, service, body, [body.image])
        if not images:
            raise BadRequest("the job was stopped before its picture was done; send it again")
        return wire.ExtrasPicture(image=images[0], html_info=info)

    @router.post("/extra-batch-images")
    async def batch(body: wire.ExtrasBatch) -> wire.ExtrasPictures:
        """Several pictures made larger in the same way; answers when they are done."""
        images, info = await patience.run(run_extras, service, body, [each.data for each in body.imageList])
        return wire.ExtrasPictures(images=images, html_info=info)


def run_extras(service: Service, body: wire.Extras, pictures: Sequence[str]) -> tuple[list[str], str]:
    """Submit the job and wait for it: (base64 of the finished files, what was done as HTML)."""
    request = to_request(body, pictures, service.add_input)
    job = service.wait(service.submit(request, save=False))
    if job.status == "failed":
        raise failure(job)
    if not job.ended:
        raise Busy("Easel is being stopped; the job goes on after the next start")
    if not isinstance(job.request, ExtrasRequest):
        raise EngineError("the job's request cannot be read any more")
    images = [base64.b64encode(picture.path.read_bytes()).decode("ascii") for picture in job.pictures]
    return images, f"<p>{html.escape(job.request.postprocessing())}</p>"


def to_request(body: wire.Extras, pictures: Sequence[str], add_input: Callable[[bytes], str]) -> ExtrasRequest:
    """The job that a client asks for. Raises BadRequest."""
    for name in ("gfpgan_visibility", "codeformer_visibility"):
        if getattr(body, name) > 0:
            raise BadRequest(f"{name} {getattr(body, name)}: {NO_FACES}; leave it out, or send 0")
    if body.resize_mode not in (0, 1):
        raise BadRequest(f"resize_mode {body.resize_mode} is not known; use 0 (by a scale) or 1 (to a size)")
    if len(pictures) > MAX_IMAGES or not pictures:
        raise BadRequest(f"there are {len(pictures)} pictures; send 1 to {MAX_IMAGES}")
    by_size = body.resize_mode == 1
    if by_size and min(body.upscaling_resize_w, body.upscaling_resize_h) < 1:
        raise BadRequest(f"{body.upscaling_resize_w}x{body.upscaling_resize_h} is no size; use 1 pixel or more on both sides")
    return ExtrasRequest(
        images=tuple(add_input(decode_picture("image", text)) for text in pictures),
        upscaler=body.upscaler_1,
        second_upscaler=body.upscaler_2,
        second_visibility=body.extras_upscaler_2_visibility,
        scale=ExtrasRequest.scale if by_size else body.upscaling_resize,
        width=body.upscaling_resize_w if by_size else 0,
        height=body.upscaling_resize_h if by_size else 0,
        crop=body.upscaling_crop,
    )


def add_upscaler_lists(router: APIRouter, service: Service) -> None:
    """Put the lists on the wire protocol's router."""

    @router.get("/upscalers")
    def upscalers() -> list[wire.Upscaler]:
        """What makes pictures larger: filters, then models."""
        return [wire.Upscaler(name=name) for name in PIXEL_UPSCALERS] + [
            wire.Upscaler(
                name=upscaler_name(file),
                model_name=file.stem,
                model_path=str(file.path),
                scale=told_scale(file.stem),
            )
            for file in service.catalog.upscalers()
        ]

    @router.get("/realesrgan-models")
    def realesrgan_models() -> list[wire.RealesrganModel]:
        """The upscalers whose file or folder is named after Real-ESRGAN."""
        files = [file for file in service.catalog.upscalers() if _is_realesrgan(file)]
        return [wire.RealesrganModel(name=upscaler_name(file), path=str(file.path), scale=round(told_scale(file.stem))) for file in files]

    @router.get("/face-restorers")
    def face_restorers() -> list[wire.FaceRestorer]:
        """None: Easel restores no faces."""
        return []


def _is_realesrgan(file: ModelFile) -> bool:
    told = f"{file.path.parent.name} {file.path.name}".casefold().replace("-", "").replace("_", "")
    return "realesrgan" in told or "resrgan" in told


def add_page_routes(router: APIRouter, service: Service) -> None:
    """Put the page's own routes on the router of /internal."""

    @router.get("/extras/folders")
    def folders() -> dict[str, Any]:
        return {"folders": [{"name": name, "count": count} for name, count in service.output_folders.listed()]}

    @router.get("/extras/upscalers")
    def upscalers() -> dict[str, Any]:
        models = [{"name": upscaler_name(file), "scale": told_scale(file.stem)} for file in service.catalog.upscalers()]
        return {"upscalers": [*({"name": name, "scale": None} for name in PIXEL_UPSCALERS), *models]}

    @router.post("/extras")
    def extras(
        order: Annotated[ExtrasRequest, Body()], folder: Annotated[str, Body()] = "", client: Annotated[str, Body()] = ""
    ) -> dict[str, Any]:
        inputs = service.output_folders.inputs(folder, MAX_IMAGES) if folder else []
        request = replace(order, images=tuple(sha256 for _, sha256 in inputs)) if folder else order
        return {"job": service.submit(request, owner=client), "inputs": inputs}
