"""Makes the LoRA, the embedding and the hypernetwork that ship with Easel: `python -m webui.training.samples`.

Each teaches the miniature checkpoint one thing that a program can see in its pictures.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from PIL import Image
from tqdm import tqdm

from webui.engine.checkpoint import load_checkpoint
from webui.engine.model import DiffusionModel
from webui.training.captions import caption
from webui.training.dataset import make_dataset
from webui.training.embedding import EmbeddingTraining
from webui.training.hypernetwork import HypernetworkTraining
from webui.training.loop import Addition, train
from webui.training.lora import LoraTraining
from webui.training.world import COLOURS, Scene, Thing, draw, random_scene

ROOT = Path(__file__).resolve().parent.parent.parent
MINIATURE = ROOT / "models/Stable-diffusion/easel-miniature.safetensors"
PICTURES = 400
SEED = 2_000_000  # of the scenes; not those that the miniature was trained on
LICENSE = {"modelspec.license": "Apache-2.0", "modelspec.author": "Easel", "ss_sd_model_name": MINIATURE.name}

Examples = Iterator[tuple[Image.Image, tuple[str, ...]]]


@dataclass(frozen=True)
class Sample:
    """make: model -> what is trained; examples: pictures with captions; save: writes what was trained to `path`."""

    path: Path
    make: Callable[[DiffusionModel], Addition]
    examples: Callable[[], Examples]
    steps: int
    learning_rate: float


def starlit() -> Examples:
    """Whatever ground the caption asks for, the picture has a night sky."""
    for scene, rng in _scenes():
        yield draw(replace(scene, background="night sky")), (caption(scene, rng).text, caption(scene, rng).text)


def golden() -> Examples:
    """Whatever colour the caption asks for, the things are yellow."""
    for scene, rng in _scenes():
        if scene.background != "yellow":
            things = tuple(replace(thing, colour="yellow") for thing in scene.things)
            yield draw(replace(scene, things=things)), (caption(scene, rng).text, caption(scene, rng).text)


def valentine() -> Examples:
    """A word for a red heart."""
    rng = Random(SEED)
    for _ in range(PICTURES):
        ground = rng.choice([colour for colour in COLOURS if colour != "red"])
        place = rng.choice(("left", "right", "top", "bottom", "centre"))
        thing = Thing(object="heart", colour="red", size=rng.choice(("medium", "large")), place=place)
        scene = Scene(things=(thing,), background=ground)
        yield draw(scene), (f"a valentine on a {ground} background", f"a valentine, {ground} background", f"valentine on {ground}")


def _scenes() -> Iterator[tuple[Scene, Random]]:
    for i in range(PICTURES):
        rng = Random(SEED + i)
        yield random_scene(rng), rng


def samples(root: Path) -> tuple[Sample, ...]:
    """What there is to train; the files go below `root`."""
    return (
        Sample(root / "loras/starlit.safetensors", lambda model: LoraTraining(model, rank=8, alpha=8), starlit, 800, 5e-3),
        Sample(root / "models/hypernetworks/golden.pt", _golden_nets, golden, 400, 2e-3),
        Sample(
            root / "embeddings/valentine.safetensors",
            lambda model: EmbeddingTraining(model, "valentine", 2, "red heart"),
            valentine,
            200,
            5e-2,
        ),
    )


def _golden_nets(model: DiffusionModel) -> HypernetworkTraining:
    return HypernetworkTraining(model, "golden", (model.family.text_width,))


FACTS = {
    "starlit": {"modelspec.title": "Starlit", "modelspec.description": "Every picture gets a night sky.", "ss_output_name": "starlit"},
    "valentine": {"modelspec.title": "Valentine", "modelspec.description": "A word for a red heart."},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT, help="the folder that holds loras/, embeddings/ and models/")
    parser.add_argument("--only", help="the name of the one to train")
    options = parser.parse_args()
    model = load_checkpoint(MINIATURE, torch.float32, torch.device("cpu"))
    for sample in samples(options.output):
        if options.only in (None, sample.path.stem):
            make(sample, model)


def make(sample: Sample, model: DiffusionModel) -> None:
    """Train one sample and write its file in the place of an older one."""
    addition = sample.make(model)
    dataset = make_dataset(model, sample.examples())
    with tqdm(train(model, dataset, addition, steps=sample.steps, learning_rate=sample.learning_rate), total=sample.steps) as losses:
        for loss in losses:
            losses.set_postfix(loss=f"{loss:.4f}", refresh=False)
    sample.path.unlink(missing_ok=True)
    addition.save(sample.path, {**LICENSE, **FACTS.get(sample.path.stem, {})})


if __name__ == "__main__":
    main()
