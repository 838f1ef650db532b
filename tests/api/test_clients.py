"""What programs written for A1111's web UI send, in the shapes that they send it; none must notice that this is another server."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import PATIENCE, holding, opened, png, until
from webui.service.service import Service

SMALL = {"width": 64, "height": 64, "steps": 2}
DATA_URI = f"data:image/png;base64,{png()}"

SILLY_TAVERN = {
    "prompt": "a cat",
    "negative_prompt": "blur",
    "sampler_name": "DPM++ 2M Karras",
    "scheduler": "Karras",
    "cfg_scale": 7,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 2,
    "hr_additional_modules": [],
    "clip_skip": 1,
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "seed": -1,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
    "override_settings_restore_afterwards": True,
    "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic", "forge_additional_modules": []},
}
OPEN_WEBUI = {"prompt": "a cat", "batch_size": 1, "negative_prompt": None, "cfg_scale": None, "sampler_name": None, "scheduler": None}
PHOTOSHOP = {
    "prompt": "a cat",
    "negative_prompt": "",
    "seed": "-1",
    "cfg_scale": "7.0",
    "sampler_index": "Euler a",
    "mode": "txt2img",
    "use_prompt_shortcut": True,
    "prompt_shortcut_ui_dict": {},
    "uniqueDocumentId": "x",
    "selection_info": {"left": 0, "top": 0},
    "mask_blur": "8",
    "mask_expansion": 0,
    "use_sharp_mask": False,
    "batch_size": 2,
    "n_iter": 1,
    "restore_faces": False,
    "tiling": False,
    "enable_hr": False,
    "hr_scale": 2.0,
    "hr_resize_x": 64.0,
    "hr_resize_y": 64.0,
    "alwayson_scripts": {},
    "script_name": None,
    "script_args": [],
    "inpainting_fill": 1,
    "inpaint_full_res": False,
    "backend_type": "auto1111",
    "use_nsfw": False,
}
NODE = {
    "enable_hr": False,
    "denoising_strength": 0,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "prompt": "a cat",
    "styles": [],
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
    "batch_size": 1,
    "n_iter": 1,
    "cfg_scale": 7,
    "restore_faces": False,
    "tiling": False,
    "negative_prompt": "",
    "eta": 0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "sampler_index": "Euler",
    "script_name": "",
    "script_args": [],
}
DISCORD = {
    "prompt": "a cat",
    "negative_prompt": "",
    "seed": 2**31,
    "cfg_scale": "7",
    "sampler_index": "Euler a",
    "denoising_strength": None,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "tiling": None,
    "n_iter": 2,
    "styles": ["None", ""],
    "restore_faces": None,
    "override_settings": {"CLIP_stop_at_last_layers": 2, "enable_pnginfo": True, "samples_save": True, "return_grid": False},
    "hr_upscaler": None,
    "comments": {"from": "a bot"},
    "alwayson_scripts": {"Comments": {"args": []}},
}
PHP = {"prompt": "a cat", "width": "70", "height": "64", "override_settings": [], "alwayson_scripts": [], "styles": [], "script_args": []}
TXT2IMG = {"PHP": PHP, "SillyTavern": SILLY_TAVERN, "Open WebUI": OPEN_WEBUI, "Photoshop": PHOTOSHOP, "node": NODE, "Discord": DISCORD}

KRITA = {
    "init_images": [png((64, 64), "RGBA")],
    "prompt": "a cat",
    "sampler_name": "Euler a",
    "sampler_index": "Euler a",
    "resize_mode": 1,
    "mask": png((64, 64), "L", 255),
    "mask_blur": 4,
    "inpainting_fill": 1,
    "inpaint_full_res": False,
    "inpaint_full_res_padding": 32,
    "inpainting_mask_invert": 0,
    "include_init_images": False,
    "override_settings": {"return_grid": False, "samples_format": "png"},
    "override_settings_restore_afterwards": False,
    "save_images": False,
    "batch_size": 1,
    "n_iter": 1,
    "alwayson_scripts": {},
    "seed": -1,
    "subseed": -1,
    "denoising_strength": 0.6,
    "force_task_id": "auto-sd-paint-ext",
}
BLENDER = {
    "prompt": "a cat",
    "init_images": [DATA_URI],
    "denoising_strength": 0.35,
    "cfg_scale": 7.0,
    "sampler_index": "DPM++ SDE Karras",
    "seed": 1_234_567_890,
    "negative_prompt": "ugly",
    "width": 64.0,
    "height": 64.0,
}
PHOTOSHOP_INPAINT = {
    **PHOTOSHOP,
    "init_images": [png()],
    "mask": DATA_URI,
    "batch_size": 1,
    "inpainting_mask_invert": False,
    "mode": "inpaint",
}
OLD = {"init_images": [DATA_URI], "mask": "", "script_name": None, "latent_mask": None, "initial_noise_multiplier": None}
IMG2IMG = {"Krita": KRITA, "Blender": BLENDER, "Photoshop": PHOTOSHOP_INPAINT, "old": OLD}


def check(answer: dict[str, Any]) -> dict[str, Any]:
    """What every client does with an answer; returns `info` decoded."""
    assert set(answer) == {"images", "parameters", "info"}
    info: dict[str, Any] = json.loads(answer["info"])
    assert len(answer["images"]) == len(info["infotexts"]) >= 1
    for image, text in zip(answer["images"], info["infotexts"], strict=True):
        assert base64.b64encode(base64.b64decode(image)).decode() == image  # bare, without line breaks
        assert opened(image).info["parameters"] == text
    return info


@pytest.mark.parametrize("client", TXT2IMG)
def test_every_client_gets_its_pictures_from_a_prompt(post: Any, client: str) -> None:
    info = check(post(**{**SMALL, **TXT2IMG[client]}))
    assert info["prompt"] == "a cat"


@pytest.mark.parametrize("client", IMG2IMG)
def test_every_client_gets_its_pictures_from_a_picture(post: Any, client: str) -> None:
    answer = post("img2img", **{**SMALL, **IMG2IMG[client]})
    check(answer)
    assert (answer["parameters"]["init_images"], answer["parameters"]["mask"]) == (None, None)


def test_a_client_that_chooses_its_checkpoint_and_waits_until_it_is_loaded(http: TestClient) -> None:
    """SillyTavern and Open WebUI: set the option, then ask for progress until nothing runs."""
    title = http.get("/sdapi/v1/sd-models").json()[-1]["title"]
    assert http.post("/sdapi/v1/options", json={"sd_model_checkpoint": title}).json() is None
    told = http.get("/sdapi/v1/progress").json()
    assert (told["progress"], told["state"]["job_count"]) == (0, 0)
    assert http.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == title


def test_a_client_that_fills_its_lists(http: TestClient) -> None:
    """What most clients ask when they start, and what they take from it."""
    for route, key in (("samplers", "name"), ("schedulers", "label"), ("upscalers", "name"), ("latent-upscale-modes", "name")):
        assert [entry[key] for entry in http.get(f"/sdapi/v1/{route}").json()]
    assert [entry["title"] for entry in http.get("/sdapi/v1/sd-models").json()]
    assert [entry["model_name"] for entry in http.get("/sdapi/v1/sd-vae").json()]
    assert set(http.get("/sdapi/v1/embeddings").json()) == {"loaded", "skipped"}
    assert set(http.get("/sdapi/v1/scripts").json()) == {"txt2img", "img2img"}
    assert {"sd_model_checkpoint", "CLIP_stop_at_last_layers", "samples_format"} <= set(http.get("/sdapi/v1/options").json())
    for route in ("loras", "hypernetworks", "prompt-styles", "extensions"):
        assert isinstance(http.get(f"/sdapi/v1/{route}").json(), list)


@pytest.mark.parametrize("value", ["", "Basic ", "Basic Og==", "Basic undefined", "Bearer null"])
def test_an_authorization_that_means_nothing_is_ignored(http: TestClient, value: str) -> None:
    assert http.get("/sdapi/v1/options", headers={"Authorization": value}).status_code == 200


def test_a_bot_that_looks_on_and_stops_its_job(http: TestClient, service: Service, post: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, **{**SMALL, **DISCORD, "prompt": "hold", "n_iter": 3})
        holding(service)
        told = until(lambda: (seen := http.get("/sdapi/v1/progress?skip_current_image=false").json())["current_image"] and seen)
        assert 0 < told["progress"] < 1
        assert told["eta_relative"] >= 0
        assert told["state"]["job"]
        assert http.post("/sdapi/v1/interrupt", content=b"", headers={"Content-Type": "application/json"}).json() == {}
        answer = running.result(PATIENCE)
    assert answer["images"] == []
    assert json.loads(answer["info"])["infotexts"] == []
