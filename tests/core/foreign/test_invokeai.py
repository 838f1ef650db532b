"""InvokeAI's three ways to tell a recipe, written by hand as it writes them."""

import json
from typing import Any

import pytest

from webui.core import infotext
from webui.core.choices import SAMPLERS
from webui.core.foreign import invokeai
from webui.core.foreign.samplers import INVOKEAI_SAMPLERS
from webui.core.foreign.translation import NOT_UNDERSTOOD, Translation
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


OLD: dict[str, Any] = {
    "prompt": [{"prompt": "a fox", "weight": 1}],
    "steps": 50,
    "seed": 3,
    "sampler": "k_lms",
    "width": 512,
    "height": 512,
}


def old(**changes: Any) -> Translation:
    return invokeai.translate({"sd-metadata": json.dumps({"model_weights": "sd-1.5", "image": OLD | changes})})


def test_what_version_2_says_and_nobody_here_does_is_named() -> None:
    translation = old(threshold=3, perlin=0.1, hires_fix=True, variations=[{"seed": 5, "weight": 0.2}], postprocessing=[{"type": "gfpgan"}])
    assert [note.name for note in translation.notes] == ["threshold", "perlin", "hires_fix", "variations", "postprocessing"]
    assert old(threshold=0, perlin=0, hires_fix=False, variations=[], postprocessing=None, seamless=False).notes == ()


def test_seamless_of_version_2_is_tiling() -> None:
    assert [request(old(seamless=value).text).tiling for value in (True, False)] == ["Both", "Off"]
    assert request(old(seamless=True, seamless_axes=["y"]).text).tiling == "Vertical"


def test_with_lora_becomes_a_tag() -> None:
    made = request(old(prompt=[{"prompt": "a fox withLora(ink,0.5), withLora(wet) [blur]", "weight": 1}]).text)
    assert made.prompt == "a fox , <lora:ink:0.5> <lora:wet:1>"
    assert made.negative_prompt == "blur"


def test_a_command_line_without_blanks_behind_its_flags() -> None:
    made = request(invokeai.translate({"Dream": '"a fox" -s50 -S1234 -W512 -H768 -C7.5 -A k_euler --seamless'}).text)
    assert (made.prompt, made.steps, made.seed, made.width, made.height, made.cfg_scale) == ("a fox", 50, 1234, 512, 768, 7.5)
    assert (made.sampler, made.tiling) == ("Euler", "Both")


def test_flags_of_a_command_line_that_are_left_out_are_named() -> None:
    translation = invokeai.translate({"Dream": '"a fox" -s 50 -G 0.8 -U 2 0.75 --hires_fix'})
    assert [note.name for note in translation.notes] == ["-G", "-U", "--hires_fix"]


def test_a_prompt_without_quotes_ends_at_the_first_flag() -> None:
    made = request(invokeai.translate({"Dream": "a girl's well-known fox -s 50 -S 12"}).text)
    assert (made.prompt, made.steps, made.seed) == ("a girl's well-known fox", 50, 12)


def test_a_style_prompt_of_its_own_is_named() -> None:
    told = METADATA | {"positive_style_prompt": "oil", "negative_style_prompt": METADATA["negative_prompt"]}
    notes = invokeai.translate({"invokeai_metadata": json.dumps(told)}).notes
    assert [note.name for note in notes if note.kind == NOT_UNDERSTOOD] == ["positive_style_prompt"]
