"""The miniature's training: every stage runs, saves, resumes and ends in one file that Easel loads."""

from pathlib import Path
from random import Random

import pytest
import torch
from diffusers import AutoencoderKL

from webui.engine.checkpoint import load_checkpoint
from webui.engine.family import load_family
from webui.training import miniature, miniature_text, miniature_unet, miniature_vae
from webui.training.captions import ATTRIBUTES, caption
from webui.training.miniature_unet import cumulative_alphas
from webui.training.miniature_vae import SCALING_FACTOR, encode, normalise, to_tensor
from webui.training.progress import Stage, load_tensors
from webui.training.world import STYLES, draw, random_scene


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches so small that a step takes a moment."""
    monkeypatch.setattr(miniature_vae, "POOL", 2)
    monkeypatch.setattr(miniature_vae, "CROPS", ((0.0, 32, 1),))
    monkeypatch.setattr(miniature_text, "BATCH", 2)
    monkeypatch.setattr(miniature_unet, "BATCH", 2)


def train(folder: Path, unet_steps: int = 2) -> Path:
    output = folder / "made.safetensors"
    steps = [
        "--vae-steps",
        "2",
        "--text-steps",
        "2",
        "--unet-steps",
        str(unet_steps),
        "--pictures",
        "4",
        "--threads",
        "1",
    ]
    miniature.main(["--work-dir", str(folder), "--output", str(output), "--preview", str(folder / "preview.json"), *steps])
    return output


def test_all_stages_end_in_a_checkpoint_of_at_most_40_megabytes_that_loads(small: None, tmp_path: Path):
    output = train(tmp_path)
    assert output.stat().st_size <= 40_000_000
    assert load_checkpoint(output, torch.float32, torch.device("cpu")).family.name == "miniature"


def test_a_training_goes_on_where_it_stopped(small: None, tmp_path: Path):
    train(tmp_path, unet_steps=2)
    trained = {name: (tmp_path / f"{name}.safetensors").stat().st_mtime_ns for name in ("vae", "text")}
    before = load_tensors(tmp_path / "unet.safetensors")
    train(tmp_path, unet_steps=3)
    after = load_tensors(tmp_path / "unet.safetensors")
    assert (int(before["step"]), int(after["step"])) == (2, 3)
    assert trained == {name: (tmp_path / f"{name}.safetensors").stat().st_mtime_ns for name in ("vae", "text")}
    assert int(after["optimizer/0/step"]) == 3
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("unet/"))


def test_normalised_latents_have_mean_zero_and_variance_one_and_decode_the_same():
    torch.manual_seed(0)
    vae = AutoencoderKL.from_config(load_family("miniature").read_config("vae"))
    pictures = torch.stack([to_tensor(draw(random_scene(Random(i)))) for i in range(4)])
    with torch.no_grad():
        raw = vae.encode(pictures).latent_dist.mean
        decoded = vae.decode(raw).sample
        spread = vae.encode(pictures).latent_dist.std / raw.std(dim=(0, 2, 3), keepdim=True)
        normalise(vae, raw)
        posterior = vae.encode(pictures).latent_dist
        scaled = SCALING_FACTOR * posterior.mean
        torch.testing.assert_close(scaled.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(scaled.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
        torch.testing.assert_close(SCALING_FACTOR * posterior.std, spread, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(vae.decode(posterior.mean).sample, decoded, atol=1e-4, rtol=1e-3)
    assert encode(vae, pictures).shape == (4, 4, 16, 16)


def test_the_noise_schedule_is_that_of_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler.from_config(load_family("miniature").read_config("scheduler")).alphas_cumprod
    torch.testing.assert_close(cumulative_alphas().float(), theirs, rtol=1e-5, atol=1e-7)


def test_the_preview_map_is_the_least_squares_solution():
    torch.manual_seed(0)
    scenes = [random_scene(Random(i)) for i in range(3)]
    pictures = torch.stack([to_tensor(draw(scene)) for scene in scenes])
    colours = torch.nn.functional.avg_pool2d(pictures, 8)
    latents = torch.cat([colours @ torch.eye(16) * 2, torch.randn(3, 1, 16, 16)], dim=1)
    matrix, bias = miniature.fit_preview(latents, scenes)
    torch.testing.assert_close(matrix, torch.cat([torch.eye(3) / 2, torch.zeros(1, 3)]), atol=1e-3, rtol=0)
    torch.testing.assert_close(bias, torch.zeros(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("seed", range(30))
def test_a_caption_says_only_what_its_scene_shows(seed: int):
    rng = Random(seed)
    scene = random_scene(rng)
    said = caption(scene, rng).said
    assert set(said) == set(ATTRIBUTES)
    assert all(value in ATTRIBUTES[name] for name, value in said.items())
    shown = {(thing.object, thing.colour) for thing in scene.things}
    for suffix in ("", " 2") if len(scene.things) == 2 else ("",):
        assert any(said["object" + suffix] == name and said["colour" + suffix] in ("", colour) for name, colour in shown)
    assert said["background"] in ("", scene.background)
    assert said["style"] == scene.style or (said["style"] == "" and scene.style == STYLES[0])


def test_captions_of_one_scene_vary():
    scene = random_scene(Random(0))
    assert len({caption(scene, Random(i)).text for i in range(40)}) > 20


def test_a_stopped_training_ends_where_an_unbroken_one_ends(tmp_path: Path):
    """AdamW's moments come back with the weights: four steps at once equal two and two."""

    def train(folder: Path, *totals: int) -> torch.Tensor:
        for total in totals:
            torch.manual_seed(0)
            part = torch.nn.Linear(3, 3)
            optimizer = torch.optim.AdamW(part.parameters(), lr=0.1)
            stage = Stage(folder, "stage", total)
            stage.resume(part=part, optimizer=optimizer)
            for step in stage.steps():
                optimizer.zero_grad()
                part(torch.full((1, 3), float(step))).square().sum().backward()
                optimizer.step()
                stage.done(step, 1.0, part=part, optimizer=optimizer)
        return part.weight.detach()

    assert torch.equal(train(tmp_path / "broken", 2, 4), train(tmp_path / "whole", 4))


def test_a_stage_counts_its_steps_once(tmp_path: Path):
    for total in (3, 5):
        stage = Stage(tmp_path, "stage", total)
        for step in stage.steps():
            stage.done(step, 1.0)
    assert Stage(tmp_path, "stage", 5).finished
