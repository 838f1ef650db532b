"""A1111's options that change nothing here: told, taken back, refused where another value would change pictures."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from webui.api.known_options import FIXED, IDLE, checked_options
from webui.core.errors import BadRequest
from webui.core.preferences import PREFERENCES

LISTED = """
sd_model_checkpoint sd_vae CLIP_stop_at_last_layers emphasis randn_source eta_noise_seed_delta eta_ancestral eta_ddim s_churn s_tmin
s_tmax s_noise sigma_min sigma_max rho sgm_noise_multiplier always_discard_next_to_last_sigma uni_pc_order uni_pc_variant uni_pc_skip_type
uni_pc_lower_order_final comma_padding_backtrack img2img_fix_steps img2img_color_correction initial_noise_multiplier img2img_extra_noise
inpainting_mask_weight token_merging_ratio token_merging_ratio_img2img token_merging_ratio_hr tiling sd_noise_schedule skip_early_cond
s_min_uncond pad_cond_uncond samples_format samples_save samples_filename_pattern jpeg_quality grid_save return_grid
show_progress_every_n_steps show_progress_type live_previews_enable send_seed enable_pnginfo save_images_add_number
interrupt_after_current
"""


def test_no_option_is_told_twice() -> None:
    names = [*IDLE, *FIXED, *(preference.name for preference in PREFERENCES)]
    assert len(names) == len(set(names))


def test_every_option_that_clients_use_is_answered(http: TestClient) -> None:
    assert set(LISTED.split()) <= set(http.get("/sdapi/v1/options").json())


@pytest.mark.parametrize("name", LISTED.split())
def test_every_option_that_clients_use_may_stand_in_override_settings_as_it_was_told(http: TestClient, post: Any, name: str) -> None:
    value = http.get("/sdapi/v1/options").json()[name]
    assert len(post(override_settings={name: value})["images"]) == 1


def test_idle_options_take_any_value_and_stay_as_they_are(http: TestClient) -> None:
    sent = {"show_progress_type": "Full", "quicksettings_list": ["sd_vae"], "send_seed": False}
    assert http.post("/sdapi/v1/options", json=sent).json() is None
    assert http.get("/sdapi/v1/options").json()["show_progress_type"] == IDLE["show_progress_type"]


@pytest.mark.parametrize("value", [8, "8", 75.0])
def test_what_would_change_pictures_is_refused_in_options_and_in_requests(http: TestClient, value: Any) -> None:
    for route, body in (
        ("options", {"sdxl_crop_top": value}),
        ("txt2img", {"override_settings": {"sdxl_crop_top": value}}),
    ):
        reply = http.post(f"/sdapi/v1/{route}", json=body)
        assert reply.status_code == 422
        assert "sdxl_crop_top" in reply.json()["detail"]


def test_equal_values_of_other_kinds_are_equal() -> None:
    assert checked_options({"sdxl_crop_top": 0.0, "sdxl_crop_left": "0", "enable_batch_seeds": "true"}) == {}
    with pytest.raises(BadRequest):
        checked_options({"enable_batch_seeds": False})


@pytest.mark.parametrize("name", ["outdir_samples", "outdir_txt2img_samples", "temp_dir", "lora_dir", "styles_dir", "localization_file"])
def test_no_folder_or_file_can_be_set_over_http(http: TestClient, name: str) -> None:
    reply = http.post("/sdapi/v1/options", json={name: "/tmp"})
    assert (reply.status_code, reply.json()["error"]) == (403, "NotAllowed")


def test_the_whole_of_options_comes_back_unchanged_after_it_was_sent(http: TestClient) -> None:
    before = http.get("/sdapi/v1/options").json()
    assert http.post("/sdapi/v1/options", content=json.dumps(before), headers={"Content-Type": "application/json"}).status_code == 200
    assert http.get("/sdapi/v1/options").json() == before
