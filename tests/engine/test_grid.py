"""Tiles cover the picture, overlap, and give it back when they are laid together."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from webui.engine.grid import boxes, split

SIZES = [((96, 64), (64, 64), 16), ((100, 130), (64, 48), 8), ((64, 64), (64, 64), 16), ((40, 200), (64, 64), 0), ((200, 64), (64, 64), 32)]


@pytest.mark.parametrize(("size", "tile", "overlap"), SIZES)
def test_tiles_cover_the_picture_and_overlap(size, tile, overlap):
    covered = np.zeros(size[::-1], dtype=int)
    found = boxes(size, tile, overlap)
    for left, top, right, bottom in found:
        assert (right - left, bottom - top) == (min(tile[0], size[0]), min(tile[1], size[1]))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    assert found[-1][2:] == size
    columns = sorted({(box[0], box[2]) for box in found})
    assert all(end - start >= overlap for (_, end), (start, _) in pairwise(columns))


@pytest.mark.parametrize(("size", "tile", "overlap"), SIZES)
def test_pieces_of_one_picture_give_it_back(size, tile, overlap):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    laid = Image.new("RGB", size)
    for piece in split(size, tile, overlap):
        laid = piece.lay_in(laid, picture.crop(piece.box))
    assert np.abs(np.asarray(laid, dtype=int) - np.asarray(picture)).max() <= 2  # rounding of the shares


def test_tiles_fade_into_one_another_evenly():
    tiles = split((112, 64), (64, 64), 16)
    assert [tile.box[0] for tile in tiles] == [0, 48]
    laid = Image.new("L", (112, 64))
    for tile, grey in zip(tiles, (0, 160), strict=True):
        laid = tile.lay_in(laid, Image.new("L", (64, 64), grey))
    row = np.asarray(laid)[10].astype(int)
    assert (row[:48] == 0).all()
    assert (row[64:] == 160).all()
    assert np.abs(row[48:64] - np.arange(16) * 10).max() <= 1


def test_what_is_skipped_counts_as_laid():
    size, tile = (112, 64), (64, 64)
    (kept,) = split(size, tile, 16, skipped=[(0, 0, 64, 64)])
    laid = kept.lay_in(Image.new("L", size, 200), Image.new("L", tile, 100))
    assert (np.asarray(laid)[:, :48] == 200).all()
    assert 100 < np.asarray(laid)[5, 56] < 200
