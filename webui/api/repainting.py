"""What clients of /sdapi/v1 send beside picture and mask: options of img2img and the script "soft inpainting"."""

from collections.abc import Mapping
from typing import Any

from webui.api.schemas import Generation
from webui.core.errors import BadRequest
from webui.core.soft_inpainting import SoftInpainting, soft_from_arguments

SOFT = "soft inpainting"  # title of the script, case ignored
OPTIONS: dict[str, tuple[str, type]] = {  # option in override_settings -> field of InitImage
    "initial_noise_multiplier": ("noise_multiplier", float),
    "img2img_extra_noise": ("extra_noise", float),
    "img2img_color_correction": ("colour_correction", bool),
    "img2img_fix_steps": ("exact_steps", bool),
    "inpainting_mask_weight": ("mask_weight", float),
}


def init_options(overrides: Mapping[str, Any], noise_multiplier: float | None = None) -> dict[str, Any]:
    """Fields of InitImage that override_settings and the field of its own name tell. Raises BadRequest."""
    told = {field: _value(name, overrides[name], kind) for name, (field, kind) in OPTIONS.items() if overrides.get(name) is not None}
    return told | ({} if noise_multiplier is None else {"noise_multiplier": noise_multiplier})


def _value(name: str, value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, (bool, int)):
        return bool(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise BadRequest(f"{name} should be {'true or false' if kind is bool else 'a number'}")


def soft_inpainting(body: Generation) -> SoftInpainting | None:
    """What alwayson_scripts says of it. Raises BadRequest."""
    for name, script in body.alwayson_scripts.items():
        if name.strip().lower() == SOFT:
            arguments = script.get("args") if isinstance(script, dict) else None
            if arguments is not None and not isinstance(arguments, list):
                raise BadRequest("the args of soft inpainting should be a list")
            return soft_from_arguments(arguments or [])
    return None
