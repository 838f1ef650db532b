"""The command that makes an aesthetic embedding from a folder of pictures, against CLIP as transformers has it."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from webui.core.errors import BadRequest, MissingModel
from webui.core.event import Finished, Progress
from webui.core.training_request import TrainingRequest
from webui.engine.aesthetic import read_aesthetic_embedding
from webui.training import aesthetic

SIZE = 28  # pixels of the tiny CLIP's pictures


@pytest.fixture
def clip(tmp_path: Path) -> CLIPModel:
    """A tiny random CLIP in models/CLIP of the data folder `tmp_path`."""
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3}
    text = {**sizes, "vocab_size": 100}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": SIZE, "patch_size": 7}, projection_dim=24)
        model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path / "models" / "CLIP")
    return model


@pytest.fixture
def pictures(tmp_path: Path) -> list[Image.Image]:
    made = [Image.radial_gradient("L").convert("RGB"), Image.linear_gradient("L").rotate(90).convert("RGB")]
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    made[0].save(tmp_path / "pictures" / "a.png")
    made[1].save(tmp_path / "pictures" / "more" / "b.png")
    return made


def test_it_is_the_mean_of_clips_own_features(clip: CLIPModel, pictures: list[Image.Image], tmp_path: Path, capsys):
    aesthetic.main(["gentle", str(tmp_path / "pictures"), "--data-dir", str(tmp_path)])
    path = tmp_path / "models" / "aesthetic_embeddings" / "gentle.safetensors"
    assert str(path) in capsys.readouterr().out
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    with torch.no_grad():
        features = clip.get_image_features(**processor(pictures, return_tensors="pt"))
    features = getattr(features, "pooler_output", features)
    torch.testing.assert_close(read_aesthetic_embedding(path), features.mean(0, keepdim=True), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "folder", "sentence"),
    [
        ("../up", "pictures", "no good name"),
        ("x", "nowhere", "holds no pictures"),
        ("x", "pictures", "put config.json and model.safetensors"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(pictures: list[Image.Image], tmp_path: Path, name: str, folder: str, sentence: str):
    with pytest.raises(SystemExit, match=sentence):
        aesthetic.main([name, str(tmp_path / folder), "--data-dir", str(tmp_path)])


class Told:
    """Says stop after so many looks."""

    previews = False

    def __init__(self, looks: int = 10**9):
        self.looks = looks

    @property
    def interrupted(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def take_skip(self) -> bool:
        return False


def job(tmp_path: Path, control: Told | None = None, find=None, **fields):
    def nothing(kind: str, name: str) -> Path:
        raise MissingModel(name)

    request = TrainingRequest(**{"kind": "aesthetic", "name": "gentle", "create": True, "data_root": "pictures", **fields})
    models = tmp_path / "models"
    folders = {"target": models / "aesthetic_embeddings", "clip_folder": models / "CLIP", "data_dir": tmp_path}
    return list(aesthetic.make_file(request, control or Told(), find=find or nothing, **folders))


def test_as_a_job_it_takes_the_pictures_of_the_folder_itself(clip: CLIPModel, pictures: list[Image.Image], tmp_path: Path):
    events = job(tmp_path)
    assert [(event.step, event.steps) for event in events if isinstance(event, Progress)] == [(1, 1)]
    assert events[-1] == Finished()
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    with torch.no_grad():
        features = clip.get_image_features(**processor(pictures[:1], return_tensors="pt"))
    features = getattr(features, "pooler_output", features)
    made = read_aesthetic_embedding(tmp_path / "models" / "aesthetic_embeddings" / "gentle.safetensors")
    torch.testing.assert_close(made, features, atol=1e-4, rtol=1e-3)


def test_a_job_without_clip_says_exactly_where_to_put_it(pictures: list[Image.Image], tmp_path: Path):
    folder = tmp_path / "models" / "CLIP"
    sentence = re.escape(f"put config.json and model.safetensors of openai/clip-vit-large-patch14 (1.7 GB) into {folder}")
    with pytest.raises(MissingModel, match=sentence):
        job(tmp_path)
    folder.mkdir(parents=True)
    (folder / ".gitkeep").touch()
    with pytest.raises(MissingModel, match=sentence):  # the empty folder that Easel ships
        job(tmp_path)
    (folder / "model.safetensors").touch()
    with pytest.raises(MissingModel, match=sentence):
        job(tmp_path)


def test_a_job_that_is_stopped_leaves_no_file(clip: CLIPModel, pictures: list[Image.Image], tmp_path: Path):
    for number in range(40):
        pictures[0].save(tmp_path / "pictures" / f"{number}.png")
    assert job(tmp_path, Told(0))[-1] == Finished(interrupted=True)
    assert not (tmp_path / "models" / "aesthetic_embeddings").exists()


def test_an_older_file_is_kept_unless_it_may_be_overwritten(clip: CLIPModel, pictures: list[Image.Image], tmp_path: Path):
    old = tmp_path / "models" / "aesthetic_embeddings" / "gentle.pt"
    old.parent.mkdir()
    torch.save(torch.ones(1, 24), old)
    with pytest.raises(BadRequest, match=r"gentle.pt exists already"):
        job(tmp_path, find=lambda kind, name: old)
    job(tmp_path, find=lambda kind, name: old, overwrite=True)
    assert [path.name for path in old.parent.iterdir()] == ["gentle.safetensors"]
    assert not torch.equal(read_aesthetic_embedding(old.with_suffix(".safetensors")), torch.ones(1, 24))


@pytest.mark.parametrize("fields", [{"steps": 5}, {"create": False}, {"data_root": ""}])
def test_what_is_no_order_for_an_aesthetic_embedding_is_refused(tmp_path: Path, fields):
    with pytest.raises(BadRequest, match="mean of its pictures"):
        job(tmp_path, **fields)
