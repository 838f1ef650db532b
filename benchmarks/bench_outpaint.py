"""Outpainting measured: 40 pictures of the miniature's world, each extended in four directions. `make bench-outpaint` (minutes)."""

from dataclasses import replace
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.bench import MINIATURE, write
from tests.judge import judge
from webui.core.event import Pictures
from webui.core.request import GenerationRequest, InitImage, Outpaint
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.training.world import NATIVE_SIZE, Scene, draw, object_masks, random_scene

PICTURES, NEW, BLUR = 40, 64, 8  # NEW, BLUR: pixels
SIDES = ("left", "right", "top", "bottom")
REQUEST = GenerationRequest(checkpoint=MINIATURE.name, vae="None", cfg_scale=4.0, variation_seed=0)


class Alone:
    interrupted = previews = False

    def take_skip(self) -> bool:
        return False


def scenes() -> list[Scene]:
    """Scenes whose things lie within the picture: what touches the edge may well end there."""
    rng, found = Random(7), []
    while len(found) < PICTURES:
        scene = random_scene(rng)
        masks = [np.asarray(object_masks(thing, scene.style, NATIVE_SIZE, NATIVE_SIZE)[0]) for thing in scene.things]
        if not any(mask[:4].any() or mask[-4:].any() or mask[:, :4].any() or mask[:, -4:].any() for mask in masks):
            found.append(scene)
    return found


def energies(made: NDArray[np.float64], side: str) -> tuple[float, float]:
    """Mean squared gradient across the border between old and new, and along it."""
    turned = made.transpose(1, 0, 2) if side in ("top", "bottom") else made
    border = NEW if side in ("left", "top") else NATIVE_SIZE
    across, along = turned[:, border] - turned[:, border - 1], np.diff(turned[:, border - 1 : border + 1], axis=0)
    return float((across**2).mean()), float((along**2).mean())


def is_kept(made: NDArray[np.uint8], old: NDArray[np.uint8], side: str) -> bool:
    """Whether every old pixel outside of the blur is what it was."""
    top, left = NEW * (side == "top"), NEW * (side == "left")
    kept = made[top : top + NATIVE_SIZE, left : left + NATIVE_SIZE]
    inner = {"left": np.s_[:, BLUR:], "right": np.s_[:, :-BLUR], "top": np.s_[BLUR:], "bottom": np.s_[:-BLUR]}[side]
    return np.array_equal(kept[inner], old[inner])


def measure() -> list[tuple[str, str, str]]:
    """Rows (what, figure, goal)."""
    model = load_checkpoint(MINIATURE, torch.float32, torch.device("cpu"))
    found: list[tuple[float, float]] = []
    kept = backgrounds = objects = 0
    for number, scene in enumerate(scenes()):
        picture = draw(scene)
        shown = judge(picture)
        for side in SIDES:
            init = InitImage(image="p", denoising_strength=1.0, outpaint=Outpaint(**{side: NEW}, blur=BLUR))
            asked = replace(REQUEST, prompt=f"{scene.background} background", seed=number, width=NATIVE_SIZE, height=NATIVE_SIZE, init=init)
            image = extended(model, asked, picture)
            made, told = np.asarray(image), judge(image)
            found.append(energies(made.astype(float), side))
            kept += is_kept(made, np.asarray(picture), side)
            backgrounds += told.background == scene.background
            objects += told.object == shown.object
    across, along = (sum(energy) for energy in zip(*found, strict=True))
    middle = np.median([a / max(b, 0.01) for a, b in found])
    count = len(found)
    return [
        ("gradient energy across the border ÷ along it, all pictures together", f"{across / along:.2f}", "≤ 1.15"),
        ("the same, median of the pictures", f"{middle:.2f}", ""),
        ("old pixels outside of the blur identical", f"{kept} of {count}", "all"),
        ("background recognised", f"{backgrounds} of {count}", ""),
        ("object recognised", f"{objects} of {count}", ""),
    ]


def extended(model: object, request: GenerationRequest, picture: Image.Image) -> Image.Image:
    events = generate(request, Alone(), load=lambda asked: model, open_input={"p": picture}.__getitem__)  # type: ignore[arg-type, return-value]
    return next(event.pictures[0].image for event in events if isinstance(event, Pictures))


if __name__ == "__main__":
    write(measure())
