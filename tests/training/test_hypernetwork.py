"""A trained hypernetwork: what is saved does in pictures what was trained."""

from pathlib import Path

import torch

from tests.training.conftest import noise_prediction
from webui.engine.model import DiffusionModel
from webui.engine.patches.hypernetwork import HypernetworkUse, applied_hypernetworks, read_hypernetwork
from webui.engine.text_encoding import encode_prompt
from webui.training.dataset import Dataset
from webui.training.hypernetwork import HypernetworkTraining
from webui.training.loop import train


def test_the_saved_file_does_in_pictures_what_was_trained(model: DiffusionModel, dataset: Dataset, tmp_path: Path):
    nets = HypernetworkTraining(model, "made", (model.family.text_width,))
    list(train(model, dataset, nets, steps=8, learning_rate=0.05, batch_size=2))
    states = encode_prompt(model, "red", 1).states
    plain = noise_prediction(model, states)
    with nets.attached():
        wanted = noise_prediction(model, states)
    nets.save(tmp_path / "made.pt", {"step": 8})
    with applied_hypernetworks(model, [HypernetworkUse(read_hypernetwork(tmp_path / "made.pt"))]):
        got = noise_prediction(model, states)
    assert (wanted - plain).abs().max() > 1e-3
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_it_starts_near_nothing_and_the_same_by_its_seed(model: DiffusionModel):
    one, again, other = (HypernetworkTraining(model, "h", (model.family.text_width,), seed=seed).parameters() for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert max(float(weight.detach().abs().max()) for weight in one) < 0.1
