"""A picture in tiles that overlap, and the tiles laid together again, each fading in over the overlap with those to its left and above."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.engine.masking import Box, Size


@dataclass(frozen=True)
class Tile:
    """box: where in the picture. share: "L" of its size, how much of it shows over what was laid in before it, in order."""

    box: Box
    share: Image.Image

    def lay_in(self, picture: Image.Image, made: Image.Image) -> Image.Image:
        """`picture` with `made`, of the tile's size, in its place."""
        result = picture.copy()
        result.paste(made, self.box[:2], self.share)
        return result


def split(size: Size, tile: Size, overlap: int, skipped: Sequence[Box] = ()) -> list[Tile]:
    """Tiles, row by row, that cover a picture of `size`, with at least `overlap` pixels in common.

    skipped: boxes that are not made, since what lies there is to stay; what the picture has there counts as their tiles.
    """
    tile = (min(tile[0], size[0]), min(tile[1], size[1]))
    columns, rows = (_places(size[axis], tile[axis], overlap) for axis in (0, 1))
    across, down = _weights(columns, size[0], tile[0], overlap), _weights(rows, size[1], tile[1], overlap)
    places = [(i, j, (x, y, x + tile[0], y + tile[1])) for j, y in enumerate(rows) for i, x in enumerate(columns)]
    laid = np.zeros((size[1], size[0]))
    for i, j, box in places:
        if box in skipped:
            laid += np.outer(down[j], across[i])
    tiles = []
    for i, j, box in places:
        if box in skipped:
            continue
        weight = np.outer(down[j], across[i])
        laid += weight
        share = np.divide(weight, laid, out=np.zeros_like(laid), where=laid > 0)[box[1] : box[3], box[0] : box[2]]
        tiles.append(Tile(box, Image.fromarray(np.rint(share * 255).astype(np.uint8))))
    return tiles


def boxes(size: Size, tile: Size, overlap: int) -> list[Box]:
    """The boxes of all tiles, row by row."""
    tile = (min(tile[0], size[0]), min(tile[1], size[1]))
    columns, rows = (_places(size[axis], tile[axis], overlap) for axis in (0, 1))
    return [(x, y, x + tile[0], y + tile[1]) for y in rows for x in columns]


def _places(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles of one axis begin: evenly spread, the first and the last at the edges."""
    step = max(tile - overlap, 1)
    count = max(math.ceil((side - overlap) / step), 1)
    spread = (side - tile) / (count - 1) if count > 1 else 0.0
    return [min(int(i * spread), side - tile) for i in range(count)]


def _weights(places: Sequence[int], side: int, tile: int, overlap: int) -> list[NDArray[np.float64]]:
    """(side,) for each tile of one axis: from 0 to 1 over its first `overlap` pixels, then 1 until the next fades in; their sum is 1."""
    weights: list[NDArray[np.float64]] = []
    for place in places:
        ramp = np.zeros(side)
        ramp[place : place + tile] = 1.0
        if place and overlap:
            length = min(overlap, tile)
            ramp[place : place + length] = np.arange(length) / length
        weights = [weight * (1 - ramp) for weight in weights] + [ramp]
    return weights
