"""NovelAI's texts, written by hand as it writes them."""

import json
from typing import Any

import pytest

from webui.core import infotext
from webui.core.choices import SAMPLERS
from webui.core.foreign import novelai
from webui.core.foreign.samplers import NOVELAI_SAMPLERS
from webui.core.foreign.translation import APPROXIMATED, NOT_UNDERSTOOD, Translation
from webui.core.request import GenerationRequest

COMMENT: dict[str, Any] = {
    "prompt": "{fox}, snow",
    "steps": 28,
    "height": 1216,
    "width": 832,
    "scale": 5.5,
    "cfg_rescale": 0.0,
    "seed": 4294967295,
    "n_samples": 1,
    "sampler": "k_dpmpp_2m",
    "noise_schedule": "karras",
    "sm": False,
    "uc": "[blur]",
    "request_type": "PromptGenerateRequest",
}


def told(**changes: Any) -> Translation:
    return novelai.translate(
        {"Software": "NovelAI", "Source": "NovelAI Diffusion V3", "Description": "x", "Comment": json.dumps(COMMENT | changes)}
    )


def request(translation: Translation) -> GenerationRequest:
    return infotext.to_request(infotext.read(translation.text), GenerationRequest())[0]


def test_the_recipe_becomes_a_request() -> None:
    made = request(told())
    assert (made.prompt, made.negative_prompt) == ("(fox:1.05), snow", "(blur:0.952)")
    assert (made.steps, made.sampler, made.schedule_type, made.cfg_scale, made.seed) == (28, "DPM++ 2M", "Karras", 5.5, 4294967295)
    assert (made.width, made.height, made.clip_skip) == (832, 1216, 2)


def test_the_models_name_is_told_as_one_that_cannot_be_had() -> None:
    assert [(note.kind, "V3" in note.sentence) for note in told().notes] == [(APPROXIMATED, True)]


def test_characters_of_version_4_are_joined_to_the_prompt() -> None:
    caption = {
        "base_caption": "2 girls",
        "char_captions": [{"char_caption": "1.2::red hair::", "centers": [{"x": 0.5, "y": 0.5}]}, {"char_caption": "elf"}],
    }
    translation = told(v4_prompt={"caption": caption, "use_coords": True})
    assert request(translation).prompt == "2 girls, (red hair:1.2), elf"
    assert "char_captions" in [note.name for note in translation.notes]


def test_what_is_not_known_here_is_named() -> None:
    names = [
        note.name for note in told(sm=True, sm_dyn=True, sampler="k_warp", noise_schedule="sinus").notes if note.kind == NOT_UNDERSTOOD
    ]
    assert names == ["sampler", "noise_schedule", "sm", "sm_dyn"]


def test_without_a_comment_the_description_is_the_prompt() -> None:
    assert novelai.translate({"Description": "{fox}", "Comment": "["}).text == "(fox:1.05)"


@pytest.mark.parametrize("sampler", sorted(NOVELAI_SAMPLERS))
def test_the_native_schedule_spaces_timesteps_evenly(sampler: str) -> None:
    made = request(told(sampler=sampler, noise_schedule="native"))
    label = SAMPLERS[made.sampler].default_schedule if made.schedule_type == "Automatic" else made.schedule_type
    assert label == "Uniform"


def test_changes_of_the_guidance_are_named_where_they_were_chosen() -> None:
    names = [note.name for note in told(skip_cfg_above_sigma=19.3, uncond_scale=0.5).notes if note.kind == NOT_UNDERSTOOD]
    assert names == ["skip_cfg_above_sigma", "uncond_scale"]
    for usual in (0.0, 1.0, None):
        assert [note.kind for note in told(skip_cfg_above_sigma=None, uncond_scale=usual, noise=0.2).notes] == [APPROXIMATED]


def test_noise_on_a_picture_to_start_from_is_named() -> None:
    translation = told(request_type="Img2ImgRequest", strength=0.6, noise=0.1)
    assert [note.name for note in translation.notes if note.kind == NOT_UNDERSTOOD] == ["noise"]
    assert "noise" not in [note.name for note in told(request_type="Img2ImgRequest", strength=0.6, noise=0).notes]
