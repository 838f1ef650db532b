import copy

import pytest
import torch

from tests.tiny import tiny_model
from webui.core.errors import BadRequest
from webui.core.prompt import parse_attention
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.text_encoding import encode_prompt, split_into_chunks

COMMA = 267


@pytest.fixture(scope="module")
def model():
    return tiny_model("sd1")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def lifted(model):
    """The model with a text encoder whose states have a mean to restore: a fresh layer norm's is zero, a trained one's is not."""
    encoder = copy.deepcopy(model.text_encoder)
    encoder.final_layer_norm.bias.data.fill_(0.4)
    return DiffusionModel(make_pipeline(model.family, {**model.pipeline.components, "text_encoder": encoder}), model.family, model.path)


def chunks(model, prompt):
    return [chunk.tokens for chunk in split_into_chunks(parse_attention(prompt), model, {})]


def states(model, prompt, clip_skip=1):
    """(1, 77 * chunks, width)"""
    return encode_prompt(model, prompt, clip_skip).states[None]


def words(count):
    return " ".join(["cat"] * count)


def test_a_plain_prompt_equals_diffusers_encoding(model):
    prompt, negative = "a red circle on a blue background", "blurry"
    theirs, without = model.pipeline.encode_prompt(prompt, model.device, 1, True, negative)
    torch.testing.assert_close(states(model, prompt), theirs)
    torch.testing.assert_close(states(model, negative), without)


def test_an_empty_prompt_is_one_chunk(model):
    theirs, _ = model.pipeline.encode_prompt("", model.device, 1, False)
    torch.testing.assert_close(states(model, ""), theirs)


def test_clip_skip_two_equals_an_encoder_without_its_last_layer(model):
    shorter = copy.deepcopy(model.text_encoder)
    shorter.encoder.layers = shorter.encoder.layers[:-1]
    ids = model.tokenizer("a red circle", padding="max_length", max_length=77, return_tensors="pt").input_ids
    torch.testing.assert_close(states(model, "a red circle", 2), shorter(ids).last_hidden_state)


def test_more_clip_skip_than_layers_is_refused(model):
    with pytest.raises(BadRequest, match="CLIP skip"):
        encode_prompt(model, "a", model.text_encoder.config.num_hidden_layers + 1)


def test_75_tokens_fit_in_one_chunk_and_76_need_two(model):
    assert [len(c) for c in chunks(model, words(75))] == [75]
    assert [len(c) for c in chunks(model, words(76))] == [75, 1]
    assert states(model, words(76)).shape[1] == 154


def test_every_chunk_is_encoded_as_if_it_were_alone(model):
    together = states(model, words(75) + " dog")
    torch.testing.assert_close(together[:, 77:], states(model, "dog"))


def test_a_comma_near_the_end_of_a_full_chunk_moves_what_follows_it(model):
    found = chunks(model, words(59) + ", " + words(20))
    assert [len(c) for c in found] == [60, 20]
    assert found[0][-1].id == COMMA


def test_a_comma_21_tokens_before_the_end_moves_nothing(model):
    assert [len(c) for c in chunks(model, words(54) + ", " + words(30))] == [75, 10]
    assert [len(c) for c in chunks(model, words(55) + ", " + words(30))] == [56, 30]


def test_a_comma_that_itself_overflows_moves_nothing(model):
    assert [len(c) for c in chunks(model, words(70) + ", " + words(4) + ", dog")] == [75, 2]


def test_moved_tokens_keep_their_weights(model):
    found = chunks(model, words(60) + ", (" + words(20) + ":1.5)")
    assert [token.weight for token in found[1]] == [1.5] * 20


def test_break_begins_a_new_chunk(model):
    assert [len(c) for c in chunks(model, "cat BREAK dog bird")] == [1, 2]
    assert [len(c) for c in chunks(model, "cat BREAK")] == [1]


def test_weights_multiply_states_and_the_chunks_mean_is_restored(lifted):
    plain, weighted = states(lifted, "a red circle")[0], states(lifted, "a (red:1.5) circle")[0]
    assert float(weighted.mean()) == pytest.approx(float(plain.mean()), rel=1e-4)
    ratio = (weighted / plain).median(dim=1).values  # begin, a, red, circle, end ...
    assert float(ratio[2] / ratio[1]) == pytest.approx(1.5, rel=1e-4)
    torch.testing.assert_close(ratio[3:], ratio[1].expand(74))


def test_weights_of_one_chunk_leave_the_others_alone(lifted):
    plain, weighted = (states(lifted, f"cat BREAK {dog}") for dog in ("dog", "(dog:1.3)"))
    torch.testing.assert_close(weighted[:, :77], plain[:, :77])
    assert not torch.allclose(weighted[:, 77:], plain[:, 77:])


def test_a_very_long_prompt_is_encoded_in_parts(model):
    assert states(model, words(75 * 17)).shape[1] == 77 * 17


def test_sd2_pads_with_zeros_after_the_end():
    sd2 = tiny_model("sd2")
    ids = [sd2.tokenizer.bos_token_id, *sd2.tokenizer("cat", add_special_tokens=False).input_ids, sd2.tokenizer.eos_token_id, *[0] * 74]
    expected = sd2.text_encoder(torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(states(sd2, "cat"), expected)
