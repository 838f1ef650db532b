"""What clients of /sdapi/v1 send beside picture and mask: options of img2img and the script "soft inpainting"."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from webui.api.schemas import Generation, Img2Img
from webui.core.choices import MASKED_CONTENT
from webui.core.errors import BadRequest
from webui.core.preferences import PREFERENCES
from webui.core.request import Inpaint
from webui.core.soft_inpainting import SoftInpainting, soft_from_arguments

SOFT = "soft inpainting"  # title of the script, case ignored
OPTIONS = {  # option -> field of InitImage
    "initial_noise_multiplier": "noise_multiplier",
    "img2img_extra_noise": "extra_noise",
    "img2img_color_correction": "colour_correction",
    "img2img_fix_steps": "exact_steps",
    "inpainting_mask_weight": "mask_weight",
}


def init_options(options: Mapping[str, Any], noise_multiplier: float | None = None) -> dict[str, Any]:
    """Fields of InitImage that options, and the field of its own name, tell. Raises BadRequest."""
    rows = {row.name: row for row in PREFERENCES}
    told = {field: rows[name].check(options[name]) for name, field in OPTIONS.items() if options.get(name) is not None}
    return told | ({} if noise_multiplier is None else {"noise_multiplier": noise_multiplier})


def inpaint(body: Img2Img, told: Inpaint | None, add_picture: Callable[[str, str], str]) -> Inpaint | None:
    """What the client says of the mask; what it does not send is taken from `told`, where there is one. No mask, no latent mask.

    add_picture: (field, base64) -> sha256.
    """
    if not body.mask:
        return None
    values: dict[str, Any] = {
        "blur_x": body.mask_blur_x if body.mask_blur is None else body.mask_blur,
        "blur_y": body.mask_blur_y if body.mask_blur is None else body.mask_blur,
        "invert": bool(body.inpainting_mask_invert),
        "content": chosen("inpainting_fill", body.inpainting_fill, MASKED_CONTENT),
        "only_masked": body.inpaint_full_res,
        "padding": body.inpaint_full_res_padding,
        "greys": not body.mask_round,
    }
    if told is not None:
        values = {name: value if MASK_FIELDS[name] & body.model_fields_set else getattr(told, name) for name, value in values.items()}
    values["soft"] = soft_inpainting(body) or (told.soft if told else None)
    if body.latent_mask:
        values["latent_mask"] = add_picture("latent_mask", body.latent_mask)
    return Inpaint(mask=add_picture("mask", body.mask), **values)


MASK_FIELDS = {  # of Inpaint -> the wire names that say it
    "blur_x": {"mask_blur", "mask_blur_x"},
    "blur_y": {"mask_blur", "mask_blur_y"},
    "invert": {"inpainting_mask_invert"},
    "content": {"inpainting_fill"},
    "only_masked": {"inpaint_full_res"},
    "padding": {"inpaint_full_res_padding"},
    "greys": {"mask_round"},
}


def chosen(name: str, index: int, choices: Sequence[str]) -> str:
    if not 0 <= index < len(choices):
        listed = ", ".join(f"{i} ({choice})" for i, choice in enumerate(choices))
        raise BadRequest(f"{name} {index} is not known; use one of: {listed}")
    return choices[index]


def soft_inpainting(body: Generation) -> SoftInpainting | None:
    """What alwayson_scripts says of it. Raises BadRequest."""
    for name, script in body.alwayson_scripts.items():
        if name.strip().lower() == SOFT:
            arguments = script.get("args") if isinstance(script, dict) else None
            if arguments is not None and not isinstance(arguments, list):
                raise BadRequest("the args of soft inpainting should be a list")
            return soft_from_arguments(arguments or [])
    return None
