"""hires fix: two passes that equal the ones composed by hand, each with what is its own."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.test_generate import CFG, PHOTO, REQUEST, Script, decoded_latents, model, pictures, relative, run
from tests.tiny import CPU, tiny_checkpoint, tiny_model
from webui.core.choices import LATENT_UPSCALERS, PIXEL_UPSCALERS, SAMPLERS
from webui.core.errors import BadRequest
from webui.core.event import Loading, Notice, Pictures, Progress
from webui.core.hires import HiresFix
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.engine.latents import encode_image
from webui.engine.rng import ImageNoise
from webui.engine.schedules import NoiseSchedule, sigma_schedule
from webui.engine.text_encoding import encode_prompt

__all__ = ["model"]  # the fixture
HIRES = HiresFix(scale=1.5, denoising_strength=0.6, upscaler="Latent", steps=3)
TWICE = replace(REQUEST, hires=HIRES, cfg_scale=CFG)
INTERPOLATION = {
    "Latent": {"mode": "bilinear"},
    "Latent (antialiased)": {"mode": "bilinear", "antialias": True},
    "Latent (bicubic)": {"mode": "bicubic"},
    "Latent (bicubic antialiased)": {"mode": "bicubic", "antialias": True},
    "Latent (nearest)": {"mode": "nearest"},
    "Latent (nearest-exact)": {"mode": "nearest-exact"},
}


@torch.no_grad()
def euler_by_hand(model, request, start, strength, steps):
    """`steps` Euler steps over the clean latents `start`, of a schedule that is 1 / strength times as long."""
    schedule = NoiseSchedule.from_alphas(model.alphas_cumprod)
    sigmas = sigma_schedule(schedule, SAMPLERS["Euler"], "Uniform", int(steps / strength))[-steps - 1 :]
    states = torch.stack([encode_prompt(model, text, 1).states for text in (request.prompt, request.negative_prompt)])
    x = start + ImageNoise([request.seed]).first(start.shape[1:]) * sigmas[0]
    for sigma, after in pairwise(sigmas):
        t = torch.tensor(schedule.t(sigma))
        eps, eps_without = model.unet(torch.cat([x, x]) / (1 + sigma**2) ** 0.5, t, encoder_hidden_states=states).sample
        x = x + (eps_without + request.cfg_scale * (eps - eps_without)) * (after - sigma)
    return x


@pytest.mark.parametrize("upscaler", LATENT_UPSCALERS)
def test_latent_upscalers_equal_passes_composed_by_hand(model, monkeypatch, upscaler):
    first = decoded_latents(model, replace(TWICE, hires=None), monkeypatch)
    larger = torch.nn.functional.interpolate(first, (12, 12), **INTERPOLATION[upscaler])
    by_hand = euler_by_hand(model, TWICE, larger, 0.6, 3)
    made = decoded_latents(model, replace(TWICE, hires=replace(HIRES, upscaler=upscaler)), monkeypatch)
    assert relative(made, by_hand) < 1e-4


@pytest.mark.parametrize("upscaler", PIXEL_UPSCALERS)
def test_pixel_upscalers_equal_passes_composed_by_hand(model, monkeypatch, upscaler):
    small = pictures(model, replace(TWICE, hires=None))[0].image
    large = small.resize((96, 96), Image.Resampling.NEAREST if upscaler == "Nearest" else Image.Resampling.LANCZOS)
    with torch.no_grad():
        by_hand = euler_by_hand(model, TWICE, encode_image(model, large), 0.6, 3)
    seen = []
    monkeypatch.setattr(model.vae, "decode", lambda z, decode=model.vae.decode, **rest: seen.append(z) or decode(z, **rest))
    run(model, replace(TWICE, hires=replace(HIRES, upscaler=upscaler)))
    assert relative(seen[1] * model.scaling_factor, by_hand) < 1e-4


def test_an_upscaler_s_model_makes_the_picture_that_the_second_pass_begins_with(model):
    seen = []

    def enlarge(image: Image.Image, size: tuple[int, int], upscaler: str) -> Image.Image:
        seen.append((image.size, size, upscaler))
        return image.resize(size, Image.Resampling.NEAREST)

    told, plain = (
        list(
            generate(
                replace(TWICE, hires=replace(HIRES, upscaler=name)), Script(), load=lambda asked: model, open_input={}.__getitem__, **more
            )
        )
        for name, more in (("4x-Sharp", {"enlarge": enlarge}), ("Nearest", {}))
    )
    assert seen == [((64, 64), (96, 96), "4x-Sharp")]
    images = [event.pictures[0] for events in (told, plain) for event in events if isinstance(event, Pictures)]
    assert images[0].image.tobytes() == images[1].image.tobytes()
    assert "Hires upscaler: 4x-Sharp" in images[0].infotext


def test_every_field_of_the_second_pass_counts_in_it_alone(model, monkeypatch):
    second = HiresFix(scale=1.5, denoising_strength=0.6, steps=4, sampler="Euler", schedule_type="Uniform", cfg_scale=CFG)
    second = replace(second, prompt="a blue star", negative_prompt="grey")
    request = replace(REQUEST, sampler="DDIM", steps=6, cfg_scale=2.0, hires=second)
    first = decoded_latents(model, replace(request, hires=None), monkeypatch)
    told = replace(request, prompt="a blue star", negative_prompt="grey", cfg_scale=CFG)
    by_hand = euler_by_hand(model, told, torch.nn.functional.interpolate(first, (12, 12), mode="bilinear"), 0.6, 4)
    assert relative(decoded_latents(model, request, monkeypatch), by_hand) < 1e-4


def test_no_steps_and_no_names_mean_those_of_the_first_pass(model, monkeypatch):
    own = replace(
        HIRES, steps=4, sampler="Euler", schedule_type="Automatic", cfg_scale=CFG, prompt="a red circle", negative_prompt="blurry"
    )
    made = [
        decoded_latents(model, replace(TWICE, hires=hires), monkeypatch) for hires in (own, HiresFix(scale=1.5, denoising_strength=0.6))
    ]
    assert torch.equal(*made)


@pytest.mark.parametrize(("sampler", "calls"), [("Euler", 5), ("DPM++ 2M", 5), ("DDIM", 3)])
def test_the_second_pass_makes_exactly_its_steps(model, sampler, calls):
    """The samplers over training timesteps two less, as in the field."""
    request = replace(TWICE, steps=2, hires=replace(HIRES, steps=5, sampler=sampler, schedule_type="Automatic"))
    told = [event for event in run(model, request) if isinstance(event, Progress)]
    assert told == [Progress(1, 1, step, 2 + calls) for step in range(3 + calls)]


def test_at_strength_zero_the_first_pass_comes_out_larger(model, monkeypatch):
    first = decoded_latents(model, replace(TWICE, hires=None), monkeypatch)
    made = decoded_latents(model, replace(TWICE, hires=replace(HIRES, denoising_strength=0.0)), monkeypatch)
    assert relative(made, torch.nn.functional.interpolate(first, (12, 12), mode="bilinear")) < 1e-6


@pytest.mark.parametrize(
    ("asked", "expected"), [((128, 0), (128, 192)), ((0, 144), (96, 144)), ((128, 128), (128, 128)), ((96, 160), (96, 160))]
)
def test_a_size_that_is_asked_for_is_made(model, asked, expected):
    hires = HiresFix(width=asked[0], height=asked[1], denoising_strength=0.5, steps=1, upscaler="Latent (nearest)")
    assert pictures(model, replace(REQUEST, height=96, steps=1, hires=hires))[0].image.size == expected


def test_what_is_too_much_is_cut_off_on_both_sides(model, monkeypatch):
    hires = HiresFix(width=128, height=64, denoising_strength=0.0)  # of a square
    whole = decoded_latents(model, replace(REQUEST, hires=HiresFix(denoising_strength=0.0)), monkeypatch)
    assert torch.equal(decoded_latents(model, replace(REQUEST, hires=hires), monkeypatch), whole[:, :, 4:12])


def test_every_picture_of_a_batch_equals_its_seed_made_alone(model, monkeypatch):
    request = replace(TWICE, sampler="Euler a", batch_size=2)
    together = decoded_latents(model, request, monkeypatch)
    alone = torch.cat([decoded_latents(model, request.single(i), monkeypatch) for i in range(2)])
    assert relative(together, alone) < 5e-4
    assert relative(together[:1], together[1:]) > 1e-2


def test_a_finished_picture_takes_the_place_of_the_first_pass(model):
    small = pictures(model, replace(TWICE, hires=None))[0].image
    hires = replace(HIRES, upscaler="Lanczos")
    whole = pictures(model, replace(TWICE, hires=hires))[0].image
    events = list(
        generate(
            replace(TWICE, hires=replace(hires, image="small")),
            Script(),
            load=lambda asked: model,
            open_input={"small": small}.__getitem__,
        )
    )
    assert [event.step for event in events if isinstance(event, Progress)] == [0, 1, 2, 3]
    (made,) = [picture.image for event in events if isinstance(event, Pictures) for picture in event.pictures]
    assert np.array_equal(np.asarray(made), np.asarray(whole))


def test_a_job_that_is_stopped_in_its_first_pass_gives_that_passs_picture(model):
    stopped = pictures(model, TWICE, Script(interrupt_after=2))[0]
    assert stopped.image.size == (64, 64)
    assert ", Interrupted: True, " in stopped.infotext
    assert pictures(model, TWICE, Script(interrupt_after=6))[0].image.size == (96, 96)
    assert pictures(model, TWICE, Script(skip_after=5)) == []


@pytest.mark.parametrize("checkpoint", ["", "other"])
def test_a_job_that_is_stopped_while_its_second_prompt_is_encoded_gives_its_first_passs_picture(model, monkeypatch, tmp_path, checkpoint):
    other = load_checkpoint(tiny_checkpoint(tmp_path / "other.safetensors", family="sd1", seed=1), torch.float32, CPU)
    by_name, control = {"": model, "other": other}, Script()
    for each in by_name.values():

        def hear(input_ids, forward=each.text_encoder.forward, **rest):
            control.interrupt_after = control.steps if control.steps else 10**9
            return forward(input_ids, **rest)

        monkeypatch.setattr(each.text_encoder, "forward", hear)
    request = replace(TWICE, hires=replace(HIRES, checkpoint=checkpoint, prompt="a blue star BREAK " * 5))
    events = list(generate(request, control, load=lambda asked: by_name[asked.checkpoint], open_input={}.__getitem__))
    (told,) = [event for event in events if isinstance(event, Pictures)]
    monkeypatch.undo()
    assert np.array_equal(np.asarray(told.pictures[0].image), np.asarray(pictures(model, replace(TWICE, hires=None))[0].image))
    assert ", Interrupted: True, " in told.pictures[0].infotext
    assert events[-1].interrupted


def test_a_job_that_is_stopped_while_its_prompt_is_encoded_gives_no_picture(model, monkeypatch):
    control, forward = Script(), model.text_encoder.forward

    def hear(input_ids, **rest):
        control.interrupt_after = 0
        return forward(input_ids, **rest)

    monkeypatch.setattr(model.text_encoder, "forward", hear)
    for hires in (HIRES, replace(HIRES, upscaler="Lanczos", image="photo")):
        control.interrupt_after = 10**9
        events = run(model, replace(TWICE, hires=hires, prompt="a red circle BREAK " * 5), control)
        assert not [event for event in events if isinstance(event, Pictures)]
        assert events[-1].interrupted


def test_the_infotext_tells_both_passes(model):
    assert (
        ", Denoising strength: 0.6, RNG: CPU, Hires upscale: 1.5, Hires steps: 3, Hires upscaler: Latent, "
        in pictures(model, TWICE)[0].infotext
    )


def test_a_second_checkpoint_makes_the_second_pass(model, monkeypatch, tmp_path):
    other = load_checkpoint(tiny_checkpoint(tmp_path / "other.safetensors", family="sd1", seed=1), torch.float32, CPU)
    by_name = {"": model, "other": other}
    hires = replace(HIRES, checkpoint="other")
    seen = []
    monkeypatch.setattr(other.vae, "decode", lambda z, decode=other.vae.decode, **rest: seen.append(z * 0.18215) or decode(z, **rest))
    request = replace(TWICE, hires=hires, batch_count=2)
    events = list(generate(request, Script(), load=lambda asked: by_name[asked.checkpoint], open_input={}.__getitem__))
    assert [event.text for event in events if isinstance(event, Loading)] == ["loading the checkpoint", "loading other"] * 2
    first = decoded_latents(model, replace(TWICE, hires=None), monkeypatch)
    by_hand = euler_by_hand(other, TWICE, torch.nn.functional.interpolate(first, (12, 12), mode="bilinear"), 0.6, 3)
    assert relative(seen[0], by_hand) < 1e-4


def test_latents_of_another_family_are_refused_and_pictures_are_not(model):
    other = tiny_model("sdxl")
    request = replace(TWICE, hires=replace(HIRES, checkpoint="xl"))
    load = {"": model, "xl": other}

    def made(request):
        return list(generate(request, Script(), load=lambda asked: load[asked.checkpoint], open_input={}.__getitem__))

    with pytest.raises(BadRequest, match="works on pictures"):
        made(request)
    assert any(isinstance(event, Pictures) for event in made(replace(request, hires=replace(request.hires, upscaler="Lanczos"))))


def test_a_pass_has_the_networks_of_its_own_prompt(model):
    used, inside = [], []

    def networks(prompt):
        from webui.engine.networks import Networks

        used.append(prompt)
        return Networks(prompt.partition("<")[0], notices=(f"for {prompt}",))

    request = replace(TWICE, prompt="a", hires=replace(HIRES, prompt="a <lora:x:1>"), batch_count=2)
    events = list(
        generate(request, Script(), load=lambda asked: inside.append(asked.prompt) or model, open_input={}.__getitem__, networks=networks)
    )
    assert used == ["a", "a <lora:x:1>"]
    assert inside == ["a", "a <lora:x:1>"] * 2
    assert [event.text for event in events if isinstance(event, Notice)] == ["for a", "for a <lora:x:1>"]


@pytest.mark.parametrize(
    ("hires", "told"),
    [
        (HiresFix(scale=5), "hires scale 5"),
        (HiresFix(denoising_strength=float("nan")), "hires denoising strength"),
        (HiresFix(upscaler=" "), "hires upscaler ' '"),
        (HiresFix(width=4104), "hires width"),
        (HiresFix(sampler="Warp"), "sampler 'Warp'"),
        (HiresFix(schedule_type="Warp"), "schedule type 'Warp'"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(hires, told):
    with pytest.raises(BadRequest, match=told):
        replace(REQUEST, hires=hires).validate()


def test_too_large_a_picture_is_refused():
    with pytest.raises(BadRequest, match="8192x4096"):
        replace(REQUEST, width=2048, height=1024, hires=HiresFix(scale=4)).validate()


def test_the_photo_can_be_the_first_pass_in_any_size(model):
    hires = HiresFix(image="photo", denoising_strength=0.0, scale=2)
    assert PHOTO.size == (64, 64)
    assert pictures(model, replace(REQUEST, width=72, hires=hires))[0].image.size == (144, 128)
