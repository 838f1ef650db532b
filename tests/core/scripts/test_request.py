import json
from dataclasses import replace

from webui.core.job_request import KINDS, kind_of
from webui.core.request import GenerationRequest, InitImage
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.table import find_script

BASE = GenerationRequest(prompt="a|b", seed=1, variation_seed=2, width=64, height=64, checkpoint="z", init=InitImage(image="0" * 64))


def planned(script: str, **arguments: object) -> ScriptRequest:
    request = ScriptRequest(base=BASE, script=script, arguments=arguments)
    return request.planned(find_script(script).plan(BASE, arguments, lambda: 7))


def test_a_script_with_its_plan_is_stored_and_read_back() -> None:
    for request in (
        planned("X/Y/Z plot", x_type="Steps", x_values="1-3", y_type="Denoising", y_values="0.1-0.3 (+0.1)", z_type="Nothing"),
        planned("Prompt matrix"),
        planned("Loopback"),
        planned("Prompts from file or textbox", prompt_txt="a\nb"),
        ScriptRequest(base=BASE, script="Loopback"),
    ):
        assert KINDS[kind_of(request)].from_json(json.loads(json.dumps(request.to_json()))) == request


def test_the_plan_that_is_stored_is_the_one_that_was_made() -> None:
    arguments = {"x_type": "Checkpoint name", "x_values": "a,b", "y_type": "Denoising", "y_values": "0.1,0.2"}
    plan = find_script("X/Y/Z plot").plan(BASE, arguments, lambda: 7)
    assert ScriptRequest(base=BASE, script="X/Y/Z plot").planned(plan).plan == plan


def test_only_what_differs_is_stored_for_each_step() -> None:
    request = planned("X/Y/Z plot", x_type="Steps", x_values="1-3")
    assert [dict(told) for _, told in request.changes] == [{}, {"steps": 2}, {"steps": 3}]


def test_the_last_models_are_those_of_the_step_that_is_made_last() -> None:
    request = planned("X/Y/Z plot", x_type="Checkpoint name", x_values="b,a,b")
    assert request.last_models == ("a", BASE.vae)
    assert replace(request, changes=()).to_json()["changes"] == []
