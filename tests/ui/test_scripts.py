from typing import Any

import pytest

from tests.ui.test_actions import picture, shown
from webui.core.infotext import read
from webui.core.scripts.request import ScriptRequest
from webui.service.service import Service
from webui.ui import actions
from webui.ui.scripts import chosen_script, filled, start_values, still_good

XYZ = "X/Y/Z plot"


def widgets(**axes: Any) -> dict[str, Any]:
    """What the widgets show: X/Y/Z plot chosen, and something left in those of another script."""
    names = ("x_type", "y_type", "z_type")
    values = dict.fromkeys(names, "Nothing") | axes
    return {"script": XYZ, "Prompt matrix/margin_size": 4} | {f"{XYZ}/{name}": value for name, value in values.items()}


def test_no_script_is_a_plain_job(service: Service) -> None:
    assert actions.generate(service, "txt2img", {"client": "c"}, shown("txt2img"), {"script": "None", f"{XYZ}/x_type": "Steps"}) == []
    assert not isinstance(service.jobs("c")[0].request, ScriptRequest)


def test_the_chosen_script_gets_its_own_arguments_by_name() -> None:
    assert chosen_script(widgets(x_type="Steps")) == (XYZ, {"x_type": "Steps", "y_type": "Nothing", "z_type": "Nothing"})
    assert chosen_script({}) == ("", {})


def test_generate_queues_the_script_over_what_the_tab_shows(service: Service) -> None:
    values = widgets(x_type="Steps", x_values="1-3", y_type="Sampler", y_values_dropdown=["Euler", "Heun"])
    assert actions.generate(service, "txt2img", {"client": "c"}, shown("txt2img", prompt="a fox"), values) == []
    (job,) = service.jobs("c")
    assert isinstance(job.request, ScriptRequest)
    assert [(each.request.prompt, each.request.steps) for each in job.request.plan.steps] == [
        ("a fox", steps) for steps in (1, 2, 3, 1, 2, 3)
    ]


def test_loopback_is_for_img2img(service: Service) -> None:
    sent = {"client": "c", "image": picture(service)}
    assert actions.generate(service, "img2img", sent, shown("img2img"), {"script": "Loopback", "Loopback/loops": 2}) == []
    assert actions.generate(service, "txt2img", {"client": "c"}, shown("txt2img"), {"script": "Loopback"}) != []


def test_what_is_wrong_with_a_script_is_told(service: Service) -> None:
    (sentence,) = actions.generate(service, "txt2img", {"client": "c"}, shown("txt2img"), widgets(x_type="Steps", x_values="x"))
    assert "X values (Steps)" in sentence
    assert service.jobs("c") == []


def test_a_sheets_infotext_fills_its_script_in() -> None:
    text = (
        'a fox\nSteps: 5, Seed: 7, Script: X/Y/Z plot, X Type: Seed, X Values: "-1, 4", Fixed X Values: "9, 4", '
        'Y Type: Sampler, Y Values: "Euler, Heun", Z Type: FP8 mode, Z Values: on, Version: Easel 0'
    )
    assert filled(read(text), "txt2img") == {
        "script": XYZ,
        f"{XYZ}/x_type": "Seed",
        f"{XYZ}/x_values": "9, 4",
        f"{XYZ}/x_values_dropdown": [],
        f"{XYZ}/y_type": "Sampler",
        f"{XYZ}/y_values": "Euler, Heun",
        f"{XYZ}/y_values_dropdown": ["Euler", "Heun"],
    }


@pytest.mark.parametrize(
    "text", ["a fox\nSteps: 5, Seed: 7", "x\nSteps: 5, Seed: 7, Script: SD upscale", "Steps: 1, Seed: 2, Script: Loopback"]
)
def test_other_infotexts_leave_the_scripts_alone(text: str) -> None:
    assert filled(read(text), "txt2img") == {}


def test_of_a_draft_is_kept_what_still_exists() -> None:
    draft = {
        "script": XYZ,
        f"{XYZ}/x_type": "Steps",
        f"{XYZ}/y_type": "FP8 mode",
        f"{XYZ}/margin_size": 9999,
        "gone": 1,
        f"{XYZ}/x_values": "1",
    }
    assert still_good("txt2img", draft) == {"script": XYZ, f"{XYZ}/x_type": "Steps", f"{XYZ}/x_values": "1"}
    assert still_good("txt2img", {"script": "Loopback"}) == {}
    assert still_good("img2img", None) == {}


def test_a_sheets_infotext_brings_no_complaints(service: Service) -> None:
    text = "a fox\nSteps: 5, Sampler: Euler, Seed: 7, Script: X/Y/Z plot, X Type: Seed, X Values: 4, Fixed X Values: 4, Version: Easel 0"
    assert actions.fill(service, "txt2img", text, shown("txt2img"))[1] == []
    assert actions.fill_script("txt2img", text)["script"] == XYZ


@pytest.mark.parametrize(("kept", "shown_first"), [(None, "None"), ("easel-world-x2", "easel-world-x2"), ("gone", "None")])
def test_sd_upscale_lists_the_upscalers_that_are_here(kept: str | None, shown_first: str) -> None:
    key, here = "SD upscale/upscaler_index", ["None", "Lanczos", "Nearest", "easel-world-x2"]
    shown = start_values("img2img", {key: kept}, here)[key]
    assert ([value for _, value in shown.choices], shown.value) == (here, shown_first)
    assert key not in start_values("txt2img", None, here)


def test_a_models_name_reaches_sd_upscales_request(service: Service) -> None:
    values = {"script": "SD upscale", "SD upscale/upscaler_index": "easel-world-x2", "SD upscale/scale_factor": 2}
    assert actions.generate(service, "img2img", {"client": "c", "image": picture(service)}, shown("img2img"), values) == []
    (job,) = service.jobs("c")
    assert isinstance(job.request, ScriptRequest)
    (step,) = job.request.plan.steps
    assert step.request.init is not None
    assert step.request.init.upscale is not None
    assert step.request.init.upscale.upscaler == "easel-world-x2"
