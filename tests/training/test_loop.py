"""The loop: it learns, the same way each time, and leaves the model alone."""

import pytest
import torch

from tests.tiny import tiny_model
from tests.training.conftest import unchanged, weights_of
from webui.core.errors import BadRequest
from webui.engine.model import DiffusionModel
from webui.training.dataset import Dataset
from webui.training.embedding import EmbeddingTraining
from webui.training.hypernetwork import HypernetworkTraining
from webui.training.loop import train
from webui.training.lora import LoraTraining


def learn(model: DiffusionModel, dataset: Dataset, seed: int = 1, steps: int = 3, rate: float = 0.05) -> tuple[list[float], LoraTraining]:
    lora = LoraTraining(model, rank=4)
    return list(train(model, dataset, lora, steps=steps, learning_rate=rate, batch_size=2, seed=seed)), lora


def test_it_learns(model: DiffusionModel, dataset: Dataset):
    """Against the losses of the very same noises at learning rate 0."""
    (learnt, _), (idle, _) = learn(model, dataset, steps=40), learn(model, dataset, steps=40, rate=0.0)
    assert learnt[0] == idle[0]
    assert sum(learnt[-15:]) < 0.96 * sum(idle[-15:])


def test_the_same_seed_gives_the_same_losses_and_weights_and_another_does_not(model: DiffusionModel, dataset: Dataset):
    (first, one), (again, two), (other, _) = (learn(model, dataset, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_plan_says_each_steps_rate(model: DiffusionModel, dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    rates = []

    class Noting(torch.optim.AdamW):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "AdamW", Noting)
    plan = ((0.05, 2), (0.01, 3), (0.001, -1))
    list(train(model, dataset, LoraTraining(model), steps=5, learning_rate=9.0, plan=plan, batch_size=2))
    assert rates == [0.05, 0.05, 0.01, 0.001, 0.001]


def test_the_model_is_bit_identical_and_trainable_as_before_also_after_a_stop(model: DiffusionModel, dataset: Dataset):
    before = weights_of(model)
    asked = [weight.requires_grad for weight in model.unet.parameters()]
    for addition in (
        LoraTraining(model),
        HypernetworkTraining(model, "h", (model.family.text_width,)),
        EmbeddingTraining(model, "newword"),
    ):
        start = [parameter.detach().clone() for parameter in addition.parameters()]
        running = train(model, dataset, addition, steps=5, learning_rate=0.05, batch_size=2)
        next(running), next(running)
        running.close()
        assert unchanged(model, before)
        assert any(not torch.equal(a, b) for a, b in zip(start, addition.parameters(), strict=True))
    assert [weight.requires_grad for weight in model.unet.parameters()] == asked
    assert not any("forward" in vars(module) for module in model.unet.modules())


def test_a_model_of_v_prediction_is_taught_v():
    latents = torch.full((1, 4, 8, 8), 30.0)  # v has their size, the noise that of 1: so has the loss of a UNet that knows nothing
    losses = [
        next(train(model, Dataset(latents, (("x",),)), LoraTraining(model), steps=1, learning_rate=0.0, batch_size=4))
        for model in (tiny_model("sd2"), tiny_model())
    ]
    assert losses[0] > 50 > 5 > losses[1]


def test_captions_that_do_not_call_the_new_word_are_refused(model: DiffusionModel):
    dataset = Dataset(torch.zeros(1, 4, 8, 8), (("another",),))
    with pytest.raises(BadRequest, match="its name in every caption"):
        next(train(model, dataset, EmbeddingTraining(model, "newword"), steps=1, learning_rate=0.1, batch_size=1))
