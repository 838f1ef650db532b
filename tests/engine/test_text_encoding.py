import copy

import pytest
import torch

from tests.families import family_model
from tests.tiny import tiny_model
from webui.core.errors import BadRequest
from webui.core.prompt import parse_attention
from webui.engine.embeddings import EmbeddingNames
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.text_encoding import (
    BAD_SCORE,
    GOOD_SCORE,
    MAX_CHUNKS,
    Stopped,
    encode_negative_prompt,
    encode_prompt,
    encode_variants,
    read_variants,
    split_into_chunks,
    with_sizes,
)

COMMA = 267


@pytest.fixture(scope="module")
def model():
    return family_model("sd1")


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
    return split_into_chunks(parse_attention(prompt), model, EmbeddingNames(model, {}, prompt))


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


@pytest.mark.parametrize(("place", "backtrack", "moved"), [(40, 35, True), (40, 34, False), (1, 74, True), (0, 74, False), (74, 1, True)])
def test_how_far_a_comma_is_looked_for_can_be_told(model, place, backtrack, moved):
    """place: of the comma among 75 tokens, after which one more follows."""
    prompt = " ".join(["cat"] * place + [","] + ["cat"] * (75 - place))
    names = EmbeddingNames(model, {}, prompt)
    chunks = split_into_chunks(parse_attention(prompt), model, names, backtrack)
    assert [len(chunk) for chunk in chunks] == ([place + 1, 75 - place] if moved else [75, 1])


def test_without_backtrack_no_comma_moves_anything(model):
    prompt = " ".join(["cat"] * 74 + [",", "cat"])
    assert [len(chunk) for chunk in split_into_chunks(parse_attention(prompt), model, EmbeddingNames(model, {}, prompt), 0)] == [75, 1]


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


@pytest.mark.parametrize("theirs_skip", [None, 1])
def test_sd1_with_and_without_clip_skip_equals_diffusers_encoding(model, monkeypatch, theirs_skip):
    level = property(lambda encoder: encoder)  # diffusers 0.42 looks for a level that transformers 5 has no more
    monkeypatch.setattr(type(model.text_encoder), "text_model", level, raising=False)
    theirs, _ = model.pipeline.encode_prompt("a red circle", model.device, 1, False, clip_skip=theirs_skip)
    torch.testing.assert_close(states(model, "a red circle", 1 + (theirs_skip or 0)), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("clip_skip", range(1, 13))
def test_every_clip_skip_of_twelve_layers_equals_diffusers_encoding(monkeypatch, clip_skip):
    twelve = tiny_model("miniature")
    monkeypatch.setattr(type(twelve.text_encoder), "text_model", property(lambda encoder: encoder), raising=False)  # as above
    theirs, _ = twelve.pipeline.encode_prompt("a red circle", twelve.device, 1, False, clip_skip=clip_skip - 1)
    torch.testing.assert_close(states(twelve, "a red circle", clip_skip), theirs, rtol=0, atol=1e-5)


def test_sd1s_unet_is_told_nothing_but_states(model):
    assert encode_prompt(model, "a red circle", 1).pooled is None
    assert with_sizes(encode_prompt(model, "a", 1), model, (64, 72), GOOD_SCORE).sizes is None


def test_sd2_pads_with_zeros_after_the_end():
    sd2 = family_model("sd2")
    ids = [sd2.tokenizer.bos_token_id, *sd2.tokenizer("cat", add_special_tokens=False).input_ids, sd2.tokenizer.eos_token_id, *[0] * 74]
    expected = sd2.text_encoder(torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(states(sd2, "cat"), expected)
    theirs, _ = sd2.pipeline.encode_prompt("cat", sd2.device, 1, False)
    torch.testing.assert_close(states(sd2, "cat"), theirs)


@pytest.mark.parametrize("family", ["sd2", "sdxl", "sdxl_refiner"])
def test_clip_skip_is_fixed_but_for_sd1(family):
    """Their layer is the last but one, whatever the request says, as in the field: 24 - 1 for SD 2.x, whose last one no file holds."""
    model = family_model(family)
    torch.testing.assert_close(states(model, "cat", 12), states(model, "cat", 1), rtol=0, atol=0)


@pytest.mark.parametrize("family", ["sdxl", "sdxl_refiner"])
@pytest.mark.parametrize("prompt", ["a red circle on a blue background", ""])
def test_sdxl_equals_diffusers_encoding(family, prompt):
    model = family_model(family)
    theirs, _, pooled, _ = model.pipeline.encode_prompt(prompt, device=model.device, do_classifier_free_guidance=False)
    ours = encode_prompt(model, prompt, 1)
    torch.testing.assert_close(ours.states[None], theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pooled[None], pooled, rtol=0, atol=1e-5)


def test_sdxls_empty_negative_prompt_is_zeros_as_diffusers_has_it():
    model = family_model("sdxl")
    _, theirs, _, pooled = model.pipeline.encode_prompt("cat", device=model.device)
    ours = encode_negative_prompt(model, "", 1)
    torch.testing.assert_close(ours.states[None], theirs)
    torch.testing.assert_close(ours.pooled[None], pooled)
    assert not ours.states.any()


def test_other_negative_prompts_are_encoded(model):
    xl = family_model("sdxl")
    torch.testing.assert_close(encode_negative_prompt(xl, "blurry", 1).pooled, encode_prompt(xl, "blurry", 1).pooled)
    torch.testing.assert_close(encode_negative_prompt(model, "", 1).states, encode_prompt(model, "", 1).states)


def test_sdxls_pooled_state_is_the_first_chunks():
    model = family_model("sdxl")
    torch.testing.assert_close(encode_prompt(model, "cat BREAK dog", 1).pooled, encode_prompt(model, "cat", 1).pooled)


def test_weights_leave_sdxls_pooled_state_alone_and_restore_each_encoders_mean():
    model = family_model("sdxl")
    plain, weighted = (encode_prompt(model, prompt, 1) for prompt in ("a red circle", "a (red:1.5) circle"))
    torch.testing.assert_close(weighted.pooled, plain.pooled)
    for part in (slice(None, 768), slice(768, None)):
        ratio = (weighted.states[:, part] / plain.states[:, part]).median(dim=1).values
        assert float(ratio[2] / ratio[1]) == pytest.approx(1.5, rel=1e-3)
        assert float(weighted.states[:, part].mean()) == pytest.approx(float(plain.states[:, part].mean()), rel=1e-2)


def test_sdxl_is_told_sizes_and_its_refiner_a_score():
    for family, sizes in (("sdxl", [64, 72, 0, 0, 64, 72]), ("sdxl_refiner", [64, 72, 0, 0, 2.5])):
        model = family_model(family)
        assert with_sizes(encode_prompt(model, "a", 1), model, (64, 72), BAD_SCORE).sizes.tolist() == sizes


def variants(model, texts, emphasis="Original"):
    """The states of each of the texts of one prompt."""
    read, order = read_variants(model, texts, emphasis=emphasis)
    made = encode_variants(model, read, 1)
    return [made[place].states for place in order]


def test_the_mean_is_restored_over_all_texts_of_a_prompt_each_as_often_as_it_occurs(lifted):
    texts = ["a (red:1.5) circle", "a (blue:0.3) star", "a (red:1.5) circle"]
    plain = torch.stack([states(lifted, text)[0] for text in ("a red circle", "a blue star", "a red circle")])
    weights = torch.ones(3, 77, 1)
    weights[0, 2] = weights[2, 2] = 1.5
    weights[1, 2] = 0.3
    weighted = plain * weights
    expected = weighted * (plain.mean() / weighted.mean())
    for ours, theirs in zip(variants(lifted, texts), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_texts_with_fewer_chunks_than_others_of_the_prompt_get_empty_ones(model):
    short, long = variants(model, ["cat", "cat BREAK dog"])
    assert short.shape == long.shape
    torch.testing.assert_close(short[77:], states(model, "")[0])


def test_without_norm_weights_only_multiply(lifted):
    (ours,) = variants(lifted, ["a (red:1.5) circle"], "No norm")
    expected = states(lifted, "a red circle")[0].clone()
    expected[2] *= 1.5
    torch.testing.assert_close(ours, expected)


def test_ignored_weights_leave_the_words_and_breaks(lifted):
    (ours,) = variants(lifted, ["a (red:1.5) [circle] BREAK (dog)"], "Ignore")
    torch.testing.assert_close(ours, states(lifted, "a red circle BREAK dog")[0])


def test_without_emphasis_brackets_numbers_and_break_are_words(lifted):
    (ours,) = variants(lifted, ["(red:1.5) BREAK"], "None")
    torch.testing.assert_close(ours, states(lifted, r"\(red:1.5\) break")[0])


def test_too_many_chunks_are_refused_with_their_number(model):
    assert len(read_variants(model, [" BREAK ".join(["cat"] * MAX_CHUNKS)])[0].chunks[0]) == MAX_CHUNKS
    with pytest.raises(BadRequest, match=f"the prompt makes {MAX_CHUNKS + 1} chunks of 75 tokens; at most {MAX_CHUNKS} are taken: shorten"):
        read_variants(model, ["a cat", " BREAK ".join(["cat"] * (MAX_CHUNKS + 1))])
    with pytest.raises(BadRequest, match="the negative prompt makes"):
        read_variants(model, ["cat BREAK " * MAX_CHUNKS + "cat"], negative=True)


def test_encoding_stops_before_the_next_call_of_the_text_encoder(model, monkeypatch):
    calls = []
    forward = model.text_encoder.forward
    monkeypatch.setattr(model.text_encoder, "forward", lambda input_ids, **rest: calls.append(len(input_ids)) or forward(input_ids, **rest))
    variants, _ = read_variants(model, ["a cat BREAK " * 9 + "a cat"])
    with pytest.raises(Stopped):
        encode_variants(model, variants, 1, stopped=lambda: len(calls) == 3)
    assert calls == [1, 1, 1]


def test_drawing_the_states_stops_before_the_next_chunk(model):
    drawn = []
    variants, _ = read_variants(model, ["a cat", "a dog", "a cow"])
    with pytest.raises(Stopped):
        encode_variants(model, variants, 1, lambda *given: drawn.append(1) or given[2], lambda: len(drawn) == 2)
    assert len(drawn) == 2
