"""Makes the small upscaler that ships with Easel: `python -m webui.training.upscaler`.

The truth are pictures of the miniature's world, drawn at twice its size; the inputs are the same pictures made half as large, each with
one of the filters by which pictures are usually made smaller. The network is Real-ESRGAN's compact one (SRVGGNetCompact), small enough
for any machine. Training saves its state as it goes and resumes where it stopped.
"""

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from webui.engine.upscaler_model import Compact
from webui.training.progress import Stage
from webui.training.world import NATIVE_SIZE, draw, random_scene

ROOT = Path(__file__).resolve().parent.parent.parent
OUTPUT = ROOT / "models/upscalers/easel-world-x2.safetensors"
WORK = ROOT / "models/.training/upscaler"
SCALE = 2
FEATURES, LAYERS = 32, 10  # of the network
LEARNING_RATE = 1e-3
BATCH, SIDE = 8, 40  # crops a step, and the side of their smaller pictures in pixels
POOL = 1000  # pictures that crops are taken from
SCENE_SEED = 5_000_000  # picture i of the pool shows the scene drawn with SCENE_SEED + i
CANDIDATES = 3  # crops of which the one with the most in it is taken: most of a picture is one colour
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
SHARES = (5, 1, 1, 1)  # of the filters; BOX makes what the world looks like when it is drawn small
METADATA = {
    "modelspec.title": "Easel world x2",
    "modelspec.license": "Apache-2.0",
    "modelspec.description": "Makes pictures of the miniature's world twice as large; trained from nothing by webui.training.upscaler",
}


@dataclass(frozen=True)
class Pool:
    """Pictures twice: `small` (n, 3, h, w) and `large` (n, 3, 2 h, 2 w), bytes."""

    small: Tensor
    large: Tensor

    def crops(self, rng: Random) -> tuple[Tensor, Tensor]:
        """BATCH crops of both, 0 .. 1, turned and mirrored in all eight ways."""
        pairs = []
        for _ in range(BATCH):
            number, top, left = max((self._place(rng) for _ in range(CANDIDATES)), key=self._contrast)
            turns, mirrored = rng.randrange(4), rng.random() < 0.5
            pairs.append(
                [
                    _turned(pictures[number, :, top * by : (top + SIDE) * by, left * by : (left + SIDE) * by], turns, mirrored)
                    for pictures, by in ((self.small, 1), (self.large, SCALE))
                ]
            )
        small, large = (torch.stack(pictures).float() / 255 for pictures in zip(*pairs, strict=True))
        return small, large

    def _place(self, rng: Random) -> tuple[int, int, int]:
        """(picture, top, left) of a crop."""
        top, left = (rng.randrange(side - SIDE + 1) for side in self.small.shape[2:])
        return rng.randrange(len(self.small)), top, left

    def _contrast(self, place: tuple[int, int, int]) -> float:
        number, top, left = place
        return self.small[number, :, top : top + SIDE, left : left + SIDE].float().std(dim=(1, 2)).sum().item()


def make_pool(count: int, seed: int) -> Pool:
    """`count` pictures of the world, from scene `seed` on."""
    pairs = [world_pair(seed + i) for i in range(count)]
    small, large = (torch.stack([_bytes(picture) for picture in pictures]) for pictures in zip(*pairs, strict=True))
    return Pool(small, large)


def world_pair(seed: int) -> tuple[Image.Image, Image.Image]:
    """A scene's picture at the miniature's size, made of the one at twice that size, and that one."""
    rng = Random(seed)
    large = draw(random_scene(rng), NATIVE_SIZE * SCALE, NATIVE_SIZE * SCALE)
    return large.resize((NATIVE_SIZE, NATIVE_SIZE), rng.choices(FILTERS, SHARES)[0]), large


def train_upscaler(network: nn.Module, stage: Stage, seed: int = 1) -> None:
    """Steps of squared error on pixels; `stage` counts, saves and resumes."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    stage.resume(network=network, optimizer=optimizer)
    pool = make_pool(POOL, SCENE_SEED)
    rng = Random(f"{seed} {stage.step}")
    for step in stage.steps():
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * stage.cosine(step, warmup=50)
        small, large = pool.crops(rng)
        loss = F.mse_loss(network(small), large)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        stage.done(step, loss.item(), network=network, optimizer=optimizer)


def peak_signal_to_noise(one: Image.Image, other: Image.Image) -> float:
    """dB between two pictures of one size; infinite where they are equal."""
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is left of the steps, then write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=WORK, help="where the training's state lies")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = Compact(num_feat=FEATURES, num_conv=LAYERS, upscale=SCALE)
    stage = Stage(options.work_dir, "upscaler", options.steps)
    train_upscaler(network, stage) if not stage.finished else stage.resume(network=network)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, options.output, METADATA)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")


def _turned(picture: Tensor, turns: int, mirrored: bool) -> Tensor:
    return torch.rot90(picture.flip(2) if mirrored else picture, turns, (1, 2))


def _bytes(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


if __name__ == "__main__":
    main()
