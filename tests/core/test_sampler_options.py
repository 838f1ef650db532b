"""The table of sampler options: limits, preferences, and requests of before there were any."""

from dataclasses import fields, replace

import pytest

from webui.core.errors import BadRequest
from webui.core.preferences import PREFERENCES
from webui.core.request import GenerationRequest
from webui.core.sampler_options import OPTIONS, SamplerOptions, preferred_options


def test_every_field_has_one_row_and_one_preference_with_its_default():
    assert [option.field for option in OPTIONS] == [field.name for field in fields(SamplerOptions)]
    preferred = {preference.name: preference.default for preference in PREFERENCES}
    assert {option.name: preferred[option.name] for option in OPTIONS} == {option.name: option.default for option in OPTIONS}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.field)
def test_values_of_a_wrong_kind_or_out_of_range_are_refused_by_their_name(option):
    beyond = () if isinstance(option.default, bool) else (option.most + 1, option.least - 1, True)
    for wrong in (None, "1", float("nan"), *beyond):
        with pytest.raises(BadRequest, match=option.key):
            replace(SamplerOptions(), **{option.field: wrong}).validate()


def test_limits_themselves_are_allowed():
    SamplerOptions().validate()
    SamplerOptions(eta=10, sigma_min=0.1, sigma_max=10_000, ensd=-(2**32)).validate()


def test_a_lowest_sigma_above_the_highest_is_refused():
    with pytest.raises(BadRequest, match="min sigma 5 is not below"):
        SamplerOptions(sigma_min=5, sigma_max=2).validate()


def test_preferences_give_the_options_their_values():
    assert preferred_options({}) == SamplerOptions()
    assert preferred_options({"eta_noise_seed_delta": 31337, "eta_ancestral": 0.5}) == SamplerOptions(ensd=31337, eta=0.5)


def test_requests_keep_their_options_in_storage_and_old_ones_have_the_defaults():
    request = GenerationRequest(rng="NV", sampler_options=SamplerOptions(s_churn=1.5))
    assert GenerationRequest.from_json(request.to_json()) == request
    assert GenerationRequest.from_json(GenerationRequest().to_json()).sampler_options is None
    assert GenerationRequest.from_json({"prompt": "x"}).sampler_options == SamplerOptions()
