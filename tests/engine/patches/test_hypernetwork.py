"""Hypernetworks: A1111's files come in as they are meant, and attention looks at what the field's formula says."""

import io
import math
import os
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from webui.core.errors import BadModelFile, BadRequest
from webui.engine.diffusers_parts import UNet2DConditionModel
from webui.engine.patches.hypernetwork import (
    ACTIVATIONS,
    HypernetworkUse,
    applied_hypernetworks,
    read_hypernetwork,
    save_hypernetwork,
)
from webui.engine.patches.text_keys import remembered_text_keys

X = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TEXT, OTHER = (torch.randn(1, 9, 48, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
WIDE_TEXT = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(3))
WIDTHS = (32, 64, 48)  # of the UNet's self-attention and of its text


def weights(width: int, shapes: dict[str, float | tuple[float, float]], generator: torch.Generator) -> OrderedDict[str, Tensor]:
    """A state dict as torch makes it: place in the sequence -> (multiple in, multiple out) of a Linear, or the multiple of a LayerNorm."""
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for place, shape in shapes.items():
        size = (int(width * shape[1]), int(width * shape[0])) if isinstance(shape, tuple) else (int(width * shape),)
        tensors[f"{place}.weight"] = torch.randn(size, generator=generator) / math.sqrt(size[-1])
        tensors[f"{place}.bias"] = torch.randn(size[0], generator=generator) * 0.1
    tensors._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]  # as module.state_dict() leaves it
    return tensors


PLAIN: dict[str, Any] = {"linear.0": (1, 2), "linear.1": (2, 1)}
FACTS: dict[str, Any] = {
    "step": 100,
    "name": "other name",
    "layer_structure": [1, 2, 1],
    "activation_func": "linear",
    "is_layer_norm": False,
}


def write(
    path: Path, facts: dict[str, Any] = FACTS, shapes: dict[str, Any] = PLAIN, widths: tuple[int, ...] = WIDTHS, seed: int = 0
) -> Any:
    """A hypernetwork file in A1111's layout; returns its content."""
    generator = torch.Generator().manual_seed(seed)
    content = {width: (weights(width, shapes, generator), weights(width, shapes, generator)) for width in widths} | facts
    torch.save(content, path)
    return content


def linear(tensors: dict[str, Tensor], place: str, x: Tensor) -> Tensor:
    return x @ tensors[f"{place}.weight"].T + tensors[f"{place}.bias"]


def norm(tensors: dict[str, Tensor], place: str, x: Tensor) -> Tensor:
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    return x * tensors[f"{place}.weight"] + tensors[f"{place}.bias"]


def two_layers(tensors: dict[str, Tensor], x: Tensor, weight: float) -> Tensor:
    """The hypernetwork of PLAIN, by hand."""
    return x + weight * linear(tensors, "linear.1", linear(tensors, "linear.0", x))


def answer(unet: Any, text: Tensor = TEXT) -> Tensor:
    with torch.no_grad():
        return unet(X, 500, encoder_hidden_states=text, return_dict=False)[0]


class ByHand:
    """Cross- and self-attention written out, with the hypernetworks of `chain` (content, weight) before k and v."""

    def __init__(self, chain: list[tuple[Any, float]]) -> None:
        self.chain = chain

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        for_keys = for_values = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        for content, weight in self.chain:
            if for_keys.shape[-1] in content:
                for_keys = two_layers(content[for_keys.shape[-1]][0], for_keys, weight)
                for_values = two_layers(content[for_values.shape[-1]][1], for_values, weight)
        q, k, v = (
            (x @ layer.weight.T).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for x, layer in ((hidden_states, attn.to_q), (for_keys, attn.to_k), (for_values, attn.to_v))
        )
        shares = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return attn.to_out[0]((shares @ v).transpose(1, 2).flatten(2))


@pytest.fixture(scope="module")
def model() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            cross_attention_dim=48,
            attention_head_dim=2,
        )
    return SimpleNamespace(unet=unet.eval().requires_grad_(False), device=torch.device("cpu"))


def test_the_unet_attends_by_the_fields_formula_in_self_and_cross_attention(model, tmp_path):
    chain = [(write(tmp_path / f"{seed}.pt", seed=seed), weight) for seed, weight in ((1, 0.7), (2, -0.4))]
    uses = [HypernetworkUse(read_hypernetwork(tmp_path / f"{seed}.pt"), weight) for seed, weight in ((1, 0.7), (2, -0.4))]
    plain = answer(model.unet)
    with applied_hypernetworks(model, uses):
        made = answer(model.unet)
    processors = model.unet.attn_processors
    try:
        model.unet.set_attn_processor(ByHand(chain))
        expected = answer(model.unet)
    finally:
        model.unet.set_attn_processor(processors)
    assert torch.allclose(made, expected, atol=1e-5)
    assert (made - plain).abs().max() > 0.01


def test_order_counts(model, tmp_path):
    uses = []
    for seed in (1, 2):
        write(tmp_path / f"{seed}.pt", seed=seed)
        uses.append(HypernetworkUse(read_hypernetwork(tmp_path / f"{seed}.pt")))
    with applied_hypernetworks(model, uses):
        forwards = answer(model.unet)
    with applied_hypernetworks(model, uses[::-1]):
        assert not torch.allclose(answer(model.unet), forwards, atol=1e-4)


@pytest.fixture
def use(tmp_path: Path) -> HypernetworkUse:
    write(tmp_path / "x.pt")
    return HypernetworkUse(read_hypernetwork(tmp_path / "x.pt"))


def around(attention: Attention, name: str = "attn2") -> Any:
    """A model whose UNet is one attention."""
    return SimpleNamespace(unet=nn.ModuleDict({"block": nn.ModuleDict({name: attention})}), device=torch.device("cpu"))


@pytest.mark.parametrize("name", ["attn1", "attn2"])
def test_a_full_width_attention_equals_the_formula(tmp_path, name):
    content = write(tmp_path / "x.pt", widths=(768, 320))
    text = {"encoder_hidden_states": WIDE_TEXT} if name == "attn2" else {}
    attention = Attention(query_dim=320, cross_attention_dim=768 if text else None, heads=8, dim_head=40)
    states = torch.randn(1, 9, 320, generator=torch.Generator().manual_seed(3))
    use = HypernetworkUse(read_hypernetwork(tmp_path / "x.pt"), 0.5)
    with torch.no_grad(), applied_hypernetworks(around(attention, name), [use]):
        made = attention(states, **text)
    assert torch.allclose(made, ByHand([(content, 0.5)])(attention, states, **text), atol=1e-5)


def test_half_precision_texts_go_through_the_nets_in_float32(tmp_path):
    content = write(tmp_path / "x.pt", widths=(768,))
    attention = Attention(query_dim=32, cross_attention_dim=768, heads=1, dim_head=32).bfloat16()
    seen: list[Tensor] = []
    attention.to_k.forward = lambda x: seen.append(x) or x[..., :32]
    text = WIDE_TEXT.bfloat16()
    with torch.no_grad(), applied_hypernetworks(around(attention), [HypernetworkUse(read_hypernetwork(tmp_path / "x.pt"))]):
        attention(torch.ones(1, 9, 32, dtype=torch.bfloat16), text)
    expected = two_layers(content[768][0], text.float(), 1.0).bfloat16()
    assert seen[0].dtype == torch.bfloat16
    assert (seen[0] == expected).float().mean() > 0.99


def test_afterwards_nothing_is_left_and_answers_are_the_same_to_the_last_bit(model, use):
    before = answer(model.unet)
    weights_before = {key: tensor.clone() for key, tensor in model.unet.state_dict().items()}
    with applied_hypernetworks(model, [use]):
        assert not torch.equal(answer(model.unet), before)
    with pytest.raises(ZeroDivisionError), applied_hypernetworks(model, [use]):
        raise ZeroDivisionError
    assert torch.equal(answer(model.unet), before)
    assert not [name for name, module in model.unet.named_modules() if "forward" in vars(module)]
    assert all(torch.equal(tensor, weights_before[key]) for key, tensor in model.unet.state_dict().items())


def test_weight_0_changes_nothing(model, use):
    with applied_hypernetworks(model, [HypernetworkUse(use.hypernetwork, 0.0)]):
        made = answer(model.unet)
    assert torch.equal(made, answer(model.unet))


def test_remembered_keys_are_the_changed_ones_in_either_order_of_nesting(model, use):
    plain = answer(model.unet)
    with applied_hypernetworks(model, [use]):
        expected = [answer(model.unet, text) for text in (TEXT, OTHER)]
        with remembered_text_keys(model.unet):
            inside = [answer(model.unet, text) for _ in range(2) for text in (TEXT, OTHER)]
    with remembered_text_keys(model.unet):
        first = answer(model.unet)
        with applied_hypernetworks(model, [use]):
            outside = [answer(model.unet, text) for _ in range(2) for text in (TEXT, OTHER)]
        last = answer(model.unet)
    assert all(torch.equal(*pair) for pair in zip(inside, expected * 2, strict=True))
    assert all(torch.equal(*pair) for pair in zip(outside, expected * 2, strict=True))
    assert torch.equal(first, plain)
    assert torch.equal(last, plain)


def test_within_remembered_keys_each_texts_nets_run_once(model, use, monkeypatch):
    calls = []
    net = use.hypernetwork.nets[48][0]
    compute = net.forward
    monkeypatch.setattr(net, "forward", lambda *arguments: calls.append(1) or compute(*arguments))
    with applied_hypernetworks(model, [use]), remembered_text_keys(model.unet):
        answer(model.unet)
        once = len(calls)
        answer(model.unet)
    assert len(calls) == once == sum(name.endswith(".attn2") for name, _ in model.unet.named_modules())


def test_weights_that_a_lora_changes_within_the_block_count(model, use):
    layer = next(part.to_k for name, part in model.unet.named_modules() if name.endswith(".attn2"))
    before = layer.weight.detach().clone()
    try:
        with applied_hypernetworks(model, [use]):
            plain = answer(model.unet)
            layer.weight.data.mul_(3)
            inside = answer(model.unet)
        with applied_hypernetworks(model, [use]):
            outside = answer(model.unet)
    finally:
        layer.weight.data.copy_(before)
    assert torch.equal(inside, outside)
    assert not torch.equal(inside, plain)


def test_nets_go_to_the_models_device_as_copies(use):
    """The "meta" device stands for a GPU: what is on it meets nothing that is elsewhere."""
    attention = Attention(query_dim=32, cross_attention_dim=48, heads=1, dim_head=32).to("meta")
    model = around(attention)
    model.device = torch.device("meta")
    with applied_hypernetworks(model, [use]):
        assert attention(torch.ones(1, 4, 32, device="meta"), TEXT.to("meta")).shape == (1, 4, 32)
    assert {weight.device.type for weight in use.hypernetwork.nets[48][0].parameters()} == {"cpu"}


def test_gradients_reach_the_nets(model, use):
    net = use.hypernetwork.nets[48][0]
    net.requires_grad_(True)
    with applied_hypernetworks(model, [use]):
        model.unet(X, 500, encoder_hidden_states=TEXT, return_dict=False)[0].square().mean().backward()
    assert net.linear[0].weight.grad.abs().max() > 0


def test_widths_that_the_model_lacks_do_nothing(model, tmp_path):
    for name, widths in (("few", (48,)), ("many", (48, 320, 1280))):
        write(tmp_path / f"{name}.pt", widths=widths)
    made = []
    for name in ("few", "many"):
        with applied_hypernetworks(model, [HypernetworkUse(read_hypernetwork(tmp_path / f"{name}.pt"))]):
            made.append(answer(model.unet))
    assert torch.equal(*made)


def test_a_hypernetwork_for_another_kind_of_model_is_refused_by_name(model, tmp_path):
    write(tmp_path / "wide.pt", widths=(1024, 320))
    use = HypernetworkUse(read_hypernetwork(tmp_path / "wide.pt"))
    with (
        pytest.raises(BadRequest, match=r"wide .* its widths are 320, 1024, this model's 32, 48, 64"),
        applied_hypernetworks(model, [use]),
    ):
        pass


LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "no facts at all": ({}, PLAIN, lambda t, x: linear(t, "linear.1", linear(t, "linear.0", x))),
    "the first age's names": (
        {},
        {"linear1": (1, 2), "linear2": (2, 1)},
        lambda t, x: linear(t, "linear2", linear(t, "linear1", x)),
    ),
    "activated output where the file does not say": (
        {"activation_func": "relu"},
        {"linear.0": (1, 2), "linear.2": (2, 1)},
        lambda t, x: F.relu(linear(t, "linear.2", F.relu(linear(t, "linear.0", x)))),
    ),
    "output not activated": (
        {"activation_func": "leakyrelu", "activate_output": False},
        {"linear.0": (1, 2), "linear.2": (2, 1)},
        lambda t, x: linear(t, "linear.2", F.leaky_relu(linear(t, "linear.0", x))),
    ),
    "swish, norms, three layers": (
        {"activation_func": "swish", "activate_output": False, "is_layer_norm": True, "layer_structure": [1, 0.5, 1.5, 1]},
        {"linear.0": (1, 0.5), "linear.2": 0.5, "linear.3": (0.5, 1.5), "linear.5": 1.5, "linear.6": (1.5, 1), "linear.7": 1},
        lambda t, x: norm(
            t,
            "linear.7",
            linear(
                t,
                "linear.6",
                norm(t, "linear.5", F.hardswish(linear(t, "linear.3", norm(t, "linear.2", F.hardswish(linear(t, "linear.0", x)))))),
            ),
        ),
    ),
    "dropout by a structure": (
        {"activation_func": "tanh", "activate_output": True, "layer_structure": [1, 2, 2, 1], "dropout_structure": [0, 0.1, 0.3, 0]},
        {"linear.0": (1, 2), "linear.3": (2, 2), "linear.6": (2, 1)},
        lambda t, x: linear(t, "linear.6", linear(t, "linear.3", linear(t, "linear.0", x).tanh()).tanh()).tanh(),
    ),
    "dropout by a word": (
        {"layer_structure": [1, 2, 2, 1], "use_dropout": True},
        {"linear.0": (1, 2), "linear.2": (2, 2), "linear.3": (2, 1)},
        lambda t, x: linear(t, "linear.3", linear(t, "linear.2", linear(t, "linear.0", x))),
    ),
    "dropout by two words": (
        {"layer_structure": [1, 2, 2, 1], "use_dropout": True, "last_layer_dropout": True},
        {"linear.0": (1, 2), "linear.2": (2, 2), "linear.4": (2, 1)},
        lambda t, x: linear(t, "linear.4", linear(t, "linear.2", linear(t, "linear.0", x))),
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_nets_of_every_layout_compute_what_was_trained(tmp_path, case):
    facts, shapes, formula = LAYOUTS[case]
    content = write(tmp_path / "x.pt", facts, shapes, widths=(48,))
    pair = read_hypernetwork(tmp_path / "x.pt").nets[48]
    x = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(9))
    for net, tensors in zip(pair, content[48], strict=True):
        with torch.no_grad():
            assert torch.allclose(net(x, 0.8), x + 0.8 * formula(tensors, x), atol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_can_be_read_and_acts_on_each_number_alone(tmp_path, name):
    shapes = {"linear.0": (1, 2), "linear.2": (2, 1)}
    generator = torch.Generator().manual_seed(0)
    pair = [weights(16, shapes, generator) for _ in range(2)]
    if name == "prelu":
        for tensors in pair:
            tensors["linear.1.weight"] = torch.tensor([0.3])
    torch.save({16: tuple(pair), "activation_func": name, "activate_output": False}, tmp_path / "x.pt")
    net = read_hypernetwork(tmp_path / "x.pt").nets[16][0]
    x = torch.randn(2, 5, 16, generator=generator)
    with torch.no_grad():
        assert torch.allclose(net(x)[1, 3], net(x[1:, 3:4])[0, 0], atol=1e-6)
        assert not torch.equal(net(x), x)


def test_what_is_saved_is_what_was_read_and_other_programs_find_their_facts(tmp_path):
    facts = {**LAYOUTS["dropout by two words"][0], "activation_func": None, "step": 7, "sd_checkpoint": "abcd", "sd_checkpoint_name": "m"}
    original = write(tmp_path / "x.pt", facts, LAYOUTS["dropout by two words"][1], widths=(16, 24))
    hypernetwork = read_hypernetwork(tmp_path / "x.pt")
    save_hypernetwork(tmp_path / "folder" / "y.pt", hypernetwork)
    saved = torch.load(tmp_path / "folder" / "y.pt", weights_only=True)
    for width in (16, 24):
        for mine, theirs in zip(saved[width], original[width], strict=True):
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert saved["layer_structure"] == [1, 2, 2, 1]
    assert saved["dropout_structure"] == [0, 0.3, 0.3, 0]
    assert (saved["use_dropout"], saved["last_layer_dropout"], saved["activate_output"]) == (True, True, True)
    assert (saved["step"], saved["name"], saved["sd_checkpoint"], saved["sd_checkpoint_name"]) == (7, "x", "abcd", "m")
    assert read_hypernetwork(tmp_path / "folder" / "y.pt").layout == hypernetwork.layout
    assert os.listdir(tmp_path / "folder") == ["y.pt"]


def changed(**changes: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {16: (weights(16, PLAIN, generator), weights(16, PLAIN, generator)), **FACTS, **changes}


def with_weights(change: dict[str, Any]) -> dict[Any, Any]:
    content: dict[Any, Any] = changed()
    content[16][1].update(change)
    return content


BAD: dict[str, tuple[Any, str]] = {
    "a list": ([1, 2], "is not a hypernetwork"),
    "no nets": (FACTS, "is not a hypernetwork"),
    "an embedding": ({"string_to_param": {"*": torch.ones(1, 768)}}, "put it into embeddings/"),
    "a LoRA": ({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, "put it into loras/"),
    "one net": ({16: (weights(16, PLAIN, torch.Generator()),)}, "no pair of nets"),
    "tensors for nets": ({16: (torch.ones(2), torch.ones(2))}, "does not fit"),
    "a net too few layers": (changed(layer_structure=[1, 2, 2, 1]), "does not fit"),
    "structure of giants": (changed(layer_structure=[1, 65536, 1]), "does not fit"),
    "structure of nothing": (changed(layer_structure=[1, 0, 1]), "does not fit"),
    "structure without numbers": (changed(layer_structure=[1, "2", 1]), "layer structure"),
    "structure of NaN": (changed(layer_structure=[1, math.nan, 1]), "layer structure"),
    "structure of infinity": (changed(layer_structure=[1, math.inf, 1]), "layer structure"),
    "structure with another end": (changed(layer_structure=[1, 2, 2]), "layer structure"),
    "structure of a thousand": (changed(layer_structure=[1] * 1000), "layer structure"),
    "unknown activation": (changed(activation_func="softmax"), "activation 'softmax'"),
    "activation list": (changed(activation_func=["relu"]), "activation"),
    "dropout too short": (changed(dropout_structure=[0, 0]), "dropout structure"),
    "dropout of everything": (changed(dropout_structure=[0, 1, 0]), "dropout structure"),
    "transposed weight": (with_weights({"linear.0.weight": torch.ones(16, 32)}), "does not fit"),
    "weight too many": (with_weights({"linear.2.weight": torch.ones(1)}), "does not fit"),
    "NaN": (with_weights({"linear.0.bias": torch.full((32,), math.nan)}), "NaN or infinite"),
    "giant width": ({10**15: changed()[16]}, "does not fit"),
    "negative width": ({-16: changed()[16]}, "does not fit"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_no_sound_hypernetworks_are_refused_by_name(tmp_path, case):
    content, reason = BAD[case]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(BadModelFile, match=rf"x\.pt.*{reason}"):
        read_hypernetwork(tmp_path / "x.pt")


def test_a_failed_save_leaves_the_old_file(tmp_path, use, monkeypatch):
    path = tmp_path / "y.pt"
    path.write_bytes(b"old")

    def full(content: Any, file: io.BufferedWriter) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(Exception, match="No space left"):
        save_hypernetwork(path, use.hypernetwork)
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["x.pt", "y.pt"]
