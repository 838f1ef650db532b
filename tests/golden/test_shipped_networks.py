"""The LoRA, the hypernetwork and the embedding that ship with Easel do what they were trained for, at weight 1, and nothing at 0."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.test_miniature_pictures import MINIATURE, REQUEST, Alone
from tests.judge import Seen, judge
from webui.core.event import Pictures
from webui.core.lora_hash import lora_hash
from webui.core.model_listing import model_in
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.engine.networks import EmbeddingStore, NetworkStore

ROOT = MINIATURE.parents[2]
FILES = {"lora": ROOT / "loras/starlit.safetensors", "hypernet": ROOT / "models/hypernetworks/golden.pt"}
EMBEDDING = ROOT / "embeddings/valentine.safetensors"
PROMPTS = ("a green star on a blue background{}", "a large purple square, white background{}", "an orange ring on the sea{}")


@pytest.fixture(scope="module")
def make():
    """prompt -> the picture."""
    model = load_checkpoint(MINIATURE, torch.float32, torch.device("cpu"))
    networks = NetworkStore(lambda kind, name: FILES[kind], lora_hash)
    embeddings = EmbeddingStore(lambda: [model_in((EMBEDDING.parent,), (".safetensors",), EMBEDDING.name)])

    def picture(prompt):
        request = replace(REQUEST, prompt=prompt, sampler="Euler")
        arguments = {"load": lambda asked: model, "open_input": {}.__getitem__, "networks": networks.of, "embeddings": embeddings.now}
        return next(event.pictures[0].image for event in generate(request, Alone(), **arguments) if isinstance(event, Pictures))

    return picture


def seen(make, ending: str) -> list[Seen]:
    return [judge(make(prompt.format(ending))) for prompt in PROMPTS]


def test_the_lora_puts_a_night_sky_behind_everything(make):
    assert [picture.background for picture in seen(make, "")] == ["blue", "white", "sea"]
    assert [picture.background for picture in seen(make, " <lora:starlit:1>")] == ["night sky"] * 3


def test_the_hypernetwork_turns_everything_to_gold(make):
    assert [picture.colour for picture in seen(make, "")] == ["green", "purple", "orange"]
    assert [picture.colour for picture in seen(make, " <hypernet:golden:1>")] == ["yellow"] * 3


@pytest.mark.parametrize("tag", ["<lora:starlit:0>", "<hypernet:golden:0>"])
def test_at_weight_0_they_do_nothing(make, tag):
    assert np.array_equal(np.asarray(make(PROMPTS[0].format(tag))), np.asarray(make(PROMPTS[0].format(""))))


@pytest.mark.parametrize("ground", ["blue", "green", "white"])
def test_the_embedding_is_a_word_for_a_red_heart(make, ground):
    picture = judge(make(f"a valentine on a {ground} background"))
    assert (picture.colour, picture.object, picture.background) == ("red", "heart", ground)


def test_without_its_embedding_the_word_means_nothing_of_the_kind(make):
    picture = judge(make("a valentin on a green background"))
    assert (picture.colour, picture.object) != ("red", "heart")


@pytest.mark.parametrize("path", [*FILES.values(), EMBEDDING], ids=lambda path: Path(path).name)
def test_they_are_small(path):
    assert path.stat().st_size < 1_000_000
