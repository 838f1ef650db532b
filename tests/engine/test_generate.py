"""The one path, against diffusers' pipeline where it can say the same, and against the laws of a request."""

import contextlib
import copy
import io
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import tiny_model
from webui.core.choices import SAMPLERS as CHOICES
from webui.core.errors import BadRequest, EngineError, OutOfMemory
from webui.core.event import Finished, Loading, Pictures, Preview, Progress
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint
from webui.core.sampler_options import SamplerOptions
from webui.engine import masking
from webui.engine.conditioning import ConditioningCache
from webui.engine.generate import generate
from webui.engine.latents import encode_image
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.rng import ImageNoise

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers with numpy 2

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
CFG = 1.5  # where numbers are compared: a random network with much guidance amplifies the last bits of two ways to add up
REQUEST = GenerationRequest(
    prompt="a red circle", negative_prompt="blurry", width=64, height=64, steps=4, seed=7, variation_seed=0, sampler="Euler", vae="None"
)
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8).repeat(1, axis=0))
MASK = Image.new("L", (64, 64))
MASK.paste(255, (24, 24, 40, 40))
RIGHT = Image.new("RGB", (64, 64))
RIGHT.paste((255, 0, 0), (32, 0, 64, 64))
INPUTS = {"photo": PHOTO, "mask": MASK, "right": RIGHT, "empty": Image.new("L", (64, 64)), "uneven": PHOTO.resize((60, 50))}
INPAINT = InitImage(image="photo", inpaint=Inpaint(mask="mask"))


class Script:
    """A control that does as it is told after so many steps (asked once per step)."""

    def __init__(self, interrupt_after=10**9, skip_after=10**9, previews=False):
        self.steps, self.interrupt_after, self.skip_after, self.previews = 0, interrupt_after, skip_after, previews

    @property
    def interrupted(self):
        return self.steps >= self.interrupt_after

    def take_skip(self):
        self.steps += 1
        return self.steps == self.skip_after


@pytest.fixture(scope="module")
def model():
    tiny = tiny_model("sd1")
    return DiffusionModel(tiny.pipeline, replace(tiny.family, native_size=64), tiny.path)


@pytest.fixture(scope="module")
def listener(model):
    """The model with a UNet that prompts move as much as a trained one: a random one hardly hears them."""
    unet = copy.deepcopy(model.unet)
    for name, part in unet.named_modules():
        if name.endswith("attn2"):
            part.to_v.weight.data *= 100
    return DiffusionModel(make_pipeline(model.family, {**model.pipeline.components, "unet": unet}), model.family, model.path)


def run(model, request, control=None):
    return list(generate(request, control or Script(), load=lambda asked: model, open_input=INPUTS.__getitem__))


def pictures(model, request, control=None):
    return [picture for event in run(model, request, control) if isinstance(event, Pictures) for picture in event.pictures]


def pixels(model, request):
    return np.asarray(pictures(model, request)[0].image, dtype=int)


def decoded_latents(model, request, monkeypatch):
    """The latents that a run hands to the VAE, in the UNet's scale."""
    seen = []
    decode = model.vae.decode
    with monkeypatch.context() as patch:
        patch.setattr(model.vae, "decode", lambda latents, **rest: seen.append(latents * model.scaling_factor) or decode(latents, **rest))
        run(model, request)
    return torch.cat(seen).clone()


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def pipeline_latents(model, scheduler, request, **arguments):
    """What diffusers' own pipeline call makes of the request, with our first noise."""
    pipeline = diffusers.StableDiffusionPipeline(
        **{**model.pipeline.components, "scheduler": scheduler, "safety_checker": None, "feature_extractor": None},
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale,
        latents=ImageNoise([request.seed]).first((4, request.height // 8, request.width // 8)),
        output_type="latent",
        **arguments,
    ).images


@pytest.mark.parametrize(
    ("sampler", "schedule_type", "scheduler", "spacing"),
    [
        ("Euler", "Uniform", diffusers.EulerDiscreteScheduler, {}),
        ("Euler", "Karras", diffusers.EulerDiscreteScheduler, {"use_karras_sigmas": True}),
        ("Euler", "Exponential", diffusers.EulerDiscreteScheduler, {"use_exponential_sigmas": True}),
        ("Heun", "Uniform", diffusers.HeunDiscreteScheduler, {}),
        ("LMS", "Uniform", diffusers.LMSDiscreteScheduler, {}),
    ],
)
def test_txt2img_equals_diffusers_pipeline(model, monkeypatch, sampler, schedule_type, scheduler, spacing):
    request = replace(
        REQUEST, sampler=sampler, schedule_type=schedule_type, steps=10, cfg_scale=CFG
    )  # 999 / 9: whole timesteps, as diffusers has them
    theirs = pipeline_latents(model, scheduler(**BETAS, **spacing), request)
    assert relative(decoded_latents(model, request, monkeypatch), theirs) < 1e-4


def test_euler_a_equals_diffusers_pipeline(model, monkeypatch):
    request = replace(REQUEST, sampler="Euler a", steps=10, cfg_scale=CFG)
    generator = torch.Generator().manual_seed(request.seed)
    torch.randn((4, 8, 8), generator=generator)  # the first noise, as our generator has drawn it
    theirs = pipeline_latents(model, diffusers.EulerAncestralDiscreteScheduler(**BETAS), request, generator=generator)
    assert relative(decoded_latents(model, request, monkeypatch), theirs) < 1e-4


def test_the_picture_is_diffusers_decode_truncated(model, monkeypatch):
    latents = decoded_latents(model, REQUEST, monkeypatch)
    with torch.no_grad():
        decoded = model.vae.decode(latents / model.scaling_factor).sample
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    assert np.abs(expected.astype(int) - pixels(model, REQUEST)).max() <= 1


def test_v_prediction_models_follow_their_own_parametrization(model, monkeypatch):
    told = DiffusionModel(model.pipeline, replace(model.family, prediction_type="v_prediction"), model.path)
    request = replace(REQUEST, steps=10, cfg_scale=CFG)
    theirs = pipeline_latents(model, diffusers.EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction"), request)
    assert relative(decoded_latents(told, request, monkeypatch), theirs) < 1e-4


@pytest.mark.parametrize(
    ("sampler", "scheduler", "prompt", "second"),
    [
        ("Euler", diffusers.EulerDiscreteScheduler, "a [red circle:blue star:0.5]", lambda call: call > 5),
        ("Euler", diffusers.EulerDiscreteScheduler, "a [red circle|blue star]", lambda call: call > 0 and call % 2 == 0),
        ("Heun", diffusers.HeunDiscreteScheduler, "a [red circle:blue star:7]", lambda call: call > 7),
        ("Heun", diffusers.HeunDiscreteScheduler, "a [red circle:blue star:0.5]", lambda call: call > 10),
    ],
)
def test_prompts_that_change_equal_diffusers_pipeline_whose_prompt_is_changed_at_the_call(
    listener, monkeypatch, sampler, scheduler, prompt, second
):
    """Heun has two calls in a step, and diffusers calls back after each."""
    request = replace(REQUEST, sampler=sampler, schedule_type="Uniform", steps=10, cfg_scale=CFG, prompt=prompt)
    encoded = [torch.cat(listener.pipeline.encode_prompt(text, "cpu", 1, True, "blurry")[::-1]) for text in ("a red circle", "a blue star")]

    def change(pipeline, call, t, tensors):
        return {"prompt_embeds": encoded[second(call + 1)]}

    first = replace(request, prompt="a red circle")
    theirs = pipeline_latents(listener, scheduler(**BETAS), first, callback_on_step_end=change, callback_on_step_end_tensor_inputs=[])
    assert relative(decoded_latents(listener, request, monkeypatch), theirs) < 1e-4
    assert relative(theirs, pipeline_latents(listener, scheduler(**BETAS), first)) > 1e-3


def latents_of(model, monkeypatch, prompt, **changes):
    return decoded_latents(model, replace(REQUEST, prompt=prompt, **{"cfg_scale": CFG, **changes}), monkeypatch)


def test_the_weights_of_parts_are_shares_of_the_cfg_scale(listener, monkeypatch):
    plain = latents_of(listener, monkeypatch, "a red circle")
    for prompt, scale in (("a red circle:0.5", 2 * CFG), ("a red circle:0.25 AND a red circle:0.75", CFG)):
        assert relative(latents_of(listener, monkeypatch, prompt, cfg_scale=scale), plain) < 1e-4
    assert relative(latents_of(listener, monkeypatch, "a red circle AND blurry:5"), plain) < 1e-4  # the negative prompt's pull is none
    assert relative(latents_of(listener, monkeypatch, "a red circle AND a blue star:-0.5"), plain) > 1e-3


def test_img2img_counts_calls_from_its_own_first_over_the_steps_of_a_full_run(listener, monkeypatch):
    """5 calls of 8 steps: the half of 8 is not passed by a call that is counted from 0."""
    changes = {"steps": 8, "init": InitImage(image="photo", denoising_strength=0.5)}
    first, early, late = (latents_of(listener, monkeypatch, f"a [red circle:blue star:{when}]", **changes) for when in (99, 3, 0.5))
    assert torch.equal(first, late)
    assert relative(early, first) > 1e-3


def rows_of_calls(model, monkeypatch, request):
    """How many latents went through the UNet in each of its calls."""
    seen = []
    forward = model.unet.forward
    with monkeypatch.context() as patch:
        patch.setattr(model.unet, "forward", lambda x, *rest, **named: seen.append(len(x)) or forward(x, *rest, **named))
        run(model, request)
    return seen


@pytest.mark.parametrize(
    ("changes", "options", "rows"),
    [
        ({}, {"skip_early": 0.5}, [1, 1, 1, 2]),
        ({"sampler": "Heun"}, {"skip_early": 0.5}, [1, 1, 1, 1, 1, 2, 2]),
        ({"sampler": "HeunPP2"}, {"skip_early": 0.5}, [1, 1, 1, *[2] * 6]),  # nine calls, which the field counts as four steps
        ({}, {"ngms": 15.0}, [2, 1, 2, 1]),
        ({}, {"ngms": 15.0, "ngms_all_steps": True}, [1, 1, 1, 1]),
        ({}, {"ngms": 0.1}, [2, 2, 2, 1]),  # levels of 4 steps: 14.6, 2.9, 0.8, 0.03
        ({"sampler": "DDIM", "steps": 8}, {"ngms": 15.0}, [2] * 7),  # the field compares DDIM's timesteps, 876 to 126
        ({"init": InitImage(image="photo", denoising_strength=0.5)}, {"skip_early": 0.4}, [1, 1, 2]),  # 2 of 3 is more
        ({"cfg_scale": 1.0}, {"skip_uncond": True}, [1, 1, 1, 1]),
        ({"cfg_scale": 2.0, "prompt": "a:0.25 AND b:0.25"}, {"skip_uncond": True}, [2, 2, 2, 2]),
        ({"cfg_scale": 2.0}, {"skip_uncond": True}, [2, 2, 2, 2]),
    ],
)
def test_calls_without_the_negative_prompt(model, monkeypatch, changes, options, rows):
    request = replace(REQUEST, guidance=GuidanceOptions(**options), **changes)
    assert rows_of_calls(model, monkeypatch, request) == rows


def test_leaving_out_the_negative_prompt_at_cfg_scale_one_changes_last_digits_only(listener, monkeypatch):
    with_it, without = (
        latents_of(listener, monkeypatch, "a red circle", cfg_scale=1.0, guidance=GuidanceOptions(skip_uncond=skip))
        for skip in (False, True)
    )
    assert relative(without, with_it) < 1e-4


def test_cfg_rescale_equals_diffusers_pipeline(listener, monkeypatch):
    request = replace(REQUEST, sampler="Euler", schedule_type="Uniform", steps=10, cfg_scale=3.0)
    ours = decoded_latents(listener, replace(request, guidance=GuidanceOptions(rescale=0.7)), monkeypatch)
    theirs = pipeline_latents(listener, diffusers.EulerDiscreteScheduler(**BETAS), request, guidance_rescale=0.7)
    assert relative(ours, theirs) < 1e-4
    assert relative(decoded_latents(listener, request, monkeypatch), theirs) > 1e-3


def test_a_repeated_prompt_costs_no_call_of_the_text_encoder(model, monkeypatch):
    cache, seen = ConditioningCache(), []
    forward = model.text_encoder.forward
    monkeypatch.setattr(model.text_encoder, "forward", lambda **given: seen.append(1) or forward(**given))
    for seed in (1, 2):
        list(generate(replace(REQUEST, seed=seed), Script(), load=lambda _: model, open_input={}.get, conditionings=cache))
        assert len(seen) == 2


REPAINTED = InitImage(image="photo", denoising_strength=0.6)
ONE_OF_EACH_KIND = ("Euler a", "DPM++ 2M SDE", "DPM fast", "DDIM CFG++", "UniPC", "TCD", "LCM")


@pytest.mark.parametrize(
    ("sampler", "init"),
    [
        *[(name, None) for name in CHOICES if name != "DPM adaptive"],  # whose steps suit the whole batch, as the field's do
        *[(name, init) for name in ONE_OF_EACH_KIND for init in (REPAINTED, INPAINT)],
    ],
)
def test_every_picture_of_a_batch_equals_its_seed_made_alone(model, sampler, init, monkeypatch):
    request = replace(REQUEST, sampler=sampler, batch_size=2, cfg_scale=CFG, init=init)
    together = decoded_latents(model, request, monkeypatch)
    alone = torch.cat([decoded_latents(model, request.single(i), monkeypatch) for i in range(2)])
    assert torch.equal(together, alone)  # to the last bit: a random network would amplify it
    assert relative(together[:1], together[1:]) > 1e-2


@pytest.mark.parametrize(("sampler", "init"), [("DPM fast", None), ("DPM fast", INPAINT), ("DPM adaptive", REPAINTED), ("Restart", None)])
def test_progress_rises_to_its_total_whatever_steps_a_sampler_takes(model, sampler, init):
    told = [event for event in run(model, replace(REQUEST, sampler=sampler, steps=8, init=init)) if isinstance(event, Progress)]
    assert [event.step for event in told] == sorted(event.step for event in told)
    assert told[-1].step == told[-1].steps


def with_options(request, sampler, **options):
    return replace(request, sampler=sampler, cfg_scale=CFG, sampler_options=SamplerOptions(**options))


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        *[("Euler a", {"ensd": 31337}), ("Euler a", {"eta": 0.5}), ("DDIM", {"eta_ddim": 0.5}), ("Euler", {"s_churn": 2.0})],
        *[("DPM++ 2M SDE", {"s_noise": 1.1}), ("DPM++ 2M", {"rho": 5.0}), ("DPM++ 2M", {"sigma_min": 0.2})],
        *[("Euler", {"discard_penultimate_sigma": True}), ("Euler", {"sgm_noise_multiplier": True})],
    ],
)
def test_sampler_options_change_the_picture_and_give_the_same_bytes_again(model, sampler, options):
    plain, changed, again = (pixels(model, with_options(REQUEST, sampler, **asked)) for asked in ({}, options, options))
    assert (plain != changed).any()
    assert (changed == again).all()


def test_euler_a_with_eta_0_is_euler(model, monkeypatch):
    ours = decoded_latents(model, with_options(REQUEST, "Euler a", eta=0.0), monkeypatch)
    assert relative(ours, decoded_latents(model, with_options(REQUEST, "Euler"), monkeypatch)) < 1e-5


def test_a_seed_delta_changes_nothing_where_no_more_noise_is_drawn(model):
    assert (pixels(model, with_options(REQUEST, "Euler", ensd=31337)) == pixels(model, with_options(REQUEST, "Euler"))).all()


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M SDE"])
def test_nv_noise_makes_another_picture_and_gpu_noise_the_cpus_where_there_is_no_gpu(model, sampler):
    cpu, nv, gpu = (pixels(model, replace(REQUEST, sampler=sampler, rng=source)) for source in ("CPU", "NV", "GPU"))
    assert (cpu != nv).any()
    assert (cpu == gpu).all()


def test_ddim_cfgpp_at_scale_12_5_steps_by_what_is_seen_without_the_prompt(model, monkeypatch):
    # at the paper's scale 1 the clean latents are the prompt's; with equal prompts nothing is left to guide, and it is DDIM
    same = replace(REQUEST, negative_prompt=REQUEST.prompt, cfg_scale=12.5)
    theirs = decoded_latents(model, replace(same, sampler="DDIM"), monkeypatch)
    assert relative(decoded_latents(model, replace(same, sampler="DDIM CFG++"), monkeypatch), theirs) < 1e-4


def test_cfgpp_asks_without_the_prompt_at_scale_one_too(model, monkeypatch):
    at_one = replace(REQUEST, sampler="Euler CFG++", cfg_scale=1.0)
    usual = decoded_latents(model, at_one, monkeypatch)
    skipped = decoded_latents(model, replace(at_one, guidance=GuidanceOptions(skip_uncond=True)), monkeypatch)
    assert torch.equal(skipped, usual)


@pytest.mark.parametrize("hires", [None, HiresFix(scale=1.5, upscaler="Latent")])
def test_pictures_with_prompts_of_their_own_are_those_of_single_requests(listener, hires):
    words = (("a red circle", "blurry", "", ""), ("a blue square", "dark", "", ""))
    job = replace(REQUEST, steps=2, hires=hires, batch_count=2, each=words, template="{a red circle|a blue square}")
    events = run(listener, job)
    made = [picture for event in events if isinstance(event, Pictures) for picture in event.pictures]
    told = [(event.batch, event.batches) for event in events if isinstance(event, Progress)]
    assert told == sorted(told)
    assert set(told) == {(1, 2), (2, 2)}
    for i, picture in enumerate(made):
        (alone,) = pictures(listener, job.single(i))
        assert (alone.request, alone.infotext) == (picture.request, picture.infotext)
        assert alone.image.tobytes() == picture.image.tobytes()
        assert picture.infotext.startswith(f"{words[i][0]}\nNegative prompt: {words[i][1]}\nSteps: 2,")
        assert 'Template: "{a red circle|a blue square}"' in picture.infotext


def test_single_requests_of_a_batch_are_told_with_its_pictures(model):
    made = pictures(model, replace(REQUEST, batch_size=2, batch_count=2))
    assert [picture.request.seed for picture in made] == [7, 8, 9, 10]
    assert all(f"Seed: {picture.request.seed}," in picture.infotext for picture in made)


def test_the_same_request_gives_the_same_bytes(model):
    request = replace(REQUEST, sampler="DPM++ 2M SDE")
    assert np.array_equal(pixels(model, request), pixels(model, request))


def test_variation_strength_moves_from_the_seed_to_the_variation_seed(model, monkeypatch):
    def latents(**changes):
        return decoded_latents(model, replace(REQUEST, **changes), monkeypatch)

    plain = latents()
    assert torch.equal(latents(variation_seed=99, variation_strength=0.0), plain)
    near, far = (relative(latents(variation_seed=99, variation_strength=s), plain) for s in (0.05, 0.8))
    assert 0 < near < far
    assert relative(latents(variation_seed=99, variation_strength=1.0), latents(seed=99)) < 1e-4


def test_variations_in_a_batch_keep_the_seed_and_count_the_variation_seed(model, monkeypatch):
    request = replace(REQUEST, variation_seed=50, variation_strength=0.3, batch_size=2, cfg_scale=CFG)
    alone = decoded_latents(model, replace(request, variation_seed=51, batch_size=1), monkeypatch)
    assert relative(decoded_latents(model, request, monkeypatch)[1:], alone) < 1e-4


def test_prompt_longer_than_a_chunk_runs_beside_a_short_negative_prompt(model):
    long = ", ".join(f"word{i}" for i in range(60))
    assert pixels(model, replace(REQUEST, prompt=long)).shape == (64, 64, 3)


def test_uncond_counts_at_cfg_scale_one_only_by_its_absence(model, monkeypatch):
    at_one = [decoded_latents(model, replace(REQUEST, cfg_scale=1.0, negative_prompt=text), monkeypatch) for text in ("", "a blue star")]
    assert relative(*at_one) < 1e-4


def test_events_come_in_order(model):
    events = run(model, replace(REQUEST, batch_count=2))
    assert isinstance(events[0], Loading)
    assert [e for e in events if isinstance(e, Progress)] == [Progress(b, 2, s, 4) for b in (1, 2) for s in range(5)]
    assert [type(e) for e in events if not isinstance(e, Progress)] == [Loading, Pictures, Pictures, Finished]
    assert events[-1] == Finished(interrupted=False)


def test_previews_come_at_every_step_only_when_somebody_looks(model):
    seen = [e for e in run(model, replace(REQUEST, batch_size=3), Script(previews=True)) if isinstance(e, Preview)]
    assert len(seen) == REQUEST.steps
    assert Image.open(io.BytesIO(seen[0].jpeg)).format == "JPEG"
    assert not [e for e in run(model, REQUEST) if isinstance(e, Preview)]


def test_interrupt_stops_within_one_step_and_keeps_finished_pictures_and_the_one_at_work(model):
    events = run(model, replace(REQUEST, batch_count=5), Script(interrupt_after=6))
    assert max((e.batch, e.step) for e in events if isinstance(e, Progress)) == (2, 2)
    assert [len(e.pictures) for e in events if isinstance(e, Pictures)] == [1, 1]
    assert events[-1] == Finished(interrupted=True)


def test_a_picture_that_was_not_finished_says_so(model):
    finished, stopped = pictures(model, replace(REQUEST, batch_count=2), Script(interrupt_after=6))
    assert "Interrupted" not in finished.infotext
    assert ", Interrupted: True, " in stopped.infotext


def test_interrupt_before_the_first_step_makes_no_picture(model):
    events = run(model, REQUEST, Script(interrupt_after=0))
    assert [type(e) for e in events] == [Finished]
    assert events[-1].interrupted


def test_interrupt_while_the_prompts_are_encoded_makes_no_picture_and_ends_the_encoding(model, monkeypatch):
    control, calls, forward = Script(), [], model.text_encoder.forward

    def hear(input_ids, **rest):
        calls.append(len(input_ids))
        control.interrupt_after = 0 if len(calls) == 3 else 10**9
        return forward(input_ids, **rest)

    monkeypatch.setattr(model.text_encoder, "forward", hear)
    events = run(model, replace(REQUEST, prompt="a cat BREAK " * 100, batch_count=2), control)
    assert len(calls) == 3
    assert not [event for event in events if isinstance(event, Pictures)]
    assert events[-1] == Finished(interrupted=True)
    monkeypatch.undo()
    assert pictures(model, REQUEST)[0].image.size == (64, 64)


def test_interrupt_after_the_last_step_interrupts_nothing(model):
    assert run(model, REQUEST, Script(interrupt_after=4))[-1] == Finished(interrupted=False)


def test_skip_drops_one_batch_and_goes_on(model):
    made = pictures(model, replace(REQUEST, batch_count=3), Script(skip_after=6))
    assert [picture.request.seed for picture in made] == [7, 9]


def test_a_closed_run_stops_and_leaves_gradients_as_they_were(model):
    with contextlib.closing(generate(REQUEST, Script(), load=lambda asked: model, open_input=INPUTS.__getitem__)) as events:
        for event in events:
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            if isinstance(event, Progress) and event.step == 2:
                break
    assert next(events, None) is None
    assert not torch.is_inference_mode_enabled()


def test_img2img_at_strength_zero_changes_less_than_at_one(model, monkeypatch):
    def latents(strength):
        return decoded_latents(model, replace(REQUEST, steps=8, init=InitImage(image="photo", denoising_strength=strength)), monkeypatch)

    with torch.no_grad():
        x = torch.from_numpy(np.array(PHOTO)).permute(2, 0, 1)[None].float() / 127.5 - 1
        init = model.vae.encode(x).latent_dist.mean * model.scaling_factor
    assert relative(latents(0.0), init) < relative(latents(0.5), init) < relative(latents(1.0), init)


@pytest.mark.parametrize("mode", ["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"])
def test_init_images_of_any_size_give_pictures_of_the_requests_size(model, mode):
    made = pictures(model, replace(REQUEST, height=72, init=InitImage(image="uneven", resize_mode=mode)))
    assert made[0].image.size == (64, 72)


@pytest.mark.parametrize("content", ["fill", "original", "latent noise", "latent nothing"])
@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("sampler", ["Euler a", "DDIM"])
def test_inpainting_gives_back_every_pixel_outside_the_blurred_mask(model, content, only_masked, sampler):
    inpaint = Inpaint(mask="mask", content=content, only_masked=only_masked, blur_x=2, blur_y=3, padding=8)
    made = pixels(model, replace(REQUEST, sampler=sampler, init=InitImage(image="photo", inpaint=inpaint)))
    changed = np.abs(made - np.asarray(PHOTO, dtype=int)).max(axis=2) > 0
    outside = np.ones((64, 64), dtype=bool)
    outside[24 - 8 : 40 + 8, 24 - 5 : 40 + 5] = False  # 2.5 standard deviations, rounded
    assert not changed[outside].any()
    assert changed[26:38, 26:38].mean() > 0.9


def test_latent_noise_under_a_mask_is_the_seeds_own_whatever_the_variation(model, monkeypatch):
    """DDIM so weak that it makes no call hands its init latents on."""
    init = InitImage(image="photo", denoising_strength=0.01, inpaint=Inpaint(mask="mask", blur_x=0, blur_y=0, content="latent noise"))
    request = replace(REQUEST, sampler="DDIM", batch_size=2, variation_strength=0.4, variation_seed=9, seed_resize_width=80, init=init)
    made = decoded_latents(model, replace(request, seed_resize_height=72), monkeypatch)
    noise = torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(REQUEST.seed))
    for latents in made:
        assert torch.allclose(latents[:, 3:5, 3:5], noise[:, 3:5, 3:5], atol=1e-5)


def test_inverted_inpainting_keeps_what_is_masked(model):
    inpaint = Inpaint(mask="mask", invert=True, blur_x=0, blur_y=0)
    made = pixels(model, replace(REQUEST, init=InitImage(image="photo", inpaint=inpaint)))
    changed = np.abs(made - np.asarray(PHOTO, dtype=int)).max(axis=2) > 0
    assert not changed[24:40, 24:40].any()
    assert changed[:16].mean() > 0.9


@pytest.mark.parametrize("only_masked", [False, True])
def test_a_latent_mask_says_which_latents_are_made_anew_and_the_mask_which_pixels_show(model, monkeypatch, only_masked):
    inpaint = Inpaint(mask="mask", latent_mask="right", blur_x=0, blur_y=0, only_masked=only_masked, padding=0)
    request = replace(REQUEST, init=InitImage(image="photo", inpaint=inpaint))
    region = masking.prepare_inpaint(PHOTO, MASK, inpaint, "Just resize", (64, 64))
    with torch.no_grad():
        init = encode_image(model, region.image)
    latents = decoded_latents(model, request, monkeypatch)
    assert torch.equal(latents[..., :4], init[..., :4])
    assert bool((latents[..., 4:] != init[..., 4:]).any(dim=1).all())
    changed = np.abs(pixels(model, request) - np.asarray(PHOTO, dtype=int)).max(axis=2) > 0
    changed[24:40, 24:40] = False
    assert not changed.any()


def test_an_empty_mask_is_refused_with_a_sentence(model):
    with pytest.raises(BadRequest, match="mask is empty"):
        run(model, replace(REQUEST, init=InitImage(image="photo", inpaint=Inpaint(mask="empty"))))


def test_outpainting_every_side_keeps_the_old_picture_inside_the_blur(model):
    outpaint = Outpaint(left=8, right=72, top=16, bottom=8, blur=6)
    made = pixels(model, replace(REQUEST, steps=2, init=InitImage(image="photo", outpaint=outpaint)))
    assert made.shape == (64 + 24, 64 + 80, 3)
    old = made[16 : 16 + 64, 8 : 8 + 64]
    assert np.array_equal(old[6:-6, 6:-6], np.asarray(PHOTO)[6:-6, 6:-6])


def test_outpainting_one_side_keeps_the_other_edges_to_the_last_pixel(model):
    made = pixels(model, replace(REQUEST, init=InitImage(image="uneven", outpaint=Outpaint(right=16, blur=0))))
    assert made.shape == (50, 76, 3)
    assert np.array_equal(made[:, :60], np.asarray(INPUTS["uneven"]))


def test_outpainting_counts_the_steps_of_all_its_passes(model):
    request = replace(REQUEST, steps=4, init=InitImage(image="photo", denoising_strength=1.0, outpaint=Outpaint(left=40, top=8)))
    told = [event for event in run(model, request) if isinstance(event, Progress)]
    passes = 3 + 2  # left: 16 + 16 + 8; top: two windows along the wider picture
    assert told == [Progress(1, 1, step, 4 * passes) for step in range(4 * passes + 1)]


def test_outpainted_pictures_of_a_batch_equal_their_seeds_made_alone(model):
    request = replace(REQUEST, steps=2, batch_size=2, cfg_scale=CFG, init=InitImage(image="photo", outpaint=Outpaint(right=40)))
    together = [np.asarray(p.image, dtype=int) for p in pictures(model, request)]
    assert np.array_equal(together[1], pixels(model, request.single(1)))
    assert np.abs(together[1] - together[0]).max() > 1


def test_interrupted_outpainting_still_gives_the_whole_canvas(model):
    request = replace(REQUEST, steps=4, init=InitImage(image="photo", outpaint=Outpaint(left=32, right=32)))
    made = pictures(model, request, Script(interrupt_after=2))
    assert made[0].image.size == (128, 64)
    assert np.asarray(made[0].image)[:, -32:].std() > 1  # continued, not black


def test_too_large_a_canvas_is_refused(model):
    with pytest.raises(BadRequest, match="4096"):
        run(model, replace(REQUEST, init=InitImage(image="photo", outpaint=Outpaint(right=4096))))


def test_a_request_that_is_not_complete_is_refused_before_anything_is_loaded():
    def load(asked):
        raise AssertionError("loaded")

    with pytest.raises(BadRequest, match="width 60"):
        list(generate(replace(REQUEST, width=60), Script(), load=load, open_input=INPUTS.__getitem__))


def test_running_out_of_memory_is_told_with_the_way_out(model, monkeypatch):
    def decode(*arguments, **rest):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.vae, "decode", decode)
    monkeypatch.setattr("webui.engine.latents.decode_tiled", decode)
    with pytest.raises(OutOfMemory, match="smaller"):
        run(model, REQUEST)


def test_pictures_that_are_not_numbers_are_told_not_shown(model, monkeypatch):
    monkeypatch.setattr(model.vae, "decode", lambda latents, **rest: (torch.full((1, 3, 64, 64), float("nan")),))
    with pytest.raises(EngineError, match="may be damaged"):
        run(model, REQUEST)


def test_a_picture_too_large_to_be_encoded_whole_is_refused(model):
    init = InitImage(image="wide", resize_mode="Just resize (latent upscale)")
    with pytest.raises(BadRequest, match="4104x8 is too large"):
        list(generate(replace(REQUEST, init=init), Script(), load=lambda asked: model, open_input=lambda name: Image.new("RGB", (4104, 8))))
