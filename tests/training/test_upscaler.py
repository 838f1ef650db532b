"""The upscaler that ships with Easel: what it gains over Lanczos on pictures it has not seen, and that its training ends in such a file."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from webui.engine.upscaler_model import UpscalerModel, load_upscaler
from webui.engine.upscaling import outcome
from webui.training import upscaler
from webui.training.progress import Stage
from webui.training.upscaler import OUTPUT, make_pool, peak_signal_to_noise, world_pair
from webui.training.world import draw, random_scene

UNSEEN = range(9_000_000, 9_000_012)  # far from the training's scenes
LANCZOS = Image.Resampling.LANCZOS


@pytest.fixture(scope="module")
def shipped() -> UpscalerModel:
    return load_upscaler(OUTPUT, torch.device("cpu"))


def gain(model: UpscalerModel, pairs: list[tuple[Image.Image, Image.Image]]) -> float:
    """dB of all pictures' pixels together, beyond what Lanczos reaches."""
    made = [outcome(model.enlarged(small, 0, 0)) for small, _ in pairs]
    plain = [small.resize(large.size, LANCZOS) for small, large in pairs]
    truth = together([large for _, large in pairs])
    return peak_signal_to_noise(together(made), truth) - peak_signal_to_noise(together(plain), truth)


def together(images: list[Image.Image]) -> Image.Image:
    """One picture of all, side by side."""
    return Image.fromarray(np.hstack([np.asarray(image) for image in images]))


def test_the_shipped_file_is_small_and_makes_pictures_twice_as_large(shipped):
    assert OUTPUT.stat().st_size <= 2_000_000
    assert (shipped.scale, shipped.network.architecture.id) == (2, "Compact")


def test_on_unseen_pictures_it_beats_lanczos(shipped):
    larger = [draw(random_scene(Random(seed)), 256, 256) for seed in UNSEEN]
    assert gain(shipped, [(image.resize((128, 128), Image.Resampling.BOX), image) for image in larger]) > 6


def test_on_pictures_drawn_small_it_beats_lanczos(shipped):
    scenes = [random_scene(Random(seed)) for seed in UNSEEN]
    assert gain(shipped, [(draw(scene, 128, 128), draw(scene, 256, 256)) for scene in scenes]) > 3


def test_the_training_ends_in_a_file_that_is_an_upscaler_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(upscaler, "POOL", 3)
    monkeypatch.setattr(upscaler, "BATCH", 2)
    output = tmp_path / "made.safetensors"
    for steps in (2, 3):
        upscaler.main(["--work-dir", str(tmp_path), "--output", str(output), "--steps", str(steps), "--threads", "1"])
        assert Stage(tmp_path, "upscaler", steps).finished
    assert load_upscaler(output, torch.device("cpu")).scale == 2


def test_a_few_steps_make_the_loss_fall(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(upscaler, "POOL", 4)
    monkeypatch.setattr(upscaler, "BATCH", 2)
    losses: list[float] = []
    monkeypatch.setattr(Stage, "done", lambda self, step, loss, **parts: losses.append(loss))
    torch.manual_seed(0)
    network = upscaler.Compact(num_feat=8, num_conv=1, upscale=2)
    upscaler.train_upscaler(network, Stage(tmp_path, "upscaler", 30))
    assert np.mean(losses[-10:]) < np.mean(losses[:3])


def test_both_pictures_of_a_crop_show_the_same_place():
    pool = make_pool(3, 1)
    small, large = pool.crops(Random(5))
    assert (small.shape[2:], large.shape[2:]) == ((40, 40), (80, 80))
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert (halved - small).abs().mean() < 0.02


def test_pictures_of_one_seed_are_the_same_ones():
    assert [image.tobytes() for image in world_pair(4)] == [image.tobytes() for image in world_pair(4)]
    assert [image.size for image in world_pair(4)] == [(128, 128), (256, 256)]


def test_peak_signal_to_noise_by_hand():
    one, other = Image.new("RGB", (4, 4), (10, 10, 10)), Image.new("RGB", (4, 4), (20, 10, 10))
    assert peak_signal_to_noise(one, other) == pytest.approx(10 * np.log10(255**2 / (100 / 3)))
    assert peak_signal_to_noise(one, one) == float("inf")
