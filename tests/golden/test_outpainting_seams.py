"""Outpainting measured: 40 pictures of the miniature's world, each extended in four directions."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.golden.test_miniature_pictures import REQUEST, make
from tests.judge import judge
from webui.core.request import InitImage, Outpaint
from webui.training.world import NATIVE_SIZE, Scene, draw, object_masks, random_scene

__all__ = ["make"]  # the fixture
PICTURES, NEW, BLUR = 40, 64, 8
SIDES = ("left", "right", "top", "bottom")


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


@pytest.mark.slow
def test_borders_are_no_more_visible_than_the_picture_beside_them(make) -> None:
    across = along = 0.0
    backgrounds = objects = 0
    for number, scene in enumerate(scenes()):
        picture = draw(scene)
        old, shown = np.asarray(picture), judge(picture)
        for side in SIDES:
            init = InitImage(image="p", denoising_strength=1.0, outpaint=Outpaint(**{side: NEW}, blur=BLUR))
            image = make(replace(REQUEST, prompt=f"{scene.background} background", seed=number, init=init), p=picture)
            made, found = np.asarray(image), judge(image)
            top, left = NEW * (side == "top"), NEW * (side == "left")
            kept = made[top : top + NATIVE_SIZE, left : left + NATIVE_SIZE]
            inner = {"left": np.s_[:, BLUR:], "right": np.s_[:, :-BLUR], "top": np.s_[BLUR:], "bottom": np.s_[:-BLUR]}[side]
            assert np.array_equal(kept[inner], old[inner])
            here = energies(made.astype(float), side)
            across, along = across + here[0], along + here[1]
            backgrounds += found.background == scene.background
            objects += found.object == shown.object
    assert across / along <= 1.15
    assert backgrounds >= 0.95 * 4 * PICTURES
    assert objects >= 0.95 * 4 * PICTURES
