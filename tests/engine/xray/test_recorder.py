"""What a recording tells, against a run that is worked out beside it; and that the picture does not know of it."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from tests.engine.xray.conftest import PHOTO, REQUEST, Alone
from webui.core.choices import SAMPLERS as CHOICES
from webui.core.event import Notice, Pictures, Progress, Record
from webui.core.hires import HiresFix
from webui.core.prompt_schedule import parse_schedule
from webui.core.request import InitImage
from webui.core.xray import Recording
from webui.engine.denoiser import denoiser, unet_network
from webui.engine.guidance import Context
from webui.engine.rng import ImageNoise
from webui.engine.schedules import NoiseSchedule, make_plan
from webui.engine.study import Study
from webui.engine.text_encoding import encode_prompt
from webui.engine.xray import recorder as recorder_module
from webui.engine.xray.recorder import MEAN, Recorder


@pytest.fixture(scope="module")
def seen(lab):
    return lab.study(REQUEST, Recording())


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M", "DPM++ 2M SDE", "Heun", "DDIM", "UniPC", "Euler CFG++", "LCM"])
def test_the_picture_is_the_same_bit_for_bit(lab, sampler):
    request = replace(REQUEST, sampler=sampler)
    recorded = lab.study(request, Recording()).image("picture.png")
    assert torch.equal(torch.from_numpy(np.array(recorded)), torch.from_numpy(np.array(lab.plain(request))))


@pytest.mark.parametrize(
    "changes",
    [
        {"init": InitImage(image="photo", denoising_strength=0.6)},
        {"prompt": "a [red:green:0.5] circle AND (blue:1.3) sky:0.4"},
        {"hires": HiresFix(scale=1.5, denoising_strength=0.5, upscaler="Latent"), "steps": 2},
        {"cfg_scale": 1.0},
        {"width": 128, "tile": 64, "steps": 2},
    ],
    ids=["img2img", "prompt that changes, in two parts", "hires fix", "no guidance", "tiles"],
)
def test_so_it_is_whatever_the_request_has(lab, changes):
    request = replace(REQUEST, **changes)
    assert lab.study(request, Recording()).image("picture.png").tobytes() == lab.plain(request).tobytes()


def test_the_curves_are_those_of_a_run_by_hand(lab, seen):
    """Euler with the UNet, called as plainly as can be."""
    model, schedule = lab.model, NoiseSchedule.from_alphas(lab.model.alphas_cumprod)
    conds = [encode_prompt(model, text, 1).states for text in (REQUEST.prompt, REQUEST.negative_prompt)]
    context, network = Context(torch.stack(conds)), unet_network(model.unet)
    sigmas = make_plan(schedule, "Euler", "Automatic", REQUEST.steps).sigmas
    x = ImageNoise([REQUEST.seed]).first((4, 8, 8)) * sigmas[0]
    with torch.inference_mode():
        for i, told in enumerate(seen.steps):
            sigma = sigmas[i]
            t = schedule.t(sigma)
            with_prompt, without = network(torch.cat([x, x]) / (1 + sigma**2).sqrt(), t, context).chunk(2)
            guided = without + REQUEST.cfg_scale * (with_prompt - without)
            assert told["sigma"] == pytest.approx(float(sigma))
            assert told["t"] == pytest.approx(t)
            assert told["cosine"] == pytest.approx(float(cosine_similarity(with_prompt.flatten(), without.flatten(), 0)), abs=1e-4)
            for name, value in (("noisy", x), ("noise", guided), ("denoised", x - sigma * guided), ("guidance", with_prompt - without)):
                assert told["norms"][name] == pytest.approx(float(value.norm()), rel=1e-3), name
            assert told["channels"]["noisy"][2][:2] == pytest.approx([float(x[0, 2].mean()), float(x[0, 2].std())], rel=1e-3)
            x = x + (sigmas[i + 1] - sigma) * guided


def test_velocity_is_told_as_the_noise_that_it_means(lab):
    """x = denoised + sigma * noise holds for both answers, so the difference of the noises is the velocities' over the length."""
    schedule = NoiseSchedule.from_alphas(lab.model.alphas_cumprod)
    x, sigma = torch.randn(4, 8, 8), 3.0
    velocity, other = torch.randn(4, 8, 8), torch.randn(4, 8, 8)
    denoise = denoiser(lambda scaled, t, call: velocity[None], schedule, "v_prediction")
    expected = (x - denoise(x[None], torch.tensor(sigma), 0)[0]) / sigma
    assert torch.allclose(recorder_module._noise(velocity, x, sigma, True), expected, atol=1e-5)
    difference = recorder_module._noise(velocity, x, sigma, True) - recorder_module._noise(other, x, sigma, True)
    assert torch.allclose(difference, (velocity - other) / (1 + sigma**2) ** 0.5, atol=1e-5)


def test_each_step_keeps_its_latents_and_the_maps_of_each_token(seen):
    arrays = np.load(io.BytesIO(seen["arrays-002.npz"]))
    assert arrays["noisy"].shape == arrays["guidance"].shape == (4, 8, 8)
    assert np.linalg.norm(arrays["noisy"].astype(np.float32)) == pytest.approx(seen.steps[1]["norms"]["noisy"], rel=1e-3)
    tokens = len(seen.json("whole.json")["texts"][0]["tokens"])
    maps = {name: arrays[name] for name in arrays.files if name.startswith("maps/")}
    assert len(maps) == len(seen.json("whole.json")["layers"]) > 3
    for name, weights in maps.items():
        assert weights.shape[0] == tokens + 2, name  # and the beginnings, and the ends
        assert np.allclose(weights.astype(np.float32).sum(axis=0), 1, atol=3e-3), name


def test_the_bytes_for_the_page_are_the_maps_between_zero_and_their_peaks(seen):
    told, data = seen.json("maps-003.json"), seen["maps-003.bin"]
    arrays = np.load(io.BytesIO(seen["arrays-003.npz"]))
    assert len(data) == sum(np.prod(layer["shape"]) for layer in told["layers"])
    for layer in told["layers"]:
        shown = np.frombuffer(data, np.uint8, np.prod(layer["shape"]), layer["start"]).reshape(layer["shape"])
        restored = shown / 255 * np.array(layer["peaks"])[:, None, None]
        assert np.allclose(restored, arrays[f"maps/{layer['layer']}"], atol=3e-3)


def test_the_pictures_of_all_steps_are_averaged(seen):
    steps = [np.load(io.BytesIO(seen[f"arrays-{i:03d}.npz"]))[f"maps/{MEAN}"].astype(np.float32) for i in range(1, 5)]
    told = seen.json("maps-all.json")["layers"][0]
    shown = np.frombuffer(seen["maps-all.bin"], np.uint8).reshape(told["shape"]) / 255 * np.array(told["peaks"])[:, None, None]
    assert np.allclose(shown, np.mean(steps, axis=0), atol=3e-3)


def test_panels_stand_side_by_side_and_channels_in_rows(seen):
    assert seen.image("panels-001.webp").size == (4 * 64, 64)
    assert seen.image("channels-001.webp").size == (4 * 8, 2 * 8)


def test_only_the_steps_asked_for_keep_their_pictures(lab):
    seen = lab.study(REQUEST, Recording(steps=(1, 4), layers=("mid_block.attentions.0.transformer_blocks.0",)))
    assert [step["kept"] for step in seen.steps] == [True, False, False, True]
    assert [name for name in sorted(seen) if name.startswith("arrays-")] == ["arrays-001.npz", "arrays-004.npz"]
    assert seen.json("whole.json")["layers"] == [MEAN, "mid_block.attentions.0.transformer_blocks.0"]


def test_without_attention_there_are_no_maps(lab):
    seen = lab.study(REQUEST, Recording(attention=False))
    assert not [name for name in seen if name.startswith("maps")]
    assert seen.json("whole.json")["layers"] == []


def test_what_is_kept_is_bounded(lab, monkeypatch):
    monkeypatch.setattr(recorder_module, "BUDGET", 1)
    assert [step["kept"] for step in lab.study(REQUEST, Recording()).steps] == [True, False, False, False]


def test_steps_are_told_as_they_come(lab):
    events = lab.study(REQUEST, Recording()).events
    told = [event.name if isinstance(event, Record) else type(event).__name__ for event in events]
    assert told.index("step-001.json") < told.index("step-002.json") < told.index("picture.png")
    assert told.index("whole.json") < told.index("step-002.json")
    assert told[told.index("step-002.json") + 1] == "Progress"


def test_a_step_of_two_calls_is_one_step(lab):
    steps = lab.study(replace(REQUEST, sampler="Heun"), Recording()).steps
    assert len(steps) == REQUEST.steps
    assert [step["calls"] for step in steps] == [CHOICES["Heun"].calls_per_step] * 3 + [1]


def test_both_passes_of_hires_fix_are_told_with_their_sizes(lab):
    hires = HiresFix(scale=2, denoising_strength=0.5, upscaler="Latent", steps=2)
    seen = lab.study(replace(REQUEST, steps=2, hires=hires), Recording())
    assert [(step["pass"], step["size"]) for step in seen.steps] == [(0, [8, 8])] * 2 + [(1, [16, 16])] * 2
    assert len(seen.json("whole.json")["passes"]) == 2


def test_texts_follow_a_prompt_that_changes_and_has_parts(lab):
    seen = lab.study(replace(REQUEST, prompt="a [red:green:2] circle AND blue"), Recording())
    texts = seen.json("whole.json")["texts"]
    told = [[texts[i]["text"].strip() for i in step["texts"]] for step in seen.steps]
    red, green = parse_schedule("a [red:green:2] circle", REQUEST.steps)
    assert told == [["a red circle", "blue"]] * (red.call + 1) + [["a green circle", "blue"]] * (green.call - red.call - 1)
    shape = seen.json("maps-004.json")["layers"][0]["shape"]
    assert shape[0] == 2 * (3 + 2)  # both parts have as many maps as the longer one


def test_an_image_in_tiles_is_recorded_without_attention_and_that_is_said(lab):
    seen = lab.study(replace(REQUEST, width=128, tile=64, steps=2), Recording())
    assert not [name for name in seen if name.startswith("maps")]
    assert any(isinstance(event, Notice) for event in seen.events)
    assert seen.steps[0]["cosine"] is not None


def test_an_interrupted_run_keeps_what_was_seen(lab):
    seen = lab.study(REQUEST, Recording(), Alone(interrupt_after=2))
    assert 0 < len(seen.steps) < REQUEST.steps
    assert "whole.json" in seen


def test_a_run_that_is_stopped_before_it_begins_has_nothing_to_tell(lab):
    assert lab.study(REQUEST, Recording(), Alone(interrupt_after=0)) == {}


def test_an_exception_leaves_no_trace(lab):
    unet = lab.model.unet
    recorder = Recorder(Recording())
    events = lab.make(REQUEST, Alone(), recorder)
    for event in events:
        if isinstance(event, Progress) and event.step == 2:
            assert any(part._forward_hooks for part in unet.modules())
            break
    events.close()
    assert not any(part._forward_hooks or "forward" in vars(part) for part in unet.modules())


def test_the_photo_is_what_img2img_begins_with(lab):
    seen = lab.study(replace(REQUEST, init=InitImage(image="photo", denoising_strength=0.5)), Recording())
    assert len(seen.steps) < REQUEST.steps
    assert seen.image("picture.png").size == PHOTO.size


def test_a_study_is_asked_once_a_run_and_not_between_two_steps(lab):
    asked = []

    class Counting(Study):
        def __getattribute__(self, name):
            asked.append(name)
            return super().__getattribute__(name)

    pictures = [event for event in lab.make(REQUEST, Alone(), Counting()) if isinstance(event, Pictures)]
    assert pictures[0].pictures[0].image.tobytes() == lab.plain(REQUEST).tobytes()
    assert sorted(asked) == ["at_work", "conds", "denoise", "network", "singles"]


def test_of_a_picture_that_is_made_for_the_first_time_the_job_has_the_very_picture(lab):
    plain = [event for event in lab.make(REQUEST, Alone()) if isinstance(event, Pictures)]
    seen = lab.study(REQUEST, Recording(first=True))
    (told,) = [event for event in seen.events if isinstance(event, Pictures)]
    assert told.pictures[0].image.tobytes() == plain[0].pictures[0].image.tobytes() == seen.image("picture.png").tobytes()
    assert (told.pictures[0].infotext, told.pictures[0].request) == (plain[0].pictures[0].infotext, REQUEST)
    assert len(seen.steps) == REQUEST.steps


LONG = "blurry, " * 40  # a negative prompt of more tokens than the prompt has a call of its own
SEVERAL = {
    "at once": {"batch_size": 3},
    "one after another": {"batch_count": 2},
    "in two parts": {"batch_size": 2, "batch_count": 2, "prompt": "a [red:green:0.5] circle AND (blue:1.3) sky:0.4"},
    "long negative prompt": {"batch_size": 2, "negative_prompt": LONG},
    "two calls a step": {"batch_size": 2, "sampler": "Heun"},
    "hires fix": {"batch_size": 2, "batch_count": 2, "steps": 2, "hires": HiresFix(scale=1.5, denoising_strength=0.5, upscaler="Latent")},
    "CFG++": {"batch_size": 2, "sampler": "Euler CFG++"},
    "own prompts": {"batch_count": 2, "each": (("a red circle", "", "", ""), ("a blue star", "", "", ""))},
}


@pytest.mark.parametrize("several", SEVERAL.values(), ids=SEVERAL)
def test_of_several_pictures_the_first_is_recorded_and_all_stay_as_they_are(lab, several):
    """Against the same picture by itself, whose numbers differ by rounding alone."""
    request = replace(REQUEST, **several)
    seen = lab.study(request, Recording(first=True))
    made = [picture for event in seen.events if isinstance(event, Pictures) for picture in event.pictures]
    plain = [picture for event in lab.make(request, Alone()) if isinstance(event, Pictures) for picture in event.pictures]
    assert [picture.image.tobytes() for picture in made] == [picture.image.tobytes() for picture in plain]
    assert [(picture.infotext, picture.request) for picture in made] == [(picture.infotext, picture.request) for picture in plain]
    assert seen.image("picture.png").tobytes() == made[0].image.tobytes() != made[1].image.tobytes()
    alone = lab.study(request.single(0), Recording())
    assert sorted(seen) == sorted(alone)
    assert seen.json("whole.json")["texts"] == alone.json("whole.json")["texts"]
    for told, expected in zip(seen.steps, alone.steps, strict=True):
        assert [told[key] for key in ("step", "pass", "calls", "texts")] == [expected[key] for key in ("step", "pass", "calls", "texts")]
        assert told["norms"] == pytest.approx(expected["norms"], rel=1e-3)
        assert told["cosine"] == pytest.approx(expected["cosine"], abs=1e-3)
    for name in (name for name in seen if name.startswith("arrays-")):
        arrays, others = np.load(io.BytesIO(seen[name])), np.load(io.BytesIO(alone[name]))
        assert arrays.files == others.files
        for key in arrays.files:
            assert np.allclose(arrays[key].astype(np.float32), others[key].astype(np.float32), rtol=1e-2, atol=2e-2), (name, key)


def test_the_batches_after_the_first_are_as_without_a_study(lab):
    """Nothing of it stands in their way."""
    calls = []

    class Counting(Recorder):
        def network(self, network):
            calls.append(super().network(network) is network)
            return super().network(network)

    recorder = Counting(Recording())
    for event in lab.make(replace(REQUEST, batch_count=3), Alone(), recorder):
        if isinstance(event, Progress) and event.batch > 1 and event.step == 2:
            assert not any(part._forward_hooks for part in lab.model.unet.modules())
            assert recorder.step(event.step) == []
        elif isinstance(event, Progress):
            recorder.step(event.step)
    assert calls == [False, True, True]


def test_a_first_picture_that_is_skipped_leaves_its_steps_and_no_other_picture(lab):
    class Skipping(Alone):
        def take_skip(self):
            return self.steps == 3  # step 0 is told, too

    seen = lab.study(replace(REQUEST, batch_count=2), Recording(first=True), Skipping())
    assert [len(event.pictures) for event in seen.events if isinstance(event, Pictures)] == [1]
    assert len(seen.steps) == 2
    assert "picture.png" not in seen
