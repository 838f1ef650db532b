"""Training as a job: the file is what was learnt, whole or not at all."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tests.training.conftest import noise_prediction, unchanged, weights_of
from webui.core.errors import BadRequest, MissingModel
from webui.core.event import Finished, Notice, Progress, Record
from webui.core.training_request import TrainingRequest
from webui.engine.embeddings import read_embedding
from webui.engine.model import DiffusionModel
from webui.engine.patches.hypernetwork import read_hypernetwork
from webui.engine.patches.lora import LoraUse, applied_loras, read_lora
from webui.engine.text_encoding import encode_prompt
from webui.training import jobs
from webui.training.jobs import train_file


class Control:
    """Says stop after so many looks."""

    previews = False

    def __init__(self, looks: int = 10**9) -> None:
        self.looks = looks

    @property
    def interrupted(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def take_skip(self) -> bool:
        return False


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(pictures / f"{colour}.png")
    return tmp_path


@pytest.fixture
def run(data: Path, model: DiffusionModel):
    folders = {"embedding": data / "embeddings", "hypernetwork": data / "models" / "hypernetworks", "lora": data / "loras"}

    def find(kind: str, name: str) -> Path:
        for ending in (".safetensors", ".pt"):
            if (folders[kind] / f"{name}{ending}").exists():
                return folders[kind] / f"{name}{ending}"
        raise MissingModel(f"there is no {kind} {name}")

    def go(kind: str, control: Control | None = None, **fields):
        request = TrainingRequest(**{"kind": kind, "name": "sks", "checkpoint": "tiny.safetensors", "width": 64, "height": 64, **fields})
        return list(train_file(request, control or Control(), load=lambda name: model, find=find, folders=folders, data_dir=data))

    return go


TRAIN = {"steps": 6, "data_root": "pictures", "learning_rate": 0.05, "batch_size": 2}


def test_a_new_embedding_begins_as_its_words(run, data: Path, model: DiffusionModel) -> None:
    assert isinstance(run("embedding", create=True, vectors=3, init_text="red heart")[-1], Finished)
    made = read_embedding(data / "embeddings" / "sks.safetensors")
    ids = model.tokenizer("red heart", add_special_tokens=False)["input_ids"]
    table = model.text_encoder.get_input_embeddings().weight
    torch.testing.assert_close(next(iter(made.vectors.values())), table[[ids[0], ids[1], ids[0]]].detach())
    assert made.checkpoint == "tiny"


def test_an_embedding_is_trained_on_and_counts_its_steps(run, data: Path, model: DiffusionModel) -> None:
    before = weights_of(model)
    run("embedding", create=True, vectors=2, init_text="red")
    path = data / "embeddings" / "sks.safetensors"
    first = read_embedding(path)
    told = run("embedding", **TRAIN)
    assert [event.step for event in told if isinstance(event, Progress)] == [1, 2, 3, 4, 5, 6]
    assert "training sks, loss" in next(event.text for event in told if isinstance(event, Progress))
    run("embedding", **TRAIN)
    trained = read_embedding(path)
    assert (first.step, trained.step, trained.count) == (0, 12, 2)
    assert any(not torch.equal(trained.vectors[width], first.vectors[width]) for width in first.vectors)
    assert unchanged(model, before)


def test_a_hypernetwork_is_made_as_asked_for_and_trained(run, data: Path, model: DiffusionModel) -> None:
    width = model.family.text_width
    asked = {
        "widths": (width,),
        "layer_structure": (1, 0.5, 0.25, 1),
        "activation": "relu",
        "weight_init": "XavierUniform",
        "layer_norm": True,
    }
    run("hypernetwork", create=True, dropout=(0, 0.25, 0, 0), **asked)
    path = data / "models" / "hypernetworks" / "sks.pt"
    first = read_hypernetwork(path)
    assert (first.layout.layer_structure, first.layout.activation, first.layout.layer_norm) == ((1, 0.5, 0.25, 1), "relu", True)
    assert (first.layout.dropout, first.layout.activate_output, list(first.nets)) == ((0, 0.25, 0, 0), False, [width])
    assert first.facts["weight_initialization"] == "XavierUniform"
    run("hypernetwork", **{**TRAIN, "steps": 2})
    trained = read_hypernetwork(path)
    assert (first.facts["step"], trained.facts["step"], trained.layout) == (0, 2, first.layout)
    pairs = zip(first.nets[width][0].parameters(), trained.nets[width][0].parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs)


def test_a_file_of_another_ending_gives_its_place_to_the_trained_one(run, data: Path, model: DiffusionModel) -> None:
    vector = model.text_encoder.get_input_embeddings().weight[5:6].detach().clone()
    (data / "embeddings").mkdir()
    torch.save({"string_to_param": {"*": vector}, "name": "sks", "step": 3}, data / "embeddings" / "sks.pt")
    run("embedding", **TRAIN)
    assert [path.name for path in (data / "embeddings").iterdir()] == ["sks.safetensors"]
    assert read_embedding(data / "embeddings" / "sks.safetensors").step == 9


def test_an_interruption_keeps_what_was_learnt(run, data: Path) -> None:
    run("embedding", create=True)
    told = run("embedding", Control(looks=2), **TRAIN)
    assert (told[-1], len([event for event in told if isinstance(event, Progress)])) == (Finished(interrupted=True), 3)
    assert "3 of 6 steps" in next(event.text for event in told if isinstance(event, Notice))
    assert read_embedding(data / "embeddings" / "sks.safetensors").step == 3


def test_a_training_that_fails_leaves_the_file_as_it_was(run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embedding", create=True)
    path = data / "embeddings" / "sks.safetensors"
    before = path.read_bytes()

    def broken(*arguments, **options):
        yield 0.5
        raise MemoryError

    monkeypatch.setattr(jobs, "train", broken)
    with pytest.raises(MemoryError):
        run("embedding", **TRAIN)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_names_that_are_taken_and_those_that_are_not_there_are_refused(run, data: Path) -> None:
    with pytest.raises(MissingModel):
        run("embedding", **TRAIN)
    run("embedding", create=True)
    with pytest.raises(BadRequest, match="exists already"):
        run("embedding", create=True)
    run("embedding", create=True, overwrite=True, vectors=4)
    assert read_embedding(data / "embeddings" / "sks.safetensors").count == 4


@pytest.mark.parametrize("root", ["..", "/etc", "none", "embeddings/../.."])
def test_pictures_elsewhere_are_refused(run, data: Path, root: str) -> None:
    run("embedding", create=True)
    with pytest.raises(BadRequest, match="no folder"):
        run("embedding", **{**TRAIN, "data_root": root})


def test_nets_that_cannot_be_built_or_do_not_fit_are_refused(run, data: Path, model: DiffusionModel) -> None:
    width = model.family.text_width
    for fields in ({"activation": "none"}, {"layer_structure": (2, 1)}, {"dropout": (0, 2, 0)}):
        with pytest.raises(BadRequest, match=r"cannot be built|does not run"):
            run("hypernetwork", create=True, widths=(width,), **fields)
    with pytest.raises(BadRequest, match=f"choose among .*{width}"):
        run("hypernetwork", create=True, widths=(7,))


def test_a_lora_is_made_trained_and_read_as_others_are(run, data: Path, model: DiffusionModel) -> None:
    before = weights_of(model)
    told = run("lora", create=True, rank=2, **TRAIN)
    assert isinstance(told[-1], Finished)
    made = read_lora(data / "loras" / "sks.safetensors")
    states = encode_prompt(model, "red", 1).states
    plain = noise_prediction(model, states)
    with applied_loras(model, [LoraUse(made, 1.0, 1.0, None)]) as warnings:
        assert not torch.equal(noise_prediction(model, states), plain)
    assert warnings == ()
    assert unchanged(model, before)
    with safe_open(data / "loras" / "sks.safetensors", "pt") as file:
        assert file.metadata()["ss_network_dim"] == "2"
    with pytest.raises(BadRequest, match="exists already"):
        run("lora", create=True, **TRAIN)
    run("lora", create=True, overwrite=True, **TRAIN)
    run("lora", **TRAIN)  # further
    with safe_open(data / "loras" / "sks.safetensors", "pt") as file:
        assert file.metadata()["ss_steps"] == "12"


def test_losses_and_samples_are_told_on_the_way(run) -> None:
    told = run("lora", create=True, sample_every=4, sample_prompt="red", **TRAIN)
    records = [event for event in told if isinstance(event, Record)]
    losses = json.loads([each for each in records if each.name == "losses.json"][-1].data)["losses"]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    shown = [event.text for event in told if isinstance(event, Progress)]
    assert shown[0].endswith(f"loss {losses[0][1]:.4f}")
    samples = [each for each in records if each.name.startswith("sample")]
    assert [each.name for each in samples] == ["sample-4.webp", "sample-6.webp"]
    assert Image.open(io.BytesIO(samples[0].data)).size == (64, 64)


def test_the_curve_of_a_long_training_has_few_points() -> None:
    curve = jobs._Curve(5)
    points = [json.loads(record.data)["losses"] for step in range(1, 21) for record in curve.added(step, step / 10)]
    assert points[-1] == [[5, 0.3], [10, 0.8], [15, 1.3], [20, 1.8]]


def test_a_hypernetwork_without_sizes_is_for_the_texts(run, data: Path, model: DiffusionModel) -> None:
    run("hypernetwork", create=True, widths=())
    assert set(read_hypernetwork(data / "models/hypernetworks/sks.pt").nets) == {model.family.text_width}
