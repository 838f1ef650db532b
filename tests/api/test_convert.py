"""JSON to GenerationRequest: names, defaults, leniency; and nothing that a client can send is a 500."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import png
from tests.browser.conftest import write_lora
from tests.core.test_text_encoders import write_checkpoint
from tests.service.conftest import until
from tests.service.test_completion import write_encoder
from webui.api.convert import decode_picture, to_requests
from webui.api.schemas import Generation, Img2Img, Txt2Img
from webui.core.aesthetic import Aesthetic
from webui.core.choices import LATENT_UPSCALERS, MASKED_CONTENT, RESIZE_MODES
from webui.core.errors import BadRequest
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.refiner import Refiner
from webui.core.request import GenerationRequest, InitImage, Inpaint
from webui.core.sampler_options import OPTIONS, SamplerOptions
from webui.core.scripts.request import ScriptRequest
from webui.core.settings import Settings
from webui.core.soft_inpainting import SoftInpainting
from webui.service.service import Service

JSON_TYPE = {"Content-Type": "application/json"}
SMALL = {"width": 64, "height": 64, "steps": 1}


@pytest.fixture
def convert(service: Service) -> Any:
    def one(body: Generation) -> GenerationRequest:
        (request,) = to_requests(body, lambda data: f"sha of {len(data)}", service.catalog, service.preferences())
        return request

    return one


# names and defaults


def test_an_empty_txt2img_has_the_defaults_of_the_api(convert: Any) -> None:
    defaults = {"width": 512, "height": 512, "steps": 50, "sampler": "Euler", "cfg_scale": 7.0}
    assert convert(Txt2Img()) == GenerationRequest(**defaults, sampler_options=SamplerOptions())


def test_an_empty_img2img_has_the_defaults_of_the_api(convert: Any) -> None:
    picture, mask = png(), png(mode="L")
    init = convert(Img2Img(init_images=[picture], mask=mask)).init
    inpaint = Inpaint(mask=init.inpaint.mask, blur_x=4, blur_y=4, content="fill", only_masked=True, padding=0)
    assert init == InitImage(image=init.image, denoising_strength=0.75, resize_mode="Just resize", inpaint=inpaint)
    assert init.image == f"sha of {len(base64.b64decode(picture))}"


def test_every_field_reaches_the_request_by_its_name(convert: Any) -> None:
    body = Txt2Img(
        prompt="a",
        negative_prompt="b",
        steps=3,
        cfg_scale=4.5,
        width=72,
        height=80,
        seed=5,
        subseed=6,
        subseed_strength=0.25,
        seed_resize_from_w=128,
        seed_resize_from_h=136,
        batch_size=2,
        n_iter=3,
        sampler_name="DDIM",
        scheduler="karras",
    )
    assert convert(body) == GenerationRequest(
        prompt="a",
        negative_prompt="b",
        steps=3,
        cfg_scale=4.5,
        width=72,
        height=80,
        seed=5,
        variation_seed=6,
        variation_strength=0.25,
        seed_resize_width=128,
        seed_resize_height=136,
        batch_size=2,
        batch_count=3,
        sampler="DDIM",
        schedule_type="Karras",
        sampler_options=SamplerOptions(),
    )


def test_sampler_fields_reach_the_options_by_their_names(convert: Any) -> None:
    body = Txt2Img(sampler_name="Heun", eta=0.5, s_churn=1.5, s_tmin=0.1, s_tmax=9, s_noise=1.01)
    assert convert(body).sampler_options == SamplerOptions(eta=0.5, s_churn=1.5, s_tmin=0.1, s_tmax=9.0, s_noise=1.01)


def test_eta_is_that_of_the_samplers_kind(convert: Any) -> None:
    assert convert(Txt2Img(sampler_name="DDIM", eta=0.5)).sampler_options == SamplerOptions(eta_ddim=0.5)
    assert convert(Txt2Img(sampler_name="Euler a", eta=0)).sampler_options == SamplerOptions(eta=0.0)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_overridden_options_reach_the_request_by_their_names(convert: Any, option: Any) -> None:
    wanted = not option.default if isinstance(option.default, bool) else option.choices[-1] if option.choices else 2
    made = convert(Txt2Img(override_settings={option.name: wanted})).sampler_options
    assert made == replace(SamplerOptions(), **{option.field: wanted})


def test_text_encoders_that_a_checkpoint_lacks_are_overridden_by_their_names(convert: Any, settings: Settings) -> None:
    write_encoder(settings.text_encoder_dir / "clip_l.safetensors", 768)
    write_encoder(settings.text_encoder_dir / "XL" / "g.safetensors", 1280)
    told = {"text_encoder_clip_g": "XL/g.safetensors", "text_encoder_clip_l": "clip_l", "text_encoder_clip_h": ""}
    assert convert(Txt2Img(override_settings=told)).text_encoder == "clip_l.safetensors, XL/g.safetensors"
    text = "x\nSteps: 5, Seed: 1, Size: 64x64, Text encoder: old.safetensors"
    assert convert(Txt2Img(infotext=text)).text_encoder == "old.safetensors"
    assert convert(Txt2Img(infotext=text, override_settings=told)).text_encoder == "clip_l.safetensors, XL/g.safetensors"


def test_an_overridden_text_encoder_that_is_not_there_or_of_another_kind_is_refused(http: TestClient, settings: Settings) -> None:
    write_encoder(settings.text_encoder_dir / "g.safetensors", 1280)
    for name, status, sentence in (
        ("gone", 404, "text encoder 'gone' is not in "),
        ("g", 422, "g.safetensors holds a text encoder of width 1280 (OpenCLIP-G); text_encoder_clip_l needs CLIP-L"),
        (1, 422, "text_encoder_clip_l must be a text"),
    ):
        answer = http.post("/sdapi/v1/txt2img", json={**SMALL, "override_settings": {"text_encoder_clip_l": name}})
        assert (answer.status_code, answer.json()["detail"][: len(sentence)]) == (status, sentence)


def test_an_infotext_that_names_a_text_encoder_that_is_not_needed_is_drawn(http: TestClient) -> None:
    text = "x\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, Text encoder: gone.safetensors, Module 1: clip_l, Module 2: t5xxl"
    assert http.post("/sdapi/v1/txt2img", json={"infotext": text}).status_code == 200


@pytest.fixture
def ink(settings: Settings, service: Service) -> Iterator[str]:
    """The name of a LoRA that other tests know nothing of."""
    path = settings.lora_dirs[0] / "ink.safetensors"
    write_lora(path)
    service.refresh_models()
    yield "ink"
    path.unlink()
    service.refresh_models()


def test_an_infotexts_lora_that_has_another_name_here_is_found_by_its_hash(http: TestClient, service: Service, ink: str) -> None:
    digits = service.catalog.lora_hash(service.catalog.find_lora(ink))
    until(lambda: service.models.with_hash("lora", digits))
    text = f'x <lora:gone:0.5>\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, Lora hashes: "gone: {digits}"'
    info = json.loads(http.post("/sdapi/v1/txt2img", json={"infotext": text}).json()["info"])
    assert info["prompt"] == "x <lora:ink:0.5>"
    assert info["comments"] == ["LoRA gone is here as ink, the same file by its hash; that was taken"]


def test_an_infotexts_braces_are_text_and_a_clients_are_not(http: TestClient) -> None:
    settings = "Steps: 1, Sampler: Euler, Seed: 1, Size: 64x64, Hires upscale: 1, Hires prompt: {x|y}, Version: v1.10.1"
    asked = {"infotext": f"a {{b|c}} __nosuch__\n{settings}"}
    info = json.loads(http.post("/sdapi/v1/txt2img", json=asked).json()["info"])
    assert info["prompt"] == "a {b|c} __nosuch__"
    assert info["extra_generation_params"]["Hires prompt"] == "{x|y}"
    info = json.loads(http.post("/sdapi/v1/txt2img", json=asked | {"prompt": "a {b|c}", "hr_prompt": "{x|y}"}).json()["info"])
    assert info["prompt"] in ("a b", "a c")
    assert info["extra_generation_params"]["Hires prompt"] in "xy"


@pytest.fixture
def bare(settings: Settings, service: Service) -> Iterator[str]:
    """The name of a checkpoint that has no text encoder."""
    path = settings.checkpoint_dirs[0] / "bare.safetensors"
    write_checkpoint(path, 768)
    service.refresh_models()
    yield "bare"
    path.unlink()
    service.refresh_models()


def test_an_infotexts_text_encoder_that_is_not_here_gives_way_to_the_preferred_one(
    http: TestClient, settings: Settings, service: Service, bare: str
) -> None:
    write_encoder(settings.text_encoder_dir / "mine.safetensors", 768)
    text = "x\nSteps: 1, Sampler: Euler, Seed: 1, Size: 64x64, Text encoder: gone.safetensors"
    body = {"infotext": text, "override_settings": {"sd_model_checkpoint": bare}}
    refused = http.post("/sdapi/v1/txt2img", json=body)
    assert refused.status_code == 404
    assert f"text encoder 'gone.safetensors' is not in {settings.text_encoder_dir}; put its file there" in refused.json()["detail"]
    service.set_preferences({"text_encoder_clip_l": "mine"})
    info = json.loads(http.post("/sdapi/v1/txt2img", json=body).json()["info"])
    (job,) = service.jobs(active_only=False, limit=1)
    assert isinstance(job.request, GenerationRequest)
    assert job.request.text_encoder == "mine.safetensors"
    assert info["comments"] == ["the infotext's text encoder gone.safetensors was not used, but mine.safetensors"]
    body["override_settings"] = {"sd_model_checkpoint": bare, "text_encoder_clip_l": "gone"}
    assert http.post("/sdapi/v1/txt2img", json=body).status_code == 404  # who asks for it by name gets it, or a reason


def test_a_field_counts_more_than_an_overridden_option_and_that_more_than_an_infotext(convert: Any) -> None:
    text = "x\nSteps: 20, Sampler: Euler, Seed: 1, Sigma churn: 1, Sigma noise: 1.05, ENSD: 7, RNG: NV"
    options = {"s_churn": 2, "eta_noise_seed_delta": 31337, "randn_source": "GPU"}
    made = convert(Txt2Img(infotext=text, override_settings=options, s_churn=3))
    assert made.sampler_options == SamplerOptions(s_churn=3.0, s_noise=1.05, ensd=31337)
    assert made.rng == "GPU"


def test_preferred_options_count_where_nothing_is_told(service: Service) -> None:
    preferences = {**service.preferences(), "eta_ancestral": 0.5, "randn_source": "NV"}
    (made,) = to_requests(Txt2Img(), str, service.catalog, preferences)
    assert (made.sampler_options, made.rng) == (SamplerOptions(eta=0.5), "NV")


def test_every_inpaint_field_reaches_the_request_by_its_name(convert: Any) -> None:
    body = Img2Img(
        init_images=[png()],
        mask=png(),
        mask_blur_x=1,
        mask_blur_y=2,
        inpainting_fill=3,
        inpaint_full_res=0,
        inpaint_full_res_padding=5,
        inpainting_mask_invert=1,
        mask_round=False,
        resize_mode=2,
        denoising_strength=0.1,
    )
    init = convert(body).init
    wanted = Inpaint(
        mask=init.inpaint.mask, blur_x=1, blur_y=2, invert=True, content=MASKED_CONTENT[3], only_masked=False, padding=5, greys=True
    )
    assert (init.inpaint, init.resize_mode, init.denoising_strength) == (wanted, RESIZE_MODES[2], 0.1)
    both = convert(body.model_copy(update={"mask_blur": 9})).init.inpaint
    assert (both.blur_x, both.blur_y) == (9, 9)


def test_a_latent_mask_is_kept_beside_the_mask_and_means_nothing_without_one(convert: Any) -> None:
    inpaint = convert(Img2Img(init_images=[png()], mask=png(), latent_mask=png((8, 8)))).init.inpaint
    assert len({inpaint.latent_mask, inpaint.mask, ""}) == 3
    assert convert(Img2Img(init_images=[png()], latent_mask=png())).init.inpaint is None


def test_sides_are_whole_cells_of_latents(convert: Any) -> None:
    """A1111 renders width // 8 by height // 8 cells: 500 pixels become 496."""
    for body in (Txt2Img(width=500, height=1079), Txt2Img(infotext="x\nSteps: 1, Size: 500x1079")):
        request = convert(body)
        assert (request.width, request.height) == (496, 1072)
    request = convert(Txt2Img(width=512, height=512, enable_hr=True, firstphase_width=260, firstphase_height=256))
    assert (request.width, request.height, request.hires.width, request.hires.height) == (256, 256, 512, 512)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("Euler", "Automatic")),
        ({"sampler_index": "DDIM"}, ("DDIM", "Automatic")),
        ({"sampler_name": "Euler a", "sampler_index": "DDIM"}, ("Euler a", "Automatic")),
        ({"sampler_name": "", "sampler_index": "LMS"}, ("LMS", "Automatic")),
        ({"sampler_name": "k_euler_a"}, ("Euler a", "Automatic")),
        ({"sampler_name": "DPM++ 2M Karras"}, ("DPM++ 2M", "Automatic")),
        ({"sampler_name": "Euler Karras"}, ("Euler", "Karras")),
        ({"scheduler": "sgm_uniform"}, ("Euler", "SGM Uniform")),
        ({"scheduler": "SGM Uniform"}, ("Euler", "SGM Uniform")),
        ({"scheduler": ""}, ("Euler", "Automatic")),
    ],
)
def test_samplers_are_found_by_every_name(convert: Any, fields: dict[str, str], expected: tuple[str, str]) -> None:
    request = convert(Txt2Img(**fields))
    assert (request.sampler, request.schedule_type) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"s_min_uncond": 3}, GuidanceOptions(ngms=3.0)),
        ({"s_min_uncond": 3, "override_settings": {"s_min_uncond": "2.5"}}, GuidanceOptions(ngms=2.5)),
        ({"override_settings": {"s_min_uncond_all": 1}}, GuidanceOptions(ngms_all_steps=True)),
        ({"override_settings": {"emphasis": "No norm", "skip_early_cond": 0.5}}, GuidanceOptions(emphasis="No norm", skip_early=0.5)),
        ({"override_settings": {"cfg_rescale": 0.7, "skip_uncond_at_cfg_1": True}}, GuidanceOptions(rescale=0.7, skip_uncond=True)),
        ({"override_settings": {"emphasis": None}}, None),
        ({"infotext": "x\nSteps: 5, Seed: 1, Size: 64x64, NGMS: 4.0"}, GuidanceOptions(ngms=4.0)),
        (
            {"infotext": "x\nSteps: 5, Seed: 1, Size: 64x64, NGMS: 4.0, Emphasis: Ignore", "override_settings": {"emphasis": "Original"}},
            GuidanceOptions(ngms=4.0),
        ),
    ],
)
def test_options_of_guidance_are_overridden_by_their_names(convert: Any, fields: dict[str, Any], expected: GuidanceOptions | None) -> None:
    assert convert(Txt2Img(**fields)).guidance == expected


# leniency


def test_null_means_the_default_everywhere() -> None:
    for model in (Txt2Img, Img2Img):
        assert model.model_validate(dict.fromkeys(model.model_fields)) == model()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", 2.5, 2),
        ("steps", "3", 3),
        ("steps", "3.0", 3),
        ("steps", 64.0, 64),
        ("steps", True, 1),
        ("cfg_scale", "1.0", 1.0),
        ("cfg_scale", 7, 7.0),
        ("enable_hr", 0, False),
        ("send_images", 1, True),
        ("send_images", "false", False),
        ("prompt", 5, "5"),
        ("seed", "-1", -1),
    ],
)
def test_numbers_and_truth_come_in_many_forms(name: str, value: Any, expected: Any) -> None:
    found = getattr(Txt2Img.model_validate({name: value}), name)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "data:;base64,", "DATA:image/jpeg;charset=x;BASE64,"])
def test_base64_is_taken_bare_folded_url_safe_or_without_padding(head: str) -> None:
    data = bytes(range(256)) + b"x"
    for text in (base64.b64encode(data), base64.encodebytes(data), base64.urlsafe_b64encode(data), base64.b64encode(data).rstrip(b"=")):
        assert decode_picture("image", head + text.decode()) == data


@pytest.mark.parametrize("text", ["http://x/y.png", "HTTPS://x", "data:image/png,x", "data:", "ä", "a", "=", "", " ", "a*b="])
def test_what_is_not_base64_is_refused_with_the_field_named(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^mask: "):
        decode_picture("mask", text)


# refusals: always a 4xx that says why

BAD: list[dict[str, Any]] = [
    {"width": 0},
    {"width": -64},
    {"width": 63},
    {"height": 10**30},
    {"width": 1e308},
    {"width": float("nan")},
    {"cfg_scale": float("inf")},
    {"cfg_scale": "nan"},
    {"cfg_scale": -1},
    {"steps": 0},
    {"steps": "many"},
    {"steps": [1]},
    {"seed": 2**70},
    {"seed": -2},
    {"subseed_strength": 2},
    {"batch_size": 0},
    {"n_iter": 10**9},
    {"prompt": "x" * 150_000},
    {"prompt": "x" * 300_000},
    {"prompt": "\ud800"},
    {"prompt": "a\0b"},
    {"prompt": ["x"]},
    {"styles": "x"},
    {"styles": [["x"]]},
    {"sampler_name": "Oiler"},
    {"scheduler": "never"},
    {"script_name": "X/Y/Z plot"},
    {"alwayson_scripts": {"ControlNet": {"args": []}}},
    {"alwayson_scripts": {"x\ud800": {}}},
    {"alwayson_scripts": [[]]},
    {"override_settings": {"sd_model_checkpoint": "nobody"}},
    {"override_settings": {"sd_model_checkpoint": ["alpha"]}},
    {"override_settings": {"sd_vae": "nobody"}},
    {"override_settings": {"CLIP_stop_at_last_layers": 99}},
    {"override_settings": {"CLIP_stop_at_last_layers": "x"}},
    {"override_settings": {"CLIP_stop_at_last_layers": float("nan")}},
    {"override_settings": {"x": float("nan")}},
    {"override_settings": "x"},
    {"override_settings": {"samples_format": "bmp"}, "override_settings_restore_afterwards": False},
    {"enable_hr": True, "hr_upscaler": "nobody"},
    {"enable_hr": True, "hr_scale": 99},
    {"enable_hr": True, "hr_sampler_name": "nobody"},
    {"enable_hr": True, "hr_scheduler": "nobody"},
    {"enable_hr": True, "hr_checkpoint_name": "nobody"},
    {"enable_hr": True, "hr_prompt": "<lora:nobody:1>"},
    {"enable_hr": True, "firstpass_image": "!!!"},
    {"restore_faces": True},
    {"tiling": "sideways"},
    {"eta": -0.3},
    {"s_noise": 99},
    {"s_churn": "much"},
    {"override_settings": {"emphasis": "Loud"}},
    {"override_settings": {"randn_source": "dice"}},
    {"override_settings": {"eta_noise_seed_delta": "x"}},
    {"override_settings": {"sgm_noise_multiplier": "x"}},
    {"override_settings": {"sigma_min": 3, "sigma_max": 2}},
    {"refiner_checkpoint": "nobody"},
    {"refiner_checkpoint": 7},
    {"refiner_checkpoint": "beta", "refiner_switch_at": 2},
    {"alwayson_scripts": {"Refiner": {"args": [True, "nobody", 0.8]}}},
    {"alwayson_scripts": {"Refiner": {"args": [True, "beta", "late"]}}},
    {"alwayson_scripts": {"Refiner": {"args": "beta"}}},
    {"refiner_checkpoint": "beta", "override_settings": {"hires_fix_refiner_pass": "third"}},
    {"force_task_id": "../../x"},
    {"force_task_id": "x" * 1000},
    {"force_task_id": {}},
    {"send_images": "perhaps"},
    {"infotext": "x\nSteps: 20, Sampler: Euler, Seed: 1, Model: nobody"},
    {"infotext": "x\nSteps: 20, Sampler: Nobody's, Seed: 1"},
    {"infotext": "x\nSteps: 20, Sampler: Euler, Seed: 1, Hires upscale: 2, Hires upscaler: R-ESRGAN 4x+"},
    {"infotext": "x\nSteps: 20, Sampler: Euler, Seed: 1, RNG: dice"},
    {"infotext": "x\nSteps: 20, Sampler: Euler, Seed: -9"},
]


@pytest.mark.parametrize("fields", BAD, ids=lambda fields: str(fields)[:60].encode("ascii", "replace").decode())
def test_bad_fields_are_refused_with_a_sentence(http: TestClient, fields: dict[str, Any]) -> None:
    reply = http.post("/sdapi/v1/txt2img", content=json.dumps({**SMALL, **fields}), headers=JSON_TYPE)
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.json()["detail"]
    assert len(reply.content) < 4000  # never echoes what was sent


@pytest.mark.parametrize(
    "fields",
    [
        {"init_images": []},
        {"init_images": [png(), png()]},
        {"init_images": ["!!!"]},
        {"init_images": ["http://127.0.0.1/x.png"]},
        {"init_images": [base64.b64encode(b"no picture").decode()]},
        {"init_images": [base64.b64encode(base64.b64decode(png())[:60]).decode()]},
        {"init_images": png()},
        {"init_images": [None]},
        {"init_images": [png()], "mask": "!!!"},
        {"init_images": [png()], "mask": png(), "inpainting_fill": 4},
        {"init_images": [png()], "mask": png(), "mask_blur": 1000},
        {"init_images": [png()], "mask": png(), "inpaint_full_res_padding": -1},
        {"init_images": [png()], "resize_mode": -1},
        {"init_images": [png()], "denoising_strength": 1.5},
        {"init_images": [png()], "mask": png(), "latent_mask": "!!!"},
        {"init_images": [png()], "initial_noise_multiplier": 9},
        {"init_images": [png()], "override_settings": {"img2img_extra_noise": "much"}},
        {"init_images": [png()], "override_settings": {"img2img_color_correction": "x"}},
        {"init_images": [png()], "mask": png(), "alwayson_scripts": {"soft inpainting": {"args": [True, 99]}}},
        {"init_images": [png()], "mask": png(), "alwayson_scripts": {"soft inpainting": {"args": 1}}},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_bad_pictures_and_masks_are_refused_with_a_sentence(http: TestClient, fields: dict[str, Any]) -> None:
    reply = http.post("/sdapi/v1/img2img", json={**SMALL, **fields})
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.json()["detail"]


NESTED = ("[" * 50_000, "[" * 50_000 + "]" * 50_000, '{"a":' * 50_000 + "1" + "}" * 50_000)


@pytest.mark.parametrize("route", ["txt2img", "img2img", "png-info", "options"])
@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "1",
        '"x"',
        "[]",
        "{broken",
        '{"steps": ' + "9" * 6000 + "}",
        *NESTED,
        *(f'{{"override_settings": {nested}, "unknown": 1}}' for nested in NESTED),
        '{"image": DEEP, "override_settings": DEEP, "sd_vae": DEEP}'.replace("DEEP", '{"a":' + "[" * 500 + "]" * 500 + "}"),
    ],
    ids=lambda text: text[:30] or "empty",
)
def test_bodies_of_the_wrong_shape_are_refused(http: TestClient, route: str, body: str) -> None:
    reply = http.post(f"/sdapi/v1/{route}", content=body.encode(), headers=JSON_TYPE)
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.json()["detail"]


def test_bytes_that_are_not_utf8_are_refused(http: TestClient) -> None:
    assert http.post("/sdapi/v1/txt2img", content=b'{"prompt": "\xff"}', headers=JSON_TYPE).status_code == 400


def test_json_without_a_content_type_is_read(http: TestClient) -> None:
    reply = http.post("/sdapi/v1/png-info", content=json.dumps({"image": png()}))
    assert reply.status_code == 200


def test_forms_are_refused(http: TestClient) -> None:
    assert http.post("/sdapi/v1/txt2img", data={"prompt": "x"}).status_code == 422


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
ANYTHING = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6
)


@given(route=st.sampled_from(["txt2img", "img2img", "png-info", "options"]), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_nothing_that_is_json_is_a_500(http: TestClient, route: str, data: st.DataObject) -> None:
    model = Txt2Img if route == "txt2img" else Img2Img
    names = st.sampled_from(["image", "sd_vae", "sd_model_checkpoint", "jpeg_quality", *model.model_fields])
    fields = data.draw(st.dictionaries(names, ANYTHING, min_size=1, max_size=4))
    reply = http.post(f"/sdapi/v1/{route}", content=json.dumps({**SMALL, **fields}), headers=JSON_TYPE)
    assert reply.status_code < 500, reply.text
    assert reply.json() is None or reply.status_code == 200 or reply.json()["detail"]


def test_aesthetic_gradients_come_as_an_object_of_easels_own(convert: Any) -> None:
    request = convert(Txt2Img(aesthetic={"embedding": "sky", "weight": 1, "slerp": True}))
    assert request.aesthetic == Aesthetic(embedding="sky", weight=1, slerp=True)
    for told, sentence in (({"wieght": 1}, "no field"), ({"steps": "5"}, "of the kind int"), ({"slerp": 1}, "of the kind bool")):
        with pytest.raises(BadRequest, match=sentence):
            convert(Txt2Img(aesthetic={"embedding": "sky", **told}))


# hires fix


def test_hires_fix_is_off_unless_it_is_asked_for(convert: Any) -> None:
    assert convert(Txt2Img(hr_scale=3, hr_prompt="x")).hires is None


def test_hires_fix_has_the_defaults_of_the_api(convert: Any) -> None:
    assert convert(Txt2Img(enable_hr=True)).hires == HiresFix(denoising_strength=0.75, scale=2.0, upscaler="Latent")


def test_every_field_of_hires_fix_reaches_the_request_by_its_name(convert: Any) -> None:
    body = Txt2Img(
        enable_hr=True,
        denoising_strength=0.3,
        hr_scale=1.5,
        hr_resize_x=640,
        hr_resize_y=480,
        hr_upscaler="Lanczos",
        hr_second_pass_steps=7,
        hr_sampler_name="k_euler_a",
        hr_scheduler="karras",
        hr_cfg=3,
        hr_checkpoint_name="alpha",
        hr_prompt="p",
        hr_negative_prompt="n",
        firstpass_image=png(),
    )
    hires = convert(body).hires
    assert hires == HiresFix(
        denoising_strength=0.3,
        scale=1.5,
        width=640,
        height=480,
        upscaler="Lanczos",
        steps=7,
        sampler="Euler a",
        schedule_type="karras",
        cfg_scale=3,
        checkpoint="alpha",
        prompt="p",
        negative_prompt="n",
        image=hires.image,
    )
    assert hires.image.startswith("sha of ")


def test_what_is_the_same_in_both_passes_may_be_said_in_words(convert: Any) -> None:
    words = {"hr_sampler_name": "Use same sampler", "hr_scheduler": "Use same scheduler", "hr_checkpoint_name": "Use same checkpoint"}
    assert convert(Txt2Img(enable_hr=True, **words)).hires == HiresFix(denoising_strength=0.75)


def test_an_old_name_of_a_sampler_brings_its_schedule_type(convert: Any) -> None:
    hires = convert(Txt2Img(enable_hr=True, hr_sampler_name="Euler Karras")).hires
    assert (hires.sampler, hires.schedule_type) == ("Euler", "Karras")


def test_the_size_of_the_first_pass_may_be_given_as_old_clients_do(convert: Any) -> None:
    request = convert(Txt2Img(enable_hr=True, width=1024, height=768, firstphase_width=512, firstphase_height=384))
    assert (request.width, request.height, request.hires.width, request.hires.height) == (512, 384, 1024, 768)


def test_an_infotext_brings_hires_fix_and_what_is_sent_counts_before_it(convert: Any) -> None:
    text = (
        "x\nSteps: 20, Sampler: Euler, Seed: 1, Denoising strength: 0.4, Hires upscale: 3, Hires steps: 9, Hires upscaler: Latent (nearest)"
    )
    hires = HiresFix(denoising_strength=0.4, scale=3, steps=9, upscaler="Latent (nearest)")
    assert convert(Txt2Img(infotext=text)).hires == hires
    assert convert(Txt2Img(infotext=text, hr_second_pass_steps=4, denoising_strength=0.2)).hires == replace(
        hires, steps=4, denoising_strength=0.2
    )
    assert convert(Txt2Img(infotext=text, enable_hr=False)).hires is None


def test_upscalers_are_listed(http: TestClient) -> None:
    assert http.get("/sdapi/v1/upscalers").json()[0] == dict.fromkeys(["model_name", "model_path", "model_url", "scale"]) | {"name": "None"}
    assert [one["name"] for one in http.get("/sdapi/v1/latent-upscale-modes").json()] == list(LATENT_UPSCALERS)


def test_the_answer_tells_hires_fix(http: TestClient) -> None:
    told = json.loads(http.post("/sdapi/v1/txt2img", json={**SMALL, "enable_hr": True, "hr_resize_x": 128}).json()["info"])
    assert told["denoising_strength"] == 0.75
    assert told["extra_generation_params"]["Hires resize"] == "128x0"
    assert told["extra_generation_params"]["Hires upscaler"] == "Latent"


# refiner


@pytest.mark.parametrize("name", ["", "None", "none"])
def test_no_name_is_no_refiner(convert: Any, name: str) -> None:
    text = "x\nSteps: 20, Sampler: Euler, Seed: 1, Refiner: alpha, Refiner switch at: 0.5"
    assert convert(Txt2Img(refiner_checkpoint=name, infotext=text)).refiner is None


def test_the_refiner_reaches_the_request_from_fields_and_as_a_script(convert: Any) -> None:
    refiner = Refiner(checkpoint="beta", switch_at=0.6)
    assert convert(Txt2Img(refiner_checkpoint="beta", refiner_switch_at=0.6)).refiner == refiner
    assert convert(Img2Img(init_images=[png()], alwayson_scripts={"Refiner": {"args": [True, "beta", 0.6]}})).refiner == refiner
    assert convert(Txt2Img(refiner_checkpoint="beta")).refiner == Refiner(checkpoint="beta")
    assert convert(Txt2Img(alwayson_scripts={"refiner": {"args": [True, "beta"]}})).refiner == Refiner(checkpoint="beta")
    for arguments in ([], [False, "beta", 0.6], [True, "None", 0.6]):
        assert convert(Txt2Img(alwayson_scripts={"Refiner": {"args": arguments}})).refiner is None


def test_options_of_the_refiner_are_overridden(convert: Any) -> None:
    overrides = {"refiner_switch_by_sample_steps": True, "hires_fix_refiner_pass": "both passes"}
    refiner = Refiner(checkpoint="beta", by_steps=True, hires_pass="both passes")
    assert convert(Txt2Img(refiner_checkpoint="beta", override_settings=overrides)).refiner == refiner


def test_an_infotext_brings_the_refiner_and_what_is_sent_counts_before_it(convert: Any) -> None:
    text = "x\nSteps: 20, Sampler: Euler, Seed: 1, Refiner: alpha [0123456789], Refiner switch at: 0.5"
    refiner = Refiner(checkpoint="alpha [0123456789]", switch_at=0.5)
    assert convert(Txt2Img(infotext=text)).refiner == refiner
    assert convert(Txt2Img(infotext=text, refiner_switch_at=0.7)).refiner == replace(refiner, switch_at=0.7)
    assert convert(Txt2Img(infotext=text, refiner_checkpoint="beta")).refiner == Refiner(checkpoint="beta")


def test_the_answer_tells_the_refiner(http: TestClient) -> None:
    reply = http.post("/sdapi/v1/txt2img", json={**SMALL, "refiner_checkpoint": "beta", "refiner_switch_at": 0.7}).json()
    told = json.loads(reply["info"])["extra_generation_params"]
    assert told["Refiner"].startswith("beta [")
    assert told["Refiner file"] == "people/beta.ckpt"
    assert told["Refiner switch at"] == "0.7"


# options of img2img


@pytest.mark.parametrize(
    ("scripts", "overrides", "expected"),
    [
        ({"FreeU Integrated": {"args": [True, 1.3, 1.4, 0.9]}}, {}, GuidanceOptions(freeu=True, freeu_b1=1.3, freeu_b2=1.4, freeu_s1=0.9)),
        ({"FreeU Integrated": {"args": [False, 1.3]}}, {}, None),
        ({"Perturbed Attention Guidance Integrated": {"args": [True, 2.5]}}, {}, GuidanceOptions(pag=2.5)),
        ({"perturbed attention guidance integrated": {"args": [True]}}, {}, GuidanceOptions(pag=3.0)),
        ({"Perturbed Attention Guidance Integrated": {"args": [True, 2.5]}}, {"pag_scale": 1}, GuidanceOptions(pag=1.0)),
        ({}, {"freeu_enabled": True, "comma_padding_backtrack": 8}, GuidanceOptions(freeu=True, comma_backtrack=8)),
    ],
)
def test_forges_scripts_and_options_say_what_is_guided_how(convert: Any, scripts: Any, overrides: Any, expected: Any) -> None:
    told = convert(Txt2Img(alwayson_scripts=scripts, override_settings=overrides)).guidance
    assert (told or GuidanceOptions()) == (expected or GuidanceOptions())


def test_too_many_arguments_of_forges_scripts_are_refused(convert: Any) -> None:
    with pytest.raises(BadRequest, match="at most 2"):
        convert(Txt2Img(alwayson_scripts={"Perturbed Attention Guidance Integrated": {"args": [True, 2.5, 1]}}))


@pytest.mark.parametrize(
    ("overrides", "text", "expected"),
    [
        ({"token_merging_ratio_img2img": 0.3}, "", 0.3),
        ({"token_merging_ratio_img2img": 0.3, "token_merging_ratio": 0.5}, "", 0.5),
        ({"token_merging_ratio": 0.5}, "", 0.5),
        ({}, "x\nSteps: 5, Seed: 1, Size: 64x64, Token merging ratio: 0.2", 0.2),
    ],
)
def test_img2img_has_a_ratio_of_token_merging_of_its_own(convert: Any, overrides: Any, text: str, expected: float) -> None:
    body = Img2Img(init_images=[png()], override_settings=overrides, infotext=text or None)
    assert convert(body).guidance.token_merging == expected
    txt2img = convert(Txt2Img(override_settings={"token_merging_ratio_img2img": 0.3}))
    assert txt2img.guidance is None or not txt2img.guidance.token_merging


def test_options_of_img2img_reach_the_request(convert: Any) -> None:
    overrides = {"img2img_extra_noise": 0.2, "img2img_color_correction": True, "img2img_fix_steps": 1, "inpainting_mask_weight": 0.5}
    init = convert(Img2Img(init_images=[png()], override_settings={"initial_noise_multiplier": 0.7, **overrides})).init
    wanted = InitImage(image=init.image, noise_multiplier=0.7, extra_noise=0.2, colour_correction=True, exact_steps=True, mask_weight=0.5)
    assert init == wanted
    assert convert(Img2Img(init_images=[png()], initial_noise_multiplier=0.9)).init.noise_multiplier == 0.9
    assert convert(Txt2Img(enable_hr=True, override_settings={"img2img_extra_noise": 0.2})).hires.extra_noise == 0.2


def test_soft_inpainting_is_a_script_that_is_always_on(convert: Any) -> None:
    body = Img2Img(init_images=[png()], mask=png(), alwayson_scripts={"Soft Inpainting": {"args": [True, 1, 0.25, 4, 0, 0.5, 2]}})
    assert convert(body).init.inpaint.soft == SoftInpainting(preservation_strength=0.25)
    assert convert(Img2Img(init_images=[png()], mask=png(), alwayson_scripts={"Soft Inpainting": {}})).init.inpaint.soft is None
    text = "x\nSteps: 2, Sampler: Euler, Seed: 1, Mask blur: 4, Noise multiplier: 0.5, Soft inpainting enabled: True"
    text += ", Soft inpainting mask influence: 1"
    init = convert(Img2Img(init_images=[png()], mask=png(), infotext=text)).init
    assert (init.inpaint.soft, init.noise_multiplier) == (SoftInpainting(mask_influence=1), 0.5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "Off"),
        ({"tiling": True}, "Both"),
        ({"tiling": 1}, "Both"),
        ({"tiling": "true"}, "Both"),
        ({"tiling": False}, "Off"),
        ({"tiling": "horizontal"}, "Horizontal"),
        ({"override_settings": {"tiling": True}}, "Both"),
        ({"infotext": "x\nSteps: 2, Sampler: Euler, Seed: 1, Tiling: True"}, "Both"),
        ({"infotext": "x\nSteps: 2, Sampler: Euler, Seed: 1, Tiling: True", "tiling": False}, "Off"),
    ],
)
def test_tiling_is_a_truth_value_or_an_axis(convert: Any, fields: dict[str, Any], expected: str) -> None:
    assert convert(Txt2Img(**fields)).tiling == expected


# scripts


def test_a_script_is_run_by_its_title_with_its_arguments(http: TestClient, service: Service) -> None:
    body = {**SMALL, "init_images": [png()], "script_name": "outpainting MK2", "script_args": [None, 64, 4, ["right"], 1, 0.05]}
    reply = http.post("/sdapi/v1/img2img", json=body)
    assert reply.status_code == 200, reply.text
    job = service.jobs(active_only=False)[-1]
    assert isinstance(job.request, ScriptRequest)
    made = job.request.plan.steps[0].request
    assert made.init is not None
    assert made.init.outpaint is not None
    assert made.init.outpaint.way == "Outpainting mk2"
    assert (made.init.outpaint.tile_width, made.width % 64) == (64, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"script_name": "nobody"},
        {"script_name": "Outpainting mk2", "script_args": [None, "x"]},
        {"script_name": "Outpainting mk2", "script_args": [None, 64, 8, []]},
        {"script_name": "SD upscale", "script_args": [None, 9999]},
        {"script_name": "Loopback", "script_args": [10**9]},
    ],
    ids=str,
)
def test_bad_scripts_are_refused(http: TestClient, fields: dict[str, Any]) -> None:
    assert http.post("/sdapi/v1/img2img", json={**SMALL, "init_images": [png()], **fields}).status_code == 422
    assert http.post("/sdapi/v1/txt2img", json={**SMALL, **fields}).status_code == 422
