"""The command that makes an aesthetic embedding from a folder of pictures, against CLIP as transformers has it."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

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
