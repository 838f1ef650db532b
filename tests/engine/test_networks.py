"""What a prompt calls reaches the picture, for one job, and is named in its infotext."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.engine.test_generate import REQUEST, Script
from tests.tiny import tiny_model
from webui.core import infotext
from webui.core.catalog import sha256_of
from webui.core.errors import BadRequest, MissingModel
from webui.core.event import Finished, Notice, Pictures
from webui.core.lora_hash import lora_hash
from webui.core.model_listing import ModelFile, model_in
from webui.engine.conditioning import ConditioningCache
from webui.engine.generate import generate
from webui.engine.model import DiffusionModel
from webui.engine.networks import READERS, EmbeddingStore, NetworkStore
from webui.engine.patches.hypernetwork import Hypernetwork, HypernetworkModule, Layout, save_hypernetwork
from webui.engine.patches.lora import read_lora

LORA_SITES = ("lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1")


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    tiny = tiny_model("sd1")
    return DiffusionModel(tiny.pipeline, replace(tiny.family, native_size=64), tiny.path)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """A LoRA "ink" that brings an embedding "inky" along, a hypernetwork "haze" and an embedding "fox"."""
    folder = tmp_path_factory.mktemp("networks")
    width = model.text_encoder.config.hidden_size
    text = model.text_encoder.encoder.layers[0].mlp.fc1.weight
    unet = model.unet.mid_block.attentions[0].proj_in.weight
    tensors = {"bundle_emb.inky.string_to_param.*": torch.randn(2, width)}
    for site, weight in zip(LORA_SITES, (unet, text), strict=True):
        tensors[f"{site}.lora_up.weight"] = torch.randn(weight.shape[0], 2)[(...,) + (None,) * (weight.ndim - 2)]
        tensors[f"{site}.lora_down.weight"] = torch.randn(2, weight.shape[1])[(...,) + (None,) * (weight.ndim - 2)]
    save_file(tensors, folder / "ink.safetensors")
    pair = HypernetworkModule(width, Layout()), HypernetworkModule(width, Layout())
    save_hypernetwork(folder / "haze.pt", Hypernetwork("haze", Layout(), {width: pair}))
    save_file({"emb_params": torch.randn(3, width)}, folder / "fox.safetensors")
    return folder


@pytest.fixture(scope="module")
def make(model, folder):
    """prompt -> the events of a job with it."""
    networks = NetworkStore(lambda kind, name: _there(folder, {"lora": f"{name}.safetensors", "hypernet": f"{name}.pt"}[kind]), lora_hash)
    embeddings = EmbeddingStore(lambda: [ModelFile(folder / "fox.safetensors", "fox.safetensors", 1, 1.0, "ab" * 32)])

    def run(prompt, control=None, **more):
        request = replace(REQUEST, prompt=prompt, steps=2)
        arguments = {"load": lambda asked: model, "open_input": {}.__getitem__, "networks": networks.of, "embeddings": embeddings.now}
        return list(generate(request, control or Script(), **arguments, **more))

    return run


def _there(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        raise MissingModel(f"{name} is not there")
    return folder / name


def picture(events):
    return next(event.pictures[0] for event in events if isinstance(event, Pictures))


def pixels(events):
    return np.asarray(picture(events).image)


def difference(one, other):
    return np.abs(pixels(one).astype(int) - pixels(other)).mean()


def weights(model):
    return [weight.clone() for part in (model.unet, model.text_encoder) for weight in part.state_dict().values()]


@pytest.mark.parametrize("call", ["<lora:ink:1>", "<lora:ink:0:1>", "<lora:ink:1:0>", "<hypernet:haze:1>", "fox", "<lora:ink:0> inky"])
def test_a_called_network_changes_the_picture_for_its_job_alone(make, model, call):
    before = weights(model)
    plain = make("a red circle")
    assert difference(make(f"a red circle {call}"), plain) > 0.5
    assert all(torch.equal(one, other) for one, other in zip(weights(model), before, strict=True))
    assert np.array_equal(pixels(make("a red circle")), pixels(plain))


def test_prompts_that_are_kept_serve_jobs_with_the_same_networks_alone(make, model, monkeypatch):
    cache, seen = ConditioningCache(), []
    forward = model.text_encoder.forward
    monkeypatch.setattr(model.text_encoder, "forward", lambda **given: seen.append(1) or forward(**given))
    calls = []
    for call in ("<lora:ink:1>", "", "<lora:ink:1>", "<lora:ink:0.5>", "<lora:ink:0:1>", "<hypernet:haze:1>"):
        kept = make(f"a fox{call}", conditionings=cache)
        calls.append(len(seen))
        assert np.array_equal(pixels(kept), pixels(make(f"a fox{call}")))
        seen.clear()
    assert calls == [2, 2, 0, 2, 0, 0]  # prompt and negative prompt; at te 0, and of a hypernetwork, the text encoder knows nothing


@pytest.mark.parametrize("call", ["<lora:ink:0>", "<hypernet:haze:0>"])
def test_at_weight_0_the_picture_is_the_one_without(make, call):
    assert np.array_equal(pixels(make(f"a red circle{call}")), pixels(make("a red circle")))


def test_of_a_lora_named_twice_the_last_strengths_count_both_times(make):
    """As A1111, where both mentions are one object."""
    twice = make("a red circle <lora:ink:1><lora:ink:0.5:0.25>")
    assert np.array_equal(pixels(twice), pixels(make("a red circle <lora:ink:0.5:0.25><lora:ink:0.5:0.25>")))
    assert difference(twice, make("a red circle <lora:ink:1:0.5>")) < 0.5 < difference(twice, make("a red circle <lora:ink:1.5:1.25>"))


def test_an_interrupted_job_leaves_no_trace(make, model):
    before = weights(model)
    events = make("a red circle <lora:ink:1> <hypernet:haze:1>", Script(interrupt_after=1))
    assert events[-1] == Finished(interrupted=True)
    assert all(torch.equal(one, other) for one, other in zip(weights(model), before, strict=True))


def test_the_infotext_names_the_files_and_keeps_the_prompt_as_it_was(make, folder):
    prompt = "a red circle <lora:ink:0.5> fox"
    told = infotext.read(picture(make(prompt)).infotext)
    assert told.prompt == prompt
    assert told.params["Lora hashes"] == f"ink: {lora_hash(folder / 'ink.safetensors')}"
    assert told.params["TI hashes"] == f"fox: {'ab' * 6}"


def test_a_changed_file_is_read_anew(make, folder):
    path = folder / "other.safetensors"
    shape = tiny_model("sd1").unet.mid_block.attentions[0].proj_in.weight.shape
    for value in (0.0, 1.0):
        tensors = {f"{LORA_SITES[0]}.diff": value * torch.randn(shape)}
        save_file(tensors, path)
        changed = difference(make("a red circle<lora:other:1>"), make("a red circle")) > 0.5
        assert changed == (value > 0)


@pytest.mark.parametrize(("count", "kept"), [(6, 6), (1, 4)])
def test_networks_stay_in_memory_however_many_a_prompt_calls(folder, monkeypatch, count, kept):
    names = [f"ink{i}" for i in range(6)]
    monkeypatch.setattr("webui.engine.networks._state", lambda path: (0, 0))
    read = []
    monkeypatch.setitem(READERS, "lora", lambda path: read.append(path) or read_lora(folder / "ink.safetensors"))
    store = NetworkStore(lambda kind, name: Path(name), lambda path: "")
    for _ in range(2):
        store.of(" ".join(f"<lora:{name}:1>" for name in names))
    assert len(read) == 6
    store.of("".join(f"<lora:{name}:1>" for name in names[:count]))
    assert len(store._kept) == kept


def test_what_cannot_be_used_is_said(make):
    with pytest.raises(MissingModel):
        make("<lora:nobody:1>")
    with pytest.raises(BadRequest, match="is no strength"):
        make("<lora:ink:much>")
    assert [event.text for event in make("a cat <sticker:big:1>") if isinstance(event, Notice)] == [
        "<sticker:big:1> was left out of the prompt: Easel knows <lora:...> and <hypernet:...>"
    ]


def test_an_embedding_that_was_not_hashed_yet_is_hashed_when_it_is_called(tmp_path):
    path = tmp_path / "soft.safetensors"
    save_file({"emb_params": torch.ones(1, 8)}, path)
    store = EmbeddingStore(lambda: [model_in((tmp_path,), (".safetensors",), path.name)], lambda file: sha256_of(file.path))
    assert store.now()["soft"].sha256 == sha256_of(path)


def test_the_name_of_a_file_that_is_listed_as_damaged_is_a_word_like_others():
    broken = ModelFile(Path("broken.pt"), "broken.pt", 1, 1.0, problem="it is cut short")
    assert list(EmbeddingStore(lambda: [broken, replace(broken, path=Path("soft.pt"), problem="")]).now()) == ["soft"]


@pytest.mark.parametrize("noted", [None, False, True])
def test_a_rotation_that_does_not_say_how_it_was_trained_is_told_as_a_guess(model, tmp_path, noted):
    """PEFT's OFT: the exact rotation turns the other way than the approximation, and no tensor shows which it is."""
    inputs = model.unet.mid_block.attentions[0].proj_in.weight.shape[1]
    tensors = {"unet.mid_block.attentions.0.proj_in.oft_R.weight": torch.full((inputs // 8, 28), 0.01)}
    metadata = {} if noted is None else {"lora_adapter_metadata": json.dumps({"unet.use_cayley_neumann": noted})}
    save_file(tensors, tmp_path / "turn.safetensors", metadata)
    used = NetworkStore(lambda kind, name: tmp_path / f"{name}.safetensors", lora_hash).of("a <lora:turn:1> b <lora:turn:0.5>")
    told = [
        "the LoRA turn.safetensors rotates weights (PEFT's OFT) and does not say how: taken is PEFT's default" in text
        for text in used.notices
    ]
    assert told == ([True] if noted is None else [])
