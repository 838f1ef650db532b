"""Perturbed attention guidance: diffusers' pipeline for it, Forge's sum, and no trace."""

import copy
from dataclasses import replace

import diffusers
import pytest
import torch

from tests.engine.test_generate import BETAS, REQUEST, decoded_latents, latents_of, model, relative, rows_of_calls
from tests.tiny import tiny_model
from webui.core.guidance_options import GuidanceOptions
from webui.core.request import GenerationRequest
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.patches.perturbed_attention import perturbed_attention
from webui.engine.rng import ImageNoise

__all__ = ["model"]  # a fixture
MUCH = 100  # how much more the middle's self-attention says than in a random UNet
PAG = GuidanceOptions(pag=2.0)
LARGE = replace(REQUEST, width=128, height=128)  # one pixel alone would see itself alone in any case
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def their_latents(told, request: GenerationRequest, scale: float, **arguments):
    pipeline = diffusers.StableDiffusionPAGPipeline(
        **{**told.pipeline.components, "scheduler": diffusers.EulerDiscreteScheduler(**BETAS), "safety_checker": None},
        requires_safety_checker=False,
        pag_applied_layers="mid",
    )
    pipeline.set_progress_bar_config(disable=True)
    processors = dict(told.unet.attn_processors)
    try:
        return pipeline(
            request.prompt,
            negative_prompt=request.negative_prompt,
            width=request.width,
            height=request.height,
            num_inference_steps=request.steps,
            guidance_scale=request.cfg_scale,
            pag_scale=scale,
            latents=ImageNoise([request.seed]).first((4, request.height // 8, request.width // 8)),
            output_type="latent",
            **arguments,
        ).images
    finally:
        told.unet.set_attn_processor(processors)


@pytest.fixture
def seer(model):
    """A model whose middle sees its surroundings."""
    seeing = copy.deepcopy(model.unet)
    for layer in (part.attn1 for part in seeing.mid_block.modules() if hasattr(part, "attn1")):
        layer.to_out[0].weight.data.mul_(MUCH)
    return DiffusionModel(make_pipeline(model.family, {**model.pipeline.components, "unet": seeing}), model.family, model.path)


@pytest.mark.parametrize("rescale", [0.0, 0.6])
def test_guidance_equals_diffusers_pipeline(seer, monkeypatch, rescale):
    request = replace(LARGE, sampler="Euler", schedule_type="Uniform", steps=10, cfg_scale=3.0)
    ours = decoded_latents(seer, replace(request, guidance=replace(PAG, rescale=rescale)), monkeypatch)
    theirs = their_latents(seer, request, 2.0, guidance_rescale=rescale)
    assert relative(ours, theirs) < 1e-4
    assert relative(decoded_latents(seer, replace(request, guidance=GuidanceOptions(rescale=rescale)), monkeypatch), theirs) > 1e-2


def test_it_takes_one_call_more_with_the_prompt_alone(model, monkeypatch):
    assert rows_of_calls(model, monkeypatch, replace(REQUEST, guidance=PAG)) == [2, 1] * REQUEST.steps
    assert rows_of_calls(model, monkeypatch, REQUEST) == [2] * REQUEST.steps


def test_parts_of_a_prompt_push_by_their_weights(seer, monkeypatch):
    joined = latents_of(seer, monkeypatch, "a red circle :0.5 AND a red circle :0.5", guidance=PAG, cfg_scale=2.0)
    assert relative(joined, latents_of(seer, monkeypatch, "a red circle", guidance=PAG, cfg_scale=2.0)) < 1e-4


def test_it_leaves_no_trace():
    unet = tiny_model("sd1").unet
    given = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor(500.0), torch.zeros(1, 77, 768)
    with torch.no_grad():
        plain = unet(*given)[0]
        with perturbed_attention(unet):
            assert not torch.equal(unet(*given)[0], plain)
        assert torch.equal(unet(*given)[0], plain)
    assert not any("forward" in vars(part) for part in unet.modules())
