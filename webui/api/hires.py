"""hires fix as clients of /sdapi/v1 send it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from webui.api.lenient import rounded_side
from webui.api.repainting import init_options
from webui.api.schemas import Txt2Img
from webui.core.hires import SAME, HiresFix, find_second_sampler
from webui.core.request import GenerationRequest

FIELDS = {  # wire name -> field of HiresFix
    "denoising_strength": "denoising_strength",
    "hr_scale": "scale",
    "hr_resize_x": "width",
    "hr_resize_y": "height",
    "hr_upscaler": "upscaler",
    "hr_second_pass_steps": "steps",
    "hr_sampler_name": "sampler",
    "hr_scheduler": "schedule_type",
    "hr_cfg": "cfg_scale",
    "hr_checkpoint_name": "checkpoint",
    "hr_prompt": "prompt",
    "hr_negative_prompt": "negative_prompt",
}

TEMPLATES = {"hr_prompt": "template", "hr_negative_prompt": "negative_template"}  # of what the client says itself chance decides


def with_hires(request: GenerationRequest, body: Txt2Img, add_picture: Callable[[str, str], str]) -> GenerationRequest:
    """`request`, which may have hires fix of an infotext, with what the client says of it. add_picture: (field, base64) -> sha256."""
    if not (body.enable_hr if "enable_hr" in body.model_fields_set else request.hires is not None):
        return replace(request, hires=None)
    sent = set(FIELDS) if request.hires is None else body.model_fields_set & set(FIELDS)
    hires = replace(request.hires or HiresFix(), **{FIELDS[name]: _value(name, getattr(body, name)) for name in sent})
    hires = replace(hires, **{template: "" for name, template in TEMPLATES.items() if name in sent})
    extra = init_options(body.override_settings).get("extra_noise", hires.extra_noise)
    hires = replace(hires, extra_noise=extra)
    sampler, joined = find_second_sampler(hires.sampler)
    hires = replace(hires, sampler=sampler, schedule_type=hires.schedule_type or joined)
    if body.firstpass_image:
        hires = replace(hires, image=add_picture("firstpass_image", body.firstpass_image))
    if body.firstphase_width or body.firstphase_height:  # of old clients: then width and height are those of the finished picture
        hires = replace(hires, width=request.width, height=request.height)
        first = body.firstphase_width or request.width, body.firstphase_height or request.height
        request = replace(request, width=rounded_side(first[0]), height=rounded_side(first[1]))
    return replace(request, hires=hires)


def _value(name: str, value: Any) -> Any:
    if value is None:
        return getattr(HiresFix, FIELDS[name])
    return "" if isinstance(value, str) and name in CHOSEN and value.startswith(SAME) else value


CHOSEN = ("hr_checkpoint_name", "hr_sampler_name", "hr_scheduler")
