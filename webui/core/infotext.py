"""Infotext: the text that a picture carries, in the form that A1111 began. `write` makes it, `read` and `to_request` take it back.

Three parts, the middle one absent where empty, the last one a single line:
    <prompt>
    Negative prompt: <negative prompt>
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ..., Version: Easel 0.1.0
Prompts may hold anything. Where a line of theirs begins with "Negative prompt:", so that nobody could tell which is which, the key
"Prompt lines" (how many lines are the prompt's) says it; other programs pass over it. So `to_request(read(write(request)))` gives the
request back for every text but those with lone surrogates, which no file can hold.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from webui import __version__
from webui.core.aesthetic import aesthetic_items, read_aesthetic
from webui.core.checkpoint_text import from_stem, stem
from webui.core.choices import TILINGS, find_sampler
from webui.core.dynamic_prompt import literal
from webui.core.errors import BadRequest
from webui.core.family import PREDICTION_TYPES
from webui.core.guidance_options import SLOTTED, guidance_items, read_guidance
from webui.core.hires import hires_items, read_hires
from webui.core.infotext_init import init_items, read_init
from webui.core.infotext_old import RENEWED, renewed
from webui.core.key_values import Values, is_digits, items, joined, short
from webui.core.key_values import written as _number
from webui.core.refiner import read_refiner, refiner_items
from webui.core.request import (
    MAX_BATCH_COUNT,
    MAX_BATCH_SIZE,
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    GenerationRequest,
    InitImage,
)
from webui.core.sampler_options import NOISE_SOURCES, option_items, read_options

NEGATIVE = "Negative prompt:"
PROMPT_LINES = "Prompt lines"
OURS = "Easel"  # how the value of "Version" begins in our texts
HIRES_TEXTS = (
    *("Hires checkpoint", "Hires checkpoint file", "Hires prompt", "Hires negative prompt"),
    *("Hires template", "Hires negative template"),
)
TEXT_ENCODER = "Text encoder"
UNTOLD_RNG = "GPU"  # which texts with a seed mean where they tell no RNG
TEXT_KEYS = (
    "Template",
    "Negative Template",
    "Model",
    "Model file",
    "VAE",
    TEXT_ENCODER,
    "User",
    *HIRES_TEXTS,
    "Refiner",
    "Refiner file",
)  # whose values are never sizes
MIN_ITEMS = 3  # fewer "key: value" items make no line of settings, unless two of them are plain
MAX_SETTINGS = 1_000_000  # characters; longer texts are no settings


@dataclass(frozen=True)
class Facts:
    """What is true of a picture beyond its request; `extra` is written before the version, in its order."""

    version: str = f"{OURS} {__version__}"
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Infotext:
    """A text taken apart. params: settings by key as texts; a value "512x768" of key Size becomes "Size-1" and "Size-2"."""

    prompt: str = ""
    negative_prompt: str = ""
    params: dict[str, str] = field(default_factory=dict)


def write(request: GenerationRequest, facts: Facts | None = None) -> str:
    """The infotext of a picture made from `request`: always the same text for the same request."""
    facts = facts or Facts()
    parts = [request.prompt] if request.prompt else []
    if request.negative_prompt:
        parts.append(f"{NEGATIVE} {request.negative_prompt}")
    larger = hires_items(request.hires) if request.hires else ()
    drawn = aesthetic_items(request.aesthetic) if request.aesthetic else ()
    options = [(key, value) for key, value in option_items(request.sampler_options) if key != "ENSD"]
    pairs = [
        *_settings(request),
        *init_items(request.init),
        *larger,
        *(refiner_items(request.refiner) if request.refiner else ()),
        *options,
        *((key, value) for key, value in guidance_items(request.guidance) if key not in SLOTTED),
        *drawn,
        *_templates(request),
        *facts.extra.items(),
    ]
    if _is_ambiguous(request):
        pairs.append((PROMPT_LINES, str(request.prompt.count("\n") + 1 if request.prompt else 0)))
    pairs.append(("Version", facts.version))
    return "\n".join([*parts, joined(pairs)])


def _templates(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """What the prompts were before chance decided; where they are the prompts, these are text, braces and all."""
    if request.template:
        yield "Template", request.template
    if request.negative_template:
        yield "Negative Template", request.negative_template


def with_facts(text: str, facts: Mapping[str, str]) -> str:
    """An infotext of ours that says more: `facts` before the version, as in Facts.extra."""
    settings, mark, version = text.rpartition(", Version: ")
    return f"{settings}, {joined(facts.items())}{mark}{version}" if mark else f"{text}, {joined(facts.items())}"


def _is_ambiguous(request: GenerationRequest) -> bool:
    return any(line.startswith(NEGATIVE) for line in request.prompt.split("\n"))


def _settings(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """The settings in A1111's order; what has the value that readers take for an absent key is left out."""
    yield "Steps", str(request.steps)
    yield "Sampler", request.sampler
    yield "Schedule type", request.schedule_type
    yield "CFG scale", _number(request.cfg_scale)
    yield "Seed", str(request.seed)
    yield "Size", f"{request.width}x{request.height}"
    if request.checkpoint_hash:
        yield "Model hash", request.checkpoint_hash
    if request.checkpoint:
        yield "Model", stem(request.checkpoint)
    if request.vae_hash:
        yield "VAE hash", request.vae_hash
    if request.vae != "None":
        yield "VAE", request.vae
    if request.text_encoder:
        yield TEXT_ENCODER, request.text_encoder
    if request.variation_strength:
        yield "Variation seed", str(request.variation_seed)
        yield "Variation seed strength", _number(request.variation_strength)
    if request.seed_resize_width or request.seed_resize_height:
        yield "Seed resize from", f"{request.seed_resize_width}x{request.seed_resize_height}"
    repainting = request.init or request.hires
    if repainting is not None:
        yield "Denoising strength", _number(repainting.denoising_strength)
    if request.init is not None and request.init.mask_weight != InitImage.mask_weight:
        yield "Conditional mask weight", _number(request.init.mask_weight)
    if request.clip_skip != 1:
        yield "Clip skip", str(request.clip_skip)
    if request.sampler_options is not None and request.sampler_options.ensd:
        yield "ENSD", str(request.sampler_options.ensd)
    if request.prediction_type not in ("", "Automatic"):
        yield "Prediction type", request.prediction_type
    if request.batch_size != 1:
        yield "Batch size", str(request.batch_size)
    if request.batch_count != 1:
        yield "Batch count", str(request.batch_count)
    yield from ((key, value) for key, value in guidance_items(request.guidance) if key in SLOTTED)
    if request.init is not None:
        yield "Init image hash", request.init.image  # the sha256 under which the input store has it
    if request.rng != UNTOLD_RNG:
        yield "RNG", request.rng
    if request.tile:
        yield "Tiled diffusion", str(request.tile)
        yield "Tiled diffusion overlap", str(request.tile_overlap)
    if request.tiling != "Off":
        yield "Tiling", "True" if request.tiling == "Both" else request.tiling
    if request.checkpoint and from_stem(stem(request.checkpoint)) != request.checkpoint:
        yield "Model file", request.checkpoint


def read(text: str) -> Infotext:
    """Take any infotext apart, ours or another program's; text without settings is all prompt. Never raises; time is linear."""
    lines = text.rstrip().split("\n")
    params = _read_line(lines[-1])
    if params.get("Version", "").startswith(OURS) and _is_settings(params):
        return _divided(lines[:-1], params)
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
        params = _read_line(lines[-1])
    start = _settings_start(lines, _is_settings(params))
    if start < len(lines) - 1:
        params = _read_line("\n".join(lines[start:]))
    told = _divided(lines[:start], params if start < len(lines) else {})
    prompt, params = renewed(told.prompt, told.params)
    return replace(told, prompt=prompt, params=params)


def _settings_start(lines: list[str], last_is_settings: bool) -> int:
    """Index of the line where settings begin, len(lines) if there are none.

    That is the last line, unless a value holds line breaks: then it is the nearest line above that begins as settings do.
    """
    last = len(lines) - 1
    if last_is_settings and _begins_settings(lines[last]):
        return last
    length = 0
    for i in range(last, -1, -1):
        length += len(lines[i]) + 1
        if length > MAX_SETTINGS:
            break
        if ":" in lines[i] and _begins_settings(lines[i]) and _is_settings(_read_line(lines[i])):
            return i
    return last if last_is_settings else len(lines)


def _begins_settings(line: str) -> bool:
    key, value = next(items(line), ("", ""))
    return _is_plain(key, value) or key == "Sampler"


def _is_settings(params: Mapping[str, str]) -> bool:
    """Whether these are settings, not a prompt with colons: at least one well-known key with a fitting value among three items."""
    plain = sum(_is_plain(key, value) for key, value in params.items() if not key.endswith("-2"))
    return plain >= 2 or (len(params) >= MIN_ITEMS and (plain == 1 or _names_sampler(params.get("Sampler", ""))))


def _names_sampler(name: str) -> bool:
    try:
        return bool(name) and find_sampler(name) is not None
    except BadRequest:
        return False


def _is_plain(key: str, value: str) -> bool:
    """Whether a well-known key has a value that only settings have."""
    if key in ("Steps", "Seed", "Size-1", "Batch size", "Clip skip"):
        return is_digits(value.removeprefix("-"))
    if key == "Size":
        return _split_size(value) is not None
    if key == "CFG scale":
        return is_digits(value.replace(".", "", 1))
    return key == "Model hash" and 0 < len(value) <= 64 and all(char in "0123456789abcdefABCDEF" for char in value)


def _divided(lines: list[str], params: dict[str, str]) -> Infotext:
    """Prompt and negative prompt in the lines above the settings."""
    count = params.pop(PROMPT_LINES, "")
    if is_digits(count) and len(count) < 10 and int(count) <= len(lines):
        start = int(count)
        negative = "\n".join(lines[start:]).removeprefix(NEGATIVE)
        return Infotext("\n".join(lines[:start]), negative.removeprefix(" "), params)
    prompt, _, negative = ("\n" + "\n".join(lines)).partition(f"\n{NEGATIVE}")
    return Infotext(prompt[1:], negative.removeprefix(" "), params)


def _read_line(text: str) -> dict[str, str]:
    """The settings in `text` by key; of one key twice the last; sizes are split."""
    params: dict[str, str] = {}
    for key, value in items(text) if len(text) <= MAX_SETTINGS else ():
        size = None if key in TEXT_KEYS else _split_size(value)
        if size is not None:
            params[f"{key}-1"], params[f"{key}-2"] = size
        else:
            params[key] = value
    return params


def _split_size(value: str) -> tuple[str, str] | None:
    width, cross, height = value.partition("x")
    return (width, height) if cross and is_digits(width) and is_digits(height) else None


def to_request(infotext: Infotext, base: GenerationRequest, notes: bool = True) -> tuple[GenerationRequest, list[str]]:
    """`base` with what `infotext` says, and a sentence for everything in it that could not be used. Never raises.

    notes False: no sentence for keys that nobody knows, unless they are known to change pictures where they come from.

    Keys that writers leave out at their default (clip skip 1, no variation, ...) come back as that default; others that are absent keep
    the value of `base`. Init image and mask are taken where they are named by sha256; without them those of `base` are kept.
    """
    values = Values(dict(infotext.params))
    ours = infotext.params.get("Version", "").startswith(OURS)
    sampler, schedule_type = _sampler(values, base)
    width, height = values.size("Size", (base.width, base.height), MAX_SIDE)
    resize_width, resize_height = values.size("Seed resize from", (0, 0), MAX_SIDE)
    strength = values.number("Variation seed strength", 0.0, 0, 1)
    hires = read_hires(values, ours)
    init = read_init(values, base.init, hires.denoising_strength if hires else None)
    request = replace(
        base,
        prompt=infotext.prompt,
        negative_prompt=infotext.negative_prompt,
        styles=(),  # they are in the prompts
        template=_template(values, "Template", infotext.prompt, ours),
        negative_template=_template(values, "Negative Template", infotext.negative_prompt, ours),
        each=(),
        steps=values.whole("Steps", base.steps, 1, MAX_STEPS),
        sampler=sampler,
        schedule_type=schedule_type,
        cfg_scale=values.number("CFG scale", base.cfg_scale, 0, 100),
        seed=values.whole("Seed", base.seed, -1, MAX_SEED),
        width=width,
        height=height,
        variation_seed=values.whole("Variation seed", -1, -1, MAX_SEED),
        variation_strength=strength,
        seed_resize_width=resize_width,
        seed_resize_height=resize_height,
        clip_skip=values.whole("Clip skip", 1, 1, 12),
        prediction_type=_prediction_type(values),
        batch_size=values.whole("Batch size", 1, 1, MAX_BATCH_SIZE) if ours else base.batch_size,
        batch_count=values.whole("Batch count", 1, 1, MAX_BATCH_COUNT) if ours else base.batch_count,
        rng=_rng(values, base, ours),
        sampler_options=read_options(values) if infotext.params else base.sampler_options,
        tiling=_tiling(values),
        tile=values.whole("Tiled diffusion", 0, 0, MAX_SIDE),
        tile_overlap=values.whole("Tiled diffusion overlap", GenerationRequest.tile_overlap, 0, MAX_SIDE),
        init=init,
        hires=None if init else hires,
        refiner=read_refiner(values, ours),
        aesthetic=read_aesthetic(values),
        guidance=read_guidance(values),
        **_models(values, base, ours),
    )
    silent = SILENT if notes else [key for key in values.left() if key in SILENT or not _changes_pictures(key, infotext.params[key])]
    return request, values.problems + values.unused(silent)


# Keys that change no pixel, or only say again what others say.
SILENT = (
    *("Version", "User", "App", "Size", "Batch size", "Batch pos", "Batch count", "Model hash", "VAE hash", "Model", "RNG"),
    *("Interrupted", "Lora hashes", "TI hashes", "Hashes", "Template", "Negative Template", "Script"),
    *RENEWED,
    *(f"{fixed}{axis} {what}" for axis in "XYZ" for fixed, what in (("", "Type"), ("", "Values"), ("Fixed ", "Values"))),
)
# How keys begin by which A1111's web UI and its extensions make another picture, and which Easel cannot carry out.
CHANGING = (
    *("Image CFG scale", "Face restoration", "First pass size"),
    *("Downcast alphas_cumprod", "VAE Encoder", "VAE Decoder", "AddNet "),
    "ControlNet",
)
OFF = ("", "0", "0.0", "False", "None", "Original", "Full", "Default")  # values with which they change nothing


def _changes_pictures(key: str, value: str) -> bool:
    return key.startswith(CHANGING) and value not in OFF


def _sampler(values: Values, base: GenerationRequest) -> tuple[str, str]:
    """(sampler, schedule type); old texts join them ("DPM++ 2M Karras") and have no schedule type."""
    name, schedule_type = values.text("Sampler"), values.text("Schedule type")
    try:
        return find_sampler(name or base.sampler, schedule_type or ("Automatic" if name else base.schedule_type))
    except BadRequest as error:
        values.problems.append(str(error))
        return base.sampler, base.schedule_type


def _template(values: Values, key: str, prompt: str, ours: bool) -> str:
    """A text has what chance decided: braces in it are text. Other templates say what was, and are no part of what is asked for."""
    told = values.text(key)
    if ours:
        return told if told == prompt else ""
    return literal(prompt)


def _prediction_type(values: Values) -> str:
    said = values.text("Prediction type")
    if said in ("", *PREDICTION_TYPES):
        return said
    values.problems.append(f"Prediction type {short(said)} is not known; use one of: {', '.join(PREDICTION_TYPES)}")
    return ""


def _rng(values: Values, base: GenerationRequest, ours: bool) -> str:
    """The noise source. Where ours do not tell it, or others tell a seed without it, it is the device's own: A1111's default."""
    absent = UNTOLD_RNG if ours or "Seed" in values.told else base.rng
    return values.choice("RNG", NOISE_SOURCES, absent)


def _tiling(values: Values) -> str:
    """In all texts but ours a truth value, for both axes."""
    text = values.text("Tiling")
    if text in ("True", "False"):
        return "Both" if text == "True" else "Off"
    return text if text in TILINGS else "Off"


def _models(values: Values, base: GenerationRequest, ours: bool) -> dict[str, Any]:
    """Checkpoint and VAE. Other programs name a checkpoint by its bare name, its hash or both: the catalog finds "name [hash]"."""
    digest, name, file = values.text("Model hash"), values.text("Model"), values.text("Model file")
    vae_digest, vae = values.text("VAE hash"), values.text("VAE")
    if ours and name:
        name = file or from_stem(name)
    models = {"vae": vae or ("None" if ours else "Automatic"), "vae_hash": vae_digest, "text_encoder": values.text(TEXT_ENCODER)}
    if not name and not digest:
        return models | ({"checkpoint": "", "checkpoint_hash": ""} if ours else {})
    if not ours:
        name = f"{name} [{digest}]" if name and digest else name or digest
    return models | {"checkpoint": name, "checkpoint_hash": digest}
