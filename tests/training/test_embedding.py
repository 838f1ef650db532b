"""A trained embedding: what is saved is the word that was trained."""

from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_model
from webui.core.errors import BadRequest
from webui.engine.embeddings import read_embedding
from webui.engine.model import DiffusionModel
from webui.engine.text_encoding import encode_prompt
from webui.training.dataset import Dataset
from webui.training.embedding import EmbeddingTraining
from webui.training.loop import train


def test_it_begins_as_its_starting_words(model: DiffusionModel):
    training = EmbeddingTraining(model, "newword", count=2, start="red heart")
    states = training.encode("a newword")
    assert states is not None
    torch.testing.assert_close(states, encode_prompt(model, "a red heart", 1).states)
    assert training.encode("another word") is None


def test_the_saved_file_is_the_word_that_was_trained(model: DiffusionModel, dataset: Dataset, tmp_path: Path):
    training = EmbeddingTraining(model, "newword", count=3, start="red")
    before = training.encode("a newword")
    list(train(model, dataset, training, steps=8, learning_rate=0.05, batch_size=2))
    wanted = training.encode("a newword")
    training.save(tmp_path / "newword.safetensors", {})
    embedding = read_embedding(tmp_path / "newword.safetensors")
    got = encode_prompt(model, "a newword", 1, {"newword": embedding})
    assert embedding.count == 3
    assert before is not None
    assert wanted is not None
    assert (wanted - before).abs().max() > 1e-3
    torch.testing.assert_close(got.states, wanted)
    assert [used.name for used in got.embeddings] == ["newword"]


def test_models_with_two_text_encoders_are_refused(model: DiffusionModel):
    with pytest.raises(BadRequest, match="one text encoder"):
        EmbeddingTraining(tiny_model("sdxl"), "newword")
