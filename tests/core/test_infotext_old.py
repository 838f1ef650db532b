"""Infotexts of A1111's first year: what their keys meant comes back as what is said since."""

import pytest

from webui.core.infotext import read, to_request
from webui.core.request import GenerationRequest

SETTINGS = "Steps: 4, Sampler: Euler, CFG scale: 7, Seed: 1"


@pytest.mark.parametrize(
    ("told", "tag"),
    [
        ("Hypernet: golden, Hypernet strength: 0.5", "<hypernet:golden:0.5>"),
        ("Hypernet: anime(c0ffee00)", "<hypernet:anime:1.0>"),
        ("Hypernet: None", ""),
        ("Hypernet: ,", ""),
    ],
)
def test_a_hypernetwork_that_stood_in_a_setting_is_a_tag_of_the_prompt(told: str, tag: str) -> None:
    found = read(f"a cat\nNegative prompt: dog\n{SETTINGS}, Size: 64x64, {told}")
    assert (found.prompt, found.negative_prompt) == (f"a cat{tag}", "dog")
    request, problems = to_request(found, GenerationRequest(), notes=False)
    assert (request.prompt, problems) == (f"a cat{tag}", [])
    assert to_request(found, GenerationRequest())[1] == []


@pytest.mark.parametrize(
    ("told", "first"),
    [("512x640", (512, 640)), ("0x0", (448, 640)), ("0x640", (448, 640))],
)
def test_the_first_pass_of_the_old_hires_fix_is_the_size_and_the_size_the_finished_pictures(told: str, first: tuple[int, int]) -> None:
    text = f"a cat\n{SETTINGS}, Size: 768x1152, Denoising strength: 0.6, First pass size: {told}"
    request, problems = to_request(read(text), GenerationRequest(), notes=False)
    assert problems == to_request(read(text), GenerationRequest())[1] == []
    assert (request.width, request.height) == first
    assert request.hires is not None
    assert (request.hires.width, request.hires.height) == (768, 1152)
    assert (request.hires.upscaler, request.hires.denoising_strength) == ("Latent", 0.6)


@pytest.mark.parametrize("told", ["large", "99999999x1", "512x512, Hires upscale: 2"])
def test_a_first_pass_size_that_nothing_can_be_made_of_changes_no_size(told: str) -> None:
    request, _ = to_request(read(f"a cat\n{SETTINGS}, Size: 768x1152, First pass size: {told}"), GenerationRequest())
    assert (request.width, request.height) == (768, 1152)


def test_a_first_pass_size_that_is_none_is_told_once() -> None:
    text = f"a cat\n{SETTINGS}, Size: 64x64, First pass size: large"
    assert len(to_request(read(text), GenerationRequest())[1]) == 1
