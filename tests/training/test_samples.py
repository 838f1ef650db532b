"""The networks that ship: what they are taught, and that one command makes their files."""

from pathlib import Path

import torch

from webui.engine.embeddings import read_embedding
from webui.engine.model import DiffusionModel
from webui.engine.patches.hypernetwork import read_hypernetwork
from webui.engine.patches.lora import read_lora
from webui.training import samples as training_samples
from webui.training.samples import golden, make, samples, starlit, valentine


def test_their_examples_are_pictures_of_one_size_with_captions(monkeypatch):
    monkeypatch.setattr(training_samples, "PICTURES", 6)
    assert all("valentine" in caption for _, captions in valentine() for caption in captions)
    assert all(picture.size == (128, 128) and captions for examples in (starlit, golden, valentine) for picture, captions in examples())


def test_making_them_writes_files_that_pictures_can_use(model: DiffusionModel, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(training_samples, "PICTURES", 2)
    readers = (read_lora, read_hypernetwork, read_embedding)
    for sample, read in zip(samples(tmp_path), readers, strict=True):
        make(training_samples.replace(sample, steps=1), model)
        first = sample.path.read_bytes()
        assert read(sample.path)
        make(training_samples.replace(sample, steps=1), model)  # in the place of the older one
        assert sample.path.suffix == ".pt" or sample.path.read_bytes() == first
    assert torch.is_grad_enabled()
