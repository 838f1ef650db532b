"""/sdapi/v1 shapes to a GenerationRequest and back, by name."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from webui import __version__
from webui.api.hires import with_hires
from webui.api.known_options import FIXED, OWN, check_fixed
from webui.api.options import with_guidance
from webui.api.refiner import TITLE, with_refiner
from webui.api.repainting import SOFT, chosen, init_options, inpaint
from webui.api.schemas import Generation, Img2Img, Txt2Img
from webui.core import image_metadata, infotext
from webui.core.aesthetic import Aesthetic
from webui.core.catalog import Catalog
from webui.core.choices import RESIZE_MODES, SAMPLERS, find_sampler
from webui.core.errors import BadRequest, MissingModel
from webui.core.guidance_options import GUIDANCE
from webui.core.hires import hires_items, tells_hires
from webui.core.infotext_init import INIT_KEYS, INPAINT_KEYS
from webui.core.networks import extract_networks
from webui.core.preferences import PREFERENCES
from webui.core.refiner import refiner_items
from webui.core.request import MAX_BATCH_SIZE, GenerationRequest, InitImage, Inpaint
from webui.core.sampler_options import OPTIONS, SamplerOptions, preferred_options
from webui.core.scripts.request import ScriptRequest
from webui.service.service import Job, SavedPicture

AddInput = Callable[[bytes], str]  # picture bytes -> sha256 in the input store

SAME_VALUE = {  # wire name -> request field
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "subseed_strength": "variation_strength",
    "batch_size": "batch_size",
    "n_iter": "batch_count",
    "steps": "steps",
    "cfg_scale": "cfg_scale",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "subseed": "variation_seed",
    "tiled_diffusion": "tile",
    "tiled_diffusion_overlap": "tile_overlap",
}
SEED_RESIZE = {"seed_resize_from_w": "seed_resize_width", "seed_resize_from_h": "seed_resize_height"}  # -1 on the wire: off
UNKNOWN = "0" * 64  # stands for the init image while its settings are read from an infotext
OVERRIDES = ("sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers", "tiling")  # the options that change pictures


def to_requests(body: Generation, add_input: AddInput, catalog: Catalog, preferences: Mapping[str, Any]) -> list[GenerationRequest]:
    """The jobs that `body` asks for: one, or one for each picture where img2img gets several init images. Raises BadRequest."""
    _refuse_what_is_missing(body)
    request = _overlay(body, _base(body, preferences))
    request = _overridden(request, {name: body.override_settings.get(name) for name in OVERRIDES}, catalog, preferences)
    request = _with_sampler_options(request, body)
    request = replace(request, styles=tuple(body.styles))
    request = with_refiner(with_guidance(request, body, preferences), body)
    if body.disable_extra_networks:
        request = replace(request, prompt=extract_networks(request.prompt)[0], negative_prompt=extract_networks(request.negative_prompt)[0])
    if body.aesthetic is not None:
        request = replace(request, aesthetic=_aesthetic(body.aesthetic))
    if body.prediction_type is not None:
        request = replace(request, prediction_type=body.prediction_type)
    for name in ("width", "height"):
        if getattr(request, name) < 1:
            raise BadRequest(f"{name} {getattr(request, name)} is out of range: use 64 or more")
    if isinstance(body, Img2Img):
        return _with_init_images(request, body, add_input, preferences)
    assert isinstance(body, Txt2Img)
    return [with_hires(replace(request, init=None), body, lambda name, text: add_input(decode_picture(name, text)))]


def _refuse_what_is_missing(body: Generation) -> None:
    """Refuse what Easel cannot do rather than answer with another picture than the one asked for."""
    for name in body.alwayson_scripts:
        if name.strip().lower() not in (SOFT, TITLE, *BUILT_IN):
            raise BadRequest(f"Always on script '{_short(name)}' not found; leave it out of alwayson_scripts")
    wanted = {
        "restore_faces": body.restore_faces,
        "latent_mask": isinstance(body, Img2Img) and body.latent_mask,
    }
    for name, value in wanted.items():
        if value:
            raise BadRequest(f"{name} is not supported by this version of Easel; leave it out")
    for name in FIXED.keys() & body.override_settings.keys() - OWN:
        check_fixed(name, body.override_settings[name])


BUILT_IN = ("comments", "extra options", "hypertile", "sampler", "seed")  # their arguments count in A1111's page alone


def _base(body: Generation, preferences: Mapping[str, Any]) -> GenerationRequest:
    """The API's defaults, with what `body.infotext` says in their place."""
    preferred = GenerationRequest(
        clip_skip=preferences["CLIP_stop_at_last_layers"],
        rng=preferences.get("randn_source", GenerationRequest.rng),
        sampler_options=preferred_options(preferences),
        tiling=_tiling(preferences.get("tiling"), GenerationRequest.tiling),
    )
    defaults = _overlay(type(body)(), preferred, everything=True)
    if not body.infotext:
        return defaults
    if isinstance(body, Img2Img):
        inpainted = Inpaint(mask=UNKNOWN) if body.mask else None
        defaults = replace(defaults, init=InitImage(image=UNKNOWN, inpaint=inpainted, **init_options(preferences)))
    request, problems = infotext.to_request(_told(body), defaults, notes=False)
    if problems:
        listed = _short("; ".join(problems), 600)
        raise BadRequest(f"infotext asks for what cannot be done here: {listed}. Take that out of it, or send the field itself")
    return request


SENT_INSTEAD = {  # key of an infotext -> the wire names that, all sent, leave it nothing to say
    "Steps": {"steps"},
    "CFG scale": {"cfg_scale"},
    "Seed": {"seed"},
    "Variation seed": {"subseed"},
    "Variation seed strength": {"subseed_strength"},
    "Size": {"width", "height"},
    "Denoising strength": {"denoising_strength"},
    "Sampler": {"sampler_name"},
    "Schedule type": {"sampler_name"},
    "Refiner": {"refiner_checkpoint"},
    "Refiner switch at": {"refiner_checkpoint", "refiner_switch_at"},
    "Sigma churn": {"s_churn"},
    "Sigma tmin": {"s_tmin"},
    "Sigma tmax": {"s_tmax"},
    "Sigma noise": {"s_noise"},
}


def _told(body: Generation) -> infotext.Infotext:
    """What `body.infotext` says, without what the client says itself and, in txt2img, without what only img2img has a use for."""
    told = infotext.read(body.infotext or "")
    idle = {key for key, names in SENT_INSTEAD.items() if names <= body.model_fields_set}
    if not isinstance(body, Img2Img):
        idle |= set(INIT_KEYS) - ({"Denoising strength"} if tells_hires(told.params) else set())
    elif not body.mask:
        idle |= set(INPAINT_KEYS)
    return replace(told, params={key: value for key, value in told.params.items() if key not in idle})


def _overlay(body: Generation, base: GenerationRequest, everything: bool = False) -> GenerationRequest:
    """`base` with the fields that the client sent (or with all of them)."""
    sent = set(type(body).model_fields) if everything else body.model_fields_set
    values: dict[str, Any] = {field: getattr(body, name) for name, field in SAME_VALUE.items() if name in sent}
    values |= {field: max(getattr(body, name), 0) for name, field in SEED_RESIZE.items() if name in sent}
    if sent & {"sampler_name", "sampler_index"}:
        values["sampler"], values["schedule_type"] = find_sampler(body.sampler_name or body.sampler_index, body.scheduler or "")
    elif "scheduler" in sent:
        values["sampler"], values["schedule_type"] = find_sampler(base.sampler, body.scheduler or "")
    if "tiling" in sent:
        values["tiling"] = _tiling(body.tiling, base.tiling)
    return replace(base, **values)


def _tiling(told: Any, absent: str) -> str:
    """One of TILINGS, where `told` is one or a truth value; anything else as it is, to be refused with the request."""
    if told is None:
        return absent
    word = str(told).strip().capitalize()
    return {"True": "Both", "1": "Both", "False": "Off", "0": "Off", "": "Off"}.get(word, word)


def _overridden(
    request: GenerationRequest, overrides: Mapping[str, Any], catalog: Catalog, preferences: Mapping[str, Any]
) -> GenerationRequest:
    """`request` with the checkpoint, VAE and CLIP skip of override_settings; other settings do not change pictures here."""
    checkpoint, vae, skip, tiling = (overrides[name] for name in OVERRIDES)
    if checkpoint:
        file = catalog.find_checkpoint(_as_text("sd_model_checkpoint", checkpoint))
        request = replace(request, checkpoint=file.name, checkpoint_hash="")
    if vae:
        request = replace(request, vae=vae_name(_as_text("sd_vae", vae), catalog), vae_hash="")
    if vae == "Automatic":  # not the preferred one, which "Automatic" would be completed to
        file = catalog.find_checkpoint(request.checkpoint or preferences["sd_model_checkpoint"])
        found = catalog.vae_for(file)
        request = replace(request, vae=found.name if found else "None")
    if tiling is not None:
        request = replace(request, tiling=_tiling(tiling, request.tiling))
    if skip is not None:
        request = replace(request, clip_skip=_clip_skip(skip))
    return request


def _with_sampler_options(request: GenerationRequest, body: Generation) -> GenerationRequest:
    """`request` with the sampler options of override_settings and of the body's own fields, which count more."""
    preference = {entry.name: entry for entry in PREFERENCES}
    told = {name: value for name, value in body.override_settings.items() if value is not None}
    values = {option.field: preference[option.name].check(told[option.name]) for option in OPTIONS if option.name in told}
    values |= {name: getattr(body, name) for name in ("s_churn", "s_tmin", "s_tmax", "s_noise") if getattr(body, name) is not None}
    if body.eta is not None:
        values["eta_ddim" if SAMPLERS[request.sampler].kind == "timestep" else "eta"] = body.eta
    if "randn_source" in told:
        request = replace(request, rng=preference["randn_source"].check(told["randn_source"]))
    return replace(request, sampler_options=replace(request.sampler_options or SamplerOptions(), **values))


def _aesthetic(told: Mapping[str, Any]) -> Aesthetic:
    """Aesthetic gradients from the API's object; BadRequest names fields that it does not have and values of a wrong kind."""
    kinds = {field.name: type(getattr(Aesthetic, field.name, "")) for field in fields(Aesthetic)}
    for name, value in told.items():
        if name not in kinds:
            raise BadRequest(f"aesthetic has no field {_short(name)!r}; use {', '.join(kinds)}")
        if type(value) is not kinds[name] and (kinds[name], type(value)) != (float, int):
            raise BadRequest(f"aesthetic.{name} should be of the kind {kinds[name].__name__}")
    return Aesthetic(**{"embedding": "", **told})


def _clip_skip(value: Any) -> int:
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise BadRequest("CLIP_stop_at_last_layers is not a number; use 1 to 12") from None


def vae_name(text: str, catalog: Catalog) -> str:
    """ "Automatic", "None" or the catalog's name of the VAE that `text` names. Raises MissingModel."""
    return text if text in ("Automatic", "None") else catalog.find_vae(text).name


def _as_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


def _with_init_images(
    request: GenerationRequest, body: Img2Img, add_input: AddInput, preferences: Mapping[str, Any]
) -> list[GenerationRequest]:
    if body.init_images is None:
        raise MissingModel("Init image not found")
    count = len(body.init_images)
    if not 1 <= count <= max(min(request.batch_size, MAX_BATCH_SIZE), 1):
        raise BadRequest(f"init_images holds {count} pictures; send 1, or at most batch_size ({request.batch_size}) of them")
    told = request.init or InitImage(image="", **init_options(preferences))  # by an infotext, or the defaults
    sent = body.model_fields_set if request.init else set(Img2Img.model_fields)
    init = replace(
        told,
        image=add_input(decode_picture("init_images", body.init_images[0])),
        denoising_strength=body.denoising_strength if "denoising_strength" in sent else told.denoising_strength,
        resize_mode=chosen("resize_mode", body.resize_mode, RESIZE_MODES) if "resize_mode" in sent else told.resize_mode,
        inpaint=inpaint(body, told.inpaint if _tells_mask(body) else None, lambda name, text: add_input(decode_picture(name, text))),
        outpaint=None,
        **init_options(body.override_settings, body.initial_noise_multiplier),
    )
    if count == 1:
        return [replace(request, init=init)]
    inits = [init, *(replace(init, image=add_input(decode_picture("init_images", text))) for text in body.init_images[1:])]
    single = replace(request, batch_size=1, batch_count=1)
    return [replace(single, init=inits[i % count]) for i in range(min(max(request.batch_count, 1), 1000) * count)]


def _tells_mask(body: Img2Img) -> bool:
    """Whether the infotext is of an inpainted picture."""
    return any(key in infotext.read(body.infotext or "").params for key in INPAINT_KEYS)


def decode_picture(name: str, text: str) -> bytes:
    """The bytes of a picture sent as base64, bare or in a data URI. Raises BadRequest."""
    if text[:8].lower().startswith(("http://", "https://")):
        raise BadRequest(
            f"{name}: Easel fetches pictures from addresses only with --api-enable-requests; send the picture itself as base64"
        )
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise BadRequest(f"{name}: the data URI is not base64; begin it with data:image/png;base64,")
    try:
        data = "".join(text.split()).encode("ascii").translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise BadRequest(f"{name}: Invalid encoded image: it is not base64") from None
    if not data:
        raise BadRequest(f"{name}: Invalid encoded image: it is empty")
    return data


def to_answer(
    body: Generation, request: GenerationRequest, jobs: Sequence[Job], preferences: Mapping[str, Any], grid: SavedPicture | None = None
) -> dict[str, Any]:
    """The JSON of a finished generation. `request`: the first job's, completed; `jobs`: ended, in order; `grid`: comes first."""
    pictures = [*([grid] if grid else ()), *(picture for job in jobs for picture in job.pictures)]
    wanted = str(body.override_settings.get("samples_format", "")).lower().replace("jpeg", "jpg")
    bare = not overridden(body, preferences, "enable_pnginfo")
    images = [encode_picture(picture, wanted, preferences["jpeg_quality"], bare) for picture in pictures] if body.send_images else []
    return {
        "images": images,
        "parameters": _echo(body, request),
        "info": json.dumps(_info(request, pictures, jobs[0]) | {"styles": body.styles}, ensure_ascii=False),
    }


def overridden(body: Generation, preferences: Mapping[str, Any], name: str) -> Any:
    """A preference, or what the request says in its place. Raises BadRequest."""
    told = body.override_settings.get(name)
    return preferences[name] if told is None else next(row for row in PREFERENCES if row.name == name).check(told)


def encode_picture(picture: SavedPicture, wanted: str, quality: int, bare: bool = False) -> str:
    """base64 of the picture's file, or of a new encoding where `wanted` is another format that Easel writes; infotext inside unless `bare`.

    Sheets stay PNG: they may be larger than the other formats can be.
    """
    data = picture.path.read_bytes()
    kept = picture.path.suffix[1:]
    ending = wanted if wanted in ("png", "jpg", "webp") and not picture.sheet else kept
    if bare or ending != kept:
        data = image_metadata.encode(image_metadata.open_image(data), "" if bare else picture.infotext, ending, quality)
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
    each = _told_singly(texts, request) if isinstance(job.request, ScriptRequest) or request.each else _told_at_once(counted, request)
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
        "sd_model_name": _stem(request.checkpoint),
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
    """The lists of a job whose pictures differ in their seeds alone."""
    return {
        "all_prompts": [request.prompt] * len(pictures),
        "all_negative_prompts": [request.negative_prompt] * len(pictures),
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
    *("Schedule type", "Mask mode", "Mask blur", "Inpaint area", "Masked area padding", "Masked content", "RNG"),
    *(option.key for option in OPTIONS),
    *(option.key for option in GUIDANCE),
)


def _place(picture: SavedPicture, position: int, request: GenerationRequest) -> int:
    """Which picture of its job this is, from its seed where the seeds differ (a skipped batch leaves a gap)."""
    place = picture.seed - request.seed
    return place if request.variation_strength == 0 and place >= 0 else position


def _stem(name: str) -> str:
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin)$", "", name.rpartition("/")[2])


def _short(text: str, length: int = 100) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
