"""Hires fix as a part of a request, and in infotext under the names that A1111 gave: a second pass over the first one's picture."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import TypeVar

from webui.core.checkpoint_text import checkpoint_items, read_checkpoint
from webui.core.choices import SAMPLERS, check_upscaler, find_sampler, find_schedule_type
from webui.core.dynamic_prompt import literal
from webui.core.errors import BadRequest
from webui.core.family import PREDICTION_TYPES
from webui.core.key_values import Values, short, written
from webui.core.limits import MAX_PROMPT, MAX_SIDE, MAX_STEPS

SAME = "Use same"  # how the values begin that mean: as in the first pass
SAME_CHECKPOINT = "Use same checkpoint"
Found = TypeVar("Found")
Size = tuple[int, int]  # width, height


@dataclass(frozen=True, kw_only=True)
class HiresFix:
    """A second pass over the picture of the first, made larger. Empty texts and zeros mean: as in the first pass."""

    denoising_strength: float = 0.7  # 0 keeps the first pass, 1 repaints it
    scale: float = 2.0  # of width and height, 1 .. 4; counts where neither `width` nor `height` is set
    width: int = 0  # pixels of the finished picture; one of them alone keeps the proportions, both cut off what is too much
    height: int = 0
    upscaler: str = "Latent"  # one of UPSCALERS, or the name of an upscaler's model
    steps: int = 0
    sampler: str = ""
    schedule_type: str = ""
    cfg_scale: float = 0.0
    checkpoint: str = ""  # name in the catalog
    checkpoint_hash: str = ""  # first 10 hex digits of the file's sha256
    prediction_type: str = ""  # of that checkpoint, as in GenerationRequest
    prompt: str = ""
    negative_prompt: str = ""
    template: str = ""  # of the prompt and of the negative prompt, as in GenerationRequest
    negative_template: str = ""
    extra_noise: float = 0.0  # 0 .. 1: noise beyond what the second pass's sampler expects
    image: str = ""  # sha256 of a finished picture in the input store, which takes the place of the first pass's

    def validate(self, first: Size) -> None:
        """Raise BadRequest, naming the value, the limit and the way out. first: width and height of the first pass."""
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN fails too
                raise BadRequest(f"hires {name.replace('_', ' ')} {value} is out of range: use {least} to {most}")
        check_upscaler("hires upscaler", self.upscaler)
        if self.prediction_type not in ("", "Automatic", *PREDICTION_TYPES):
            raise BadRequest(f"prediction type {self.prediction_type[:50]!r} of the hires checkpoint is not known")
        find_schedule_type(self.schedule_type)
        if self.sampler:
            find_sampler(self.sampler)
        for name, text in (("hires prompt", self.prompt), ("hires negative prompt", self.negative_prompt)):
            if len(text) > MAX_PROMPT:
                raise BadRequest(f"the {name} has {len(text)} characters; at most {MAX_PROMPT} are taken: shorten it")
        size = self.size(first)
        if min(size) < 64 or max(self.scaled(first)) > MAX_SIDE:
            raise BadRequest(
                f"hires fix would make a picture of {size[0]}x{size[1]}; sides of 64 to {MAX_SIDE} pixels can be made: "
                "use another scale or size"
            )

    def scaled(self, first: Size) -> Size:
        """What a first pass of this size is scaled to, in pixels. Where both sides are asked for, it covers them."""
        width, height = first
        if not self.width and not self.height:
            return int(width * self.scale), int(height * self.scale)
        by_width = (self.width, self.width * height // width)
        by_height = (self.height * width // height, self.height)
        if not self.width or not self.height:
            return by_width if self.width else by_height
        return by_width if width * self.height < height * self.width else by_height

    def size(self, first: Size) -> Size:
        """Of the finished picture: whole latents, without what is cut off where both sides are asked for."""
        scaled = self.scaled(first)
        cut = self.cut(first)
        return (scaled[0] // 8 - cut[0]) * 8, (scaled[1] // 8 - cut[1]) * 8

    def cut(self, first: Size) -> Size:
        """How many columns and rows of latents are cut off of what is scaled, half of them on either side."""
        if not (self.width and self.height):
            return 0, 0
        scaled = self.scaled(first)
        return (scaled[0] - self.width) // 8, (scaled[1] - self.height) // 8


LIMITS: dict[str, tuple[float, float]] = {
    "denoising_strength": (0, 1),
    "scale": (1, 4),
    "width": (0, MAX_SIDE),
    "height": (0, MAX_SIDE),
    "steps": (0, MAX_STEPS),
    "cfg_scale": (0, 100),
    "extra_noise": (0, 1),
}


def hires_items(hires: HiresFix) -> Iterator[tuple[str, str]]:
    """What stands in the infotext, in A1111's order; the denoising strength has its place among the settings of the whole."""
    if hires.width or hires.height:
        yield "Hires resize", f"{hires.width}x{hires.height}"
    else:
        yield "Hires upscale", written(hires.scale)
    if hires.checkpoint:
        yield from checkpoint_items("Hires checkpoint", hires.checkpoint, hires.checkpoint_hash)
    if hires.prediction_type not in ("", "Automatic"):
        yield "Hires prediction type", hires.prediction_type
    if hires.sampler:
        yield "Hires sampler", hires.sampler
    if hires.prompt:
        yield "Hires prompt", hires.prompt
    if hires.negative_prompt:
        yield "Hires negative prompt", hires.negative_prompt
    if hires.template:
        yield "Hires template", hires.template
    if hires.negative_template:
        yield "Hires negative template", hires.negative_template
    if hires.cfg_scale:
        yield "Hires CFG Scale", written(hires.cfg_scale)
    if hires.schedule_type:
        yield "Hires schedule type", hires.schedule_type
    if hires.steps:
        yield "Hires steps", str(hires.steps)
    yield "Hires upscaler", hires.upscaler
    if hires.extra_noise:
        yield "Extra noise", written(hires.extra_noise)
    if hires.image:
        yield "Hires image hash", hires.image  # the sha256 under which the input store has it


def find_second_sampler(name: str) -> tuple[str, str]:
    """(sampler, schedule type) of a second pass's sampler, ("", "") for none; the latter where it is joined to the name. BadRequest."""
    if not name or name.startswith(SAME):
        return "", ""
    sampler, schedule_type = find_sampler(name)
    choice = SAMPLERS[sampler]
    alone = name.strip().casefold() in (sampler.casefold(), *(alias.casefold() for alias in choice.aliases))
    return sampler, "" if alone else schedule_type


def tells_hires(keys: Container[str]) -> bool:
    """Whether an infotext with these keys is of a picture made in two passes."""
    return any(key in keys for key in ("Hires upscale", "Hires resize-1", "Hires upscaler"))


def read_hires(values: Values, ours: bool) -> HiresFix | None:
    """What an infotext says of hires fix; its keys and the denoising strength are taken. ours: whether Easel wrote it."""
    if not tells_hires(values.left()):
        return None
    width, height = values.size("Hires resize", (0, 0), MAX_SIDE)
    checkpoint, digits = read_checkpoint(values, "Hires checkpoint", ours)
    sampler, joined = _known(values, "Hires sampler", find_second_sampler, ("", ""))
    schedule_type = _known(values, "Hires schedule type", find_schedule_type, "")
    prompt, negative_prompt = values.text("Hires prompt"), values.text("Hires negative prompt")
    template, negative_template = values.text("Hires template"), values.text("Hires negative template")
    return HiresFix(
        denoising_strength=values.number("Denoising strength", HiresFix.denoising_strength, 0, 1),
        scale=values.number("Hires upscale", HiresFix.scale, 1, 4),
        width=width,
        height=height,
        upscaler=values.text("Hires upscaler") or HiresFix.upscaler,
        steps=values.whole("Hires steps", 0, 0, MAX_STEPS),
        sampler=sampler,
        schedule_type=schedule_type or joined,
        cfg_scale=values.number("Hires CFG Scale", 0, 0, 100),
        checkpoint=checkpoint.removeprefix(SAME_CHECKPOINT),
        checkpoint_hash=digits,
        prediction_type=values.choice("Hires prediction type", PREDICTION_TYPES, ""),
        prompt=prompt,
        negative_prompt=negative_prompt,
        template=template if ours else literal(prompt),
        negative_template=negative_template if ours else literal(negative_prompt),
        extra_noise=values.number("Extra noise", 0, 0, 1),
        image=values.text("Hires image hash"),
    )


def _known(values: Values, key: str, find: Callable[[str], Found], absent: Found) -> Found:
    """What the key names; `absent` where it is absent, or says that nothing changes."""
    name = values.text(key)
    if not name or name.startswith(SAME):
        return absent
    try:
        return find(name)
    except BadRequest as error:
        values.problems.append(f"{key} {short(name)} is not used: {error}")
        return absent
