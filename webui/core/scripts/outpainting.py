"""A1111's two scripts that extend a picture, as the ways of this program's own outpainting."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from webui.core.choices import MASKED_CONTENT, OUTPAINT_WAYS
from webui.core.errors import BadRequest
from webui.core.key_values import short
from webui.core.request import GenerationRequest, Outpaint
from webui.core.scripts.arguments import Argument
from webui.core.scripts.plan import Draw, Plan, Step

MK2, POOR_MANS = OUTPAINT_WAYS[1:3]
DIRECTIONS = ("left", "right", "up", "down")


def mk2_arguments(tab: str) -> tuple[Argument, ...]:
    """Those of A1111's script, in its order; the first one is a note there."""
    return (
        Argument(name="info", label="Recommended settings", default="", shown=False),
        _pixels(),
        Argument(name="mask_blur", label="Mask blur", default=8, minimum=0, maximum=64, step=1),
        _directions(),
        Argument(name="noise_q", label="Fall-off exponent", default=1.0, minimum=0, maximum=4, step=0.01),
        Argument(name="color_variation", label="Colour variation", default=0.05, minimum=0, maximum=1, step=0.01),
    )


def poor_mans_arguments(tab: str) -> tuple[Argument, ...]:
    """Those of A1111's script, in its order."""
    return (
        _pixels(),
        Argument(name="mask_blur", label="Mask blur", default=4, minimum=0, maximum=64, step=1),
        Argument(name="inpainting_fill", label="Masked content", default="fill", choices=tuple(MASKED_CONTENT)),
        _directions(),
    )


def mk2(request: GenerationRequest, told: Mapping[str, Any], draw: Draw) -> Plan:
    """The init image extended in each direction; the request's size is what the model sees at once. Raises BadRequest."""
    sides = replace(_sides(told), way=MK2, blur=told["mask_blur"], falloff=told["noise_q"], colour_variation=told["color_variation"])
    return _outpainted(request, sides)


def poor_mans(request: GenerationRequest, told: Mapping[str, Any], draw: Draw) -> Plan:
    """As `mk2`, in tiles; masked content is what the new area begins with. Raises BadRequest."""
    return _outpainted(request, replace(_sides(told), way=POOR_MANS, blur=told["mask_blur"], content=told["inpainting_fill"]))


def _pixels() -> Argument:
    return Argument(name="pixels", label="Pixels to expand", default=128, minimum=8, maximum=256, step=8)


def _directions() -> Argument:
    return Argument(name="direction", label="Outpainting direction", default=list(DIRECTIONS), choices=DIRECTIONS)


def _sides(told: Mapping[str, Any]) -> Outpaint:
    directions: Sequence[str] = told["direction"]
    for direction in directions:
        if direction not in DIRECTIONS:
            raise BadRequest(f"direction {short(direction)!r} is not known; use a list of {', '.join(DIRECTIONS)}")
    left, right, top, bottom = (told["pixels"] if direction in directions else 0 for direction in DIRECTIONS)
    return Outpaint(left=left, right=right, top=top, bottom=bottom)


def _outpainted(request: GenerationRequest, outpaint: Outpaint) -> Plan:
    if request.init is None:
        raise BadRequest("this script begins with a picture: use it in img2img")
    outpaint = replace(outpaint, tile_width=request.width, tile_height=request.height)
    init = replace(request.init, inpaint=None, upscale=None, outpaint=outpaint)
    return Plan((Step(outpaint.way, replace(request, width=0, height=0, init=init)),))
