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
from webui.api.repainting import SOFT, chosen, init_options, inpaint
from webui.api.schemas import Embedding, Embeddings, Generation, Img2Img, SkippedEmbedding, Txt2Img
from webui.core import image_metadata, infotext
from webui.core.aesthetic import Aesthetic
from webui.core.catalog import Catalog, ModelFile
from webui.core.choices import RESIZE_MODES, find_sampler
from webui.core.errors import BadRequest, MissingModel
from webui.core.hires import hires_items, tells_hires
from webui.core.infotext_init import INIT_KEYS, INPAINT_KEYS
from webui.core.picture_scripts import find_script
from webui.core.request import MAX_BATCH_SIZE, GenerationRequest, InitImage, Inpaint
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
    if body.aesthetic is not None:
        request = replace(request, aesthetic=_aesthetic(body.aesthetic))
    if body.prediction_type is not None:
        request = replace(request, prediction_type=body.prediction_type)
    for name in ("width", "height"):
        if getattr(request, name) < 1:
            raise BadRequest(f"{name} {getattr(request, name)} is out of range: use 64 or more")
    if isinstance(body, Img2Img):
        return _with_init_images(request, body, add_input)
    assert isinstance(body, Txt2Img)
    return [with_hires(replace(request, init=None), body, lambda name, text: add_input(decode_picture(name, text)))]


def scripted(body: Generation, requests: list[GenerationRequest]) -> list[GenerationRequest]:
    """What the script that `body` names makes of the completed requests; they themselves, where it names none. Raises BadRequest."""
    script = find_script(body.script_name) if body.script_name else None
    return requests if script is None else [made for request in requests for made in script(request, body.script_args)]


def _refuse_what_is_missing(body: Generation) -> None:
    """Refuse what Easel cannot do rather than answer with another picture than the one asked for."""
    script = find_script(body.script_name) if body.script_name else None
    if body.script_name and (script is None or not (script.in_img2img if isinstance(body, Img2Img) else script.in_txt2img)):
        raise BadRequest(f"Script '{_short(body.script_name)}' not found; send no script_name")
    for name in body.alwayson_scripts:
        if name.strip().lower() != SOFT:
            raise BadRequest(f"Always on script '{_short(name)}' not found; leave it out of alwayson_scripts")
    wanted = {
        "restore_faces": body.restore_faces,
        "refiner_checkpoint": (body.refiner_checkpoint or "None") != "None",
        "latent_mask": isinstance(body, Img2Img) and body.latent_mask,
        "s_churn": body.s_churn,
        "s_noise": body.s_noise not in (None, 1.0),
        "eta": body.eta not in (None, 0.0, 1.0),  # clients send 0 or 1 without meaning it: with most samplers it says nothing
        **{name: body.override_settings.get(name, usual) not in (None, usual) for name, usual in FIXED.items()},
    }
    for name, value in wanted.items():
        if value:
            raise BadRequest(f"{name} is not supported by this version of Easel; leave it out")


FIXED = {  # options that change pictures, with the only value that Easel works with so far
    "emphasis": "Original",
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
    "eta_noise_seed_delta": 0,
    "randn_source": "CPU",
    "always_discard_next_to_last_sigma": False,
    "sgm_noise_multiplier": False,
    "token_merging_ratio": 0.0,
}


def _base(body: Generation, preferences: Mapping[str, Any]) -> GenerationRequest:
    """The API's defaults, with what `body.infotext` says in their place."""
    preferred = GenerationRequest(clip_skip=preferences["CLIP_stop_at_last_layers"])
    defaults = _overlay(type(body)(), preferred, everything=True)
    if not body.infotext:
        return defaults
    if isinstance(body, Img2Img):
        defaults = replace(defaults, init=InitImage(image=UNKNOWN, inpaint=Inpaint(mask=UNKNOWN) if body.mask else None))
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


def _with_init_images(request: GenerationRequest, body: Img2Img, add_input: AddInput) -> list[GenerationRequest]:
    if body.init_images is None:
        raise MissingModel("Init image not found")
    count = len(body.init_images)
    if not 1 <= count <= max(min(request.batch_size, MAX_BATCH_SIZE), 1):
        raise BadRequest(f"init_images holds {count} pictures; send 1, or at most batch_size ({request.batch_size}) of them")
    told = request.init or InitImage(image="")  # by an infotext, or the defaults
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
        raise BadRequest(f"{name}: Easel fetches no pictures from addresses; send the picture itself as base64")
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


def to_answer(body: Generation, request: GenerationRequest, jobs: Sequence[Job], quality: int) -> dict[str, Any]:
    """The JSON of a finished generation. `request`: the first job's, completed; `jobs`: ended, in order; `quality`: of JPEG, 1 .. 100."""
    pictures = [picture for job in jobs for picture in job.pictures]
    wanted = str(body.override_settings.get("samples_format", "")).lower().replace("jpeg", "jpg")
    images = [encode_picture(picture, wanted, quality) for picture in pictures] if body.send_images else []
    return {"images": images, "parameters": _echo(body, request), "info": json.dumps(_info(request, pictures, jobs[0]), ensure_ascii=False)}


def encode_picture(picture: SavedPicture, wanted: str, quality: int) -> str:
    """base64 of the picture's file, or of a new encoding where `wanted` is another format that Easel writes; infotext inside."""
    data = picture.path.read_bytes()
    if wanted in ("png", "jpg", "webp") and picture.path.suffix != f".{wanted}":
        data = image_metadata.encode(image_metadata.open_image(data), picture.infotext, wanted, quality)
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
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * len(pictures),
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * len(pictures),
        "seed": request.seed,
        "all_seeds": [picture.seed for picture in pictures],
        "subseed": request.variation_seed,
        "all_subseeds": [request.variation_seed + _place(picture, i, request) for i, picture in enumerate(pictures)],
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
        | dict(hires_items(request.hires) if request.hires else ()),
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": datetime.fromtimestamp(job.created).strftime("%Y%m%d%H%M%S"),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": f"Easel {__version__}",
    }


EXTRA = ("Schedule type", "Mask mode", "Mask blur", "Inpaint area", "Masked area padding", "Masked content", "RNG")


def _place(picture: SavedPicture, position: int, request: GenerationRequest) -> int:
    """Which picture of its job this is, from its seed where the seeds differ (a skipped batch leaves a gap)."""
    place = picture.seed - request.seed
    return place if request.variation_strength == 0 and place >= 0 else position


def _stem(name: str) -> str:
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin)$", "", name.rpartition("/")[2])


def _short(text: str, length: int = 100) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


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
