"""InvokeAI's three ways to tell a recipe, written by hand as it writes them."""

import json
from typing import Any

import pytest

from webui.core import infotext
from webui.core.choices import SAMPLERS
from webui.core.foreign import invokeai
from webui.core.foreign.samplers import INVOKEAI_SAMPLERS
from webui.core.foreign.translation import NOT_UNDERSTOOD
from webui.core.request import GenerationRequest

METADATA: dict[str, Any] = {
    "app_version": "4.2.9",
    "generation_mode": "txt2img",
    "positive_prompt": "a (red)1.2 fox",
    "negative_prompt": "blur++",
    "width": 512,
    "height": 640,
    "seed": 99,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0,
    "steps": 30,
    "scheduler": "dpmpp_2m_k",
    "clip_skip": 1,
    "seamless_x": False,
    "vae": {"name": "ft-mse"},
    "model": {"key": "x", "hash": "blake3:ab12", "name": "dreamshaper-8", "base": "sd-1", "type": "main"},
    "loras": [{"model": {"name": "ink", "base": "sd-1"}, "weight": 0.75}],
}


def request(text: str) -> GenerationRequest:
    return infotext.to_request(infotext.read(text), GenerationRequest())[0]


def test_the_metadata_of_today_becomes_a_request() -> None:
    made = request(invokeai.translate({"invokeai_metadata": json.dumps(METADATA)}).text)
    assert (made.prompt, made.negative_prompt) == ("a (red:1.2) fox <lora:ink:0.75>", "(blur:1.21)")
    assert (made.steps, made.sampler, made.schedule_type, made.cfg_scale, made.seed) == (30, "DPM++ 2M", "Karras", 7.5, 99)
    assert (made.width, made.height, made.clip_skip, made.checkpoint, made.vae) == (512, 640, 2, "dreamshaper-8", "ft-mse")


def test_what_is_left_out_is_named() -> None:
    told = METADATA | {
        "controlnets": [{"control_model": {}}],
        "ipAdapters": [],
        "hrf_enabled": False,
        "positive_prompt": '("a", "b").and()',
    }
    notes = invokeai.translate({"invokeai_metadata": json.dumps(told)}).notes
    assert [note.name for note in notes if note.kind == NOT_UNDERSTOOD] == ["positive_prompt", "controlnets"]


def test_an_unknown_scheduler_is_named_and_kept() -> None:
    translation = invokeai.translate({"invokeai_metadata": json.dumps(METADATA | {"scheduler": "warp_k"})})
    assert "Sampler: warp_k" in translation.text
    assert any("warp_k" in note.sentence for note in translation.notes)


def test_the_metadata_of_version_2() -> None:
    image = {
        "prompt": [{"prompt": "a fox [blur]", "weight": 1}],
        "steps": 50,
        "cfg_scale": 7.5,
        "seed": 3,
        "sampler": "k_lms",
        "width": 512,
        "height": 512,
    }
    made = request(invokeai.translate({"sd-metadata": json.dumps({"model_weights": "sd-1.5", "image": {"type": "txt2img", **image}})}).text)
    assert (made.prompt.strip(), made.negative_prompt) == ("a fox", "blur")
    assert (made.steps, made.sampler, made.seed, made.width, made.checkpoint) == (50, "LMS", 3, 512, "sd-1.5")


def test_the_command_line_of_version_1() -> None:
    made = request(invokeai.translate({"Dream": '"a fox, sitting [dog]" -s 40 -S 7 -W 512 -H 448 -C 8.0 -A k_euler_a'}).text)
    assert (made.prompt.strip(), made.negative_prompt) == ("a fox, sitting", "dog")
    assert (made.steps, made.seed, made.width, made.height, made.cfg_scale, made.sampler) == (40, 7, 512, 448, 8, "Euler a")


def test_damaged_texts_tell_nothing() -> None:
    for items in ({"Dream": '"never closed'}, {"sd-metadata": "[1]"}, {"invokeai_metadata": "{"}, {}):
        assert invokeai.translate(items).text == ""


@pytest.mark.parametrize(
    ("x", "y", "tiling"), [(True, False, "Horizontal"), (False, True, "Vertical"), (True, True, "Both"), (False, False, "Off")]
)
def test_seamless_is_told_axis_by_axis(x: bool, y: bool, tiling: str) -> None:
    told = METADATA | {"seamless_x": x, "seamless_y": y}
    assert request(invokeai.translate({"invokeai_metadata": json.dumps(told)}).text).tiling == tiling


@pytest.mark.parametrize("scheduler", sorted(INVOKEAI_SAMPLERS))
def test_a_scheduler_without_k_spaces_its_timesteps_evenly(scheduler: str) -> None:
    made = request(invokeai.translate({"invokeai_metadata": json.dumps(METADATA | {"scheduler": scheduler})}).text)
    label = SAMPLERS[made.sampler].default_schedule if made.schedule_type == "Automatic" else made.schedule_type
    assert label == "Uniform"
