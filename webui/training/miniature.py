"""Makes the miniature checkpoint that ships with Easel: `python -m webui.training.miniature`.

Stages, each saved as it goes and resumed where it stopped: the VAE on crops of the world, the text encoder on its captions, the latents
and the captions' states of many pictures, the UNet on those. At the end (or with --export-now) one single file in the field's layout.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from webui.engine.checkpoint import save_single_file
from webui.engine.family import CONFIGS, load_family
from webui.engine.tokenizers import load_tokenizer
from webui.training.captions import caption
from webui.training.miniature_text import text_states, train_text_encoder
from webui.training.miniature_unet import train_unet
from webui.training.miniature_vae import encode, normalise, to_tensor, train_vae
from webui.training.progress import Stage, load_tensors, save_tensors
from webui.training.world import Scene, draw, random_scene

ROOT = Path(__file__).resolve().parent.parent.parent
OUTPUT = ROOT / "models/Stable-diffusion/easel-miniature.safetensors"
WORK = ROOT / "models/.training/miniature"
PREVIEW_SCENES = 500  # that the preview's matrix is fitted on
SCENE_SEED = 1_000_000  # picture i shows the scene drawn with SCENE_SEED + i
CAPTIONS = 2  # a picture
SKIPPED_LAYER = 0.1  # share of the captions that the UNet learns at CLIP skip 2
METADATA = {
    "modelspec.title": "Easel miniature",
    "modelspec.license": "Apache-2.0",
    "modelspec.description": "Stable Diffusion in miniature: 128x128 pictures of shapes, trained from nothing by webui.training.miniature",
    "modelspec.prediction_type": "epsilon",
}


class Miniature:
    """The three networks and where their training lies."""

    def __init__(self, work: Path, seed: int = 0):
        torch.manual_seed(seed)
        self.work = work
        self.family = load_family("miniature")
        self.tokenizer: CLIPTokenizer = load_tokenizer()
        self.vae = AutoencoderKL.from_config(self.family.read_config("vae"))
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**self.family.read_config("text_encoder")))
        self.unet = UNet2DConditionModel.from_config(self.family.read_config("unet"))
        self.average = UNet2DConditionModel.from_config(self.family.read_config("unet")).requires_grad_(False)

    def train_vae(self, steps: int) -> None:
        """Stage 1; latents that were made before its last step are of no more use."""
        stage = Stage(self.work, "vae", steps)
        train_vae(self.vae, stage) if not stage.finished else stage.resume(vae=self.vae)

    def train_text_encoder(self, steps: int) -> None:
        """Stage 2; the encoder is frozen after it."""
        stage = Stage(self.work, "text", steps)
        train_text_encoder(self.text_encoder, self.tokenizer, stage) if not stage.finished else stage.resume(text_encoder=self.text_encoder)
        self.text_encoder.requires_grad_(False).eval()

    def make_latents(self, count: int) -> tuple[Tensor, list[Scene]]:
        """Stage 3: normalise the VAE and give latents (count, 4, 16, 16) as the UNet sees them, fp16, with their scenes."""
        scenes = [random_scene(Random(SCENE_SEED + i)) for i in range(count)]
        path = self.work / "latents.safetensors"
        raw = load_tensors(path).get("latents", torch.empty(0, 4, 16, 16))
        if len(raw) < count:
            raw = torch.cat([raw, encode_scenes(self.vae, scenes[len(raw) :])])
            save_tensors({"latents": raw}, path)
        raw = raw[:count]
        mean, std = raw.mean(dim=(0, 2, 3), keepdim=True), raw.std(dim=(0, 2, 3), keepdim=True)
        normalise(self.vae, raw)
        return ((raw - mean) / std).half(), scenes

    def make_states(self, scenes: list[Scene]) -> Tensor:
        """Stage 4: the text states (n, CAPTIONS, 77, width) of captions of the scenes, fp16; some at CLIP skip 2."""
        path = self.work / "states.safetensors"
        states = load_tensors(path).get("states")
        if states is None or len(states) < len(scenes):
            rng = Random(SCENE_SEED)
            parts = []
            for start in tqdm(range(0, len(scenes), 16), desc="captions", mininterval=10):
                texts = [caption(scene, rng).text for scene in scenes[start : start + 16] for _ in range(CAPTIONS)]
                made = text_states(self.text_encoder, self.tokenizer, texts, skip=2 if rng.random() < SKIPPED_LAYER else 1)
                parts.append(made.half().unflatten(0, (-1, CAPTIONS)))
            states = torch.cat(parts)
            save_tensors({"states": states}, path)
        return states[: len(scenes)]

    def train_unet(self, latents: Tensor, states: Tensor, steps: int) -> None:
        """Stage 5."""
        stage = Stage(self.work, "unet", steps)
        if stage.finished:
            stage.resume(average=self.average)
        else:
            empty = text_states(self.text_encoder, self.tokenizer, [""])[0]
            train_unet(self.unet, self.average, latents, states, empty, stage)

    def export(self, output: Path) -> None:
        """One file, fp16, LDM layout."""
        output.parent.mkdir(parents=True, exist_ok=True)
        save_single_file(output, unet=self.average, vae=self.vae, text_encoder=self.text_encoder, metadata=METADATA)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is left of the stages, then export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=WORK, help="where the training's state lies")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--preview", type=Path, default=CONFIGS / "miniature/preview.json", help="where the preview's matrix is written")
    parser.add_argument("--vae-steps", type=int, default=11_500)
    parser.add_argument("--text-steps", type=int, default=700)
    parser.add_argument("--unet-steps", type=int, default=12_000)
    parser.add_argument("--pictures", type=int, default=12_000, help="how many pictures the UNet learns from")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--export-now", action="store_true", help="train nothing; export what the UNet has come to so far")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    miniature = Miniature(options.work_dir)
    miniature.train_vae(options.vae_steps)
    miniature.train_text_encoder(options.text_steps)
    latents, scenes = miniature.make_latents(options.pictures)
    write_preview(latents[:PREVIEW_SCENES], scenes[:PREVIEW_SCENES], options.preview)
    unet_steps = Stage(options.work_dir, "unet", options.unet_steps).step if options.export_now else options.unet_steps
    miniature.train_unet(latents, miniature.make_states(scenes), unet_steps)
    miniature.export(options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")


def encode_scenes(vae: AutoencoderKL, scenes: list[Scene], batch: int = 32) -> Tensor:
    """Latents (n, 4, 16, 16) of the scenes' pictures, fp32, as the VAE gives them."""
    parts = []
    for start in tqdm(range(0, len(scenes), batch), desc="latents", mininterval=10):
        pictures = torch.stack([to_tensor(draw(scene)) for scene in scenes[start : start + batch]])
        parts.append(encode(vae, pictures))
    return torch.cat(parts)


def fit_preview(latents: Tensor, scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """Least-squares matrix (4, 3) and bias (3,) from latents (n, 4, h, w) to the colours of their 8x8 pixel blocks, -1 .. 1."""
    pictures = torch.stack([to_tensor(draw(scene)) for scene in scenes])
    colours = F.avg_pool2d(pictures, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    rows = latents.float().permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    solution = torch.linalg.lstsq(F.pad(rows, (0, 1), value=1.0), colours).solution
    return solution[:-1], solution[-1]


def write_preview(latents: Tensor, scenes: list[Scene], path: Path) -> None:
    """Fit the preview's map on these latents and store it as the engine reads it."""
    matrix, bias = ([[round(x, 4) for x in row] for row in part.reshape(-1, 3).tolist()] for part in fit_preview(latents, scenes))
    path.write_text(json.dumps({"matrix": matrix, "bias": bias[0]}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
