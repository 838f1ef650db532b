"""What a job is asked to do: frozen, complete, picklable. Everything that changes the picture is a field here."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from webui.core.aesthetic import Aesthetic
from webui.core.choices import LATENT_UPSCALERS, MASKED_CONTENT, OUTPAINT_WAYS, RESIZE_MODES, TILINGS, check_upscaler, find_sampler
from webui.core.errors import BadRequest
from webui.core.family import PREDICTION_TYPES
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.limits import MAX_BATCH_COUNT as MAX_BATCH_COUNT
from webui.core.limits import MAX_BATCH_SIZE as MAX_BATCH_SIZE
from webui.core.limits import MAX_PROMPT as MAX_PROMPT
from webui.core.limits import MAX_SEED as MAX_SEED
from webui.core.limits import MAX_SIDE as MAX_SIDE
from webui.core.limits import MAX_STEPS as MAX_STEPS
from webui.core.refiner import Refiner
from webui.core.sampler_options import NOISE_SOURCES, SamplerOptions
from webui.core.soft_inpainting import SoftInpainting


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """Repaint a part of the init image."""

    mask: str  # sha256 of the mask picture in the input store; white (255) = repaint
    blur_x: int = 4  # pixels, standard deviation of the Gaussian, 0 .. 64
    blur_y: int = 4
    invert: bool = False  # repaint what is not masked
    content: str = "original"  # one of MASKED_CONTENT: what lies under the mask at the start
    only_masked: bool = False  # work on the masked area alone, at full resolution, and paste it back
    padding: int = 32  # pixels around the masked area, 0 .. 256; counts with only_masked
    greys: bool = False  # half masked latents are half repainted; else they count as wholly or not at all
    soft: SoftInpainting | None = None  # its masks have greys in any case
    latent_mask: str = ""  # sha256 of a picture laid over the model's as it is: red where latents are made anew; "": as `mask` has it


@dataclass(frozen=True, kw_only=True)
class Outpaint:
    """Extend the init image outwards; width and height of the request are then derived from image and sides.

    A1111's two ways make each side that is extended larger, until the picture is a multiple of 64; see `settled`.
    """

    left: int = 0  # pixels to add, 0 .. MAX_SIDE, multiples of 8
    right: int = 0
    top: int = 0
    bottom: int = 0
    blur: int = 8  # pixels of the old picture's rim that may be blended, 0 .. 64; A1111's ways blend several times as many
    way: str = "Easel"  # one of OUTPAINT_WAYS
    falloff: float = 1.0  # of Outpainting mk2: exponent of the noise's spectrum, 0 .. 4; lower: more detail
    colour_variation: float = 0.05  # of Outpainting mk2: 0: grey noise, 1: coloured
    content: str = "fill"  # of Poor man's outpainting, one of MASKED_CONTENT: what the new area begins with
    tile_width: int = 0  # pixels that the model of A1111's ways sees at once; 0: the size that it was trained on
    tile_height: int = 0

    def settled(self, width: int, height: int) -> "Outpaint":
        """With the pixels that are truly added to a picture of this size. What is added beyond what was asked for goes to both sides."""
        if self.way == OUTPAINT_WAYS[0]:
            return self
        left, right = _rounded_up(width, self.left, self.right)
        top, bottom = _rounded_up(height, self.top, self.bottom)
        return replace(self, left=left, right=right, top=top, bottom=bottom)


def _rounded_up(side: int, before: int, after: int) -> tuple[int, int]:
    """What is added before and after a picture's side so that the whole is a multiple of 64; nothing where nothing is asked for."""
    if not before and not after:
        return 0, 0
    whole = -(-(side + before + after) // 64) * 64 - side
    first = whole * before // (before + after)
    return first, whole - first


@dataclass(frozen=True, kw_only=True)
class TiledUpscale:
    """SD upscale: the init image is made larger, and repainted in tiles of the request's size, which overlap."""

    scale: float = 2.0  # 1 .. 8
    upscaler: str = "None"  # one of PIXEL_UPSCALERS, or the name of an upscaler's model
    overlap: int = 64  # pixels, 0 .. 512, and at most three quarters of a tile


@dataclass(frozen=True, kw_only=True)
class InitImage:
    """The picture to start from (img2img)."""

    image: str  # sha256 of the picture in the input store
    denoising_strength: float = 0.75  # 0 keeps the picture, 1 repaints it
    resize_mode: str = "Just resize"  # one of RESIZE_MODES
    noise_multiplier: float = 1.0  # 0 .. 2: of the noise that is laid on the picture
    extra_noise: float = 0.0  # 0 .. 1: noise beyond what the sampler expects
    colour_correction: bool = False  # give the result the init image's colours
    exact_steps: bool = False  # make as many steps as asked for, whatever the denoising strength
    mask_weight: float = 1.0  # 0 .. 1: how strongly an inpainting checkpoint's view of the picture is masked
    inpaint: Inpaint | None = None
    outpaint: Outpaint | None = None
    upscale: TiledUpscale | None = None


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One job of picture making: batch_count batches of batch_size pictures; picture i has seed + i."""

    prompt: str = ""
    negative_prompt: str = ""
    styles: tuple[str, ...] = ()  # before completion, which puts them into the prompts
    template: str = ""  # what the prompt was before chance decided; the prompt itself: it is text, braces and all; "": not decided yet
    negative_template: str = ""
    each: tuple[tuple[str, str, str, str], ...] = ()  # where chance gave each picture prompts of its own: those of `with_words`
    checkpoint: str = ""  # name in the catalog; "" before completion: the preferred one
    checkpoint_hash: str = ""  # first 10 hex digits of the file's sha256, "" while unknown
    vae: str = "Automatic"  # "Automatic" (before completion only), "None" (the checkpoint's own) or a name in the catalog
    vae_hash: str = ""
    text_encoder: str = ""  # files that stand in for text encoders that a checkpoint lacks, in one text; core.text_encoders
    prediction_type: str = ""  # one of PREDICTION_TYPES, or "Automatic": as the file says; "" before completion: as its card says
    clip_skip: int = 1  # 1 .. 12, the field's counting: 1 = the last layer
    width: int = 0  # pixels, multiple of 8; 0 before completion: the checkpoint's native size
    height: int = 0
    steps: int = 20
    sampler: str = "DPM++ 2M"
    schedule_type: str = "Automatic"
    cfg_scale: float = 7.0
    guidance: GuidanceOptions | None = None  # None before completion: the preferred ones
    seed: int = -1  # -1 before completion: draw one
    variation_seed: int = -1  # -1 before completion: draw one
    variation_strength: float = 0.0  # 0 .. 1
    seed_resize_width: int = 0  # pixels; 0: off
    seed_resize_height: int = 0
    batch_size: int = 1
    batch_count: int = 1
    rng: str = "CPU"  # one of NOISE_SOURCES, where noise is drawn: CPU and NV give the same on every device
    sampler_options: SamplerOptions | None = None  # None before completion: the preferred ones, and the preferred noise source
    tiling: str = "Off"  # one of TILINGS
    tile: int = 0  # pixels a side that the UNet sees at once of larger pictures (tiled diffusion), multiple of 8; 0: all
    tile_overlap: int = 64  # pixels that neighbouring tiles share
    init: InitImage | None = None
    hires: HiresFix | None = None  # of txt2img
    refiner: Refiner | None = None
    aesthetic: Aesthetic | None = None  # for the prompt, not for the negative one

    def validate(self) -> None:
        """Raise BadRequest, naming the value, the limit and the way out, unless the request can be carried out."""
        _check_prompt("prompt", self.prompt)
        _check_prompt("negative prompt", self.negative_prompt)
        for name, least, most in LIMITS:
            _check_range(name, getattr(self, name), least, most)
        self._check_each()
        last = self.single(self.batch_size * self.batch_count - 1)
        if max(last.seed, last.variation_seed) > MAX_SEED:
            raise BadRequest(f"the last picture's seed would lie above {MAX_SEED}; use a lower seed or fewer pictures")
        if self.init is None or self.init.outpaint is None:  # an outpainted picture keeps every pixel, whatever its size was
            for name in ("width", "height"):
                _check_multiple_of_8(name, getattr(self, name))
        find_sampler(self.sampler, self.schedule_type)
        check_prediction_type(self.prediction_type)
        if self.rng not in NOISE_SOURCES:
            raise BadRequest(f"noise source {self.rng!r} is not known; use one of: {', '.join(NOISE_SOURCES)}")
        if self.sampler_options is not None:
            self.sampler_options.validate()
        if self.guidance is not None:
            self.guidance.validate()
        self._check_tiles()
        if self.init is not None:
            _check_init(self.init, min(self.width, self.height))
        if self.hires is not None:
            if self.init is not None:
                raise BadRequest("hires fix belongs to txt2img: leave it off, or leave the init image out")
            self.hires.validate((self.width, self.height))
        if self.refiner is not None:
            self.refiner.validate()
        if self.aesthetic is not None:
            self.aesthetic.validate()

    def _check_each(self) -> None:
        if self.each and (self.batch_size != 1 or self.batch_count != len(self.each)):
            raise BadRequest("a prompt for each picture needs as many batches of one picture: send the template, not its outcome")
        for text in {text for words in self.each for text in words}:
            _check_prompt("prompt", text)

    def _check_tiles(self) -> None:
        if self.tile:
            _check_range("tile", self.tile, 64, MAX_SIDE)
            _check_multiple_of_8("tile", self.tile)
            if self.tiling != TILINGS[0]:
                raise BadRequest(
                    "a picture that tiles without a seam cannot be made in tiles: switch seamless tiling or tiled diffusion off"
                )
        if self.tiling not in TILINGS:
            raise BadRequest(f"tiling {self.tiling!r} is not known; choose one of: {', '.join(TILINGS)}")

    def single(self, index: int) -> "GenerationRequest":
        """The request that makes picture `index` of this job alone (0 <= index < batch_size * batch_count)."""
        told = self.with_words(index)
        if self.variation_strength > 0:
            return replace(told, variation_seed=self.variation_seed + index, batch_size=1, batch_count=1)
        return replace(told, seed=self.seed + index, batch_size=1, batch_count=1)

    def with_words(self, index: int) -> "GenerationRequest":
        """With picture `index`'s own prompt, negative prompt and those of hires fix, where it has any."""
        if not self.each:
            return self
        prompt, negative_prompt, second, second_negative = self.each[index]
        hires = replace(self.hires, prompt=second, negative_prompt=second_negative) if self.hires else None
        return replace(self, prompt=prompt, negative_prompt=negative_prompt, hires=hires, each=())

    def second_pass(self) -> "GenerationRequest":
        """What hires fix's second pass is asked for, beside the picture that it starts from; only where there is `hires`."""
        assert self.hires is not None
        told, (width, height) = self.hires, self.hires.size((self.width, self.height))
        return replace(
            self,
            hires=None,
            width=width,
            height=height,
            prompt=told.prompt or self.prompt,
            negative_prompt=told.negative_prompt or self.negative_prompt,
            checkpoint=told.checkpoint or self.checkpoint,
            checkpoint_hash=told.checkpoint_hash if told.checkpoint else self.checkpoint_hash,
            prediction_type=told.prediction_type if told.checkpoint else self.prediction_type,
            steps=told.steps or self.steps,
            sampler=told.sampler or self.sampler,
            schedule_type=told.schedule_type or self.schedule_type,
            cfg_scale=told.cfg_scale or self.cfg_scale,
            guidance=self.guidance and self.guidance.for_second_pass(),
        )

    def passes(self) -> "tuple[GenerationRequest, ...]":
        """What each pass is asked for: one, or two with hires fix, with the refiner in those that it is for."""
        if self.hires is None:
            return (self,)
        return tuple(
            asked if asked.refiner and asked.refiner.is_for(number) else replace(asked, refiner=None)
            for number, asked in enumerate((self, self.second_pass()))
        )

    def refined(self) -> "GenerationRequest":
        """What the refiner is asked for; only where there is one."""
        assert self.refiner is not None
        told = self.refiner
        return replace(
            self,
            refiner=None,
            checkpoint=told.checkpoint,
            checkpoint_hash=told.checkpoint_hash,
            prediction_type=told.prediction_type,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal request."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "GenerationRequest":
        """The request that `to_json` wrote; unknown keys (of a later version) are ignored, missing ones get defaults."""
        values = known_fields(cls, data)
        if values.get("init"):
            init = known_fields(InitImage, values["init"])
            init["inpaint"] = _inpaint(init["inpaint"]) if init.get("inpaint") else None
            init["outpaint"] = Outpaint(**known_fields(Outpaint, init["outpaint"])) if init.get("outpaint") else None
            init["upscale"] = TiledUpscale(**known_fields(TiledUpscale, init["upscale"])) if init.get("upscale") else None
            values["init"] = InitImage(**init)
        options = values.get("sampler_options", {})  # missing: written when there were none to choose
        values["sampler_options"] = None if options is None else SamplerOptions(**known_fields(SamplerOptions, options))
        values["styles"] = tuple(values.get("styles", ()))
        values["each"] = tuple(map(tuple, values.get("each", ())))
        told = values.get("guidance", {})  # missing: written when there was nothing to choose
        values["guidance"] = None if told is None else GuidanceOptions(**known_fields(GuidanceOptions, told))
        if values.get("hires"):
            values["hires"] = HiresFix(**known_fields(HiresFix, values["hires"]))
        if values.get("refiner"):
            values["refiner"] = Refiner(**known_fields(Refiner, values["refiner"]))
        if values.get("aesthetic"):
            values["aesthetic"] = Aesthetic(**known_fields(Aesthetic, values["aesthetic"]))
        return cls(**values)


LIMITS: tuple[tuple[str, float, float], ...] = (
    ("width", 64, MAX_SIDE),
    ("height", 64, MAX_SIDE),
    ("steps", 1, MAX_STEPS),
    ("cfg_scale", 0, 100),
    ("clip_skip", 1, 12),
    ("batch_size", 1, MAX_BATCH_SIZE),
    ("batch_count", 1, MAX_BATCH_COUNT),
    ("seed", 0, MAX_SEED),
    ("variation_seed", 0, MAX_SEED),
    ("variation_strength", 0, 1),
    ("seed_resize_width", 0, MAX_SIDE),
    ("seed_resize_height", 0, MAX_SIDE),
    ("tile_overlap", 0, MAX_SIDE),
)

INIT_LIMITS: tuple[tuple[str, float, float], ...] = (("noise_multiplier", 0, 2), ("extra_noise", 0, 1), ("mask_weight", 0, 1))


def known_fields(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """What of stored `data` the dataclass `kind` has fields for; a later version may have written more."""
    names = {field.name for field in fields(kind)}
    return {key: value for key, value in data.items() if key in names}


def check_prediction_type(value: str) -> None:
    """Raises BadRequest for what no checkpoint predicts."""
    if value not in ("", "Automatic", *PREDICTION_TYPES):
        raise BadRequest(f"prediction type {value[:50]!r} is not known; choose one of: Automatic, {', '.join(PREDICTION_TYPES)}")


def _inpaint(data: dict[str, Any]) -> Inpaint:
    values = known_fields(Inpaint, data)
    if values.get("soft"):
        values["soft"] = SoftInpainting(**known_fields(SoftInpainting, values["soft"]))
    return Inpaint(**values)


def _check_prompt(name: str, text: str) -> None:
    if len(text) > MAX_PROMPT:
        raise BadRequest(f"the {name} has {len(text)} characters; at most {MAX_PROMPT} are taken: shorten it")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    label = name.replace("_", " ")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN fails too
        raise BadRequest(f"{label} {value} is out of range: use {least} to {most}")


def _check_multiple_of_8(name: str, value: int) -> None:
    if value % 8:
        raise BadRequest(f"{name} {value} is not a multiple of 8; try {value // 8 * 8}")


def _check_init(init: InitImage, tile: int) -> None:
    """tile: the shorter side of the request, in pixels."""
    _check_range("denoising_strength", init.denoising_strength, 0, 1)
    for name, least, most in INIT_LIMITS:
        _check_range(name, getattr(init, name), least, most)
    if init.resize_mode not in RESIZE_MODES:
        raise BadRequest(f"resize mode {init.resize_mode!r} is not known; choose one of: {', '.join(RESIZE_MODES)}")
    if init.inpaint is not None:
        _check_inpaint(init.inpaint)
    if init.outpaint is not None:
        if init.inpaint is not None:
            raise BadRequest("a request cannot inpaint and outpaint at once; send two")
        _check_outpaint(init.outpaint)
    if init.upscale is not None:
        if init.inpaint is not None or init.outpaint is not None:
            raise BadRequest("a request cannot upscale in tiles and inpaint or outpaint at once; send two")
        _check_upscale(init.upscale, tile)


def _check_inpaint(inpaint: Inpaint) -> None:
    _check_range("blur_x", inpaint.blur_x, 0, 64)
    _check_range("blur_y", inpaint.blur_y, 0, 64)
    _check_range("padding", inpaint.padding, 0, 256)
    if inpaint.soft is not None:
        inpaint.soft.validate()
    if inpaint.content not in MASKED_CONTENT:
        raise BadRequest(f"masked content {inpaint.content!r} is not known; choose one of: {', '.join(MASKED_CONTENT)}")


def _check_outpaint(outpaint: Outpaint) -> None:
    sides = {side: getattr(outpaint, side) for side in ("left", "right", "top", "bottom")}
    for side, pixels in sides.items():
        _check_range(side, pixels, 0, MAX_SIDE)
        if outpaint.way == OUTPAINT_WAYS[0]:
            _check_multiple_of_8(side, pixels)
    if not any(sides.values()):
        raise BadRequest("outpainting needs at least one side to extend: set left, right, top or bottom to 8 pixels or more")
    _check_range("blur", outpaint.blur, 0, 64)
    for name, least, most in (("falloff", 0, 4), ("colour_variation", 0, 1), ("tile_width", 0, MAX_SIDE), ("tile_height", 0, MAX_SIDE)):
        _check_range(name, getattr(outpaint, name), least, most)
    for name in ("tile_width", "tile_height"):
        _check_multiple_of_8(name, getattr(outpaint, name))
    for name, value, known in (("way", outpaint.way, OUTPAINT_WAYS), ("masked content", outpaint.content, MASKED_CONTENT)):
        if value not in known:
            raise BadRequest(f"{name} {value!r} of outpainting is not known; choose one of: {', '.join(known)}")


def _check_upscale(upscale: TiledUpscale, tile: int) -> None:
    _check_range("scale", upscale.scale, 1, 8)
    _check_range("overlap", upscale.overlap, 0, min(512, tile * 3 // 4))  # beyond it, tiles would come by the thousand
    check_upscaler("upscaler", upscale.upscaler)
    if upscale.upscaler in LATENT_UPSCALERS:
        raise BadRequest(
            f"upscaler {upscale.upscaler!r} works on latents; SD upscale needs one that works on pictures, Lanczos for instance"
        )
