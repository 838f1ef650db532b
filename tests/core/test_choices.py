"""Sampler and schedule names in every spelling that users and clients have."""

import pytest

from webui.core.choices import MASKED_CONTENT, RESIZE_MODES, SAMPLERS, SCHEDULE_TYPES, find_sampler, find_schedule_type
from webui.core.errors import BadRequest


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_found_by_name_and_alias_with_every_schedule(name):
    for spelled in (name, name.upper(), f" {name} ", *SAMPLERS[name].aliases):
        for label, schedule in SCHEDULE_TYPES.items():
            assert find_sampler(spelled, label) == (name, label)
            assert find_sampler(spelled, schedule.name) == (name, label)


@pytest.mark.parametrize(
    ("spelled", "found"),
    [
        ("Euler a Karras", ("Euler a", "Karras")),
        ("DPM++ 2M Karras", ("DPM++ 2M", "Automatic")),
        ("DPM++ 2M SDE Exponential", ("DPM++ 2M SDE", "Automatic")),
        ("DPM++ 2M SDE Karras", ("DPM++ 2M SDE", "Karras")),
        ("k_dpmpp_2m_sde_ka", ("DPM++ 2M SDE", "Karras")),
        ("Euler SGM Uniform", ("Euler", "SGM Uniform")),
        ("DPM2 a Karras", ("DPM2 a", "Automatic")),
        ("k_dpm_2_a_ka", ("DPM2 a", "Automatic")),
        ("k_dpmpp_2m_sde_heun_exp", ("DPM++ 2M SDE Heun", "Automatic")),
        ("DPM++ 3M SDE Karras", ("DPM++ 3M SDE", "Karras")),
        ("LMS Karras", ("LMS", "Karras")),
    ],
)
def test_old_joined_names_are_split(spelled, found):
    assert find_sampler(spelled) == found


def test_a_schedule_that_is_given_counts_more_than_one_in_the_name():
    assert find_sampler("Euler Karras", "Exponential") == ("Euler", "Exponential")


def test_the_fields_other_spelling_of_sgm_uniform_is_known():
    assert find_schedule_type("SGMUniform") == "SGM Uniform"


def test_no_schedule_is_automatic():
    assert find_schedule_type("") == "Automatic"


@pytest.mark.parametrize("name", ["", "Warp", "Euler Warp", "Karras"])
def test_unknown_samplers_are_refused_with_those_there_are(name):
    with pytest.raises(BadRequest, match=r"choose one of: DPM\+\+ 2M, "):
        find_sampler(name)


def test_the_order_of_modes_is_that_of_the_wire():
    assert RESIZE_MODES.index("Resize and fill") == 2
    assert MASKED_CONTENT.index("original") == 1
