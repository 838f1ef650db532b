"""Pictures of every family, from the prompt to the last latents: those of diffusers' own pipelines from the same noise."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.families import family_model
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint
from webui.engine.denoiser import unet_network
from webui.engine.generate import generate
from webui.engine.latents import encode_image
from webui.engine.rng import ImageNoise
from webui.engine.schedules import LEAST_SIGNAL

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers with numpy 2

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
REQUEST = GenerationRequest(
    prompt="a red circle",
    negative_prompt="blurry",
    width=64,
    height=72,
    steps=4,
    seed=7,
    variation_seed=0,
    cfg_scale=1.5,
    sampler="Euler",
    schedule_type="Uniform",
    vae="None",
)
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (72, 64, 3), dtype=np.uint8))
MASK = Image.new("L", (64, 72))
MASK.paste(255, (16, 24, 40, 56))
INPUTS = {"photo": PHOTO, "mask": MASK}


class Alone:
    interrupted = previews = False

    def take_skip(self):
        return False


def final_latents(model, request, monkeypatch):
    """What a run hands to the VAE, in the UNet's scale."""
    seen = []
    decode = model.vae.decode
    with monkeypatch.context() as patch:
        patch.setattr(model.vae, "decode", lambda z, **rest: seen.append(z * model.scaling_factor) or decode(z, **rest))
        list(generate(request, Alone(), load=lambda asked: model, open_input=INPUTS.__getitem__))
    return torch.cat(seen).clone()


def noise(request):
    return ImageNoise([request.seed]).first((4, request.height // 8, request.width // 8))


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def their_pipeline(kind, model, scheduler, **more):
    components = {**model.pipeline.components, "scheduler": scheduler, **more}
    pipeline = kind(**components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline, request, **arguments):
    return pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt or None,
        num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale,
        output_type="latent",
        **arguments,
    ).images


def euler(model, **more):
    return diffusers.EulerDiscreteScheduler(**BETAS, prediction_type=model.family.prediction_type, **more)


def sd(model, scheduler):
    return their_pipeline(diffusers.StableDiffusionPipeline, model, scheduler, safety_checker=None, requires_safety_checker=False)


def inpainting(model):
    if model.family.is_sdxl:
        return their_pipeline(diffusers.StableDiffusionXLInpaintPipeline, model, euler(model), add_watermarker=False)
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    return their_pipeline(diffusers.StableDiffusionInpaintPipeline, model, euler(model), **unchecked)


def size(request):
    return {"width": request.width, "height": request.height}


@pytest.mark.parametrize("negative_prompt", ["blurry", ""])
def test_sdxl_equals_diffusers_pipeline(monkeypatch, negative_prompt):
    model, request = family_model("sdxl"), replace(REQUEST, negative_prompt=negative_prompt)
    pipeline = their_pipeline(diffusers.StableDiffusionXLPipeline, model, euler(model), add_watermarker=False)
    theirs = call(pipeline, request, latents=noise(request), **size(request))
    assert relative(final_latents(model, request, monkeypatch), theirs) < 1e-4


def test_the_refiner_equals_diffusers_pipeline(monkeypatch):
    model = family_model("sdxl_refiner")
    pipeline = their_pipeline(
        diffusers.StableDiffusionXLImg2ImgPipeline, model, euler(model), add_watermarker=False, requires_aesthetics_score=True
    )
    nothing, generator = torch.zeros(1, 4, 9, 8), torch.Generator().manual_seed(REQUEST.seed)
    theirs = call(pipeline, REQUEST, image=nothing, strength=1.0, generator=generator, original_size=(72, 64), target_size=(72, 64))
    assert relative(final_latents(model, REQUEST, monkeypatch), theirs) < 1e-4


def test_sdxls_img2img_equals_diffusers_pipeline(monkeypatch):
    """At strength 0.75 of 8 steps diffusers makes the last 6, Easel (as the field) the last 7: 0.625 makes them 6."""
    model = family_model("sdxl")
    request = replace(REQUEST, steps=8, init=InitImage(image="photo", denoising_strength=0.625))
    pipeline = their_pipeline(diffusers.StableDiffusionXLImg2ImgPipeline, model, euler(model), add_watermarker=False)
    with torch.no_grad():
        init = encode_image(model, PHOTO)
    generator = torch.Generator().manual_seed(REQUEST.seed)
    theirs = call(pipeline, request, image=init, strength=0.75, generator=generator, original_size=(72, 64), target_size=(72, 64))
    assert relative(final_latents(model, request, monkeypatch), theirs) < 1e-4


def test_v_prediction_with_euler_equals_diffusers_pipeline(monkeypatch):
    model = family_model("sd2")
    theirs = call(sd(model, euler(model)), REQUEST, latents=noise(REQUEST), **size(REQUEST))
    assert relative(final_latents(model, REQUEST, monkeypatch), theirs) < 1e-4


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_v_prediction_with_ddim_equals_diffusers_pipeline(monkeypatch, zero_terminal_snr):
    """The field's DDIM ends at timestep 1, one step before diffusers' does: its latents are those after that many steps."""
    model, request = family_model("sd2", zero_terminal_snr=zero_terminal_snr), replace(REQUEST, sampler="DDIM", schedule_type="Automatic")
    scheduler = diffusers.DDIMScheduler(
        **BETAS, prediction_type="v_prediction", clip_sample=False, rescale_betas_zero_snr=zero_terminal_snr
    )
    after = []

    def keep(pipeline, step, t, tensors):
        after.append(tensors["latents"])
        return tensors

    call(sd(model, scheduler), request, latents=noise(request), callback_on_step_end=keep, **size(request))
    assert relative(final_latents(model, request, monkeypatch), after[-2]) < 1e-4


def test_zero_terminal_snr_with_euler_equals_diffusers_pipeline(monkeypatch):
    model = family_model("sd2", zero_terminal_snr=True)
    scheduler = euler(model, rescale_betas_zero_snr=True)
    scheduler.alphas_cumprod[-1] = LEAST_SIGNAL  # what stands for no signal at all, in the field; diffusers has 2 ** -24
    theirs = call(sd(model, scheduler), REQUEST, latents=noise(REQUEST), **size(REQUEST))
    assert relative(final_latents(model, REQUEST, monkeypatch), theirs) < 1e-3


@pytest.mark.parametrize(
    ("said", "truth"),
    [
        ("epsilon", {"prediction_type": "epsilon"}),
        ("v_prediction + zero terminal SNR", {"zero_terminal_snr": True}),
        ("Automatic", {}),
    ],
)
def test_a_model_that_is_said_to_predict_something_works_like_one_whose_file_says_so(monkeypatch, said, truth):
    told, true = family_model("sd2").predicting(said), family_model("sd2", **truth)
    assert told.family == true.family
    assert torch.equal(final_latents(told, REQUEST, monkeypatch), final_latents(true, REQUEST, monkeypatch))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("painted", ["everything", "part"])
def test_inpainting_models_equal_diffusers_pipeline(monkeypatch, family, painted):
    """diffusers leaves what lies outside the mask to the model; the field, and Easel, keep it in every step: so does the callback."""
    model = family_model(family, in_channels=9)
    pipeline = inpainting(model)
    mask = MASK if painted == "part" else Image.new("L", MASK.size, 255)
    inpaint = Inpaint(mask="mask", blur_x=0, blur_y=0, content="original")
    request = replace(REQUEST, init=InitImage(image="photo", denoising_strength=1.0, inpaint=inpaint))
    monkeypatch.setitem(INPUTS, "mask", mask)
    grey = (torch.from_numpy(np.array(PHOTO)).permute(2, 0, 1)[None] / 127.5 - 1) * (torch.from_numpy(np.array(mask)) < 128)
    with torch.no_grad():
        init = encode_image(model, PHOTO)
        masked = model.vae.encode(grey).latent_dist.mean * model.scaling_factor
    small = torch.from_numpy(np.array(mask))[None, None, ::8, ::8] / 255.0
    pipeline.scheduler.set_timesteps(request.steps)
    sigmas = pipeline.scheduler.sigmas

    def keep(pipe, step, t, tensors):
        return {**tensors, "latents": torch.lerp(init + noise(request) * sigmas[step + 1], tensors["latents"], small)}

    theirs = call(
        pipeline,
        request,
        image=PHOTO,
        mask_image=mask,
        masked_image_latents=masked,
        strength=1.0,
        latents=noise(request) + init / sigmas[0],
        callback_on_step_end=keep,
        **size(request),
    )
    assert relative(final_latents(model, request, monkeypatch), theirs) < 1e-4


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_txt2img_with_an_inpainting_model_equals_diffusers_with_everything_masked(monkeypatch, family):
    model, white = family_model(family, in_channels=9), Image.new("L", PHOTO.size, 255)
    grey = torch.zeros(1, 3, *PHOTO.size[::-1])
    with torch.no_grad():
        masked = model.vae.encode(grey).latent_dist.mean * model.scaling_factor
    given = {"image": grey, "mask_image": white, "masked_image_latents": masked, "strength": 1.0, "latents": noise(REQUEST)}
    theirs = call(inpainting(model), REQUEST, **given, **size(REQUEST))
    assert relative(final_latents(model, REQUEST, monkeypatch), theirs) < 1e-4


def test_img2img_with_an_inpainting_model_shows_it_nothing_of_the_picture(monkeypatch):
    model, shown = family_model("sd1", in_channels=9), []
    for init in (None, InitImage(image="photo")):
        with monkeypatch.context() as patch:
            patch.setattr("webui.engine.sampling.unet_network", lambda unet, seen: shown.append(seen) or unet_network(unet, seen))
            final_latents(model, replace(REQUEST, init=init), monkeypatch)
    torch.testing.assert_close(*shown)
    assert bool((shown[0][:, :1] == 1).all())


@pytest.mark.parametrize(("family", "in_channels"), [("sd1", 9), ("sdxl", 4)])
@pytest.mark.parametrize(
    "init",
    [None, InitImage(image="photo", inpaint=Inpaint(mask="mask")), InitImage(image="photo", outpaint=Outpaint(right=8))],
    ids=["txt2img", "inpaint", "outpaint"],
)
def test_the_second_picture_of_a_batch_equals_its_seed_made_alone(monkeypatch, family, in_channels, init):
    model, request = family_model(family, in_channels=in_channels), replace(REQUEST, sampler="Euler a", steps=2, batch_size=2, init=init)
    alone = final_latents(model, request.single(1), monkeypatch)
    assert torch.equal(final_latents(model, request, monkeypatch)[1::2], alone)  # outpainting: of each of its passes


def test_prompts_of_different_lengths_run_on_sdxl_each_with_its_own_pooled_state_and_size(monkeypatch):
    model, asked = family_model("sdxl"), []
    forward = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda x, t, **given: asked.append(given) or forward(x, t, **given))
    final_latents(model, replace(REQUEST, steps=1, prompt="cat " * 80), monkeypatch)
    assert [given["encoder_hidden_states"].shape[1] for given in asked] == [154, 77]
    assert [given["added_cond_kwargs"]["time_ids"].tolist() for given in asked] == [[[72, 64, 0, 0, 72, 64]]] * 2
    assert not torch.equal(*(given["added_cond_kwargs"]["text_embeds"] for given in asked))


def test_sdxls_text_keys_are_computed_once_for_all_steps(monkeypatch):
    model, computed = family_model("sdxl"), []
    layer = next(module for name, module in model.unet.named_modules() if name.endswith("attn2.to_k"))
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda text: computed.append(text) or forward(text))
    final_latents(model, REQUEST, monkeypatch)
    assert len(computed) == 1
