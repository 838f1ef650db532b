"""What an addition to a model is trained on: latents of pictures, encoded once, each with the captions that may go with it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from webui.core.errors import BadRequest
from webui.engine.latents import encode_image
from webui.engine.model import DiffusionModel


@dataclass(frozen=True)
class Dataset:
    """latents: (n, 4, height/8, width/8), float32, in the UNet's scale; captions: those of each picture, one or more."""

    latents: Tensor
    captions: tuple[tuple[str, ...], ...]


@torch.no_grad()
def make_dataset(model: DiffusionModel, pictures: Iterable[tuple[Image.Image, Sequence[str]]]) -> Dataset:
    """Encode the pictures with the model's VAE. All have one size, of multiples of 8 pixels. Raises BadRequest where that is not so."""
    latents, captions = [], []
    for picture, texts in pictures:
        if picture.width % 8 or picture.height % 8:
            raise BadRequest(f"a training picture of {picture.width}x{picture.height} has sides that are no multiples of 8; cut it")
        latents.append(encode_image(model, picture))
        captions.append(tuple(texts))
    if not latents or len({each.shape for each in latents}) > 1 or not all(captions):
        raise BadRequest("training needs pictures of one size, each with a caption")
    return Dataset(torch.cat(latents), tuple(captions))
