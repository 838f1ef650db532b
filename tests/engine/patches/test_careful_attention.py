"""Attention for little memory and little range: the same numbers as diffusers' own, and no trace."""

from typing import Any

import pytest
import torch

from tests.tiny import tiny_parts
from webui.engine.patches import careful_attention as module
from webui.engine.patches.careful_attention import careful_attention


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny_parts("sd1", vocabulary=9)["unet"]


@torch.inference_mode()
def answer(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, states = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 77, 768, generator=generator)
    return unet(x, torch.tensor(500.0), encoder_hidden_states=states, return_dict=False)[0]


@pytest.mark.parametrize(("upcast", "sliced"), [(False, False), (True, False), (False, True)])
def test_the_answer_is_diffusers_own(unet: Any, upcast: bool, sliced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERIES", 100)  # 256 pixels: three slices, the last one smaller
    expected, before = answer(unet), unet.attn_processors
    with careful_attention(unet, upcast=upcast, sliced=sliced):
        torch.testing.assert_close(answer(unet), expected, rtol=1e-5, atol=1e-6)
        assert before.keys() == unet.attn_processors.keys()
        assert all(isinstance(processor, module.CarefulAttention) for processor in unet.attn_processors.values())
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())


def test_upcast_attention_does_not_overflow_where_16_bits_do(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        module.functional, "scaled_dot_product_attention", lambda q, k, v: seen.append({q.dtype, k.dtype, v.dtype}) or attend(q, k, v)
    )
    layer = tiny_parts("sd1", vocabulary=9)["unet"].half().mid_block.attentions[0].transformer_blocks[0].attn1
    layer.to_q.weight.fill_(100)
    layer.to_k.weight.fill_(100)
    states = torch.ones(1, 4, layer.to_q.in_features, dtype=torch.float16)
    with torch.inference_mode():
        assert bool(module.CarefulAttention(upcast=True, queries=None)(layer, states).isfinite().all())
    assert seen == [{torch.float32}]
