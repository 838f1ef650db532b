"""A tiny model, and two plain pictures to learn."""

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.tiny import tiny_model
from webui.engine.model import DiffusionModel
from webui.training.dataset import Dataset, make_dataset


@pytest.fixture
def model() -> DiffusionModel:
    return tiny_model()


@pytest.fixture
def dataset(model: DiffusionModel) -> Dataset:
    """Red and blue, each with two captions that call the word "newword"."""
    captions = {colour: (f"a {colour} newword", f"{colour} newword") for colour in ("red", "blue")}
    return make_dataset(model, [(Image.new("RGB", (64, 64), colour), texts) for colour, texts in captions.items()])


def weights_of(model: DiffusionModel) -> dict[str, Tensor]:
    """Copies of all weights."""
    parts = {"unet": model.unet, "vae": model.vae, "text": model.text_encoder}
    return {f"{part}.{name}": weight.clone() for part, module in parts.items() for name, weight in module.state_dict().items()}


def unchanged(model: DiffusionModel, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(weight, before[name]) for name, weight in weights_of(model).items())


def noise_prediction(model: DiffusionModel, states: Tensor) -> Tensor:
    """(1, 4, 8, 8): what the UNet answers on fixed latents."""
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        answer: Tensor = model.unet(latents, torch.tensor([500]), states[None]).sample
    return answer
