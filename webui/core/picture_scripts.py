"""Scripts: pure functions from a request to the requests that are made in its stead; by title and positional arguments in the API.

Arguments are those of A1111's scripts of the same title, in the order of their widgets; what is missing at the end has its default.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webui.core.choices import MASKED_CONTENT, OUTPAINT_WAYS, PIXEL_UPSCALERS
from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest, InitImage, Outpaint, TiledUpscale

PREVIOUS = "previous"  # in place of an init image's sha256: the picture that the request before has made
CURVES: Mapping[str, Callable[[float], float]] = {  # of loopback: part of the way, 0 .. 1 -> part of the change of strength
    "Aggressive": lambda part: math.sin(part * math.pi / 2),
    "Linear": lambda part: part,
    "Lazy": lambda part: 1 - math.cos(part * math.pi / 2),
}
DIRECTIONS = ("left", "right", "up", "down")
MAX_LOOPS = 32


def outpaint_mk2(
    request: GenerationRequest,
    unused: Any = None,
    pixels: int = 128,
    mask_blur: int = 8,
    directions: Sequence[str] = DIRECTIONS,
    falloff: float = 1.0,
    colour_variation: float = 0.05,
) -> list[GenerationRequest]:
    """The init image extended by `pixels` in each direction; the request's size is what the model sees at once."""
    sides = _sides(pixels, directions)
    way = replace(sides, way=OUTPAINT_WAYS[1], blur=mask_blur, falloff=falloff, colour_variation=colour_variation)
    return [_outpainted(request, way)]


def outpaint_poor_mans(
    request: GenerationRequest, pixels: int = 128, mask_blur: int = 4, content: int | str = 0, directions: Sequence[str] = DIRECTIONS
) -> list[GenerationRequest]:
    """As `outpaint_mk2`, in tiles; content: index or name of MASKED_CONTENT, what the new area begins with."""
    sides = _sides(pixels, directions)
    way = replace(sides, way=OUTPAINT_WAYS[2], blur=mask_blur, content=_chosen("masked content", content, MASKED_CONTENT))
    return [_outpainted(request, way)]


def sd_upscale(
    request: GenerationRequest, unused: Any = None, overlap: int = 64, upscaler: int | str = 0, scale: float = 2.0
) -> list[GenerationRequest]:
    """The init image enlarged, and repainted in tiles of the request's size."""
    upscale = TiledUpscale(scale=scale, upscaler=_chosen("upscaler", upscaler, PIXEL_UPSCALERS), overlap=overlap)
    return [replace(request, init=replace(_init(request), inpaint=None, outpaint=None, upscale=upscale))]


def loopback(
    request: GenerationRequest, loops: int = 4, final_strength: float = 0.5, curve: str = "Linear", interrogation: str = "None"
) -> list[GenerationRequest]:
    """Pictures made of one another: each has the one before as its init image, and the next seed, also from batch to batch."""
    if not 1 <= loops <= MAX_LOOPS:
        raise BadRequest(f"loopback of {loops} loops is out of range: use 1 to {MAX_LOOPS}")
    if curve not in CURVES:
        raise BadRequest(f"denoising curve {str(curve)[:60]!r} is not known; choose one of: {', '.join(CURVES)}")
    if interrogation not in ("None", "", None):
        raise BadRequest("loopback cannot describe pictures in words here: choose None for the interrogation that is appended")
    init = _init(request)
    change = final_strength - init.denoising_strength
    strengths = [init.denoising_strength + change * CURVES[curve](i / max(loops - 1, 1)) for i in range(loops)]
    made = []
    for number in range(loops * request.batch_count):
        loop = number % loops
        begun = init if loop == 0 else _from_previous(init)
        step = replace(begun, denoising_strength=round(strengths[loop], 6))
        made.append(replace(request, seed=request.seed + number, batch_size=1, batch_count=1, init=step))
    return made


def _from_previous(init: InitImage) -> InitImage:
    """What is masked begins with what was made there, whatever it began with at first."""
    inpaint = replace(init.inpaint, content="original") if init.inpaint else None
    return replace(init, image=PREVIOUS, inpaint=inpaint)


def _init(request: GenerationRequest) -> InitImage:
    if request.init is None:
        raise BadRequest("this script begins with a picture: use it in img2img")
    return request.init


def _outpainted(request: GenerationRequest, outpaint: Outpaint) -> GenerationRequest:
    outpaint = replace(outpaint, tile_width=request.width, tile_height=request.height)
    return replace(request, width=0, height=0, init=replace(_init(request), inpaint=None, upscale=None, outpaint=outpaint))


def _sides(pixels: int, directions: Sequence[str]) -> Outpaint:
    unknown = [direction for direction in directions if direction not in DIRECTIONS]
    if unknown or isinstance(directions, str):
        raise BadRequest(
            f"direction {str(unknown[0] if unknown else directions)[:60]!r} is not known; use a list of {', '.join(DIRECTIONS)}"
        )
    left, right, top, bottom = (pixels if direction in directions else 0 for direction in DIRECTIONS)
    return Outpaint(left=left, right=right, top=top, bottom=bottom)


def _chosen(name: str, value: int | str, choices: Sequence[str]) -> str:
    """By index, or by name in any spelling."""
    names = {choice.casefold(): choice for choice in choices}
    if isinstance(value, str) and value.casefold() in names:
        return names[value.casefold()]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return choices[value]
    listed = ", ".join(f"{index} ({choice})" for index, choice in enumerate(choices))
    raise BadRequest(f"{name} {str(value)[:60]!r} is not known; use one of: {listed}")


@dataclass(frozen=True)
class Script:
    """run: (request, *arguments) -> requests. kinds: of each argument after the request, for what it must be."""

    title: str
    run: Callable[..., list[GenerationRequest]]
    kinds: tuple[type | tuple[type, ...], ...]
    in_txt2img: bool = False
    in_img2img: bool = True

    def __call__(self, request: GenerationRequest, arguments: Sequence[Any]) -> list[GenerationRequest]:
        """Raises BadRequest for arguments that are too many or of a wrong kind; null stands for the default only at the end."""
        given = list(arguments)
        while given and given[-1] is None:
            given.pop()
        if len(given) > len(self.kinds):
            raise BadRequest(f"{self.title} takes {len(self.kinds)} script_args; {len(given)} were sent")
        for number, (value, kind) in enumerate(zip(given, self.kinds, strict=False)):
            if (isinstance(value, bool) and kind is not object) or not isinstance(value, NUMBER if kind is int else kind):
                raise BadRequest(f"script_args[{number}] of {self.title} is of a wrong kind")
        return self.run(request, *(int(value) if kind is int else value for value, kind in zip(given, self.kinds, strict=False)))


NUMBER = (int, float)
SCRIPTS: dict[str, Script] = {
    script.title.casefold(): script
    for script in (
        Script(OUTPAINT_WAYS[1], outpaint_mk2, (object, int, int, list, NUMBER, NUMBER)),
        Script(OUTPAINT_WAYS[2], outpaint_poor_mans, (int, int, (int, str), list)),
        Script("SD upscale", sd_upscale, (object, int, (int, str), NUMBER)),
        Script("Loopback", loopback, (int, NUMBER, str, (str, type(None)))),
    )
}


def find_script(title: str) -> Script | None:
    """By its title, case ignored."""
    return SCRIPTS.get(title.strip().casefold())
