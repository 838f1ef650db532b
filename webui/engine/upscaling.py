"""Making pictures and latents larger: the upscalers of hires fix, and what is cut off where a size of other proportions is wanted."""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from webui.core.choices import LATENT_UPSCALERS
from webui.core.errors import BadRequest
from webui.core.hires import HiresFix
from webui.engine import masking
from webui.engine.latents import FACTOR, decode_latents, encode_image
from webui.engine.masking import LANCZOS, Size
from webui.engine.model import DiffusionModel

if TYPE_CHECKING:
    from webui.engine.upscaler_model import UpscalerModel  # whose import takes a second, and which few jobs need

MODES: dict[str, tuple[str, bool]] = {  # upscaler -> interpolation and whether it is antialiased
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
FILTERS = {"Nearest": Image.Resampling.NEAREST, "Lanczos": LANCZOS, "None": LANCZOS}

MOST_TIMES = 3  # that a model is applied to one picture, as in the field
MOST_PIXELS = 128_000_000  # of what a model makes before it is brought to the wanted size
TILE, TILE_OVERLAP = 256, 32  # pixels that a model sees at once in jobs that do not say it
Step, Shown, Result = TypeVar("Step"), TypeVar("Shown"), TypeVar("Result")
LoadUpscaler = Callable[[str], "UpscalerModel"]
Enlarging = Generator[float, None, Image.Image]  # yields the share that is done, 0 .. 1; returns the picture
Enlarge = Callable[[Image.Image, Size, str], Image.Image]
"""(picture, size, upscaler) -> the picture in that size."""

Larger = Tensor | list[Image.Image]
"""What hires fix's second pass begins with: latents (batch, 4, h, w), or pictures to be encoded by the model of that pass."""


def upscale_latents(latents: Tensor, size: Size, upscaler: str) -> Tensor:
    """Latents (batch, 4, h, w) of pictures that are `size` pixels large, by one of LATENT_UPSCALERS; nothing is decoded."""
    mode, antialias = MODES[upscaler]
    return functional.interpolate(latents, (size[1] // FACTOR, size[0] // FACTOR), mode=mode, antialias=antialias)


def enlarging(
    image: Image.Image,
    size: Size,
    upscaler: str,
    load: LoadUpscaler,
    tile: int = TILE,
    overlap: int = TILE_OVERLAP,
    always: bool = False,
    scale: float = 0.0,
) -> Enlarging:
    """The picture, RGB, in `size`. Upscalers enlarge both sides alike, models by a whole number; the rest is left to Lanczos.

    A model is applied until its result is large enough. always: at least once, also to a picture that has the size. scale: of the
    upscaler; 0: what `size` needs.
    Raises BadRequest where what lies between would be too large, MissingModel, BadModelFile, OutOfMemory.
    """
    scale = scale or _needed(image.size, size)
    if upscaler in FILTERS:
        if scale > 1:
            image = image.resize((int(image.width * scale), int(image.height * scale)), FILTERS[upscaler])
    elif scale > 1 or (always and scale == 1):
        model = load(upscaler)
        times = _times(scale, model.scale)
        for number in range(times):
            if image.width * image.height * model.scale**2 > MOST_PIXELS:
                raise BadRequest(
                    f"{upscaler} would make a picture of {image.width * model.scale}x{image.height * model.scale} on the way to "
                    f"{size[0]}x{size[1]}: choose a smaller size, or an upscaler with a smaller scale"
                )
            steps = model.enlarged(image, tile, overlap)
            image = yield from told(steps, lambda tiles, before=number: (before + tiles[0] / tiles[1]) / times)  # type: ignore[misc]
    return image if image.size == size else image.resize(size, LANCZOS)


def _needed(old: Size, new: Size) -> float:
    return max(new[0] / old[0], new[1] / old[1])


def in_eights(size: Size, scale: float) -> Size:
    """What the field's upscalers make of a picture of this size: sides of whole latents."""
    return int(size[0] * scale // FACTOR * FACTOR), int(size[1] * scale // FACTOR * FACTOR)


def _times(scale: float, by: int) -> int:
    """How often a model is applied that enlarges by `by`."""
    return next((times for times in range(1, MOST_TIMES) if by**times >= scale or by == 1), MOST_TIMES)


def told(steps: Generator[Step, None, Result], tell: Callable[[Step], Shown]) -> Generator[Shown, None, Result]:
    """The same steps, each as `tell` puts it."""
    try:
        while True:
            yield tell(next(steps))
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        steps.close()


def outcome(steps: Generator[Step, None, Result]) -> Result:
    """What the steps come to."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: Result = end.value
        return result


def no_models(name: str) -> "UpscalerModel":
    """Where there are no models."""
    raise BadRequest(f"upscaler {name!r} is not known; choose one of: {', '.join(FILTERS)}")


def make_enlarge(load: LoadUpscaler) -> Enlarge:
    """An Enlarge that works in one go, by way of whole latents as the field does. load: name of a model -> that model."""

    def enlarge(image: Image.Image, size: Size, upscaler: str) -> Image.Image:
        scale = _needed(image.size, size)
        if upscaler != "None" and scale > 1:
            image = outcome(enlarging(image, in_eights(image.size, scale), upscaler, load, scale=scale))
        return image if image.size == size else image.resize(size, LANCZOS)

    return enlarge


FILTERS_ALONE = make_enlarge(no_models)


def larger_latents(model: DiffusionModel, latents: Tensor, hires: HiresFix, first: Size, enlarge: Enlarge) -> Larger:
    """The first pass's latents as the second pass begins with them. model: of the first pass; first: the size of its pictures."""
    if hires.upscaler in LATENT_UPSCALERS:
        return upscale_latents(latents, hires.scaled(first), hires.upscaler)
    return [enlarge(image, hires.scaled(first), hires.upscaler) for image in decode_latents(model, latents)]


def larger_images(model: DiffusionModel, images: Sequence[Image.Image], hires: HiresFix, first: Size, enlarge: Enlarge) -> Larger:
    """Finished pictures as the second pass begins with them. first: the size that the first pass's pictures would have."""
    images = [masking.flatten(image) for image in images]
    if hires.upscaler not in LATENT_UPSCALERS:
        return [enlarge(image, hires.scaled(first), hires.upscaler) for image in images]
    whole = [image if image.size == first else image.resize(first, LANCZOS) for image in images]
    return upscale_latents(torch.cat([encode_image(model, image) for image in whole]), hires.scaled(first), hires.upscaler)


def begin_again(model: DiffusionModel, larger: Larger, hires: HiresFix, first: Size) -> Tensor:
    """The second pass's clean latents, what is too much cut off: (batch, 4, height/8, width/8). model: of the second pass."""
    latents = larger if isinstance(larger, Tensor) else torch.cat([encode_image(model, image) for image in larger])
    columns, rows = hires.cut(first)
    bottom, right = latents.shape[2] - (rows + 1) // 2, latents.shape[3] - (columns + 1) // 2
    return latents[:, :, rows // 2 : bottom, columns // 2 : right]


def have_same_latents(first: DiffusionModel, second: DiffusionModel) -> bool:
    """Whether one model can go on with the other's latents."""
    return first.family.scaling_factor == second.family.scaling_factor


def check_same_latents(first: DiffusionModel, second: DiffusionModel, upscaler: str) -> None:
    """Raises BadRequest where one checkpoint cannot go on with the other's latents."""
    if upscaler in LATENT_UPSCALERS and not have_same_latents(first, second):
        raise BadRequest(
            f"{second.path.name} ({second.family.title}) cannot go on with the latents of {first.path.name} ({first.family.title}): "
            "choose a hires upscaler that works on pictures, Lanczos for instance"
        )
