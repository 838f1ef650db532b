"""/sdapi/v1 over a real Service: what clients send and what they get."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import PATIENCE, holding, opened, png, until
from webui.api.roles import GUEST
from webui.api.routes import sdapi_router
from webui.core.choices import SAMPLERS, SCHEDULE_TYPES
from webui.core.errors import Busy
from webui.core.image_metadata import read_infotext
from webui.core.infotext import read
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.service.replay import recipe_of
from webui.service.service import Service

Post = Callable[..., dict[str, Any]]

INFO_KEYS = """prompt all_prompts negative_prompt all_negative_prompts seed all_seeds subseed all_subseeds subseed_strength width height
sampler_name cfg_scale steps batch_size restore_faces face_restoration_model sd_model_name sd_model_hash sd_vae_name sd_vae_hash
seed_resize_from_w seed_resize_from_h denoising_strength extra_generation_params index_of_first_image infotexts styles job_timestamp
clip_skip is_using_inpainting_conditioning version comments"""


# generation


def test_what_the_user_should_know_is_told_beside_the_pictures(post: Post) -> None:
    assert json.loads(post(prompt="notice")["info"])["comments"] == ["there is something to know"]
    assert json.loads(post(prompt="nothing to tell")["info"])["comments"] == []


def test_each_picture_tells_the_prompt_that_chance_gave_it(post: Post) -> None:
    answer = post(prompt="{red|blue|green|white} cat", negative_prompt="{dog|cow}", seed=7, batch_size=2, n_iter=4)
    info = json.loads(answer["info"])
    told = [read(text) for text in info["infotexts"]]
    assert info["all_prompts"] == [each.prompt for each in told]
    assert info["all_negative_prompts"] == [each.negative_prompt for each in told]
    assert info["all_seeds"] == [*range(7, 15)]
    assert len(set(info["all_prompts"])) > 1
    alone = json.loads(post(prompt="{red|blue|green|white} cat", negative_prompt="{dog|cow}", seed=9)["info"])
    assert alone["infotexts"][0] == info["infotexts"][2]


def test_txt2img_answers_with_pictures_that_carry_their_infotext(post: Post) -> None:
    answer = post(prompt="a cat, 猫", negative_prompt="dog", seed=7, batch_size=2, n_iter=2, cfg_scale=5)
    info = json.loads(answer["info"])
    assert set(info) == set(INFO_KEYS.split())
    assert info["all_seeds"] == [7, 8, 9, 10]
    assert info["all_prompts"] == ["a cat, 猫"] * 4
    assert info["all_negative_prompts"] == ["dog"] * 4
    assert len(info["all_subseeds"]) == 4
    assert [read_infotext(base64.b64decode(image, validate=True)).text for image in answer["images"]] == info["infotexts"]
    assert [opened(image).getpixel((0, 0))[0] for image in answer["images"]] == [7, 8, 9, 10]
    assert (info["width"], info["height"], info["steps"], info["sampler_name"]) == (64, 64, 2, "Euler")
    assert (info["sd_model_name"], info["sd_vae_name"], info["index_of_first_image"]) == ("alpha", None, 0)
    assert len(info["sd_model_hash"]) == 10
    assert len(info["job_timestamp"]) == 14


def test_the_answer_holds_the_very_bytes_of_the_saved_file(post: Post, service: Service) -> None:
    answer = post(prompt="kept", save_images=True)
    saved = service.recent_pictures(1)[0]
    assert saved.infotext.startswith("kept")
    assert base64.b64decode(answer["images"][0]) == saved.path.read_bytes()


def test_save_images_false_leaves_nothing_in_the_gallery(post: Post, service: Service) -> None:
    post(prompt="passing")
    assert not any(picture.infotext.startswith("passing") for picture in service.recent_pictures(1000))


def test_parameters_echo_the_request_with_its_defaults(post: Post) -> None:
    parameters = post(prompt="x", bogus=1)["parameters"]
    assert (parameters["seed"], parameters["cfg_scale"], parameters["hr_scale"], parameters["enable_hr"]) == (-1, 7.0, 2.0, False)
    assert parameters["sampler_index"] == "Euler"
    assert parameters["denoising_strength"] == 0.75
    assert "bogus" not in parameters


def test_variation_strength_keeps_the_seed_and_counts_the_subseed(post: Post) -> None:
    info = json.loads(post(seed=3, subseed=100, subseed_strength=0.5, batch_size=3)["info"])
    assert info["all_seeds"] == [3, 3, 3]
    assert info["all_subseeds"] == [100, 101, 102]


def test_send_images_false_sends_none_and_all_else(post: Post) -> None:
    answer = post(send_images=False, batch_size=2)
    assert answer["images"] == []
    assert len(json.loads(answer["info"])["infotexts"]) == 2


def test_a_grid_comes_first_where_several_pictures_are_kept(post: Post, service: Service) -> None:
    answer = post(prompt="many", seed=7, batch_size=2, n_iter=2, save_images=True)
    info = json.loads(answer["info"])
    assert [opened(image).size for image in answer["images"]] == [(128, 128)] + [(64, 64)] * 4
    assert (info["index_of_first_image"], info["all_seeds"], len(info["infotexts"])) == (1, [7, 8, 9, 10], 5)
    assert [read_infotext(base64.b64decode(image)).text for image in answer["images"]] == info["infotexts"]
    assert service.recent_pictures(1)[0].sheet


@pytest.mark.parametrize(
    ("fields", "count", "kept"),
    [
        ({"save_images": False}, 2, 0),
        ({"override_settings": {"return_grid": False}}, 2, 3),
        ({"override_settings": {"grid_save": False}}, 3, 2),
        ({"override_settings": {"grid_save": False, "return_grid": False}}, 2, 2),
        ({"override_settings": {"samples_save": False}}, 3, 1),
        ({"batch_size": 1}, 1, 1),
        ({"batch_size": 1, "override_settings": {"grid_only_if_multiple": False}}, 2, 2),
    ],
)
def test_grids_are_made_sent_and_kept_as_options_say(post: Post, service: Service, fields: dict[str, Any], count: int, kept: int) -> None:
    before = len(service.recent_pictures(1000))
    assert len(post(**{"batch_size": 2, "save_images": True, **fields})["images"]) == count
    assert len(service.recent_pictures(1000)) - before == kept


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_pictures_are_sent_bare_where_options_say_so(post: Post, ending: str) -> None:
    (image,) = post(prompt="secret words", override_settings={"enable_pnginfo": False, "samples_format": ending})["images"]
    data = base64.b64decode(image)
    assert read_infotext(data).text == ""
    assert b"secret words" not in data
    assert b"s\0e\0c\0r\0e\0t" not in data


def test_preferences_of_img2img_count_where_a_request_says_nothing(post: Post, http: TestClient, service: Service) -> None:
    http.post("/sdapi/v1/options", json={"initial_noise_multiplier": 1.5, "img2img_fix_steps": True, "tiling": True})
    post("img2img", init_images=[png()], force_task_id="preferred")
    post("img2img", init_images=[png()], initial_noise_multiplier=0.5, tiling=False, force_task_id="told")
    preferred, told = (service.job(name).request for name in ("preferred", "told"))
    assert (preferred.init.noise_multiplier, preferred.init.exact_steps, preferred.tiling) == (1.5, True, "Both")
    assert (told.init.noise_multiplier, told.init.exact_steps, told.tiling) == (0.5, True, "Off")


def test_networks_are_left_out_of_prompts_on_demand(post: Post) -> None:
    info = json.loads(post(prompt="a cat <lora:none:1>", disable_extra_networks=True)["info"])
    assert info["prompt"] == "a cat "


def test_built_in_scripts_that_are_always_on_may_be_named(post: Post, http: TestClient) -> None:
    args = {"Seed": {"args": [1, False]}, "Sampler": {"args": [20, "Euler", "Karras"]}, "comments": {}, "Hypertile": {"args": []}}
    assert len(post(alwayson_scripts=args)["images"]) == 1
    assert http.post("/sdapi/v1/txt2img", json={"alwayson_scripts": {"adetailer": {"args": []}}}).status_code == 422


def test_seed_minus_one_is_drawn_and_told(post: Post) -> None:
    seeds = {json.loads(post(seed=-1)["info"])["seed"] for _ in range(2)}
    assert len(seeds) == 2
    assert min(seeds) >= 0


def test_samples_format_rules_the_pictures(post: Post, http: TestClient) -> None:
    override = post(override_settings={"samples_format": "webp"}, prompt="as webp")
    assert opened(override["images"][0]).format == "WEBP"
    assert read_infotext(base64.b64decode(override["images"][0])).text.startswith("as webp")
    qualities = [post(seed=1, override_settings={"samples_format": "jpg", "jpeg_quality": each})["images"][0] for each in (10, 95)]
    assert len(qualities[0]) < len(qualities[1])
    http.post("/sdapi/v1/options", json={"samples_format": "jpg"})
    assert opened(post()["images"][0]).format == "JPEG"
    assert opened(post(override_settings={"samples_format": "png"})["images"][0]).format == "PNG"


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_another_format_keeps_the_recipe(post: Post, ending: str) -> None:
    files = [post(seed=1, override_settings={"samples_format": each})["images"][0] for each in ("png", ending)]
    recipes = [recipe_of(base64.b64decode(file)).to_json() for file in files]
    assert recipes[0] == recipes[1]


@pytest.mark.parametrize("skip", range(1, 13))
def test_every_clip_skip_reaches_the_picture(post: Post, skip: int) -> None:
    info = json.loads(post(override_settings={"CLIP_stop_at_last_layers": skip})["info"])
    assert info["clip_skip"] == skip


def test_override_settings_hold_for_their_request_only(post: Post, http: TestClient) -> None:
    overrides = {"sd_model_checkpoint": "beta", "CLIP_stop_at_last_layers": "2", "sd_vae": "gamma.pt", "unknown": {"x": 1}}
    info = json.loads(post(override_settings=overrides)["info"])
    assert (info["sd_model_name"], info["clip_skip"], info["sd_vae_name"]) == ("beta", 2, "gamma.pt")
    assert len(info["sd_vae_hash"]) == 10
    after = json.loads(post()["info"])
    assert (after["sd_model_name"], after["clip_skip"], after["sd_vae_name"]) == ("alpha", 1, None)


def test_override_settings_stay_where_the_request_says_so(post: Post, http: TestClient) -> None:
    post(override_settings={"CLIP_stop_at_last_layers": 3, "unknown": 1}, override_settings_restore_afterwards=False)
    assert http.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 3
    assert json.loads(post()["info"])["clip_skip"] == 3


def test_guests_leave_no_preferences_behind_and_see_no_preview_of_others(app: FastAPI, service: Service, post: Post) -> None:
    async def as_guest(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, GUEST: True}, receive, send)

    guest = TestClient(as_guest)
    body = {"width": 64, "height": 64, "override_settings": {"jpeg_quality": 5}, "override_settings_restore_afterwards": False}
    assert guest.post("/sdapi/v1/txt2img", json=body).status_code == 403
    assert guest.post("/sdapi/v1/txt2img", json={"width": 64, "height": 64}).status_code == 200
    assert service.preferences()["jpeg_quality"] != 5
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, prompt="hold")
        holding(service)
        until(lambda: service.preview(service.jobs()[0].id))
        assert guest.get("/sdapi/v1/progress").json()["current_image"] is None
        (service.settings.data_dir / "go").touch()
        running.result(PATIENCE)
    (service.settings.data_dir / "go").unlink()
    (service.settings.data_dir / "holding").unlink()


def test_an_automatic_vae_overrides_a_preferred_one(post: Post, http: TestClient) -> None:
    http.post("/sdapi/v1/options", json={"sd_vae": "gamma"})
    assert json.loads(post()["info"])["sd_vae_name"] == "gamma.pt"
    assert json.loads(post(override_settings={"sd_vae": "Automatic"})["info"])["sd_vae_name"] is None
    both = {"sd_vae": "Automatic", "sd_model_checkpoint": "beta"}
    assert json.loads(post(override_settings=both)["info"])["sd_vae_name"] == "beta.vae.pt"


def test_force_task_id_names_the_job_and_may_come_again(post: Post, service: Service) -> None:
    post(force_task_id="task(abc-1)")
    assert service.job("task(abc-1)").status == "done"
    assert len(post(force_task_id="task(abc-1)")["images"]) == 1  # some clients send the same one with every request
    assert service.job(service.tasks.job("task(abc-1)")).id != "task(abc-1)"


def test_img2img_takes_pictures_of_every_shape(post: Post) -> None:
    for picture in (png(), png(mode="RGBA"), png(mode="P"), png(mode="I;16"), png((40, 90)), f"data:image/jpeg;base64,{png()}"):
        answer = post("img2img", init_images=[picture], mask=png((10, 20), "L", 255), inpainting_fill=1)
        assert (answer["parameters"]["init_images"], answer["parameters"]["mask"]) == (None, None)
        assert json.loads(answer["info"])["denoising_strength"] == 0.75


def test_include_init_images_echoes_them(post: Post) -> None:
    picture = png()
    assert post("img2img", init_images=[picture], include_init_images=True)["parameters"]["init_images"] == [picture]


def test_several_init_images_make_a_batch_with_rising_seeds(post: Post, service: Service) -> None:
    answer = post("img2img", init_images=[png(), png((72, 64))], batch_size=4, n_iter=2, seed=5, force_task_id="several")
    assert json.loads(answer["info"])["all_seeds"] == [5, 6, 7, 8]
    assert [opened(image).getpixel((0, 0))[0] for image in answer["images"]] == [5, 6, 7, 8]
    assert service.job("several").request.batch_size == 1
    begun = [job.request.init.image for job in service.jobs(active_only=False)[-4:] if job.request.init]
    assert (begun[:2], len(set(begun))) == (begun[2:], 2)


def test_an_infotext_fills_what_the_request_leaves_open(post: Post) -> None:
    text = "from text\nNegative prompt: bad\nSteps: 3, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 11, Size: 72x80"
    answer = post(infotext=text, cfg_scale=9)
    info = json.loads(answer["info"])
    assert (info["prompt"], info["negative_prompt"], info["seed"], info["cfg_scale"]) == ("from text", "bad", 11, 9)
    assert (info["sampler_name"], info["steps"], info["width"]) == ("DPM++ 2M", 2, 64)  # the last two were sent
    assert (answer["parameters"]["prompt"], answer["parameters"]["seed"]) == ("from text", 11)


def test_what_is_sent_stands_in_for_what_an_infotext_gets_wrong(post: Post) -> None:
    text = "x\nSteps: 2000000, Sampler: Nobody's, Schedule type: Own, CFG scale: 4.5, Seed: 11, Denoising strength: 0.3, Mask blur: 4"
    assert json.loads(post(infotext=text, sampler_name="Heun")["info"])["sampler_name"] == "Heun"


def test_an_infotext_gives_img2img_its_denoising_strength(post: Post) -> None:
    text = "x\nSteps: 3, Sampler: Euler, CFG scale: 4.5, Seed: 11, Denoising strength: 0.3"
    sent = {"infotext": text, "init_images": [png()]}
    assert json.loads(post("img2img", **sent)["info"])["denoising_strength"] == 0.3
    assert json.loads(post("img2img", **sent, denoising_strength=0.6)["info"])["denoising_strength"] == 0.6


def test_an_infotext_gives_img2img_its_mask_settings_where_there_is_a_mask(post: Post, service: Service) -> None:
    text = (
        "x\nSteps: 3, Sampler: Euler, Seed: 11, Denoising strength: 0.3, Mask blur: 12, Inpaint area: Only masked, Masked area padding: 8"
    )
    post("img2img", infotext=text, init_images=[png()], force_task_id="plain")
    post("img2img", infotext=text, init_images=[png()], mask=png(), inpaint_full_res_padding=16, force_task_id="masked")
    plain, masked = (service.job(name).request.init for name in ("plain", "masked"))
    assert plain
    assert masked
    assert masked.inpaint
    assert plain.inpaint is None
    assert (masked.inpaint.blur_x, masked.inpaint.only_masked, masked.inpaint.padding) == (12, True, 16)


def test_an_interrupted_pictures_infotext_is_taken(post: Post) -> None:
    assert json.loads(post(infotext="x\nSteps: 3, Sampler: Euler, Seed: 11, Interrupted: True")["info"])["seed"] == 11


# progress, interrupt, skip


IDLE = {
    "progress": 0.0,
    "eta_relative": 0.0,
    "state": {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "",
        "job_count": 0,
        "job_timestamp": "0",
        "job_no": 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    },
    "current_image": None,
    "textinfo": None,
}


def test_idle_progress_is_exact(http: TestClient) -> None:
    assert http.get("/sdapi/v1/progress").json() == IDLE


def test_progress_tells_of_a_running_job_and_interrupt_ends_it_with_what_there_is(http: TestClient, service: Service, post: Post) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(post, prompt="hold", n_iter=3, steps=5)
        holding(service)
        seen = until(lambda: (reply := http.get("/sdapi/v1/progress").json())["current_image"] and reply)
        assert 0 < seen["progress"] < 1
        assert seen["state"]["job"] == "Batch 1 out of 3"
        assert (seen["state"]["job_count"], seen["state"]["sampling_step"], seen["state"]["sampling_steps"]) == (3, 1, 5)
        assert opened(seen["current_image"]).size == (8, 8)
        assert http.get("/sdapi/v1/progress", params={"skip_current_image": True}).json()["current_image"] is None
        reply = http.post("/sdapi/v1/interrupt")
        assert (reply.status_code, reply.json()) == (200, {})
        answer = running.result(PATIENCE)
    assert (answer["images"], json.loads(answer["info"])["infotexts"]) == ([], [])
    assert http.get("/sdapi/v1/progress").json() == IDLE


def test_a_job_that_has_just_begun_is_not_taken_for_idle(post: Post, service: Service, settings: Settings) -> None:
    post(force_task_id="begun")

    class Loading:
        """A service whose worker reads a checkpoint."""

        def jobs(self, active_only: bool) -> list[Any]:
            return [replace(service.job("begun"), status="running", fraction=0.0, progress=None, text="Loading checkpoint")]

        def preview(self, job_id: str) -> None:
            return None

    made = FastAPI()
    made.include_router(sdapi_router(Loading(), settings))  # type: ignore[arg-type]
    reply = TestClient(made).get("/sdapi/v1/progress").json()
    assert (reply["progress"], reply["state"]["job"], reply["state"]["job_count"]) == (0.01, "running", 1)
    assert reply["textinfo"] == "Loading checkpoint"


def test_skip_drops_one_batch(http: TestClient, service: Service, post: Post) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(post, prompt="hold", n_iter=2, seed=1)
        holding(service)
        assert http.post("/sdapi/v1/skip").json() is None
        until(lambda: service.jobs()[0].skips_asked)
        (service.settings.data_dir / "go").touch()
        info = json.loads(running.result(PATIENCE)["info"])
    assert info["all_seeds"] == [2]
    assert info["all_subseeds"] == [info["subseed"] + 1]


@pytest.mark.parametrize("route", ["interrupt", "skip", "refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"])
def test_bodyless_routes_take_any_body(http: TestClient, route: str) -> None:
    expected = {} if route == "interrupt" else None
    kind = {"Content-Type": "application/json"}
    for keywords in ({}, {"json": {}}, {"content": b'""', "headers": kind}, {"headers": kind}, {"content": b"{broken", "headers": kind}):
        reply = http.post(f"/sdapi/v1/{route}", **keywords)
        assert (reply.status_code, reply.json()) == (200, expected)


def test_waiting_generations_do_not_keep_other_routes_waiting(http: TestClient, service: Service, post: Post) -> None:
    with ThreadPoolExecutor(60) as pool:
        jobs = [pool.submit(post, prompt="hold", send_images=False) for _ in range(50)]
        until(lambda: len(service.jobs()) == 50)
        assert http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 1
        (service.settings.data_dir / "go").touch()
        assert all(len(json.loads(job.result(PATIENCE)["info"])["infotexts"]) == 1 for job in jobs)


# options and lists


def test_the_checkpoint_is_set_by_any_of_its_names_and_told_by_its_title(http: TestClient) -> None:
    model = next(model for model in http.get("/sdapi/v1/sd-models").json() if model["model_name"] == "people_beta")
    for name in (model["title"], "people/beta.ckpt", "beta.ckpt", "people_beta", model["hash"], model["sha256"]):
        http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "alpha"})
        assert http.post("/sdapi/v1/options", json={"sd_model_checkpoint": name}).status_code == 200
        assert http.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == model["title"]


@pytest.mark.parametrize(
    "options",
    [
        {"sd_model_checkpoint": "nobody"},
        {"sd_model_checkpoint": 7},
        {"sd_vae": "nobody"},
        {"unknown_key": 1},
        {"CLIP_stop_at_last_layers": 13},
        {"CLIP_stop_at_last_layers": "x"},
        {"CLIP_stop_at_last_layers": [1]},
        {"samples_format": "bmp"},
        {"\ud800": 1},
        {"sd_vae": "\ud800"},
        {"jpeg_quality": 1e308},
        {"jpeg_quality": {}},
        [1],
        "text",
    ],
)
def test_wrong_options_are_refused_and_change_nothing(http: TestClient, options: Any) -> None:
    before = http.get("/sdapi/v1/options").json()
    mixed = {"CLIP_stop_at_last_layers": 2, **options} if isinstance(options, dict) else options
    reply = http.post("/sdapi/v1/options", content=json.dumps(mixed), headers={"Content-Type": "application/json"})
    assert 400 <= reply.status_code < 500, reply.text
    assert http.get("/sdapi/v1/options").json() == before


def test_sd_models_have_the_shape_clients_know(http: TestClient, settings: Settings) -> None:
    models = {model["model_name"]: model for model in http.get("/sdapi/v1/sd-models").json()}
    beta = models["people_beta"]
    assert set(beta) == {"title", "model_name", "hash", "sha256", "filename", "config"}
    assert beta["title"] == f"people/beta.ckpt [{beta['hash']}]"
    assert beta["sha256"].startswith(beta["hash"])
    assert Path(beta["filename"]) == settings.checkpoint_dirs[0] / "people/beta.ckpt"


def test_sd_vae_samplers_and_schedulers_have_the_shape_clients_know(http: TestClient) -> None:
    assert {vae["model_name"] for vae in http.get("/sdapi/v1/sd-vae").json()} == {"gamma.pt", "beta.vae.pt"}
    samplers = http.get("/sdapi/v1/samplers").json()
    assert [one["name"] for one in samplers] == list(SAMPLERS)
    assert all(isinstance(value, str) for one in samplers for value in one["options"].values())
    schedulers = http.get("/sdapi/v1/schedulers").json()
    assert [one["label"] for one in schedulers] == list(SCHEDULE_TYPES)
    assert set(schedulers[0]) == {"name", "label", "aliases", "default_rho", "need_inner_model"}


def test_refresh_finds_new_files(http: TestClient, settings: Settings) -> None:
    new = settings.checkpoint_dirs[0] / "new.ckpt"
    new.write_bytes(b"new")
    try:
        assert "new" not in [model["model_name"] for model in http.get("/sdapi/v1/sd-models").json()]
        assert http.post("/sdapi/v1/refresh-checkpoints").json() is None
        assert "new" in [model["model_name"] for model in http.get("/sdapi/v1/sd-models").json()]
    finally:
        new.unlink()
        http.post("/sdapi/v1/refresh-checkpoints")


def test_cmd_flags_never_show_passwords(http: TestClient, settings: Settings) -> None:
    reply = http.get("/sdapi/v1/cmd-flags")
    assert "very-secret" not in reply.text
    flags = reply.json()
    assert (flags["port"], flags["data_dir"], flags["ckpt"], flags["gradio_auth"]) == (7860, str(settings.data_dir), "alpha", "***")
    assert flags["ckpt_dir"] == str(settings.checkpoint_dirs[-1])


def test_memory_tells_of_ram(http: TestClient) -> None:
    memory = http.get("/sdapi/v1/memory").json()
    assert set(memory["ram"]) == {"free", "used", "total"}
    assert isinstance(memory["cuda"], dict)


def test_the_documentation_lists_every_route(app: FastAPI) -> None:
    names = """txt2img img2img png-info progress interrupt skip options sd-models sd-vae samplers schedulers cmd-flags memory
    refresh-checkpoints refresh-vae refresh-loras refresh-embeddings loras embeddings hypernetworks prompt-styles upscalers
        latent-upscale-modes scripts script-info interrogate extensions unload-checkpoint reload-checkpoint
    create/embedding create/hypernetwork train/embedding train/hypernetwork
    extra-single-image extra-batch-images realesrgan-models face-restorers"""
    assert set(app.openapi()["paths"]) == {f"/sdapi/v1/{name}" for name in names.split()}


# png-info


def test_png_info_reads_what_txt2img_made(http: TestClient, post: Post) -> None:
    answer = post(prompt="a house", negative_prompt="cat", seed=9)
    read = http.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{answer['images'][0]}"}).json()
    assert read["info"] == json.loads(answer["info"])["infotexts"][0]
    assert read["parameters"]["Prompt"] == "a house"
    assert read["parameters"]["Negative prompt"] == "cat"
    assert (read["parameters"]["Size-1"], read["parameters"]["Size-2"], read["parameters"]["Seed"]) == ("64", "64", "9")
    assert "parameters" not in read["items"]


def test_png_info_of_a_bare_picture_is_empty(http: TestClient) -> None:
    for image in (png(), "", None):
        assert http.post("/sdapi/v1/png-info", json={"image": image}).json() == {"info": "", "items": {}, "parameters": {}}


@pytest.mark.parametrize(
    "image", ["!!!", "aGVsbG8=", "http://127.0.0.1/x.png", "file:///etc/passwd", "data:image/png,abc", "ä", 5, [png()]]
)
def test_png_info_refuses_what_is_no_picture(http: TestClient, image: Any) -> None:
    reply = http.post("/sdapi/v1/png-info", json={"image": image})
    assert 400 <= reply.status_code < 500
    assert reply.json()["detail"]


# errors


def test_a_refused_job_answers_with_its_sentence_and_status(http: TestClient) -> None:
    reply = http.post("/sdapi/v1/txt2img", json={"prompt": "fail", "width": 64, "height": 64})
    assert reply.status_code == 422
    assert reply.json()["detail"] == "this cannot be drawn; ask for something else"
    assert reply.json()["error"] == "BadRequest"
    assert set(reply.json()) == {"error", "detail", "body", "errors"}


def test_a_defect_answers_500_in_the_same_shape_and_the_next_request_works(http: TestClient, post: Post) -> None:
    reply = http.post("/sdapi/v1/txt2img", json={"prompt": "crash", "width": 64, "height": 64})
    assert reply.status_code == 500
    assert reply.json()["error"] == "EngineError"
    assert set(reply.json()) == {"error", "detail", "body", "errors"}
    assert len(post()["images"]) == 1


def test_missing_init_images_are_a_404(http: TestClient) -> None:
    for body in ({}, {"init_images": None}):
        reply = http.post("/sdapi/v1/img2img", json=body)
        assert (reply.status_code, reply.json()["detail"]) == (404, "Init image not found")


def test_unknown_routes_are_a_plain_404(http: TestClient) -> None:
    reply = http.get("/sdapi/v1/nothing")
    assert (reply.status_code, reply.json()) == (404, {"detail": "Not Found"})


def test_a_full_queue_is_a_503(app: FastAPI, settings: Settings) -> None:
    class Full:
        """A service whose queue is full."""

        def jobs(self, active_only: bool) -> list[Any]:
            raise Busy("the queue is full; try again later")

    made = FastAPI()
    made.include_router(sdapi_router(Full(), settings))  # type: ignore[arg-type]
    reply = TestClient(made).get("/sdapi/v1/progress")
    assert (reply.status_code, reply.json()["detail"]) == (503, "the queue is full; try again later")


def test_a_defect_of_the_server_is_an_envelope_without_a_traceback(settings: Settings) -> None:
    class Broken:
        """A service with a defect."""

    made = FastAPI()
    made.include_router(sdapi_router(Broken(), settings))  # type: ignore[arg-type]
    reply = TestClient(made, raise_server_exceptions=False).get("/sdapi/v1/memory")
    assert reply.status_code == 500
    assert reply.json()["error"] == "AttributeError"
    assert "Traceback" not in reply.text


def test_a_job_that_the_stopping_server_leaves_behind_is_a_503(settings: Settings, service: Service) -> None:
    class Stopping:
        """A service that is stopped while a request waits."""

        add_input, catalog, complete, preferences = service.add_input, service.catalog, service.complete, service.preferences
        models = service.models

        def submit(self, request: GenerationRequest, **options: Any) -> str:
            return "job"

        def wait(self, job_id: str) -> Any:
            done = next(iter(service.jobs(active_only=False)))
            return replace(done, status="queued")

    made = FastAPI()
    made.include_router(sdapi_router(Stopping(), settings))  # type: ignore[arg-type]
    assert TestClient(made).post("/sdapi/v1/txt2img", json={}).status_code == 503


def test_styles_are_listed_and_requests_name_them(post: Post, http: Any, settings: Settings) -> None:
    (settings.data_dir / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink drawing of {prompt},colour\n", "utf-8")
    try:
        (style,) = http.get("/sdapi/v1/prompt-styles").json()
        assert style == {"name": "ink", "prompt": "ink drawing of {prompt}", "negative_prompt": "colour"}
        info = json.loads(post(prompt="a cat", styles=["ink", "gone"])["info"])
        assert (info["prompt"], info["negative_prompt"], info["styles"]) == ("ink drawing of a cat", "colour", ["ink", "gone"])
    finally:
        (settings.data_dir / "styles.csv").unlink()
    assert http.get("/sdapi/v1/prompt-styles").json() == []


def test_a_prompt_that_leaves_something_to_chance_is_answered_decided(post: Post) -> None:
    info = json.loads(post(prompt="a {red|blue} cat", seed=3)["info"])
    assert info["prompt"] in ("a red cat", "a blue cat")
    assert json.loads(post(prompt="a {red|blue} cat", seed=3)["info"])["prompt"] == info["prompt"]
