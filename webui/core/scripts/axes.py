"""The axes of X/Y/Z plot: one row for each, by the request field that it changes."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webui.core.catalog import Catalog
from webui.core.choices import MASKED_CONTENT, RESIZE_MODES, SAMPLERS, SCHEDULE_TYPES, TILINGS, UPSCALERS
from webui.core.errors import BadRequest
from webui.core.family import PREDICTION_TYPES
from webui.core.key_values import short
from webui.core.prompt import EMPHASIS
from webui.core.refiner import NONE, Refiner
from webui.core.request import GenerationRequest
from webui.core.sampler_options import NOISE_SOURCES
from webui.core.scripts import values
from webui.core.scripts.values import MAX_VALUES
from webui.core.upscalers import upscaler_name

Read = Callable[[str], Sequence[Any]]  # what is typed -> values
Apply = Callable[[GenerationRequest, Any, Sequence[Any]], GenerationRequest]  # request, value, all values of the axis -> request
Choices = Callable[[Catalog], list[str]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis. bare: its labels are the value alone; draws: -1 among its values is a random seed."""

    label: str
    read: Read
    apply: Apply
    bare: bool = False
    draws: bool = False
    choices: Choices | None = None
    tab: str = ""  # "txt2img" or "img2img" where it is for one of them alone

    def title(self, value: Any) -> str:
        """What a column or row says."""
        if isinstance(value, tuple):
            text = "x".join(map(str, value)) if isinstance(value[0], int) else ", ".join(value)
        else:
            text = str(round(value, 8) if isinstance(value, float) else value)
        return text if self.bare else f"{self.label}: {text}"


def _field(label: str, paths: str, read: Read, **options: Any) -> Axis:
    """An axis over one field of the request, or over several that get the same value; `paths` with blanks between them."""

    def apply(request: GenerationRequest, value: Any, every: Sequence[Any]) -> GenerationRequest:
        for path in paths.split():
            request = _changed(request, path.split("."), value, label)
        return request

    return Axis(label=label, read=read, apply=apply, **options)


def _repainting(label: str, name: str) -> Axis:
    """An axis over a field of img2img, or of hires fix in txt2img."""

    def apply(request: GenerationRequest, value: Any, every: Sequence[Any]) -> GenerationRequest:
        changed: GenerationRequest = _changed(request, ["init" if request.init else "hires", name], value, label)
        return changed

    return Axis(label=label, read=values.decimals, apply=apply)


def _changed(part: Any, path: Sequence[str], value: Any, label: str) -> Any:
    """`part`, a dataclass, with the field at `path` changed."""
    name, *rest = path
    if not rest:
        return replace(part, **{name: value})
    inner = getattr(part, name)
    if inner is None:
        raise BadRequest(
            f"the axis {label} changes a part that this request does not have ({name}): switch that on, or choose another axis"
        )
    return replace(part, **{name: _changed(inner, rest, value, label)})


def _checkpoint(request: GenerationRequest, value: str, every: Sequence[Any]) -> GenerationRequest:
    return replace(request, checkpoint=value, checkpoint_hash="")


def _hires_checkpoint(request: GenerationRequest, value: str, every: Sequence[Any]) -> GenerationRequest:
    if request.hires is None:
        raise BadRequest("the axis Hires checkpoint changes hires fix, which is off: switch it on, or choose another axis")
    return replace(request, hires=replace(request.hires, checkpoint=value, checkpoint_hash="", prediction_type=""))


def _refiner(request: GenerationRequest, value: str, every: Sequence[Any]) -> GenerationRequest:
    refiner = request.refiner or Refiner(checkpoint=value)
    return replace(request, refiner=replace(refiner, checkpoint=value, checkpoint_hash="", prediction_type=""))


def _refiner_switch(request: GenerationRequest, value: float, every: Sequence[Any]) -> GenerationRequest:
    """Where there is no refiner, another axis may still bring one."""
    return replace(request, refiner=replace(request.refiner or Refiner(checkpoint=""), switch_at=value))


def _vae(request: GenerationRequest, value: str, every: Sequence[Any]) -> GenerationRequest:
    return replace(request, vae=value, vae_hash="")


def _size(request: GenerationRequest, value: tuple[int, int], every: Sequence[Any]) -> GenerationRequest:
    return replace(request, width=value[0], height=value[1])


def _search_and_replace(request: GenerationRequest, value: str, every: Sequence[str]) -> GenerationRequest:
    """The first value is what is looked for, in both prompts."""
    wanted = every[0]
    if not wanted or (wanted not in request.prompt and wanted not in request.negative_prompt):
        raise BadRequest(f"Prompt S/R did not find {short(wanted)!r} in prompt or negative prompt; its first value is what is replaced")
    prompt, negative = (text.replace(wanted, value) for text in (request.prompt, request.negative_prompt))
    return replace(request, prompt=prompt, negative_prompt=negative)


def _orders(typed: str) -> list[tuple[str, ...]]:
    """All orders of the words that are typed."""
    words = values.texts(typed)
    if math.factorial(min(len(words), 20)) > MAX_VALUES:
        raise BadRequest(f"Prompt order of {len(words)} words has more than {MAX_VALUES} orders; use fewer words")
    return list(itertools.permutations(words)) if words else []


def _ordered(request: GenerationRequest, value: tuple[str, ...], every: Sequence[Any]) -> GenerationRequest:
    """The words that `value` lists, put into its order at the places where they stand in the prompt."""
    places: list[tuple[int, str]] = []
    for word in value:
        at = request.prompt.find(word) if word else -1
        if at < 0:
            raise BadRequest(f"Prompt order did not find {short(word)!r} in the prompt; use words that stand there")
        places.append((at, word))
    prompt, end = "", 0
    for (at, old), new in zip(sorted(places), value, strict=True):
        if at < end:
            raise BadRequest(f"Prompt order: {short(old)!r} lies within another of its words; use words apart from each other")
        prompt, end = prompt + request.prompt[end:at] + new, at + len(old)
    return replace(request, prompt=prompt + request.prompt[end:])


def _with_style(request: GenerationRequest, value: str, every: Sequence[str]) -> GenerationRequest:
    return replace(request, styles=(*request.styles, *filter(None, value.split(","))))


def _checkpoints(catalog: Catalog) -> list[str]:
    return [file.name for file in catalog.checkpoints()]


def _vaes(catalog: Catalog) -> list[str]:
    return ["Automatic", "None", *(file.name for file in catalog.vaes())]


def _aesthetics(catalog: Catalog) -> list[str]:
    return [file.stem for file in catalog.aesthetic_embeddings()]


def _upscalers(catalog: Catalog) -> list[str]:
    return [*UPSCALERS, *map(upscaler_name, catalog.upscalers())]


def _of(names: Sequence[str]) -> Choices:
    return lambda catalog: list(names)


def _nothing(request: GenerationRequest, value: Any, every: Sequence[Any]) -> GenerationRequest:
    return request


NOTHING = Axis(label="Nothing", read=lambda typed: [""], apply=_nothing, bare=True)
AXES: dict[str, Axis] = {
    axis.label: axis
    for axis in (
        NOTHING,
        _field("Seed", "seed", values.wholes, draws=True),
        _field("Var. seed", "variation_seed", values.wholes, draws=True),
        _field("Var. strength", "variation_strength", values.decimals),
        _field("Steps", "steps", values.wholes),
        _field("CFG Scale", "cfg_scale", values.decimals),
        Axis(label="Prompt S/R", read=values.texts, apply=_search_and_replace, bare=True),
        Axis(label="Prompt order", read=_orders, apply=_ordered, bare=True),
        _field("Sampler", "sampler", values.texts, bare=True, choices=_of(list(SAMPLERS))),
        Axis(label="Checkpoint name", read=values.texts, apply=_checkpoint, bare=True, choices=_checkpoints),
        _field("Schedule type", "schedule_type", values.texts, choices=_of(list(SCHEDULE_TYPES))),
        _field("Clip skip", "clip_skip", values.wholes),
        _repainting("Denoising", "denoising_strength"),
        Axis(label="VAE", read=values.texts, apply=_vae, choices=_vaes),
        Axis(label="Size", read=values.sizes, apply=_size, bare=True),
        _field("Resize mode", "init.resize_mode", values.texts, choices=_of(RESIZE_MODES), tab="img2img"),
        _field("Mask blur", "init.inpaint.blur_x init.inpaint.blur_y", values.wholes, tab="img2img"),
        _field("Masked content", "init.inpaint.content", values.texts, choices=_of(MASKED_CONTENT), tab="img2img"),
        _field("Masked area padding", "init.inpaint.padding", values.wholes, tab="img2img"),
        _field("Prediction type", "prediction_type", values.texts, choices=_of(["Automatic", *PREDICTION_TYPES])),
        _field("Hires steps", "hires.steps", values.wholes, tab="txt2img"),
        _field("Hires sampler", "hires.sampler", values.texts, choices=_of(list(SAMPLERS)), tab="txt2img"),
        _field("Hires upscaler", "hires.upscaler", values.texts, choices=_upscalers, tab="txt2img"),
        _field("Hires scale", "hires.scale", values.decimals, tab="txt2img"),
        _field("Negative Guidance minimum sigma", "guidance.ngms", values.decimals),
        _field("Emphasis", "guidance.emphasis", values.texts, choices=_of(EMPHASIS)),
        _field("CFG Rescale", "guidance.rescale", values.decimals),
        _field("Skip Early CFG", "guidance.skip_early", values.decimals),
        _field("Sigma Churn", "sampler_options.s_churn", values.decimals),
        _field("Sigma min", "sampler_options.s_tmin", values.decimals),
        _field("Sigma max", "sampler_options.s_tmax", values.decimals),
        _field("Sigma noise", "sampler_options.s_noise", values.decimals),
        _field("Schedule min sigma", "sampler_options.sigma_min", values.decimals),
        _field("Schedule max sigma", "sampler_options.sigma_max", values.decimals),
        _field("Schedule rho", "sampler_options.rho", values.decimals),
        _field("Beta schedule alpha", "sampler_options.beta_alpha", values.decimals),
        _field("Beta schedule beta", "sampler_options.beta_beta", values.decimals),
        _field("Eta", "sampler_options.eta sampler_options.eta_ddim", values.decimals),
        _field("ENSD", "sampler_options.ensd", values.wholes),
        _field("UniPC Order", "sampler_options.unipc_order", values.wholes),
        _field("Always discard next-to-last sigma", "sampler_options.discard_penultimate_sigma", values.truths),
        _field("SGM noise multiplier", "sampler_options.sgm_noise_multiplier", values.truths),
        Axis(label="Refiner checkpoint", read=values.texts, apply=_refiner, choices=lambda catalog: [NONE, *_checkpoints(catalog)]),
        Axis(label="Refiner switch at", read=values.decimals, apply=_refiner_switch),
        _field("RNG source", "rng", values.texts, choices=_of(NOISE_SOURCES)),
        _field("Seamless tiling", "tiling", values.texts, choices=_of(TILINGS)),
        Axis(label="Styles", read=values.texts, apply=_with_style),
        _field("Initial noise multiplier", "init.noise_multiplier", values.decimals, tab="img2img"),
        _repainting("Extra noise", "extra_noise"),
        _field("Cond. Image Mask Weight", "init.mask_weight", values.decimals, tab="img2img"),
        _field("Aesthetic embedding", "aesthetic.embedding", values.texts, choices=_aesthetics),
        _field("Aesthetic weight", "aesthetic.weight", values.decimals),
        _field("Aesthetic steps", "aesthetic.steps", values.wholes),
        _field("Aesthetic LR", "aesthetic.learning_rate", values.decimals),
        _field("Aesthetic slerp angle", "aesthetic.slerp_angle", values.decimals),
        _field("Token merging ratio", "guidance.token_merging", values.decimals),
        _field("Token merging ratio high-res", "guidance.token_merging_hr", values.decimals, tab="txt2img"),
        _field("Comma padding backtrack", "guidance.comma_backtrack", values.wholes),
        _field("PAG scale", "guidance.pag", values.decimals),
        _field("FreeU", "guidance.freeu", values.truths),
        _field("FreeU b1", "guidance.freeu_b1", values.decimals),
        _field("FreeU b2", "guidance.freeu_b2", values.decimals),
        _field("FreeU s1", "guidance.freeu_s1", values.decimals),
        _field("FreeU s2", "guidance.freeu_s2", values.decimals),
        _field("Hires schedule type", "hires.schedule_type", values.texts, choices=_of(list(SCHEDULE_TYPES)), tab="txt2img"),
        _field("Hires CFG Scale", "hires.cfg_scale", values.decimals, tab="txt2img"),
        Axis(label="Hires checkpoint", read=values.texts, apply=_hires_checkpoint, choices=_checkpoints, tab="txt2img"),
    )
}
# A1111's axes in the order by which its API counts them, whether or not they exist here; "": in both tabs.
FIELD_ORDER: tuple[tuple[str, str], ...] = (
    *(("Nothing", ""), ("Seed", ""), ("Var. seed", ""), ("Var. strength", ""), ("Steps", ""), ("Hires steps", "txt2img")),
    *(("CFG Scale", ""), ("Image CFG Scale", "img2img"), ("Prompt S/R", ""), ("Prompt order", ""), ("Sampler", "")),
    *(("Hires sampler", "txt2img"), ("Checkpoint name", ""), ("Negative Guidance minimum sigma", ""), ("Sigma Churn", "")),
    *(("Sigma min", ""), ("Sigma max", ""), ("Sigma noise", ""), ("Schedule type", ""), ("Schedule min sigma", "")),
    *(("Schedule max sigma", ""), ("Schedule rho", ""), ("Beta schedule alpha", ""), ("Beta schedule beta", ""), ("Eta", "")),
    *(("Clip skip", ""), ("Denoising", ""), ("Initial noise multiplier", ""), ("Extra noise", ""), ("Hires upscaler", "txt2img")),
    *(("Cond. Image Mask Weight", "img2img"), ("VAE", ""), ("Styles", ""), ("UniPC Order", ""), ("Face restore", "")),
    *(("Token merging ratio", ""), ("Token merging ratio high-res", ""), ("Always discard next-to-last sigma", "")),
    *(("SGM noise multiplier", ""), ("Refiner checkpoint", ""), ("Refiner switch at", ""), ("RNG source", ""), ("FP8 mode", "")),
    ("Size", ""),
)


def wire_labels(tab: str) -> tuple[str, ...]:
    """The labels in the order by which the API counts: the field's, then those that only Easel has."""
    theirs = [label for label, only in FIELD_ORDER if only in ("", tab)]
    return (*theirs, *(label for label in offered(tab) if label not in theirs))


def offered(tab: str) -> list[str]:
    """The labels of the axes that there are in a tab."""
    return [axis.label for axis in AXES.values() if axis.tab in ("", tab)]


def find_axis(label: str, tab: str) -> Axis:
    """Raises BadRequest for an axis that A1111 has and Easel, or this tab, has not."""
    if label not in offered(tab):
        raise BadRequest(f"the axis {label} is not offered in {tab}; use one of: {', '.join(offered(tab))}")
    return AXES[label]
