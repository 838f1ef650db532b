"""Widgets <-> request fields, by name: ONE table from which widgets are made, read and filled.

A field's name is its path in GenerationRequest ("steps", "init.inpaint.padding"); the same name labels its widget in every tab.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.aesthetic import Aesthetic
from webui.core.choices import MASKED_CONTENT, OUTPAINT_WAYS, PIXEL_UPSCALERS, RESIZE_MODES, SAMPLERS, SCHEDULE_TYPES, TILINGS, UPSCALERS
from webui.core.errors import BadRequest
from webui.core.family import PREDICTION_TYPES
from webui.core.guidance_options import NOISE_SCHEDULES, GuidanceOptions
from webui.core.hires import SAME_CHECKPOINT, HiresFix
from webui.core.prompt import EMPHASIS
from webui.core.refiner import HIRES_PASSES, Refiner
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.core.sampler_options import NOISE_SOURCES, OPTIONS, Option, SamplerOptions
from webui.core.soft_inpainting import SoftInpainting


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, kw_only=True)
class Field:
    """One widget: `read` turns its value into the request's, `show` turns the request's into its own."""

    name: str
    element: str  # the widget's elem_id is "<tab>_<element>", in the style that users' CSS and scripts know
    widget: type[Component]
    label: str
    default: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Any], Any] = _same
    show: Callable[[Any], Any] = _same
    also: tuple[str, ...] = ()  # further request fields that get the same value

    def make(self, tab: str, **changes: Any) -> Component:
        """The widget for `tab`, always interactive."""
        options = {"label": self.label, "value": self.default, "interactive": True, **self.options, **changes}
        widget = self.widget(elem_id=f"{tab}_{self.element}", **options)
        if isinstance(widget, gr.Slider):
            widget.preprocess = _same  # type: ignore[method-assign]  # the request checks its limits itself, and says what to do
            widget.postprocess = _same  # type: ignore[method-assign]  # what is empty stays so
        return widget


def _whole(label: str, empty: int = 0) -> Callable[[Any], int]:
    """Reads a whole number; an emptied box counts as `empty`; BadRequest says which field is wrong."""

    def read(value: Any) -> int:
        text = str(value).strip() if value is not None else ""
        if not text:
            return empty
        try:
            number = float(text) if "." in text or "e" in text.lower() else int(text)
            if number != int(number):
                raise ValueError
            return int(number)
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"{label} {text!r} is not a whole number; type digits only") from error

    return read


def _decimal(label: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise BadRequest(f"{label} {value!r} is not a number; type digits and a point") from error

    return read


def _slider(name: str, element: str, label: str, default: float, least: float, most: float, step: float, *also: str) -> Field:
    read = _whole(label) if isinstance(step, int) else _decimal(label)
    options = {"minimum": least, "maximum": most, "step": step}
    return Field(name=name, element=element, widget=gr.Slider, label=label, default=default, options=options, read=read, also=also)


def _number(name: str, element: str, label: str, default: int, step: int = 1) -> Field:
    options = {"precision": 0, "step": step, "min_width": 80}
    return Field(name=name, element=element, widget=gr.Number, label=label, default=default, options=options, read=_whole(label))


def _seed(name: str, element: str, label: str) -> Field:
    """Seeds are text boxes: a browser's numbers cannot hold 63 bits."""
    options = {"max_lines": 1, "min_width": 120}
    return Field(
        name=name, element=element, widget=gr.Textbox, label=label, default="-1", options=options, read=_whole(label, -1), show=str
    )


def _choice(name: str, element: str, label: str, default: str, choices: list[str]) -> Field:
    options = {"choices": choices, "min_width": 140}
    return Field(name=name, element=element, widget=gr.Dropdown, label=label, default=default, options=options)


def _several(name: str, element: str, label: str) -> Field:
    """Any number of names, in the order in which they were chosen."""
    options = {"choices": [], "multiselect": True, "min_width": 140}
    return Field(
        name=name,
        element=element,
        widget=gr.Dropdown,
        label=label,
        default=[],
        options=options,
        read=lambda value: tuple(value or ()),
        show=list,
    )


def _same_or(name: str, element: str, label: str, same: str, choices: list[str]) -> Field:
    """A choice whose first entry says that nothing is chosen: "" in the request."""
    return Field(
        name=name,
        element=element,
        widget=gr.Dropdown,
        label=label,
        default=same,
        options={"choices": [same, *choices], "min_width": 140},
        read=lambda value: "" if value == same else value or "",
        show=lambda value: value or same,
    )


def _either(name: str, element: str, label: str, no: str, yes: str) -> Field:
    """A bool shown as two words."""
    return Field(
        name=name,
        element=element,
        widget=gr.Radio,
        label=label,
        default=no,
        options={"choices": [no, yes]},
        read=lambda value: value == yes,
        show=lambda value: yes if value else no,
    )


def _switch(name: str, element: str, label: str, default: bool = False) -> Field:
    return Field(name=name, element=element, widget=gr.Checkbox, label=label, default=default, read=bool)


def _small_number(name: str, element: str, label: str, default: float) -> Field:
    """A text box: a browser's number boxes show 0.0001 as 0."""
    options = {"max_lines": 1, "min_width": 100}
    return Field(
        name=name, element=element, widget=gr.Textbox, label=label, default=str(default), options=options, read=_decimal(label), show=str
    )


def _text(name: str, element: str, label: str, placeholder: str) -> Field:
    options = {"placeholder": placeholder, "max_lines": 1, "min_width": 160}
    return Field(name=name, element=element, widget=gr.Textbox, label=label, default="", options=options, read=lambda value: value or "")


def _prediction_type() -> Field:
    """ "" is shown as Automatic: what the checkpoint's card says, or its file."""
    return replace(
        _choice("prediction_type", "prediction_type", "Prediction type of the checkpoint", "Automatic", ["Automatic", *PREDICTION_TYPES]),
        read=lambda value: "" if value == "Automatic" else str(value),
        show=lambda value: value or "Automatic",
    )


def _prompt(name: str, element: str, label: str, placeholder: str, lines: int) -> Field:
    options = {"placeholder": placeholder, "lines": lines, "max_lines": 12, "elem_classes": ["prompt"], "html_attributes": _plain_typing()}
    return Field(name=name, element=element, widget=gr.Textbox, label=label, default="", options=options, read=lambda value: value or "")


def _plain_typing() -> gr.InputHTMLAttributes:
    return gr.InputHTMLAttributes(spellcheck=False, autocorrect="off", autocapitalize="off")


def _sampler_option(option: Option) -> Field:
    name = f"sampler_options.{option.field}"
    if isinstance(option.default, bool):
        return _switch(name, option.name, option.key, option.default)
    if isinstance(option.default, str):
        return _choice(name, option.name, option.key, option.default, list(option.choices))
    if isinstance(option.default, int):
        return _number(name, option.name, option.key, option.default)
    return _small_number(name, option.name, option.key, option.default)


NO_REFINER = "None"  # chosen: no refiner
NO_AESTHETIC = "None"  # chosen: no aesthetic gradients
FIELDS: dict[str, Field] = {
    entry.name: entry
    for entry in (
        _choice("checkpoint", "checkpoint", "Checkpoint", "", []),
        _choice("vae", "vae", "VAE", "Automatic", ["Automatic", "None"]),
        _slider("clip_skip", "clip_skip", "CLIP skip", 1, 1, 12, 1),
        _prediction_type(),
        _prompt(
            "prompt", "prompt", "Prompt", "What the picture shows. Ctrl+Enter generates; drop a picture here to read its parameters.", 3
        ),
        _prompt("negative_prompt", "neg_prompt", "Negative prompt", "What it must not show", 2),
        _several("styles", "styles", "Styles"),
        _choice("sampler", "sampling", "Sampler", "DPM++ 2M", list(SAMPLERS)),
        _choice("schedule_type", "scheduler", "Schedule type", "Automatic", list(SCHEDULE_TYPES)),
        _slider("steps", "steps", "Steps", 20, 1, 150, 1),
        _slider("width", "width", "Width", 512, 64, 2048, 8),
        _slider("height", "height", "Height", 512, 64, 2048, 8),
        _slider("batch_count", "batch_count", "Batch count", 1, 1, 100, 1),
        _slider("batch_size", "batch_size", "Batch size", 1, 1, 8, 1),
        _slider("cfg_scale", "cfg_scale", "CFG scale", 7.0, 1, 30, 0.5),
        _choice("guidance.emphasis", "emphasis", "Emphasis: what (word:1.2) does", EMPHASIS[0], list(EMPHASIS)),
        _slider("guidance.rescale", "cfg_rescale", "CFG rescale", 0.0, 0, 1, 0.01),
        _slider("guidance.skip_early", "skip_early_cond", "First steps without negative prompt", 0.0, 0, 1, 0.01),
        _slider("guidance.ngms", "s_min_uncond", "Sigma below which every other step does without", 0.0, 0, 15, 0.01),
        _switch("guidance.ngms_all_steps", "s_min_uncond_all", "Below that sigma: every step"),
        _switch("guidance.pad_conds", "pad_cond_uncond", "Pad prompt and negative prompt to one length"),
        _switch("guidance.pad_conds_v0", "pad_cond_uncond_v0", "Pad as old versions did"),
        _switch("guidance.old_timelines", "use_old_scheduling", "[a:b:n] as old versions did"),
        _switch("guidance.skip_uncond", "skip_uncond", "At CFG scale 1: no negative prompt, twice as fast"),
        _slider("guidance.token_merging", "token_merging_ratio", "Token merging: part of the pixels", 0.0, 0, 0.9, 0.05),
        _slider("guidance.token_merging_hr", "token_merging_ratio_hr", "Token merging of the second pass (0: the same)", 0.0, 0, 0.9, 0.05),
        _choice("guidance.noise_schedule", "sd_noise_schedule", "Noise schedule", NOISE_SCHEDULES[0], list(NOISE_SCHEDULES)),
        _slider("guidance.comma_backtrack", "comma_padding_backtrack", "Comma backtrack: last tokens of a chunk", 20, 0, 74, 1),
        _slider("guidance.pag", "pag_scale", "Perturbed attention guidance (0: off)", 0.0, 0, 20, 0.1),
        _switch("guidance.freeu", "freeu_enabled", "FreeU: other weights on the UNet's way up"),
        _switch("guidance.freeu_plain", "freeu_plain", "FreeU as diffusers has it"),
        _slider("guidance.freeu_b1", "freeu_b1", "FreeU b1", 1.01, 0, 2, 0.01),
        _slider("guidance.freeu_b2", "freeu_b2", "FreeU b2", 1.02, 0, 2, 0.01),
        _slider("guidance.freeu_s1", "freeu_s1", "FreeU s1", 0.99, 0, 4, 0.01),
        _slider("guidance.freeu_s2", "freeu_s2", "FreeU s2", 0.95, 0, 4, 0.01),
        _seed("seed", "seed", "Seed"),
        _seed("variation_seed", "subseed", "Variation seed"),
        _slider("variation_strength", "subseed_strength", "Variation strength", 0.0, 0, 1, 0.01),
        _number("seed_resize_width", "seed_resize_from_w", "Resize seed from width", 0, 8),
        _number("seed_resize_height", "seed_resize_from_h", "Resize seed from height", 0, 8),
        _choice("rng", "randn_source", "Noise source", "CPU", list(NOISE_SOURCES)),
        *map(_sampler_option, OPTIONS),
        _choice("tiling", "tiling", "Seamless tiling", TILINGS[0], list(TILINGS)),
        _number("tile", "tile", "Tiled diffusion: pixels seen at once (0: all)", 0, 64),
        _number("tile_overlap", "tile_overlap", "Overlap of its tiles", 64, 8),
        _switch("hires.enabled", "enable_hr", "Hires fix: a second, larger pass"),
        _choice("hires.upscaler", "hr_upscaler", "Upscaler", HiresFix.upscaler, list(UPSCALERS)),
        _slider("hires.steps", "hires_steps", "Steps of the second pass (0: as many)", 0, 0, 150, 1),
        _slider("hires.denoising_strength", "denoising_strength", "Strength of the second pass", 0.7, 0, 1, 0.01),
        _slider("hires.scale", "hr_scale", "Upscale by", 2.0, 1, 4, 0.05),
        _number("hires.width", "hr_resize_x", "Resize width to", 0, 8),
        _number("hires.height", "hr_resize_y", "Resize height to", 0, 8),
        _slider("hires.cfg_scale", "hr_cfg", "CFG scale of the second pass (0: the same)", 0.0, 0, 30, 0.5),
        _same_or("hires.checkpoint", "hr_checkpoint", "Hires checkpoint", SAME_CHECKPOINT, []),
        _same_or("hires.sampler", "hr_sampler", "Hires sampler", "Use same sampler", list(SAMPLERS)),
        _same_or("hires.schedule_type", "hr_scheduler", "Hires schedule type", "Use same schedule type", list(SCHEDULE_TYPES)),
        _prompt("hires.prompt", "hires_prompt", "Hires prompt", "Prompt of the second pass; empty: the same", 2),
        _slider("hires.extra_noise", "hr_extra_noise", "Extra noise of the second pass", 0.0, 0, 1, 0.01),
        _prompt("hires.negative_prompt", "hires_neg_prompt", "Hires negative prompt", "Empty: the same", 2),
        _switch("refiner.enabled", "enable_refiner", "Refiner: another checkpoint makes the last steps"),
        _same_or("refiner.checkpoint", "refiner_checkpoint", "Refiner checkpoint", NO_REFINER, []),
        _slider("refiner.switch_at", "refiner_switch_at", "Switch at (share of the way)", Refiner.switch_at, 0.01, 1, 0.01),
        _switch("refiner.by_steps", "refiner_by_steps", "Count the share in steps"),
        _choice("refiner.hires_pass", "refiner_hires_pass", "With hires fix, in the", Refiner.hires_pass, list(HIRES_PASSES)),
        _choice("aesthetic.embedding", "aesthetic_embedding", "Aesthetic embedding", NO_AESTHETIC, [NO_AESTHETIC]),
        _slider("aesthetic.weight", "aesthetic_weight", "Weight", 0.9, 0, 1, 0.01),
        _slider("aesthetic.steps", "aesthetic_steps", "Steps of tuning", 5, 0, 100, 1),
        _small_number("aesthetic.learning_rate", "aesthetic_lr", "Learning rate", 0.0001),
        _switch("aesthetic.slerp", "aesthetic_slerp", "Slerp: mix on an arc"),
        _text("aesthetic.text", "aesthetic_text", "Text that turns the embedding", "Optional"),
        _switch("aesthetic.text_negative", "aesthetic_text_negative", "Away from the text"),
        _slider("aesthetic.slerp_angle", "aesthetic_slerp_angle", "Slerp angle", 0.1, 0, 1, 0.01),
        _slider("init.denoising_strength", "denoising_strength", "Denoising strength", 0.75, 0, 1, 0.01),
        _choice("init.resize_mode", "resize_mode", "Resize mode", RESIZE_MODES[0], list(RESIZE_MODES)),
        _slider("init.noise_multiplier", "initial_noise_multiplier", "Noise multiplier", 1.0, 0, 1.5, 0.001),
        _slider("init.extra_noise", "extra_noise", "Extra noise", 0.0, 0, 1, 0.01),
        _slider("init.mask_weight", "inpainting_mask_weight", "Mask strength of inpainting checkpoints", 1.0, 0, 1, 0.01),
        _switch("init.colour_correction", "color_correction", "Colours of the old picture"),
        _switch("init.exact_steps", "fix_steps", "Exactly as many steps as asked for"),
        _switch("init.upscale.enabled", "sd_upscale", "SD upscale: enlarge, then repaint in tiles of the size above"),
        _slider("init.upscale.scale", "sd_upscale_scale", "Enlarge by", 2.0, 1, 8, 0.05),
        _choice("init.upscale.upscaler", "sd_upscale_upscaler", "Enlarge with", "Lanczos", list(PIXEL_UPSCALERS)),
        _slider("init.upscale.overlap", "sd_upscale_overlap", "Overlap of tiles, pixels", 64, 0, 256, 8),
        _slider("init.inpaint.blur_x", "mask_blur", "Mask blur", 4, 0, 64, 1, "init.inpaint.blur_y"),
        _either("init.inpaint.invert", "mask_mode", "Repaint", "Masked", "Not masked"),
        _choice("init.inpaint.content", "inpainting_fill", "Masked content", "original", list(MASKED_CONTENT)),
        _either("init.inpaint.only_masked", "inpaint_area", "Work on", "Whole picture", "Only masked"),
        _slider("init.inpaint.padding", "inpaint_padding", "Padding, pixels", 32, 0, 256, 4),
        _switch("init.inpaint.greys", "mask_greys", "Half masked areas are half repainted"),
        _switch("init.inpaint.soft.enabled", "soft_inpainting", "Soft inpainting: greys of the mask mix old and new"),
        _slider("init.inpaint.soft.schedule_bias", "soft_schedule_bias", "Schedule bias", 1.0, 0, 8, 0.1),
        _slider("init.inpaint.soft.preservation_strength", "soft_preservation", "Preservation strength", 0.5, 0, 8, 0.05),
        _slider("init.inpaint.soft.contrast_boost", "soft_contrast_boost", "Transition contrast boost", 4.0, 1, 32, 0.5),
        _slider("init.inpaint.soft.mask_influence", "soft_mask_influence", "Mask influence", 0.0, 0, 1, 0.05),
        _slider("init.inpaint.soft.difference_threshold", "soft_difference_threshold", "Difference threshold", 0.5, 0, 8, 0.25),
        _slider("init.inpaint.soft.difference_contrast", "soft_difference_contrast", "Difference contrast", 2.0, 0, 8, 0.25),
        _number("init.outpaint.left", "left", "Left", 0, 8),
        _number("init.outpaint.right", "right", "Right", 0, 8),
        _number("init.outpaint.top", "top", "Top", 0, 8),
        _number("init.outpaint.bottom", "bottom", "Bottom", 0, 8),
        _slider("init.outpaint.blur", "mask_blur", "Edge blur", 8, 0, 64, 1),
        _choice("init.outpaint.way", "way", "Way", OUTPAINT_WAYS[0], list(OUTPAINT_WAYS)),
        _slider("init.outpaint.falloff", "falloff", "Fall-off of the noise (lower: more detail)", 1.0, 0, 4, 0.01),
        _slider("init.outpaint.colour_variation", "color_variation", "Colour variation", 0.05, 0, 1, 0.01),
        _choice("init.outpaint.content", "inpainting_fill", "New area begins with", "fill", list(MASKED_CONTENT)),
        _number("init.outpaint.tile_width", "tile_width", "Width that is seen at once (0: the model's)", 0, 8),
        _number("init.outpaint.tile_height", "tile_height", "Height that is seen at once", 0, 8),
    )
}

QUICK = ("checkpoint", "vae", "clip_skip")  # the top row, shared by all tabs
SAMPLING = tuple(name for name in FIELDS if name == "rng" or name.startswith("sampler_options."))
GUIDANCE = tuple(name for name in FIELDS if name.startswith("guidance."))
_COMMON = (
    *("prompt", "negative_prompt", "styles", "sampler", "schedule_type", "steps", "batch_count", "batch_size", "cfg_scale"),
    *("seed", "variation_seed", "variation_strength", "prediction_type", "tiling", "tile", "tile_overlap"),
    *SAMPLING,
    *GUIDANCE,
)
_SIZE = ("width", "height", "seed_resize_width", "seed_resize_height")
_UPSCALE = tuple(name for name in FIELDS if name.startswith("init.upscale."))
_REPAINT = ("init.noise_multiplier", "init.extra_noise", "init.mask_weight", "init.colour_correction", "init.exact_steps")
_INPAINT = tuple(name for name in FIELDS if name.startswith("init.inpaint."))
HIRES = tuple(name for name in FIELDS if name.startswith("hires."))
_REFINER = tuple(name for name in FIELDS if name.startswith("refiner.") and name != "refiner.hires_pass")
AESTHETIC = tuple(name for name in FIELDS if name.startswith("aesthetic."))
_OUTPAINT = tuple(name for name in FIELDS if name.startswith("init.outpaint."))
TABS: dict[str, tuple[str, ...]] = {
    "txt2img": (*_COMMON, *_SIZE, *HIRES, *_REFINER, "refiner.hires_pass", *AESTHETIC),
    "img2img": (*_COMMON, *_SIZE, *_REFINER, *AESTHETIC, "init.denoising_strength", "init.resize_mode", *_REPAINT, *_UPSCALE, *_INPAINT),
    "outpaint": (*_COMMON, "init.denoising_strength", *_OUTPAINT),
}


GROUPS = (
    "",
    "init",
    "init.inpaint",
    "init.inpaint.soft",
    "init.outpaint",
    "init.upscale",
    "hires",
    "refiner",
    "aesthetic",
    "sampler_options",
    "guidance",
)
SWITCHES = (
    "hires.enabled",
    "refiner.enabled",
    "init.inpaint.soft.enabled",
    "init.upscale.enabled",
)  # widgets that say whether a part of the request is there


def collect(values: Mapping[str, Any], *, image: str = "", mask: str = "") -> GenerationRequest:
    """The request that widget `values` (field name -> value) describe, with the input pictures by hash ("" = none)."""
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for name, value in values.items():
        entry = FIELDS[name]
        for path in (name, *entry.also):
            group, _, key = path.rpartition(".")
            groups[group][key] = entry.read(value)
    init = None
    if groups["init"]:
        soft = SoftInpainting(**groups["init.inpaint.soft"]) if groups["init.inpaint.soft"].pop("enabled", False) else None
        inpaint = Inpaint(mask=mask, soft=soft, **groups["init.inpaint"]) if mask else None
        outpaint = Outpaint(**groups["init.outpaint"]) if groups["init.outpaint"] else None
        upscale = TiledUpscale(**groups["init.upscale"]) if groups["init.upscale"].pop("enabled", False) else None
        init = InitImage(image=image, inpaint=inpaint, outpaint=outpaint, upscale=upscale, **groups["init"])
    hires = HiresFix(**groups["hires"]) if groups["hires"].pop("enabled", False) else None
    refiner = Refiner(**groups["refiner"]) if groups["refiner"].pop("enabled", False) else None
    drawn = groups["aesthetic"]
    aesthetic = Aesthetic(**drawn) if drawn.get("embedding", NO_AESTHETIC) != NO_AESTHETIC else None
    options = SamplerOptions(**groups["sampler_options"]) if groups["sampler_options"] else None
    guidance = GuidanceOptions(**groups["guidance"]) if groups["guidance"] else None
    parts = {"hires": hires, "refiner": refiner, "aesthetic": aesthetic, "guidance": guidance}
    return GenerationRequest(**groups[""], sampler_options=options, init=init, **parts)


def spread(request: GenerationRequest, names: tuple[str, ...]) -> dict[str, Any]:
    """Widget values (field name -> value) that show `request`, for those of `names` that the request has."""
    values: dict[str, Any] = {"aesthetic.embedding": NO_AESTHETIC} if "aesthetic.embedding" in names else {}
    for name in names:
        part: Any = request
        for key in name.removesuffix(".enabled").split("."):
            part = getattr(part, key) if part is not None else None
        if name in SWITCHES:
            values[name] = part is not None
        elif part is not None:
            values[name] = FIELDS[name].show(part)
    return values
