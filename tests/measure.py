"""Measures how well a checkpoint follows captions of the miniature's world, with the judge's eyes (`make judge`)."""

# ruff: noqa: T201
import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from random import Random

import torch
from diffusers import EulerDiscreteScheduler
from PIL import Image
from tqdm import tqdm

from tests.judge import Seen, SeenThing, judge
from webui.engine.checkpoint import load_checkpoint
from webui.engine.model import DiffusionModel
from webui.training.captions import Caption, caption
from webui.training.world import NATIVE_SIZE, random_scene

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "models/Stable-diffusion/easel-miniature.safetensors"
SHEET = ROOT / "benchmarks/contact_sheet.png"
SEED = 20_000_003  # of the captions; training uses small seeds
BATCH = 20
TARGETS = {"background": 0.95, "colour": 0.95, "object": 0.90, "place": 0.90}


@dataclass(frozen=True)
class Score:
    """How many of the captions that say an attribute have it right in their pictures."""

    right: Counter[str]
    asked: Counter[str]

    def share(self, attribute: str) -> float:
        return self.right[attribute] / max(1, self.asked[attribute])

    def table(self) -> str:
        """Markdown."""
        lines = ["| attribute | right | asked for in | target |", "|---|---|---|---|"]
        for name in (*TARGETS, *sorted(set(self.asked) - set(TARGETS))):
            target = f"{TARGETS[name]:.0%}" if name in TARGETS else ""
            lines.append(f"| {name} | {self.share(name):.1%} | {self.asked[name]} captions | {target} |")
        return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw captions, make their pictures, judge them; print a table, write a sheet of the first sixteen."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg-scale", type=float, default=4.0)
    parser.add_argument("--sheet", type=Path, default=SHEET)
    parser.add_argument("--misses", action="store_true", help="print each caption that was not followed, and what is seen")
    options = parser.parse_args(arguments)
    model = load_checkpoint(options.checkpoint, torch.float32, torch.device("cpu"))
    captions = unseen_captions(options.count)
    pictures = list(tqdm(make(model, captions, options.steps, options.cfg_scale), total=len(captions)))
    seen = [judge(picture) for picture in pictures]
    print(score(captions, seen).table())
    options.sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures[:16]).save(options.sheet)
    print(f"{options.sheet} shows the first {len(pictures[:16])}:")
    for number, asked in enumerate(captions[:16], start=1):
        print(f"{number}. {asked.text}")
    if options.misses:
        for number, (asked, found) in enumerate(zip(captions, seen, strict=True), start=1):
            if wrong := {name for name, right in verdicts(asked, found).items() if not right}:
                print(f"{number}. {asked.text!r}: wrong {', '.join(sorted(wrong))}; seen {found}")


def unseen_captions(count: int, seed: int = SEED) -> list[Caption]:
    """Captions of random scenes, drawn with a seed that training never uses."""
    rng = Random(seed)
    return [caption(random_scene(rng), rng) for _ in range(count)]


@torch.no_grad()
def make(model: DiffusionModel, captions: list[Caption], steps: int, cfg_scale: float) -> Iterator[Image.Image]:
    """One picture a caption; picture i has seed i. diffusers' own pipeline draws them: no code of Easel's loop is measured."""
    pipeline = model.pipeline
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(captions), BATCH):
        texts = [asked.text for asked in captions[start : start + BATCH]]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(texts))]
        size = {"width": NATIVE_SIZE, "height": NATIVE_SIZE}
        yield from pipeline(texts, num_inference_steps=steps, guidance_scale=cfg_scale, generator=generators, **size).images


def score(captions: list[Caption], seen: list[Seen]) -> Score:
    """Counts over all captions; a caption of two things has an attribute right where both things have it."""
    result = Score(Counter(), Counter())
    for asked, found in zip(captions, seen, strict=True):
        for name, right in verdicts(asked, found).items():
            result.asked[name] += 1
            result.right[name] += right
    return result


def verdicts(asked: Caption, found: Seen) -> dict[str, bool]:
    """For each attribute that the caption says, whether the picture has it."""
    said = asked.said
    wanted = [{name: said.get(name + suffix, "") for name in ("object", "colour", "place", "size")} for suffix in ("", " 2")]
    wanted = [thing for thing in wanted if thing["object"]]
    result = {}
    if said["background"]:
        result["background"] = found.background == said["background"]
    if said["style"]:
        result["style"] = bool(found.things) and all(thing.style == said["style"] for thing in found.things[: len(wanted)])
    things = _best_order(wanted, found.things)
    for name in ("object", "colour", "place", "size"):
        asked_for = [(want[name], getattr(thing, name, "")) for want, thing in zip(wanted, things, strict=True) if want[name]]
        if asked_for:
            result[name] = all(want == has for want, has in asked_for)
    return result


def _best_order(wanted: list[dict[str, str]], things: tuple[SeenThing, ...]) -> tuple[SeenThing | None, ...]:
    """As many of `things` as are wanted, in the order that agrees best; None where one is missing."""
    candidates: tuple[SeenThing | None, ...] = (*things[: len(wanted)], *[None] * (len(wanted) - len(things)))

    def agreement(order: tuple[SeenThing | None, ...]) -> int:
        return sum(getattr(thing, name, "") == value for want, thing in zip(wanted, order, strict=True) for name, value in want.items())

    return max(permutations(candidates), key=agreement)


def contact_sheet(pictures: list[Image.Image], columns: int = 8) -> Image.Image:
    """The pictures side by side, a few pixels apart."""
    cell = NATIVE_SIZE + 4
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell + 4, rows * cell + 4), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (4 + i % columns * cell, 4 + i // columns * cell))
    return sheet
