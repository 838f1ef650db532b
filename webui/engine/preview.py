"""A cheap look at latents: one matrix from latent channels to colours, no VAE."""

import io
import math

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from webui.engine.family import Family
from webui.engine.latents import FACTOR, to_image

LONGEST_SIDE = 384  # pixels
MOST_PICTURES = 9  # of a batch that are shown side by side
QUALITY = 80


def preview_jpeg(denoised: Tensor, family: Family) -> bytes:
    """The clean latents (batch, 4, h, w) that a step saw, as one small JPEG; a batch becomes a grid."""
    shown = denoised[:MOST_PICTURES].float()
    matrix = torch.tensor(family.preview_matrix, device=shown.device)
    bias = torch.tensor(family.preview_bias, device=shown.device)
    rgb = (shown.permute(0, 2, 3, 1) @ matrix + bias).permute(0, 3, 1, 2)  # (batch, 3, h, w), -1 .. 1
    rgb = _grid(rgb)
    scale = min(FACTOR, LONGEST_SIDE / max(rgb.shape[1:]))
    height, width = (max(1, round(side * scale)) for side in rgb.shape[1:])
    image = to_image((rgb + 1) / 2).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _grid(pictures: Tensor) -> Tensor:
    """(batch, 3, h, w) -> (3, rows * h, columns * w), nearly square, black where no picture is left."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    filled = functional.pad(pictures, (0, 0, 0, 0, 0, 0, 0, rows * columns - len(pictures)), value=-1.0)
    height, width = pictures.shape[2:]
    return filled.reshape(rows, columns, 3, height, width).permute(2, 0, 3, 1, 4).reshape(3, rows * height, columns * width)
