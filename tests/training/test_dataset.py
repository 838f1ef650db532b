"""What a training is given."""

import pytest
import torch
from PIL import Image

from webui.core.errors import BadRequest
from webui.engine.latents import encode_image
from webui.engine.model import DiffusionModel
from webui.training.dataset import Dataset, make_dataset


def test_pictures_become_the_vaes_latents_in_their_order(model: DiffusionModel, dataset: Dataset):
    assert dataset.latents.shape == (2, 4, 8, 8)
    assert torch.equal(dataset.latents[1], encode_image(model, Image.new("RGB", (64, 64), "blue"))[0])
    assert dataset.captions == (("a red newword", "red newword"), ("a blue newword", "blue newword"))


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        ([(Image.new("RGB", (60, 64)), ("x",))], "60x64"),
        ([(Image.new("RGB", (64, 64)), ("x",)), (Image.new("RGB", (64, 72)), ("x",))], "of one size"),
        ([(Image.new("RGB", (64, 64)), ())], "a caption"),
        ([], "training needs pictures"),
    ],
)
def test_what_cannot_be_learnt_is_refused(model: DiffusionModel, pictures, sentence: str):
    with pytest.raises(BadRequest, match=sentence):
        make_dataset(model, pictures)
