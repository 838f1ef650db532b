"""Prompts that change, encoded once and kept."""

import gc
from dataclasses import replace

import pytest
import torch

from tests.families import family_model
from webui.engine.conditioning import ConditioningCache, Encoder, Scheduled
from webui.engine.embeddings import Embedding
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.text_encoding import Conditioning, encode_negative_prompt, encode_prompt


@pytest.fixture(scope="module")
def model():
    return family_model("sd1")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def encoded(model, monkeypatch):
    """How many chunks went through the text encoder in each of its calls."""
    seen = []
    forward = model.text_encoder.forward
    monkeypatch.setattr(model.text_encoder, "forward", lambda input_ids, **rest: seen.append(len(input_ids)) or forward(input_ids, **rest))
    return seen


def test_each_text_of_a_prompt_is_used_up_to_its_call(model):
    (part,) = Encoder(model).prompt("[a cat:a dog:0.5]", 4)
    expected = [encode_prompt(model, text, 1).states for text in ("a cat", "a dog")]
    for call, text in enumerate([0, 0, 0, 1]):  # int(0.5 * 4) = 2 is the last call, counted from 0, that has the first
        torch.testing.assert_close(part.at(call).states, expected[text])


def test_parts_keep_their_weights(model):
    parts = Encoder(model).prompt("a cat AND a dog :-0.5", 4)
    assert [part.weight for part in parts] == [1.0, -0.5]
    torch.testing.assert_close(parts[1].at(0).states, encode_prompt(model, " a dog", 1).states)


def test_and_is_a_word_in_a_negative_prompt(model):
    found = Encoder(model).negative_prompt("a cat AND a dog", 4).at(0).states
    torch.testing.assert_close(found, encode_prompt(model, "a cat AND a dog", 1).states)


def test_negative_prompts_change_too(model):
    found = Encoder(model).negative_prompt("[a cat|a dog]", 2)
    torch.testing.assert_close(found.at(2).states, encode_prompt(model, "a dog", 1).states)


@pytest.mark.parametrize(("prompt", "zeros"), [("", True), ("[:]", False), ("[|]", True), ("[:cat:5]", False)])
def test_sdxls_negative_prompt_is_zeros_where_all_of_its_texts_are_empty(prompt, zeros):
    xl = family_model("sdxl")
    found = Encoder(xl).negative_prompt(prompt, 10).at(0)
    assert bool(found.states.any()) is bool(found.pooled.any()) is not zeros
    if not zeros and prompt == "[:cat:5]":
        torch.testing.assert_close(found.states, encode_prompt(xl, "", 1).states)
    assert not encode_negative_prompt(xl, "", 1).states.any()


def test_the_empty_prompt_is_encoded_for_sdxl_too():
    xl = family_model("sdxl")
    torch.testing.assert_close(Encoder(xl).empty().states, encode_prompt(xl, "", 1).states)


def test_old_timelines_are_read_as_such(model):
    (part,) = Encoder(model, old_timelines=True).prompt("[a cat:a dog:2.0]", 8)
    assert [last for last, _ in part.until] == [2, 8]


def test_a_repeated_prompt_costs_no_call_of_the_text_encoder(model, encoded):
    cache = ConditioningCache()
    first, again = (Encoder(model, cache=cache).prompt("[a cat:a dog:2] AND (rain:1.2)", 4) for _ in range(2))
    assert encoded == [2, 1]
    assert all(one.at(call) is other.at(call) for one, other in zip(first, again, strict=True) for call in range(4))


def test_texts_that_come_again_in_a_prompt_are_encoded_once(model, encoded):
    Encoder(model).prompt("[a cat|a dog]", 20)
    assert encoded == [2]


EMBEDDING = Embedding("newword", {768: torch.full((1, 768), 0.1)})


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_skip": 2},
        {"emphasis": "No norm"},
        {"patches": ("lora", 1.0)},
        {"embeddings": {"newword": EMBEDDING}},
        {"draw": lambda encoder, ids, states, encode: states},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whatever_changes_the_states_is_encoded_anew(model, encoded, changes):
    encoder = Encoder(model)
    encoder.prompt("a (newword:1.1)", 4)
    replace(encoder, **changes).prompt("a (newword:1.1)", 4)
    assert len(encoded) == 2


def test_steps_and_spelling_do_not_matter_to_what_is_kept(model, encoded):
    encoder = Encoder(model)
    encoder.prompt("A  cat", 4), encoder.prompt("a cat", 20), encoder.prompt("a cat:0.3", 20)
    assert len(encoded) == 1


def test_an_embedding_that_was_read_anew_is_encoded_anew(model, encoded):
    encoder = Encoder(model, embeddings={"newword": EMBEDDING})
    encoder.prompt("newword", 4)
    encoder.prompt("newword", 4)
    replace(encoder, embeddings={"newword": replace(EMBEDDING)}).prompt("newword", 4)
    assert len(encoded) == 2


def of_bytes(count):
    return [Conditioning(torch.zeros(count // 4))]


def test_the_least_used_go_where_there_is_no_room(model):
    cache, made = ConditioningCache(max_bytes=800), []
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(model, key, lambda key=key: made.append(key) or of_bytes(400))
    assert made == ["a", "b", "c", "b"]


def test_what_is_too_large_to_keep_is_used_all_the_same(model):
    assert len(ConditioningCache(max_bytes=800).get(model, "a", lambda: of_bytes(4000))) == 1


def test_nothing_is_kept_of_models_that_have_gone(model):
    cache = ConditioningCache()
    encoder = torch.nn.Linear(1, 1)
    other = DiffusionModel(make_pipeline(model.family, {**model.pipeline.components, "text_encoder": encoder}), model.family, model.path)
    cache.get(other, "a", lambda: of_bytes(400))
    del other, encoder
    gc.collect()
    cache.get(model, "a", lambda: of_bytes(800))
    assert [kept for _, kept in cache._kept.values()] == [800]


def test_sizes_are_told_to_each_conditioning_once():
    one = Conditioning(torch.zeros(77, 2), pooled=torch.zeros(2))
    sized = Scheduled(((1, one), (2, one))).with_sizes(family_model("sdxl"), (64, 72), 6.0)
    assert sized.at(1) is sized.at(2)
    assert sized.at(1).sizes.tolist() == [64, 72, 0, 0, 64, 72]
