import json

import pytest

from webui.core.errors import BadRequest
from webui.core.hires import HiresFix
from webui.core.prompt_pieces import MAX_PIECES
from webui.core.request import GenerationRequest
from webui.core.xray import STUDIES, Interpolation, Noising, Recording, WordRanking, XrayRequest, study_of

BASE = GenerationRequest(prompt="a red circle, <lora:ink:1>", width=64, height=64, seed=3, variation_seed=0, batch_size=2, batch_count=3)


@pytest.mark.parametrize("kind", STUDIES)
def test_a_stored_study_comes_back(kind):
    request = XrayRequest(base=BASE, study=STUDIES[kind]())
    assert request.kind == kind
    assert XrayRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_it_is_of_the_first_picture_alone():
    base = XrayRequest.of(BASE, Recording()).base
    assert (base.seed, base.batch_size, base.batch_count) == (3, 1, 1)


def test_short_runs_leave_hires_fix_out_and_a_recording_does_not():
    request = GenerationRequest(prompt="a", hires=HiresFix())
    assert XrayRequest.of(request, Recording()).base.hires is not None
    assert XrayRequest.of(request, WordRanking()).base.hires is None


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        (Recording(steps=(0,)), "whole numbers from 1"),
        (Noising(), "no picture"),
        (Noising(image="x", timesteps=(1000,)), "0 to 999"),
        (Noising(image="x", timesteps=()), "choose 1"),
        (Interpolation(), "nothing to go to"),
        (Interpolation(seed=1, pictures=1), "choose 2"),
        (Interpolation(seed=-2), "use 0"),
        (Interpolation(seed=1, way="round"), "slerp, lerp"),
        (Interpolation(prompt="a star"), "same LoRAs"),
        (WordRanking(by="letters"), "parts, words"),
        (WordRanking(steps=0), "out of range"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_way_out(study, sentence):
    with pytest.raises(BadRequest, match=sentence):
        XrayRequest.of(BASE, study).validate()


def test_a_prompt_of_too_many_pieces_is_not_ranked():
    request = GenerationRequest(prompt="a," * (MAX_PIECES + 1), width=64, height=64, seed=1, variation_seed=0)
    with pytest.raises(BadRequest, match=str(MAX_PIECES)):
        XrayRequest.of(request, WordRanking()).validate()


@pytest.mark.parametrize(
    ("kind", "told"), [("lines", {}), ("recording", {"steps": 5}), ("words", {"steps": "8"}), ("interpolation", {"seed": True})]
)
def test_plain_data_of_another_shape_is_refused(kind, told):
    with pytest.raises(BadRequest):
        study_of(kind, told)


def test_lists_become_tuples_and_unknown_fields_are_ignored():
    assert study_of("recording", {"steps": [1, 2], "later": 1}) == Recording(steps=(1, 2))
