"""A trained LoRA: what is saved does in pictures what was trained."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.training.conftest import noise_prediction
from webui.core.errors import BadRequest
from webui.engine.model import DiffusionModel
from webui.engine.patches.lora import LoraUse, applied_loras, read_lora
from webui.engine.text_encoding import encode_prompt
from webui.training.dataset import Dataset
from webui.training.loop import train
from webui.training.lora import TRAINED, LoraTraining


def trained(model: DiffusionModel, dataset: Dataset) -> LoraTraining:
    lora = LoraTraining(model, rank=2, alpha=1.0)
    list(train(model, dataset, lora, steps=8, learning_rate=0.05, batch_size=2))
    return lora


def test_it_changes_nothing_before_the_first_step(model: DiffusionModel):
    states = encode_prompt(model, "red", 1).states
    plain = noise_prediction(model, states)
    with LoraTraining(model).attached():
        assert torch.equal(noise_prediction(model, states), plain)


def test_the_saved_file_does_in_pictures_what_was_trained(model: DiffusionModel, dataset: Dataset, tmp_path: Path):
    lora = trained(model, dataset)
    states = encode_prompt(model, "red", 1).states
    plain = noise_prediction(model, states)
    with lora.attached():
        wanted = noise_prediction(model, states)
    lora.save(tmp_path / "made.safetensors", {"ss_output_name": "made"})
    with applied_loras(model, [LoraUse(read_lora(tmp_path / "made.safetensors"), 1.0, 1.0, None)]) as warnings:
        got = noise_prediction(model, states)
    assert warnings == ()
    assert (wanted - plain).abs().max() > 0.01
    torch.testing.assert_close(got, wanted, atol=2e-3 * float((wanted - plain).abs().max()) + 1e-5, rtol=0)  # the file holds fp16


def test_the_file_has_kohyas_names_for_every_attention_layer(model: DiffusionModel, tmp_path: Path):
    LoraTraining(model, rank=2, alpha=1.0).save(tmp_path / "made.safetensors", {})
    layers = [name for name, _ in model.unet.named_modules() if name.endswith(TRAINED)]
    with safe_open(tmp_path / "made.safetensors", "pt") as file:
        names = {
            f"lora_unet_{layer.replace('.', '_')}.{part}" for layer in layers for part in ("lora_down.weight", "lora_up.weight", "alpha")
        }
        assert set(file.keys()) == names
        assert file.metadata()["ss_network_dim"] == "2"


def test_a_saved_file_is_gone_on_from_with_its_rank_and_alpha(model: DiffusionModel, dataset: Dataset, tmp_path: Path):
    trained(model, dataset).save(tmp_path / "a.safetensors", {"ss_steps": "8"})
    again = LoraTraining(model, rank=3, alpha=9.0)
    assert again.go_on_from(tmp_path / "a.safetensors") == 8
    assert (again.rank, again.alpha) == (2, 1.0)
    again.save(tmp_path / "b.safetensors", {})
    with safe_open(tmp_path / "a.safetensors", "pt") as one, safe_open(tmp_path / "b.safetensors", "pt") as two:
        assert all(torch.equal(one.get_tensor(key), two.get_tensor(key)) for key in {*one.keys(), *two.keys()})
    list(train(model, dataset, again, steps=1, learning_rate=0.05, batch_size=2))


def test_a_file_with_other_layers_is_not_gone_on_from(model: DiffusionModel, tmp_path: Path):
    save_file({"lora_unet_x.alpha": torch.tensor(1.0)}, tmp_path / "a.safetensors")
    with pytest.raises(BadRequest, match="make a new one"):
        LoraTraining(model).go_on_from(tmp_path / "a.safetensors")
