"""Requests are refused with the value, the limit and the way out; they survive storage; each picture of a batch has its own."""

import json
import math
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.core.test_infotext import REQUESTS
from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.core.sampler_options import SamplerOptions

GOOD = GenerationRequest(prompt="a cat", width=64, height=128, seed=0, variation_seed=0)
INIT = InitImage(image="a" * 64)


def test_a_complete_request_is_carried_out():
    GOOD.validate()
    replace(GOOD, init=replace(INIT, inpaint=Inpaint(mask="b" * 64))).validate()
    replace(GOOD, init=replace(INIT, outpaint=Outpaint(left=64))).validate()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 100}, "width 100 is not a multiple of 8; try 96"),
        ({"height": 0}, "height 0 is out of range: use 64 to 4096"),
        ({"width": 1e9}, "width"),
        ({"steps": 0}, "steps 0 is out of range: use 1 to 1000"),
        ({"cfg_scale": math.nan}, "cfg scale nan is out of range"),
        ({"cfg_scale": math.inf}, "cfg scale inf is out of range"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 2**63 - 1, "batch_size": 2}, "the last picture's seed"),
        ({"variation_seed": 2**63 - 1, "variation_strength": 0.5, "batch_count": 2}, "the last picture's seed"),
        ({"clip_skip": 13}, "clip skip 13"),
        ({"clip_skip": True}, "clip skip True"),
        ({"batch_size": 65}, "batch size 65"),
        ({"batch_count": 0}, "batch count 0"),
        ({"variation_strength": 1.1}, "variation strength 1.1"),
        ({"sampler": "Warp"}, "sampler 'Warp' is not known; choose one of: DPM"),
        ({"schedule_type": "Warp"}, "schedule type 'Warp' is not known"),
        ({"rng": "dice"}, "noise source 'dice' is not known; use one of: CPU, GPU, NV"),
        ({"sampler_options": SamplerOptions(eta=-0.1)}, "Eta -0.1 is out of range: use a number from 0 to 10"),
        ({"prompt": "x" * 100_001}, "the prompt has 100001 characters; at most 100000"),
        ({"negative_prompt": "x" * 100_001}, "the negative prompt has"),
        ({"init": replace(INIT, denoising_strength=2.0)}, "denoising strength 2.0"),
        ({"init": replace(INIT, resize_mode="Stretch")}, "resize mode 'Stretch'"),
        ({"init": replace(INIT, inpaint=Inpaint(mask="b", blur_x=65))}, "blur x 65"),
        ({"init": replace(INIT, inpaint=Inpaint(mask="b", content="nothing"))}, "masked content 'nothing'"),
        ({"init": replace(INIT, outpaint=Outpaint())}, "at least one side"),
        ({"init": replace(INIT, outpaint=Outpaint(left=12))}, "left 12 is not a multiple of 8"),
        ({"width": 64, "init": replace(INIT, upscale=TiledUpscale(overlap=64))}, "overlap 64 is out of range: use 0 to 48"),
        ({"init": replace(INIT, outpaint=Outpaint(left=8), inpaint=Inpaint(mask="b"))}, "inpaint and outpaint at once"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(changes, sentence):
    with pytest.raises(BadRequest, match=sentence.replace("+", r"\+")):
        replace(GOOD, **changes).validate()


@settings(max_examples=200, deadline=None)
@given(REQUESTS)
def test_a_request_survives_storage_as_json_and_the_way_to_another_process(request):
    assert GenerationRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301


def test_keys_of_a_later_version_are_passed_over():
    data = {**GOOD.to_json(), "hologram": True, "init": {**replace(GOOD, init=INIT).to_json()["init"], "depth": 3}}
    assert GenerationRequest.from_json(data) == replace(GOOD, init=INIT)


def test_the_pictures_of_a_batch_count_seeds_upwards():
    batch = replace(GOOD, seed=7, batch_size=2, batch_count=3)
    assert [batch.single(i).seed for i in range(6)] == [7, 8, 9, 10, 11, 12]
    assert batch.single(5) == replace(GOOD, seed=12)


def test_with_variation_the_seed_stays_and_the_variation_seed_counts():
    batch = replace(GOOD, seed=7, variation_seed=20, variation_strength=0.1, batch_size=3)
    assert [(batch.single(i).seed, batch.single(i).variation_seed) for i in range(3)] == [(7, 20), (7, 21), (7, 22)]
