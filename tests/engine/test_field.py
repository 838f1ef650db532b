"""Whole requests against A1111's numbers as tests/field.py works them out: a small model, and SD 1.5 in full size."""

import functools
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from tests.engine.test_families import PHOTO, REQUEST, final_latents, relative
from tests.field import ALPHAS, BROWNIAN, CFGPP, CONSISTENT, SIGMA, TIMESTEP, run
from tests.tiny import tiny_model
from webui.core.request import InitImage, Inpaint
from webui.core.sampler_options import SamplerOptions
from webui.engine.diffusers_parts import AutoencoderKL, CLIPTextConfig, CLIPTextModel, UNet2DConditionModel
from webui.engine.family import load_family
from webui.engine.latents import encode_image
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.text_encoding import encode_negative_prompt, encode_prompt
from webui.engine.tokenizers import load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Should have t:UserWarning")  # torchsde, asked at the last digit of its end
log = logging.getLogger(__name__)
SAMPLERS = (*SIGMA, *TIMESTEP, *CFGPP, *CONSISTENT)
BATCH = replace(REQUEST, steps=6, cfg_scale=4.0, schedule_type="Automatic", batch_size=2, sampler_options=SamplerOptions())
GIB = 2**30


def theirs(model: Any, request: Any) -> torch.Tensor:
    """The field's final latents for a batch."""
    with torch.no_grad():
        states = [encode_prompt(model, request.prompt, 1).states, encode_negative_prompt(model, request.negative_prompt, 1).states]

    @torch.no_grad()
    def pair(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        context = torch.stack([states[i // len(x)] for i in range(2 * len(x))])
        answer = model.unet(torch.cat([x, x]).float(), torch.tensor(t, dtype=torch.float32), encoder_hidden_states=context)[0].double()
        with_prompt, without = (eps_of(each, x, t) for each in answer.chunk(2))
        return with_prompt, without

    def eps_of(answer: torch.Tensor, x: torch.Tensor, t: float) -> torch.Tensor:
        if model.family.prediction_type != "v_prediction":
            return answer
        levels = np.log((1 - ALPHAS) / ALPHAS)
        alpha = 1 / (1 + math.exp(np.interp(t, np.arange(1000), levels)))
        return math.sqrt(alpha) * answer + math.sqrt(1 - alpha) * x

    seeds = [request.seed + i for i in range(request.batch_size)]
    asked = request.sampler, request.steps, pair, request.cfg_scale, seeds, (4, request.height // 8, request.width // 8)
    eta = request.sampler_options.eta_ddim
    if request.init is None:
        return run(*asked, eta_ddim=eta)
    with torch.no_grad():
        init = encode_image(model, PHOTO)
    mask = None
    if request.init.inpaint is not None:
        mask = torch.zeros(1, 1, 9, 8)
        mask[..., 3:7, 2:5] = 1
    return run(*asked, init, request.init.denoising_strength, mask, eta)


def limit(sampler: str) -> float:
    return 1e-3 if sampler in BROWNIAN else 1e-4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_models_latents_are_the_fields(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in (5, 6):
        request = replace(BATCH, sampler=sampler, steps=steps)
        assert relative(final_latents(tiny_model(), request, monkeypatch), theirs(tiny_model(), request)) < limit(sampler) / 5


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("inpaint", [None, Inpaint(mask="mask", blur_x=0, blur_y=0)])
def test_a_small_models_repainted_latents_are_the_fields(sampler: str, inpaint: Inpaint | None, monkeypatch: pytest.MonkeyPatch) -> None:
    init = InitImage(image="photo", denoising_strength=0.6, inpaint=inpaint)
    request = replace(BATCH, sampler=sampler, steps=8, init=init)
    assert relative(final_latents(tiny_model(), request, monkeypatch), theirs(tiny_model(), request)) < limit(sampler) / 5


def predicting_v() -> DiffusionModel:
    model = tiny_model()
    return DiffusionModel(model.pipeline, replace(model.family, prediction_type="v_prediction"), model.path)


INITS = (
    None,
    InitImage(image="photo", denoising_strength=0.6),
    InitImage(image="photo", denoising_strength=0.9, inpaint=Inpaint(mask="mask", blur_x=0, blur_y=0)),
)


@pytest.mark.parametrize("sampler", ["TCD", "Euler CFG++", "DDIM CFG++", "DDIM", "PLMS", "Euler", "DPM++ 2M"])
@pytest.mark.parametrize("cfg_scale", [1.0, 5.0])
@pytest.mark.parametrize("init", INITS, ids=["txt2img", "img2img", "inpaint"])
def test_a_small_models_latents_by_v_are_the_fields(
    sampler: str, cfg_scale: float, init: InitImage | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(BATCH, sampler=sampler, steps=7, cfg_scale=cfg_scale, init=init)
    made = final_latents(predicting_v(), request, monkeypatch)
    assert relative(made, theirs(predicting_v(), request)) < 2e-5


@pytest.mark.parametrize("sampler", ["DDIM", "DDIM CFG++"])
@pytest.mark.parametrize("eta", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("init", INITS, ids=["txt2img", "img2img", "inpaint"])
def test_eta_of_ddim_renews_as_much_noise_as_the_fields(
    sampler: str, eta: float, init: InitImage | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(BATCH, sampler=sampler, steps=7, init=init, sampler_options=SamplerOptions(eta_ddim=eta))
    assert relative(final_latents(tiny_model(), request, monkeypatch), theirs(tiny_model(), request)) < 2e-5


@pytest.mark.parametrize("steps", [20, 36])
def test_restart_repeats_its_way_as_the_field_does(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    request = replace(BATCH, sampler="Restart", steps=steps, cfg_scale=1.5, batch_size=1)
    assert relative(final_latents(tiny_model(), request, monkeypatch), theirs(tiny_model(), request)) < 1e-4


@functools.cache
def full_size() -> DiffusionModel:
    """SD 1.5 in full size, fp32, with the weights that torch begins training with: nothing of it is close to zero."""
    facts = load_family("sd1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {
            "unet": UNet2DConditionModel.from_config(facts.read_config("unet")),
            "vae": AutoencoderKL.from_config(facts.read_config("vae")),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_dict(facts.read_config("text_encoder"))),
        }
    parts = {name: part.eval().requires_grad_(False) for name, part in parts.items()}
    (layout,) = facts.text_encoders
    components = {**parts, "tokenizer": load_tokenizer(layout.pad_token), "scheduler": None}
    return DiffusionModel(make_pipeline(facts, components), facts, Path("full.safetensors"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_full_size_latents_are_the_fields(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if full_size.cache_info().currsize == 0 and psutil.virtual_memory().available < 7 * GIB:
        pytest.skip("needs 7 GiB of free memory")
    request = replace(BATCH, sampler=sampler, height=64, steps=5)
    apart = relative(final_latents(full_size(), request, monkeypatch), theirs(full_size(), request))
    log.info("%s: %.1e apart", sampler, apart)  # seen with --log-cli-level=INFO
    assert apart < limit(sampler)
