"""/sdapi/v1 shapes to a GenerationRequest and back, by name."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from webui.api.hires import with_hires
from webui.api.known_options import FIXED, OWN, check_fixed
from webui.api.lenient import rounded_side
from webui.api.options import FORGE_SCRIPTS, with_guidance
from webui.api.refiner import TITLE, with_refiner
from webui.api.repainting import SOFT, chosen, init_options, inpaint
from webui.api.schemas import Generation, Img2Img, Txt2Img
from webui.core import infotext
from webui.core.aesthetic import Aesthetic
from webui.core.catalog import Catalog
from webui.core.choices import RESIZE_MODES, SAMPLERS, find_sampler
from webui.core.errors import BadRequest, MissingModel
from webui.core.hires import tells_hires
from webui.core.infotext_init import INIT_KEYS, INPAINT_KEYS
from webui.core.networks import extract_networks
from webui.core.preferences import PREFERENCES
from webui.core.request import MAX_BATCH_SIZE, GenerationRequest, InitImage, Inpaint
from webui.core.sampler_options import OPTIONS, SamplerOptions, preferred_options
from webui.core.text_encoders import KINDS, SEPARATOR
from webui.service.completion import told_text_encoders

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
TEMPLATES = {"prompt": "template", "negative_prompt": "negative_template"}  # of what the client says itself chance decides
SEED_RESIZE = {"seed_resize_from_w": "seed_resize_width", "seed_resize_from_h": "seed_resize_height"}  # -1 on the wire: off
UNKNOWN = "0" * 64  # stands for the init image while its settings are read from an infotext
OVERRIDES = ("sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers", "tiling")  # the options that change pictures


def to_requests(body: Generation, add_input: AddInput, catalog: Catalog, preferences: Mapping[str, Any]) -> list[GenerationRequest]:
    """The jobs that `body` asks for: one, or one for each picture where img2img gets several init images. Raises EaselError."""
    asked = _asked(body, add_input, catalog, preferences)
    return [replace(each, text_encoder=told_text_encoders(each, catalog, preferences)) for each in asked]


def _asked(body: Generation, add_input: AddInput, catalog: Catalog, preferences: Mapping[str, Any]) -> list[GenerationRequest]:
    _refuse_what_is_missing(body)
    request = _overlay(body, _base(body, preferences))
    request = _overridden(request, {name: body.override_settings.get(name) for name in OVERRIDES}, catalog, preferences)
    request = _with_text_encoders(_with_sampler_options(request, body), body, catalog)
    request = replace(request, styles=tuple(body.styles))
    request = with_refiner(with_guidance(request, body, preferences), body)
    if body.disable_extra_networks:
        request = replace(request, prompt=extract_networks(request.prompt)[0], negative_prompt=extract_networks(request.negative_prompt)[0])
    if body.aesthetic is not None:
        request = replace(request, aesthetic=_aesthetic(body.aesthetic))
    if body.prediction_type is not None:
        request = replace(request, prediction_type=body.prediction_type)
    request = replace(request, width=rounded_side(request.width), height=rounded_side(request.height))
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
        if name.strip().lower() not in (SOFT, TITLE, *BUILT_IN, *FORGE_SCRIPTS):
            raise BadRequest(f"Always on script '{_short(name)}' not found; leave it out of alwayson_scripts")
    if body.restore_faces:
        raise BadRequest("restore_faces is not supported by this version of Easel; leave it out")
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
    values |= {template: "" for name, template in TEMPLATES.items() if name in sent}
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


def _with_text_encoders(request: GenerationRequest, body: Generation, catalog: Catalog) -> GenerationRequest:
    """`request` with the files that override_settings names for missing text encoders. Raises MissingModel, BadModelFile."""
    told = {kind: body.override_settings.get(kind.preference) for kind in KINDS}
    names = [catalog.text_encoders.preferred(kind, _as_text(kind.preference, name)) for kind, name in told.items() if name]
    return replace(request, text_encoder=SEPARATOR.join(dict.fromkeys(filter(None, names))) or request.text_encoder)


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


def overridden(body: Generation, preferences: Mapping[str, Any], name: str) -> Any:
    """A preference, or what the request says in its place. Raises BadRequest."""
    told = body.override_settings.get(name)
    return preferences[name] if told is None else next(row for row in PREFERENCES if row.name == name).check(told)


def _short(text: str, length: int = 100) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
