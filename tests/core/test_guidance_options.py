from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.guidance_options import GuidanceOptions, guidance_items, preferred_guidance, read_guidance
from webui.core.key_values import Values

OPTIONS = GuidanceOptions(
    emphasis="No norm",
    rescale=0.7,
    skip_early=0.25,
    ngms=3.0,
    ngms_all_steps=True,
    skip_uncond=True,
    pad_conds=True,
    pad_conds_v0=True,
    old_timelines=True,
    token_merging=0.5,
    token_merging_hr=0.25,
    noise_schedule="Zero Terminal SNR",
    comma_backtrack=8,
    pag=3.0,
    freeu=True,
    freeu_b1=1.3,
    freeu_b2=1.4,
    freeu_s1=0.9,
    freeu_s2=0.2,
    freeu_plain=True,
)
ITEMS = {
    "Emphasis": "No norm",
    "CFG Rescale phi": "0.7",
    "Skip Early CFG": "0.25",
    "NGMS": "3.0",
    "NGMS all steps": "True",
    "Skip uncond at CFG 1": "True",
    "Pad conds": "True",
    "Pad conds v0": "True",
    "Old prompt editing timelines": "True",
    "Token merging ratio": "0.5",
    "Token merging ratio hr": "0.25",
    "Noise Schedule": "Zero Terminal SNR",
    "Comma padding backtrack": "8",
    "PerturbedAttentionGuidance_scale": "3.0",
    "freeu_enabled": "True",
    "freeu_b1": "1.3",
    "freeu_b2": "1.4",
    "freeu_s1": "0.9",
    "freeu_s2": "0.2",
    "freeu_plain": "True",
}


def test_the_fields_names_stand_in_the_infotext() -> None:
    assert dict(guidance_items(OPTIONS)) == ITEMS
    assert read_guidance(Values(dict(ITEMS))) == OPTIONS


@pytest.mark.parametrize("options", [None, GuidanceOptions()])
def test_defaults_are_not_written(options: GuidanceOptions | None) -> None:
    assert not dict(guidance_items(options))
    assert read_guidance(Values({})) == GuidanceOptions()


def test_values_out_of_range_are_told_and_not_used() -> None:
    values = Values({"NGMS": "99", "Emphasis": "Loud", "CFG Rescale phi": "nan"})
    assert read_guidance(values) == GuidanceOptions()
    assert [problem.split(" ")[0] for problem in values.problems] == ["Emphasis", "CFG", "NGMS"]


def test_forges_switches_beside_the_numbers_are_understood() -> None:
    values = Values({"PerturbedAttentionGuidance_enabled": "True", "PerturbedAttentionGuidance_scale": "4", "freeu_enabled": "True"})
    assert read_guidance(values) == GuidanceOptions(pag=4.0, freeu=True)
    assert values.left() == []


def test_preferences_have_the_fields_option_names() -> None:
    told = {"emphasis": "Ignore", "cfg_rescale": 0.1, "skip_early_cond": 0.2, "s_min_uncond": 4, "s_min_uncond_all": True}
    assert preferred_guidance(told) == GuidanceOptions(emphasis="Ignore", rescale=0.1, skip_early=0.2, ngms=4, ngms_all_steps=True)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"emphasis": "loud"}, "choose one of: Original, No norm, Ignore, None"),
        ({"rescale": 1.5}, "CFG Rescale phi 1.5 is out of range: use a number from 0 to 1"),
        ({"ngms": float("nan")}, "0 to 15"),
        ({"skip_early": -0.1}, "Skip Early CFG"),
        ({"skip_early": "0.1"}, "Skip Early CFG"),
        ({"ngms_all_steps": 1}, "neither True nor False"),
        ({"comma_backtrack": 75}, "use a whole number from 0 to 74"),
        ({"comma_backtrack": 2.5}, "Comma padding backtrack 2.5 is out of range"),
        ({"freeu_b1": 2.5}, "freeu_b1 2.5 is out of range: use a number from 0 to 2"),
        ({"pag": -1}, "PerturbedAttentionGuidance_scale -1"),
    ],
)
def test_what_cannot_be_is_refused_with_the_limit(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        GuidanceOptions(**fields).validate()
