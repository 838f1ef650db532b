"""The refiner: diffusers' own pair of pipelines, a loop driven by hand, and the laws of what a job leaves behind."""

import copy
from dataclasses import replace
from itertools import pairwise

import diffusers
import pytest
import torch

from tests.engine.test_families import euler, their_pipeline
from tests.engine.test_generate import CFG, INPAINT, INPUTS, REQUEST, Script
from tests.families import family_model
from tests.lora_files import kohya_name, write_lora
from tests.tiny import CPU, tiny_checkpoint, tiny_model
from webui.core.choices import SAMPLERS
from webui.core.errors import BadRequest
from webui.core.event import Loading, Notice, Pictures
from webui.core.hires import HiresFix
from webui.core.refiner import Refiner
from webui.core.request import InitImage
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.model_cache import ModelCache
from webui.engine.networks import NetworkStore
from webui.engine.refining import share_done
from webui.engine.rng import ImageNoise
from webui.engine.schedules import NoiseSchedule, sigma_schedule
from webui.engine.text_encoding import encode_prompt

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers with numpy 2

FINE = Refiner(checkpoint="fine")
REFINED = replace(REQUEST, steps=8, cfg_scale=CFG, schedule_type="Uniform", refiner=FINE)


@pytest.fixture(scope="module")
def base():
    return tiny_model("sd1")


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    """Other weights of the same family."""
    path = tiny_checkpoint(tmp_path_factory.mktemp("models") / "fine.safetensors", family="sd1", seed=1)
    return load_checkpoint(path, torch.float32, CPU)


def run(models, request, monkeypatch, control=None, **more):
    """(final latents, how often each model's UNet was called, all events). models: by the request's checkpoint."""
    seen, calls = [], dict.fromkeys(models, 0)
    with monkeypatch.context() as patch:
        for name, model in models.items():

            def forward(*arguments, name=name, original=model.unet.forward, **rest):
                calls[name] += 1
                return original(*arguments, **rest)

            def decode(z, model=model, original=model.vae.decode, **rest):
                seen.append(z * model.scaling_factor)
                return original(z, **rest)

            patch.setattr(model.unet, "forward", forward)
            patch.setattr(model.vae, "decode", decode)
        load, open_input = (lambda asked: models[asked.checkpoint]), INPUTS.__getitem__
        events = list(generate(request, control or Script(), load=load, open_input=open_input, **more))
    return torch.cat(seen).clone(), calls, events


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def loaded(events):
    return [event.text.removeprefix("loading ") for event in events if isinstance(event, Loading)]


def test_sdxl_and_its_refiner_equal_diffusers_pair_of_pipelines(monkeypatch):
    """Its text encoder, its sizes and its aesthetic scores are the refiner's own."""
    models = {"": family_model("sdxl"), "fine": family_model("sdxl_refiner")}
    request = replace(REFINED, steps=10, width=64, height=72)  # 999 / 9: whole timesteps, as diffusers has them
    base = their_pipeline(diffusers.StableDiffusionXLPipeline, models[""], euler(models[""]), add_watermarker=False)
    refiner = their_pipeline(
        diffusers.StableDiffusionXLImg2ImgPipeline,
        models["fine"],
        euler(models["fine"]),
        add_watermarker=False,
        requires_aesthetics_score=True,
    )
    told = {"prompt": request.prompt, "negative_prompt": request.negative_prompt, "guidance_scale": CFG, "num_inference_steps": 10}
    first = ImageNoise([request.seed]).first((4, 9, 8))
    half_done = base(**told, width=64, height=72, latents=first, denoising_end=0.8, output_type="latent").images
    sizes = {"original_size": (72, 64), "target_size": (72, 64)}
    theirs = refiner(**told, **sizes, image=half_done, denoising_start=0.8, output_type="latent").images
    ours, calls, _ = run(models, request, monkeypatch)
    assert calls == {"": 8, "fine": 2}
    assert relative(ours, theirs) < 1e-4


@torch.no_grad()
def by_hand(models, request, switch):
    """Euler steps; from call `switch` on the second model makes them."""
    schedule = NoiseSchedule.from_alphas(models[0].alphas_cumprod)
    sigmas = sigma_schedule(schedule, SAMPLERS["Euler"], "Uniform", request.steps)
    x = ImageNoise([request.seed]).first((4, 8, 8))[:1] * sigmas[0]
    for call, (sigma, after) in enumerate(pairwise(sigmas)):
        model = models[call >= switch]
        states = torch.stack([encode_prompt(model, text, 1).states for text in (request.prompt, request.negative_prompt)])
        t = torch.tensor(schedule.t(sigma))
        eps, without = model.unet(torch.cat([x, x]) / (1 + sigma**2) ** 0.5, t, encoder_hidden_states=states).sample
        x = x + (without + request.cfg_scale * (eps - without)) * (after - sigma)
    return x


@pytest.mark.parametrize(
    ("refiner", "switch"),  # timesteps of 8 steps: 999, 856, 714, 571, 428, 285, 143, 0
    [
        (FINE, 6),
        (replace(FINE, switch_at=0.5), 4),
        (replace(FINE, switch_at=0.0), 0),
        (replace(FINE, switch_at=0.5, by_steps=True), 4),
        (replace(FINE, switch_at=0.8, by_steps=True), 7),
    ],
)
def test_the_switch_equals_one_made_by_hand(base, fine, monkeypatch, refiner, switch):
    ours, calls, _ = run({"": base, "fine": fine}, replace(REFINED, refiner=refiner), monkeypatch)
    assert calls == {"": switch, "fine": 8 - switch}
    assert relative(ours, by_hand([base, fine], REFINED, switch)) < 1e-4


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DPM++ SDE", "DDIM", "UniPC", "LCM", "Euler CFG++"])
def test_a_refiner_with_the_same_weights_changes_nothing(base, monkeypatch, sampler):
    """The state of every sampler goes on, its noise too."""
    twin = DiffusionModel(make_pipeline(base.family, copy.deepcopy(base.pipeline.components)), base.family, base.path)
    request = replace(REFINED, sampler=sampler, schedule_type="Automatic", steps=4, refiner=replace(FINE, switch_at=0.5))
    refined, calls, _ = run({"": base, "fine": twin}, request, monkeypatch)
    alone, _, _ = run({"": base}, replace(request, refiner=None), monkeypatch)
    assert min(calls.values()) > 0
    assert torch.equal(refined, alone)


def test_samplers_of_two_calls_a_step_switch_within_one(base, fine, monkeypatch):
    request = replace(REFINED, sampler="Heun", steps=4, refiner=replace(FINE, switch_at=0.6, by_steps=True))
    _, calls, _ = run({"": base, "fine": fine}, request, monkeypatch)
    assert calls == {"": 5, "fine": 2}  # of 8 as the field counts them; Heun's last step has one call


@pytest.mark.parametrize("by_steps", [False, True])
def test_at_one_the_refiner_is_not_even_loaded(base, monkeypatch, by_steps):
    request = replace(REFINED, refiner=replace(FINE, switch_at=1.0, by_steps=by_steps))
    made, _, events = run({"": base}, request, monkeypatch)
    assert loaded(events) == ["the checkpoint"]
    assert torch.equal(made, run({"": base}, replace(request, refiner=None), monkeypatch)[0])


def test_a_refiner_that_is_the_checkpoint_itself_is_not_loaded_again(base, monkeypatch):
    request = replace(REFINED, checkpoint="fine")
    _, calls, events = run({"fine": base}, request, monkeypatch)
    assert (calls, loaded(events)) == ({"fine": 8}, ["fine"])


def test_every_batch_begins_with_the_first_checkpoint(base, fine, monkeypatch):
    models = {"": base, "fine": fine}
    both, calls, events = run(models, replace(REFINED, batch_count=2), monkeypatch)
    assert calls == {"": 12, "fine": 4}
    assert loaded(events) == ["the checkpoint", "the checkpoint"]
    second, _, _ = run(models, REFINED.single(1), monkeypatch)
    assert torch.equal(both[1:], second)


def test_the_refiner_decodes_what_it_has_made(base, fine, monkeypatch):
    monkeypatch.setattr(base.vae, "decode", None)
    _, _, events = run({"": base, "fine": fine}, REFINED, monkeypatch)
    assert any(isinstance(event, Pictures) for event in events)


def test_a_job_stopped_before_the_switch_is_decoded_by_its_own_checkpoint(base, fine, monkeypatch):
    monkeypatch.setattr(fine.vae, "decode", None)
    _, calls, events = run({"": base, "fine": fine}, REFINED, monkeypatch, Script(interrupt_after=3))
    assert (calls, any(isinstance(event, Pictures) for event in events)) == ({"": 3, "fine": 0}, True)


@pytest.mark.parametrize(
    ("hires_pass", "calls"), [("first pass", {"": 7, "fine": 1}), ("second pass", {"": 6, "fine": 2}), ("both passes", {"": 5, "fine": 3})]
)
def test_with_hires_fix_the_refiner_is_for_the_pass_that_is_named(base, fine, monkeypatch, hires_pass, calls):
    """Timesteps of the first pass: 999, 666, 333, 0; of the second, whose schedule is twice as long: 428, 285, 143, 0."""
    hires = HiresFix(scale=1.5, denoising_strength=0.5)
    request = replace(REFINED, steps=4, hires=hires, refiner=replace(FINE, hires_pass=hires_pass))
    _, counted, _ = run({"": base, "fine": fine}, request, monkeypatch)
    assert counted == calls


def test_in_img2img_the_switch_lies_at_the_same_noise(base, fine, monkeypatch):
    request = replace(REFINED, init=InitImage(image="photo", denoising_strength=0.5))
    _, calls, _ = run({"": base, "fine": fine}, request, monkeypatch)
    assert calls == {"": 3, "fine": 2}  # 428, 285 | 143, 0, and the call that the field makes before them
    by_steps = replace(request, refiner=replace(FINE, by_steps=True, switch_at=0.4))
    assert run({"": base, "fine": fine}, by_steps, monkeypatch)[1] == {"": 2, "fine": 3}


def test_what_is_not_masked_stays_with_the_refiner_too(base, fine, monkeypatch):
    init = replace(INPAINT, denoising_strength=0.9)
    models, request = {"": base, "fine": fine}, replace(REFINED, init=init)
    refined, _, _ = run(models, request, monkeypatch)
    alone, _, _ = run(models, replace(request, refiner=None), monkeypatch)
    assert torch.equal(refined[..., :2, :], alone[..., :2, :])
    assert not torch.equal(refined[..., 3:5, 3:5], alone[..., 3:5, 3:5])


def all_weights(model):
    return [weight.clone() for part in (model.unet, model.text_encoder, model.vae) for weight in part.state_dict().values()]


def test_a_lora_is_applied_to_both_and_leaves_no_trace(base, fine, monkeypatch, tmp_path):
    path = write_lora(tmp_path / "ink.safetensors", base, kohya_name("sd1"), only="attn2.to_v")
    networks = NetworkStore(lambda kind, name: path, lambda path: "0" * 12).of
    models, request = {"": base, "fine": fine}, replace(REFINED, prompt="a red circle <lora:ink:1>", batch_count=2)
    before = [all_weights(model) for model in models.values()]
    inside = {}
    for name, model in models.items():
        layer = model.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v

        def forward(x, name=name, layer=layer, original=layer.forward):
            inside[name] = layer.weight.clone()
            return original(x)

        monkeypatch.setattr(layer, "forward", forward)
    run(models, request, monkeypatch, networks=networks)
    after = [all_weights(model) for model in models.values()]
    assert all(torch.equal(*pair) for one, two in zip(before, after, strict=True) for pair in zip(one, two, strict=True))
    changes = [inside[name] - model.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v.weight for name, model in models.items()]
    assert torch.allclose(*changes, atol=1e-5)
    assert changes[0].norm() > 0


def test_a_lora_for_the_first_checkpoints_family_is_left_out_of_sdxls_refiner(monkeypatch, tmp_path):
    models = {"": family_model("sdxl"), "fine": family_model("sdxl_refiner")}
    path = write_lora(tmp_path / "ink.safetensors", models[""], kohya_name("sdxl"), only="attn2")
    networks = NetworkStore(lambda kind, name: path, lambda path: "0" * 12).of
    request = replace(REFINED, prompt="a <lora:ink:1>", height=72, steps=4)
    _, calls, events = run(models, request, monkeypatch, networks=networks)
    assert calls["fine"] == 1
    told = [event.text for event in events if isinstance(event, Notice)]
    assert told == ["the LoRA ink.safetensors does nothing in sdxl_refiner.safetensors, which is Stable Diffusion XL refiner"]


def test_what_cannot_go_on_with_the_latents_is_refused_with_a_sentence(base, monkeypatch):
    with pytest.raises(BadRequest, match="choose a refiner of the same family"):
        run({"": base, "fine": family_model("sdxl")}, REFINED, monkeypatch)
    with pytest.raises(BadRequest, match="is an inpainting checkpoint"):
        run({"": base, "fine": family_model("sd1", in_channels=9)}, REFINED, monkeypatch)


def test_an_inpainting_checkpoint_can_be_refined_by_one_that_is_none(fine, monkeypatch):
    models = {"": family_model("sd1", in_channels=9), "fine": fine}
    assert run(models, replace(REFINED, init=INPAINT), monkeypatch)[1]["fine"] > 0


@pytest.mark.parametrize(("t", "share"), [(999.0, 0.0), (199.6, 0.799), (199.4, 0.8), (0.0, 0.999)])
def test_the_share_is_counted_in_training_timesteps(base, t, share):
    schedule = NoiseSchedule.from_alphas(base.alphas_cumprod)
    assert share_done(schedule, schedule.sigma(torch.tensor(t)), on_timesteps=False) == share


def test_samplers_over_timesteps_round_them_down(base):
    schedule = NoiseSchedule.from_alphas(base.alphas_cumprod)
    assert share_done(schedule, schedule.sigma(torch.tensor(199.6)), on_timesteps=True) == 0.8
    assert share_done(schedule, schedule.sigma(torch.tensor(200.0)), on_timesteps=True) == 0.799


@pytest.mark.parametrize(
    ("refiner", "told"),
    [
        (Refiner(checkpoint=""), "no checkpoint is chosen for the refiner"),
        (replace(FINE, switch_at=1.5), "refiner switch at 1.5"),
        (replace(FINE, switch_at=float("nan")), "refiner switch at nan"),
        (replace(FINE, hires_pass="third"), "hires refiner 'third'"),
        (replace(FINE, prediction_type="x"), "prediction type 'x'"),
    ],
)
def test_what_no_refiner_can_be_is_refused(refiner, told):
    with pytest.raises(BadRequest, match=told):
        replace(REQUEST, refiner=refiner).validate()


def test_a_cache_with_room_for_one_model_gives_the_same_pictures(tmp_path, monkeypatch):
    paths = {
        name: tiny_checkpoint(tmp_path / f"{name}.safetensors", family="sd1", seed=seed) for seed, name in enumerate(("first", "fine"))
    }
    request = replace(REFINED, checkpoint="first", steps=3, batch_count=2)

    def made(cache):
        seen = []

        def load(asked):
            seen.append(asked.checkpoint)
            return cache.load(paths[asked.checkpoint], None, torch.float32, CPU)

        events = list(generate(request, Script(), load=load, open_input={}.__getitem__))
        return [picture.image.tobytes() for event in events if isinstance(event, Pictures) for picture in event.pictures], seen, len(cache)

    small, seen, held = made(ModelCache(1))
    assert (seen, held) == (["first", "fine"] * 2, 1)
    large, _, held = made(ModelCache(10**12))
    assert (small, held) == (large, 2)


@pytest.mark.parametrize(("switch_at", "made"), [(0.5, 1), (0.0, 0)])
def test_a_job_that_is_stopped_while_the_refiners_prompt_is_encoded_gives_what_there_is(base, fine, monkeypatch, switch_at, made):
    control, forward = Script(), fine.text_encoder.forward

    def hear(input_ids, **rest):
        control.interrupt_after = 0
        return forward(input_ids, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(fine.text_encoder, "forward", hear)
        request = replace(REFINED, prompt="a red circle BREAK " * 5, refiner=replace(FINE, switch_at=switch_at))
        models = {"": base, "fine": fine}
        events = list(generate(request, control, load=lambda asked: models[asked.checkpoint], open_input=INPUTS.__getitem__))
    assert [len(event.pictures) for event in events if isinstance(event, Pictures)] == [1] * made
    assert events[-1].interrupted
