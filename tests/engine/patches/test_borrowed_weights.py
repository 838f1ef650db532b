"""Weights lent to a layer for its call alone: the numbers of the wider type, and no trace."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import tiny_parts
from webui.engine.patches import borrowed_weights as borrowed_weights_module
from webui.engine.patches.borrowed_weights import borrowed_weights
from webui.engine.patches.text_keys import remembered_text_keys


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny_parts("sd1", vocabulary=9)["unet"].half()


def answer(unet: Any, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, states = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 768, generator=generator).half()
    with torch.inference_mode():
        return unet(x.half().to(dtype), torch.tensor(500.0), encoder_hidden_states=states.to(dtype), return_dict=False)[0]


def state(module: nn.Module) -> dict[str, Any]:
    """All that a patch may change: weights, hooks and instance attributes of every layer."""
    return {
        name: (dict(layer._parameters), dict(layer._forward_hooks), dict(layer._forward_pre_hooks), vars(layer).get("forward"))
        for name, layer in module.named_modules()
    }


def test_the_answer_is_that_of_a_unet_in_fp32_to_the_last_bit(unet: Any) -> None:
    expected = answer(copy.deepcopy(unet).float(), torch.float32)
    with borrowed_weights(unet, dtype=torch.float32):
        assert torch.equal(answer(unet, torch.float32), expected)
        with remembered_text_keys(unet):  # whichever patch comes later
            assert torch.equal(answer(unet, torch.float32), expected)


def test_afterwards_the_weights_are_the_same_objects_and_no_hook_is_left(unet: Any) -> None:
    before = state(unet)
    with borrowed_weights(unet, dtype=torch.float32):
        answer(unet, torch.float32)
        assert unet.dtype == torch.float16
    after = state(unet)
    assert before.keys() == after.keys()
    for name in before:
        assert all(before[name][0][key] is after[name][0][key] for key in before[name][0])
        assert before[name][1:] == after[name][1:]


def test_a_layer_that_fails_gives_its_weights_back() -> None:
    layer = nn.Linear(2, 2).half()
    own = layer.weight
    with borrowed_weights(layer, dtype=torch.float32), borrowed_weights(layer, dtype=torch.float64):
        with pytest.raises(RuntimeError, match="shapes"):
            layer(torch.zeros(1, 3))
        assert layer.weight is own
        assert layer(torch.zeros(1, 2)).dtype == torch.float64  # of two lenders the inner one has the last word
        assert layer.weight is own


def test_weights_are_brought_to_the_device_for_the_call_alone() -> None:
    layer, seen = nn.Linear(2, 2), []
    layer.forward = lambda x: seen.append(layer.weight.device.type) or x
    with borrowed_weights(layer, device=torch.device("meta")):
        layer(torch.zeros(1, 2))
    assert (seen, layer.weight.device.type) == (["meta"], "cpu")


class Row(nn.Module):
    """Layers called one after the other, in the order of `order`."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers, self.order = nn.ModuleList(nn.Linear(2, 2) for _ in range(count)), list(range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in self.order:
            x = self.layers[i](x)
        return x


def told(row: Row, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with what happens: "bring 1", "work 1"."""
    events: list[str] = []
    numbers = {id(layer.weight): i for i, layer in enumerate(row.layers)}
    brought = borrowed_weights_module._brought

    def noted(weight: Any, device: Any, dtype: Any) -> Any:
        events.extend([f"bring {numbers[id(weight)]}"] if id(weight) in numbers else [])
        return brought(weight, device, dtype)

    monkeypatch.setattr(borrowed_weights_module, "_brought", noted)
    for i, layer in enumerate(row.layers):
        layer.forward = lambda x, i=i: events.append(f"work {i}") or x
    return events


def test_on_a_device_the_next_layers_weights_come_while_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(3)
    events = told(row, monkeypatch)
    with borrowed_weights(row, device=torch.device("meta")):
        row(torch.zeros(1, 2))  # the order is not known yet
        assert events == ["bring 0", "work 0", "bring 1", "work 1", "bring 2", "work 2"]
        events.clear()
        row(torch.zeros(1, 2))
        assert events == ["bring 0", "bring 1", "work 0", "bring 2", "work 1", "work 2"]
        row.order = [0, 2, 1]  # as when text keys are remembered: a guess that is wrong once
        for expected in (["0", "1", "0", "2", "2", "1", "2", "1"], ["0", "2", "0", "1", "2", "1"]):
            events.clear()
            row(torch.zeros(1, 2))
            assert [event.split()[1] for event in events] == expected
    assert all(layer.weight.device.type == "cpu" for layer in row.layers)


def test_in_a_wider_type_alone_nothing_is_made_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(2)
    events = told(row, monkeypatch)
    with borrowed_weights(row, dtype=torch.float64):
        for _ in range(2):
            row(torch.zeros(1, 2))
    assert events == ["bring 0", "work 0", "bring 1", "work 1"] * 2


def test_weights_that_change_between_two_calls_are_brought_anew() -> None:
    row = Row(2).half()
    x = torch.ones(1, 2).half()
    with torch.no_grad(), borrowed_weights(row, device=torch.device("cpu"), dtype=torch.float32):
        row(x), row(x)
        for layer in row.layers:
            layer.bias += 1
        changed = row(x)
    with torch.no_grad(), borrowed_weights(row, dtype=torch.float32):
        assert torch.equal(changed, row(x))


def test_what_changes_the_weights_meanwhile_changes_what_is_borrowed() -> None:
    layer = nn.Linear(2, 2).half()
    x = torch.ones(1, 2)
    with borrowed_weights(layer, dtype=torch.float32):
        before = layer(x)
        with torch.no_grad():
            layer.bias += 1
        assert torch.allclose(layer(x), before + 1, atol=1e-3)
