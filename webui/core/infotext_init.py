"""What an infotext says of the init image, its mask, and what is done with them: written and read."""

from collections.abc import Iterator

from webui.core.choices import MASKED_CONTENT, OUTPAINT_WAYS, RESIZE_MODES
from webui.core.key_values import Values, short, written
from webui.core.request import MAX_SIDE, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.core.soft_inpainting import ENABLED, read_soft, soft_items


def init_items(init: InitImage | None) -> Iterator[tuple[str, str]]:
    """What is done with the init image; the mask is named by its sha256, too."""
    if init is None:
        return
    if init.resize_mode != InitImage.resize_mode:
        yield "Resize mode", init.resize_mode
    if init.noise_multiplier != InitImage.noise_multiplier:
        yield "Noise multiplier", written(init.noise_multiplier)
    if init.extra_noise:
        yield "Extra noise", written(init.extra_noise)
    if init.colour_correction:
        yield "Color correction", "True"
    if init.exact_steps:
        yield "Exact steps", "True"
    if init.inpaint is not None:
        yield from _inpaint_items(init.inpaint)
    if init.outpaint is not None:
        yield from _outpaint_items(init.outpaint)
    if init.upscale is not None:
        yield "SD upscale overlap", str(init.upscale.overlap)
        yield "SD upscale upscaler", init.upscale.upscaler
        yield "SD upscale scale", written(init.upscale.scale)


def _outpaint_items(outpaint: Outpaint) -> Iterator[tuple[str, str]]:
    """Scripts of A1111 that write nothing of their own are named as scripts are."""
    if outpaint.way != Outpaint.way:
        yield "Script", outpaint.way
    for side in ("left", "right", "top", "bottom", "blur"):
        yield f"Outpaint {side}", str(getattr(outpaint, side))
    if outpaint.falloff != Outpaint.falloff:
        yield "Outpaint falloff", written(outpaint.falloff)
    if outpaint.colour_variation != Outpaint.colour_variation:
        yield "Outpaint color variation", written(outpaint.colour_variation)
    if outpaint.content != Outpaint.content:
        yield "Outpaint masked content", outpaint.content
    if outpaint.tile_width or outpaint.tile_height:
        yield "Outpaint tile", f"{outpaint.tile_width}x{outpaint.tile_height}"


def _inpaint_items(inpaint: Inpaint) -> Iterator[tuple[str, str]]:
    yield "Mask hash", inpaint.mask
    if inpaint.invert:
        yield "Mask mode", "Inpaint not masked"
    if inpaint.blur_x == inpaint.blur_y:
        yield "Mask blur", str(inpaint.blur_x)
    else:
        yield "Mask blur x", str(inpaint.blur_x)
        yield "Mask blur y", str(inpaint.blur_y)
    if inpaint.only_masked:
        yield "Inpaint area", "Only masked"
    if inpaint.only_masked or inpaint.padding != Inpaint.padding:
        yield "Masked area padding", str(inpaint.padding)
    if inpaint.content != Inpaint.content:
        yield "Masked content", inpaint.content
    if inpaint.greys:
        yield "Mask round", "False"
    if inpaint.latent_mask:
        yield "Latent mask hash", inpaint.latent_mask
    if inpaint.soft is not None:
        yield from soft_items(inpaint.soft)


def read_init(values: Values, base: InitImage | None, strength: float | None) -> InitImage | None:
    """The init image that the text names, or that of `base`, with the text's settings. strength: of hires fix, if the text tells it."""
    image = values.text("Init image hash")
    if not _is_sha256(image):
        image = base.image if base else ""
    if not image:
        for key in [key for key in values.left() if key in INIT_KEYS]:
            values.problems.append(f"{key} {short(values.text(key))} is not used: the text does not hold the picture that it began from")
        return None
    if strength is None:
        strength = base.denoising_strength if base else InitImage.denoising_strength
    return InitImage(
        image=image,
        denoising_strength=values.number("Denoising strength", strength, 0, 1),
        resize_mode=values.choice("Resize mode", RESIZE_MODES, InitImage.resize_mode),
        noise_multiplier=values.number("Noise multiplier", InitImage.noise_multiplier, 0, 2),
        extra_noise=values.number("Extra noise", 0, 0, 1),
        colour_correction=values.text("Color correction") == "True",
        exact_steps=values.text("Exact steps") == "True",
        mask_weight=values.number("Conditional mask weight", InitImage.mask_weight, 0, 1),
        inpaint=_inpaint(values, base.inpaint if base else None),
        outpaint=_outpaint(values),
        upscale=_upscale(values),
    )


INPAINT_KEYS = (
    "Mask blur",
    "Mask blur x",
    "Mask blur y",
    "Mask mode",
    "Mask hash",
    "Inpaint area",
    "Masked area padding",
    "Masked content",
    "Mask round",
    "Latent mask hash",
    ENABLED,
)
INIT_KEYS = (
    *("Denoising strength", "Resize mode", "Noise multiplier", "Extra noise", "Color correction", "Exact steps", "Conditional mask weight"),
    *INPAINT_KEYS,
)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdef" for char in text)


def _inpaint(values: Values, base: Inpaint | None) -> Inpaint | None:
    mask = values.text("Mask hash")
    if not _is_sha256(mask):
        mask = base.mask if base else ""
    if not mask:
        return None
    blur = values.whole("Mask blur", Inpaint.blur_x, 0, 64)
    latent_mask = values.text("Latent mask hash")
    return Inpaint(
        mask=mask,
        blur_x=values.whole("Mask blur x", blur, 0, 64),
        blur_y=values.whole("Mask blur y", blur, 0, 64),
        invert=values.text("Mask mode") == "Inpaint not masked",
        content=values.choice("Masked content", MASKED_CONTENT, Inpaint.content),
        only_masked=values.text("Inpaint area") == "Only masked",
        padding=values.whole("Masked area padding", Inpaint.padding, 0, 256),
        greys=values.text("Mask round") == "False",
        soft=read_soft(values),
        latent_mask=latent_mask if _is_sha256(latent_mask) else "",
    )


def _outpaint(values: Values) -> Outpaint | None:
    sides = {side: values.whole(f"Outpaint {side}", 0, 0, MAX_SIDE) for side in ("left", "right", "top", "bottom")}
    tile_width, tile_height = values.size("Outpaint tile", (0, 0), MAX_SIDE)
    outpaint = Outpaint(
        **sides,
        blur=values.whole("Outpaint blur", Outpaint.blur, 0, 64),
        way=values.choice("Script", OUTPAINT_WAYS, Outpaint.way) if any(sides.values()) else Outpaint.way,
        falloff=values.number("Outpaint falloff", Outpaint.falloff, 0, 4),
        colour_variation=values.number("Outpaint color variation", Outpaint.colour_variation, 0, 1),
        content=values.choice("Outpaint masked content", MASKED_CONTENT, Outpaint.content),
        tile_width=tile_width,
        tile_height=tile_height,
    )
    return outpaint if any(sides.values()) else None


def _upscale(values: Values) -> TiledUpscale | None:
    if not any(key.startswith("SD upscale") for key in values.left()):
        return None
    return TiledUpscale(
        scale=values.number("SD upscale scale", TiledUpscale.scale, 1, 8),
        upscaler=values.text("SD upscale upscaler") or TiledUpscale.upscaler,
        overlap=values.whole("SD upscale overlap", TiledUpscale.overlap, 0, 512),
    )
