import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from webui.engine.family import load_family
from webui.engine.preview import preview_jpeg

FAMILY = replace(load_family("sd1"), preview_matrix=((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (0, 0, 0)), preview_bias=(0.0, 0.0, 0.5))


def look(latents, family=FAMILY):
    return Image.open(io.BytesIO(preview_jpeg(latents, family)))


@pytest.mark.parametrize(
    ("latent", "picture"), [((16, 16), (128, 128)), ((64, 64), (384, 384)), ((32, 96), (384, 128)), ((512, 8), (6, 384))]
)
def test_previews_have_the_pictures_shape_and_at_most_384_pixels_a_side(latent, picture):
    assert look(torch.zeros(1, 4, *latent)).size == picture


def test_colours_are_the_matrix_times_the_latents_plus_the_bias():
    latents = torch.tensor([0.5, -0.5, 0.0, 9.0])[None, :, None, None].expand(1, 4, 8, 8)
    centre = np.asarray(look(latents))[32, 32].astype(int)
    assert np.abs(centre - [191, 64, 191]).max() <= 3


def test_a_batch_is_a_grid_with_black_where_no_picture_is_left():
    latents = torch.ones(3, 4, 8, 8)
    seen = np.asarray(look(latents)).astype(int)
    assert seen.shape == (128, 128, 3)
    assert seen[32, 32].min() > 240
    assert seen[96, 96].max() < 15


def test_pictures_beyond_the_ninth_are_left_out():
    assert look(torch.zeros(64, 4, 8, 8)).size == (192, 192)


def test_every_family_has_a_map_for_its_channels():
    for name in ("sd1", "sd2", "sdxl"):
        assert look(torch.randn(1, 4, 8, 8), load_family(name)).size == (64, 64)
