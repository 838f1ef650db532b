"""Attention as it is worked out by hand, the UNet as it was."""

import contextlib
import math

import pytest
import torch

from tests.tiny import tiny_model
from webui.engine.patches.attention_maps import QUERIES, AttentionMaps, attention_weights, cross_attentions
from webui.engine.patches.careful_attention import careful_attention
from webui.engine.patches.text_keys import remembered_text_keys

TOKENS = 77


@pytest.fixture(scope="module")
def unet():
    return tiny_model().unet


@pytest.fixture(scope="module")
def given(unet):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 16, 16, generator=generator)
    return x, torch.randn(2, TOKENS, unet.config.cross_attention_dim, generator=generator)


def ask(unet, given):
    with torch.inference_mode():
        return unet(given[0], torch.tensor(500.0), encoder_hidden_states=given[1], return_dict=False)[0]


def each_token(rows=1):
    return torch.eye(TOKENS).expand(rows, -1, -1)


def recorded(unet, given, groups, layers=()):
    maps = AttentionMaps(layers)
    with maps.recording(unet):
        maps.expect(groups)
        answer = ask(unet, given)
    return answer, maps.take()


def test_the_map_is_the_softmax_of_queries_times_keys_head_by_head(unet, given):
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda layer, args, named, answer, name=name: seen.update({name: args[0]}), with_kwargs=True)
        for name, layer in cross_attentions(unet).items()
    ]
    _, maps = recorded(unet, given, each_token())
    for hook in hooks:
        hook.remove()
    assert list(maps) == list(cross_attentions(unet))
    for name, layer in cross_attentions(unet).items():
        pixels, text = seen[name][0], given[1][0]
        width = layer.to_q.out_features // layer.heads
        heads = []
        for head in range(layer.heads):
            rows = slice(head * width, (head + 1) * width)
            query, key = pixels @ layer.to_q.weight[rows].T, text @ layer.to_k.weight[rows].T
            heads.append(torch.softmax(query @ key.T / math.sqrt(width), dim=1))
        by_hand = torch.stack(heads).mean(dim=0).T
        assert torch.allclose(maps[name][0].float(), by_hand, atol=5e-4), name  # in 16 bits


def test_over_all_tokens_a_pixels_weights_sum_to_one(unet, given):
    for weights in recorded(unet, given, each_token())[1].values():
        assert weights.dtype == torch.float16
        assert torch.allclose(weights.float().sum(dim=1), torch.ones(1, weights.shape[2]), atol=2e-3)


def test_groups_sum_their_tokens(unet, given):
    groups = torch.zeros(1, TOKENS, 2)
    groups[:, :5, 0] = groups[:, 5:, 1] = 1
    single, summed = recorded(unet, given, each_token())[1], recorded(unet, given, groups)[1]
    for name, weights in summed.items():
        assert torch.allclose(weights[0, 0].float(), single[name][0, :5].float().sum(dim=0), atol=2e-3)


def test_the_answer_is_the_same_bit_for_bit(unet, given):
    assert torch.equal(recorded(unet, given, each_token())[0], ask(unet, given))


def test_rows_in_portions_and_careful_attention_and_remembered_keys_give_the_same_maps(unet, given):
    whole = recorded(unet, given, each_token(2))[1]
    maps = AttentionMaps()
    with remembered_text_keys(unet), maps.recording(unet), careful_attention(unet, sliced=True):
        maps.expect(each_token(2))
        for row in range(2):
            ask(unet, (given[0][row : row + 1], given[1][row : row + 1]))
    for name, weights in maps.take().items():
        assert torch.allclose(weights.float(), whole[name].float(), atol=1e-3)


def test_many_pixels_are_worked_out_in_portions(unet):
    layer = next(iter(cross_attentions(unet).values()))
    pixels, text = torch.randn(1, QUERIES + 10, layer.to_q.in_features), torch.randn(1, TOKENS, layer.to_k.in_features)
    whole = attention_weights(layer, pixels, text, each_token(), [0])
    assert torch.allclose(whole[:, :, QUERIES:], attention_weights(layer, pixels[:, QUERIES:], text, each_token(), [0]), atol=1e-6)


def test_of_a_batch_the_rows_of_its_first_picture_are_recorded_in_portions_too(unet, given):
    """Three pictures at once, two parts of a prompt and the negative one: rows 0, 3 and, left out, 6."""
    pixels, text = torch.cat([given[0]] * 5)[:9], torch.cat([given[1]] * 5)[:9]
    pixels, text = pixels + torch.randn(9, 1, 1, 1), text + torch.randn(9, 1, 1)
    alone = recorded(unet, (pixels[[0, 3]], text[[0, 3]]), each_token(2))[1]
    for portion in (9, 2):
        maps = AttentionMaps()
        with maps.recording(unet):
            maps.expect(each_token(2), 3)
            for rows in torch.arange(9).split(portion):
                ask(unet, (pixels[rows], text[rows]))
        for name, weights in maps.take().items():
            assert torch.allclose(weights.float(), alone[name].float(), atol=1e-3), (portion, name)


def test_only_the_layers_that_are_named_are_recorded_and_none_unless_they_are_expected(unet, given):
    name = list(cross_attentions(unet))[1]
    assert list(recorded(unet, given, each_token(), [name])[1]) == [name]
    assert recorded(unet, given, None)[1] == {}


def state(unet):
    return {name: (sorted(vars(part)), len(part._forward_hooks)) for name, part in unet.named_modules()}


def test_an_exception_leaves_no_trace(unet, given):
    before = state(unet)
    maps = AttentionMaps()
    with contextlib.suppress(ZeroDivisionError), maps.recording(unet):
        maps.expect(each_token())
        ask(unet, given)
        raise ZeroDivisionError
    assert state(unet) == before
    maps.take()
    ask(unet, given)
    assert maps.take() == {}
