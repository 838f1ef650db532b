"""Finished jobs to /sdapi/v1 shapes: pictures as base64, the request's echo, and the facts about them."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from webui import __version__
from webui.api.convert import SAME_VALUE, overridden
from webui.api.schemas import Generation, Img2Img
from webui.core import image_metadata, infotext
from webui.core.checkpoint_text import stem
from webui.core.guidance_options import GUIDANCE
from webui.core.hires import hires_items
from webui.core.model_listing import without_ending
from webui.core.recipe import read_recipe
from webui.core.refiner import refiner_items
from webui.core.request import GenerationRequest
from webui.core.sampler_options import OPTIONS
from webui.core.scripts.request import ScriptRequest
from webui.core.text_encoders import names_in
from webui.service.service import Job, SavedPicture


def to_answer(
    body: Generation, request: GenerationRequest, jobs: Sequence[Job], preferences: Mapping[str, Any], grid: SavedPicture | None = None
) -> dict[str, Any]:
    """The JSON of a finished generation. `request`: the first job's, completed; `jobs`: ended, in order; `grid`: comes first."""
    pictures = [*([grid] if grid else ()), *(picture for job in jobs for picture in job.pictures)]
    wanted = str(body.override_settings.get("samples_format", "")).lower().replace("jpeg", "jpg")
    bare = not overridden(body, preferences, "enable_pnginfo")
    quality = overridden(body, preferences, "jpeg_quality")
    images = [encode_picture(picture, wanted, quality, bare) for picture in pictures] if body.send_images else []
    comments = [*_other_text_encoders(body, request), *(text for job in jobs for text in job.notices)]
    told = {"styles": body.styles, "comments": list(dict.fromkeys(comments))}
    info = json.dumps(_info(request, pictures, jobs[0]) | told, ensure_ascii=False)
    return {"images": images, "parameters": _echo(body, request), "info": info}


def _other_text_encoders(body: Generation, request: GenerationRequest) -> list[str]:
    """A sentence for each text encoder of the request's infotext in whose place another one was taken."""
    used = names_in(request.text_encoder)
    known = {without_ending(name) for name in used}
    told = names_in(infotext.read(body.infotext or "").params.get(infotext.TEXT_ENCODER, "")) if used else []
    places = [name for name in told if without_ending(name) not in known]
    return [f"the infotext's text encoder {name[:200]} was not used, but {', '.join(used)}" for name in places]


def encode_picture(picture: SavedPicture, wanted: str, quality: int, bare: bool = False) -> str:
    """base64 of the picture's file, or of a new encoding where `wanted` is another format that Easel writes.

    Infotext and recipe are inside unless `bare`. Sheets stay PNG: they may be larger than the other formats can be.
    """
    data = picture.path.read_bytes()
    kept = picture.path.suffix[1:]
    ending = wanted if wanted in ("png", "jpg", "webp") and not picture.sheet else kept
    if bare or ending != kept:
        recipe = None if bare else read_recipe(image_metadata.read_infotext(data).items.get(image_metadata.RECIPE, ""))
        told = recipe.to_json() if recipe else None
        data = image_metadata.encode(image_metadata.open_image(data), "" if bare else picture.infotext, ending, quality, told)
    return base64.b64encode(data).decode("ascii")


def _echo(body: Generation, request: GenerationRequest) -> dict[str, Any]:
    """The request with its defaults, or with what its infotext filled in; pictures are left out unless they are asked for."""
    echo = body.model_dump()
    if body.infotext:
        unsent = set(SAME_VALUE) - body.model_fields_set
        echo |= {name: getattr(request, SAME_VALUE[name]) for name in unsent}
        echo |= {"sampler_name": request.sampler, "scheduler": request.schedule_type}
    if isinstance(body, Img2Img) and not body.include_init_images:
        echo |= {"init_images": None, "mask": None}
    return echo


def _info(request: GenerationRequest, pictures: Sequence[SavedPicture], job: Job) -> dict[str, Any]:
    """Facts about the pictures, with one entry for each picture in every all_* list and in infotexts."""
    texts = [picture.infotext for picture in pictures]
    parsed = infotext.read(texts[0]).params if texts else {}
    repainting = request.init or request.hires
    counted = pictures if isinstance(job.request, ScriptRequest) else [picture for picture in pictures if not picture.sheet]
    each = _told_singly(texts, request) if isinstance(job.request, ScriptRequest) else _told_at_once(counted, request)
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "all_seeds": [picture.seed for picture in counted],
        "subseed": request.variation_seed,
        **each,
        "subseed_strength": request.variation_strength,
        "width": request.width,
        "height": request.height,
        "sampler_name": request.sampler,
        "cfg_scale": request.cfg_scale,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": stem(request.checkpoint),
        "sd_model_hash": request.checkpoint_hash or None,
        "sd_vae_name": None if request.vae in ("None", "Automatic", "") else request.vae,
        "sd_vae_hash": request.vae_hash or None,
        "seed_resize_from_w": request.seed_resize_width or -1,
        "seed_resize_from_h": request.seed_resize_height or -1,
        "denoising_strength": repainting.denoising_strength if repainting else None,
        "extra_generation_params": {key: value for key, value in parsed.items() if key in EXTRA}
        | dict(hires_items(request.hires) if request.hires else ())
        | dict(refiner_items(request.refiner) if request.refiner else ()),
        "index_of_first_image": sum(picture.sheet for picture in pictures),
        "infotexts": texts,
        "job_timestamp": datetime.fromtimestamp(job.created).strftime("%Y%m%d%H%M%S"),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": f"Easel {__version__}",
    }


def _told_at_once(pictures: Sequence[SavedPicture], request: GenerationRequest) -> dict[str, Any]:
    """The lists of a job whose pictures differ in their seeds, and in what chance made of their prompts."""
    told = [infotext.read(picture.infotext) for picture in pictures] if request.each else [request] * len(pictures)
    return {
        "all_prompts": [each.prompt for each in told],
        "all_negative_prompts": [each.negative_prompt for each in told],
        "all_subseeds": [request.variation_seed + _place(picture, i, request) for i, picture in enumerate(pictures)],
    }


def _told_singly(texts: Sequence[str], request: GenerationRequest) -> dict[str, Any]:
    """The lists of a script's job, as each picture's infotext says."""
    told = [infotext.read(text) for text in texts]
    return {
        "all_prompts": [each.prompt for each in told],
        "all_negative_prompts": [each.negative_prompt for each in told],
        "all_subseeds": [int(each.params.get("Variation seed", request.variation_seed)) for each in told],
    }


EXTRA = (
    *("Schedule type", "Mask mode", "Mask blur", "Inpaint area", "Masked area padding", "Masked content"),
    *("RNG", "Lora hashes", "TI hashes"),
    *(option.key for option in OPTIONS),
    *(option.key for option in GUIDANCE),
)


def _place(picture: SavedPicture, position: int, request: GenerationRequest) -> int:
    """Which picture of its job this is, from its seed where the seeds differ (a skipped batch leaves a gap)."""
    place = picture.seed - request.seed
    return place if request.variation_strength == 0 and place >= 0 else position
