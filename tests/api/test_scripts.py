import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import opened, png
from webui.api.schemas import Img2Img
from webui.api.scripts import script_infos, to_script
from webui.core.infotext import read
from webui.core.request import GenerationRequest, InitImage

Post = Any


def plot(*arguments: Any) -> dict[str, Any]:
    return {"prompt": "a cat", "seed": 5, "script_name": "x/y/z PLOT", "script_args": list(arguments)}


def test_scripts_are_listed_by_their_titles_in_lower_case(http: TestClient) -> None:
    both, pictures = ["x/y/z plot", "prompt matrix", "prompts from file or textbox"], ["loopback", "sd upscale"]
    ways = ["outpainting mk2", "poor man's outpainting"]
    always = ["comments", "extra options", "hypertile", "refiner", "sampler", "seed"]
    listed = {"txt2img": [*always, *both], "img2img": [*always, "soft inpainting", *both, *pictures, *ways]}
    assert http.get("/sdapi/v1/scripts").json() == listed
    told = http.post("/sdapi/v1/txt2img", json={"width": 64, "height": 64, "alwayson_scripts": {name: {"args": []} for name in always}})
    assert told.status_code == 200


def test_script_info_has_every_argument_in_its_place(http: TestClient) -> None:
    infos = {(info["name"], info["is_img2img"]): info["args"] for info in http.get("/sdapi/v1/script-info").json()}
    assert len(infos) == 10
    labels = [argument["label"] for argument in infos["x/y/z plot", False]]
    assert len(labels) == 9 + 9
    assert labels[:4] == ["X type", "X values", "X values", "Y type"]
    assert infos["x/y/z plot", False][0]["choices"][4] == "Steps"
    assert infos["loopback", True][0] == {"label": "Loops", "value": 4, "minimum": 1, "maximum": 32, "step": 1, "choices": None}


def test_xyz_plot_by_positions_answers_with_its_sheet(post: Post) -> None:
    answer = post(**plot(1, "5,6,7", "", 4, "2,3", ""))  # Seed, Steps
    (sheet,) = answer["images"]
    assert opened(sheet).width == 48 + 3 * 64
    assert opened(sheet).height > 2 * 64
    assert read(opened(sheet).info["parameters"]).params["X Type"] == "Seed"


def test_the_single_pictures_follow_the_sheets_where_they_are_asked_for(post: Post) -> None:
    answer = post(**plot("Seed", "5,6", [], "Prompt S/R", "cat,dog", [], "Nothing", "", [], "False", "True"))
    info = json.loads(answer["info"])
    assert len(answer["images"]) == 5
    assert info["index_of_first_image"] == 1
    assert info["all_seeds"] == [5, 5, 6, 5, 6]
    assert info["all_prompts"] == ["a cat"] * 3 + ["a dog"] * 2
    assert opened(answer["images"][0]).size == (128, 128)
    assert [opened(image).info["parameters"] for image in answer["images"]] == info["infotexts"]


def test_sub_grids_stand_between_the_sheet_and_the_single_pictures(post: Post) -> None:
    answer = post(**plot("Seed", "5,6", [], 0, "", [], "Steps", "2,3", [], False, True, True))
    assert [opened(image).size for image in answer["images"]] == [(256, 64), (128, 64), (128, 64), *[(64, 64)] * 4]


def test_a_chosen_format_leaves_sheets_as_they_are(post: Post) -> None:
    answer = post(**plot("Seed", "5,6", [], 0, "", [], 0, "", [], False, True), override_settings={"samples_format": "jpg"})
    assert [opened(image).format for image in answer["images"]] == ["PNG", "JPEG", "JPEG"]


def test_prompt_matrix_and_prompts_from_file(post: Post) -> None:
    assert len(post(prompt="a|b|c", script_name="Prompt matrix")["images"]) == 5
    lines = post(prompt="", script_name="prompts from file or textbox", script_args=[True, False, "start", "a\n--prompt b --steps 3"])
    assert len(lines["images"]) == 2


def test_loopback_in_img2img(post: Post) -> None:
    told = post("img2img", init_images=[png(colour="red")], prompt="x", seed=4, script_name="Loopback", script_args=[3, 0.2, "Lazy"])
    assert len(told["images"]) == 4


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"script_name": "nobody"}, "Script 'nobody' not found"),
        ({"script_name": "loopback"}, "Script 'loopback' not found"),
        ({"script_name": "X/Y/Z plot", "script_args": [999]}, "X type '999' is not known"),
        ({"script_name": "X/Y/Z plot", "script_args": [1] * 19}, "takes 18 script_args"),
        ({"script_name": "X/Y/Z plot", "script_args": ["Steps", "2,x"]}, "whole number"),
        ({"script_name": "X/Y/Z plot", "script_args": ["Face restore", "a"]}, "not offered"),
        ({"script_name": "X/Y/Z plot", "script_args": [{"a": 1}]}, "is not known"),
    ],
)
def test_what_a_script_cannot_do_is_a_422(http: TestClient, fields: dict[str, Any], detail: str) -> None:
    reply = http.post("/sdapi/v1/txt2img", json={"width": 64, "height": 64, **fields})
    assert reply.status_code == 422
    assert detail in reply.json()["detail"]


def test_several_init_images_are_too_many_for_a_script(http: TestClient) -> None:
    body = {"init_images": [png(), png()], "batch_size": 2, "width": 64, "height": 64, "script_name": "Loopback"}
    assert http.post("/sdapi/v1/img2img", json=body).status_code == 422


@pytest.mark.parametrize("name", ["", None, "  "])
def test_no_script_is_plain_generation(post: Post, name: Any) -> None:
    assert len(post(prompt="a", script_name=name, script_args=[1, 2])["images"]) == 1


def test_an_upscaler_of_sd_upscale_is_counted_as_in_the_list_of_upscalers() -> None:
    body = Img2Img(script_name="SD upscale", script_args=["", 64, 3, 2])
    script = to_script(body, [GenerationRequest(init=InitImage(image="a" * 64))], ["4x-mine"])
    assert script is not None
    assert script.arguments["upscaler_index"] == "4x-mine"
    (info,) = [info for info in script_infos(["4x-mine"]) if info.name == "sd upscale"]
    assert (info.args[2].choices or [])[3] == "4x-mine"
