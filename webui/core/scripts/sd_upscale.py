"""SD upscale: a picture enlarged, and repainted in tiles that overlap."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from webui.core.choices import PIXEL_UPSCALERS
from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest, TiledUpscale
from webui.core.scripts.arguments import Argument
from webui.core.scripts.plan import Draw, Plan, Step

TITLE = "SD upscale"


def arguments(tab: str) -> tuple[Argument, ...]:
    """Those of A1111's script, in its order; the first one is a note there."""
    return (
        Argument(name="info", label="Will upscale the image by the selected scale factor", default="", shown=False),
        Argument(name="overlap", label="Tile overlap", default=64, minimum=0, maximum=256, step=16),
        Argument(name="upscaler_index", label="Upscaler", default=PIXEL_UPSCALERS[0], choices=PIXEL_UPSCALERS, others=True),
        Argument(name="scale_factor", label="Scale factor", default=2.0, minimum=1, maximum=4, step=0.05),
    )


def plan(request: GenerationRequest, told: Mapping[str, Any], draw: Draw) -> Plan:
    """The request's size is the tiles'. Raises BadRequest."""
    if request.init is None:
        raise BadRequest("SD upscale begins with a picture: use it in img2img")
    upscale = TiledUpscale(scale=told["scale_factor"], upscaler=told["upscaler_index"], overlap=told["overlap"])
    return Plan((Step(TITLE, replace(request, init=replace(request.init, inpaint=None, outpaint=None, upscale=upscale))),))
