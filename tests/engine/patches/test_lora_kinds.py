"""The change of each kind against LyCORIS's own forward pass, as it is in training."""

import copy
import warnings

import pytest
import torch
from torch import nn

from webui.engine.patches.lora import _deltas
from webui.engine.patches.lora_delta import Delta
from webui.engine.patches.lora_keys import AdapterSettings, split_key
from webui.engine.patches.lora_kinds import LowRank, delta_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lycoris.modules.boft import ButterflyOFTModule
    from lycoris.modules.diag_oft import DiagOFTModule
    from lycoris.modules.full import FullModule
    from lycoris.modules.glora import GLoRAModule
    from lycoris.modules.ia3 import IA3Module
    from lycoris.modules.locon import LoConModule
    from lycoris.modules.loha import LohaModule
    from lycoris.modules.lokr import LokrModule
    from lycoris.modules.norms import NormModule

LAYERS = {
    "linear": lambda: nn.Linear(24, 32),
    "conv": lambda: nn.Conv2d(24, 32, 3, padding=1),
    "conv1": lambda: nn.Conv2d(24, 32, 1),
    "layer_norm": lambda: nn.LayerNorm(24),
    "group_norm": lambda: nn.GroupNorm(4, 24),
}
MATRICES = ("linear", "conv", "conv1")
CASES = [
    *((LoConModule, kind, {}) for kind in MATRICES),
    (LoConModule, "conv", {"use_tucker": True}),
    *((LohaModule, kind, {}) for kind in MATRICES),
    (LohaModule, "conv", {"use_tucker": True}),
    *((algorithm, "linear", {"use_scalar": True}) for algorithm in (LoConModule, LohaModule, GLoRAModule)),
    *((algorithm, "linear", {"rs_lora": True}) for algorithm in (LoConModule, LohaModule)),
    *((LokrModule, kind, {"factor": 4}) for kind in MATRICES),
    *((LokrModule, kind, {"factor": 4, "full_matrix": True}) for kind in MATRICES),
    (LokrModule, "conv", {"factor": 4, "use_tucker": True}),
    (LokrModule, "linear", {"factor": 8, "decompose_both": True, "lora_dim": 2}),
    *((GLoRAModule, kind, {}) for kind in MATRICES),
    *((IA3Module, kind, {"train_on_input": on_input}) for kind in MATRICES for on_input in (False, True)),
    *((DiagOFTModule, kind, {"lora_dim": 8}) for kind in MATRICES),
    (DiagOFTModule, "linear", {"lora_dim": 8, "constraint": 0.01}),
    *((NormModule, kind, {}) for kind in ("layer_norm", "group_norm")),
]
# What LyCORIS multiplies within the formula, and A1111 as a whole: the same at strength 1.
AT_ONE = [
    *(
        (algorithm, kind, {"weight_decompose": True, "wd_on_out": on_out})
        for algorithm in (LoConModule, LohaModule)
        for kind in MATRICES
        for on_out in (True, False)
    ),
    (LokrModule, "linear", {"factor": 4, "weight_decompose": True}),
    (DiagOFTModule, "conv", {"lora_dim": 8, "rescaled": True}),
    (ButterflyOFTModule, "linear", {"lora_dim": 8, "constraint": 0.01}),
    *((ButterflyOFTModule, kind, {"lora_dim": 8, "rescaled": rescaled}) for kind in MATRICES for rescaled in (False, True)),
]


def random_oracle(algorithm, layer, arguments):
    """A LyCORIS module over `layer`, all its numbers drawn at random."""
    oracle = algorithm("x", layer, **{"multiplier": 1.0, "lora_dim": 4, "alpha": 3.0, **arguments})
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3 + (parameter if parameter.ndim < 2 or "scale" in arguments else 0))
    return oracle


def id_of(value):
    return value.__name__ if isinstance(value, type) else "-".join(value) if isinstance(value, dict) else None


def parts_of(oracle):
    """As lora.py reads them from a file."""
    named = {split_key(f"x.{key}"): tensor.detach() for key, tensor in oracle.state_dict().items()}
    return {split[1]: tensor for split, tensor in named.items() if split}


def check(algorithm, kind, arguments, strength):
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    oracle = random_oracle(algorithm, layer, arguments)
    parts = parts_of(oracle)
    oracle.multiplier = strength
    x = inputs(kind)
    with torch.no_grad():
        expected = oracle(x)
    check_change(layer, parts, strength, x, expected)


def inputs(kind):
    return torch.randn(2, 5, 24) if kind in ("linear", "layer_norm") else torch.randn(2, 24, 7, 7)


def check_change(layer, parts, strength, x, expected):
    """That the layer, with its weight and bias changed as the parts say, answers as expected."""
    with torch.no_grad():
        before = layer(x)
        for kind, delta in _deltas("x", dict(parts), AdapterSettings({}), "x").items():
            changed = getattr(layer, kind)
            changed.copy_(delta.added(changed, changed, strength))
        made = layer(x)
    assert (expected - before).norm() > 1e-3 * before.norm()
    assert (made - expected).norm() <= 1e-5 * (expected - before).norm() + 1e-6 * before.norm()


@pytest.mark.parametrize("strength", [1.0, -0.6])
@pytest.mark.parametrize(("algorithm", "kind", "arguments"), CASES, ids=id_of)
def test_the_change_is_lycoris_own(algorithm, kind, arguments, strength):
    check(algorithm, kind, arguments, strength)


@pytest.mark.parametrize(("algorithm", "kind", "arguments"), AT_ONE, ids=id_of)
def test_the_change_is_lycoris_own_at_strength_one(algorithm, kind, arguments):
    check(algorithm, kind, arguments, 1.0)


@pytest.mark.parametrize("strength", [1.0, -0.6])
@pytest.mark.parametrize("kind", MATRICES)
def test_a_full_change_is_lycoris_own(kind, strength):
    """This one works on whole weights, of which it saves the change: by its `apply_to`, as in training."""
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    oracle, x = FullModule("x", layer, multiplier=strength), inputs(kind)
    oracle.apply_to()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        expected = oracle(x)
    oracle.restore()
    parts = parts_of(oracle)
    assert parts.keys() == {"diff", "diff_b"}
    check_change(layer, parts, strength, x, expected)


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("method", ["LoHa", "LoKr", "LoKr in parts"])
def test_loha_and_lokr_of_pefts_own_are_read(method, kind):
    """Their alpha is in no tensor: here it is the rank, which is what a file without alpha means."""
    from peft import LoHaConfig, LoKrConfig

    common = {"r": 2, "alpha": 2, "target_modules": ["0"], "init_weights": False}
    config = LoHaConfig(**common) if method == "LoHa" else LoKrConfig(**common, decompose_factor=4, decompose_both="parts" in method)
    check_peft(config, LAYERS[kind](), inputs(kind))


@pytest.mark.parametrize(("kind", "on_input"), [*((kind, False) for kind in MATRICES), ("linear", True)])
def test_ia3_of_pefts_own_is_read(kind, on_input):
    """Of a convolution the file does not tell on which side its factors are: what comes out is peft's default."""
    from peft import IA3Config

    config = IA3Config(target_modules=["0"], feedforward_modules=["0"] if on_input else [], init_ia3_weights=False)
    check_peft(config, LAYERS[kind](), inputs(kind))


def check_peft(config, layer, x):
    """Against peft's own forward pass."""
    from peft import get_peft_model, get_peft_model_state_dict

    torch.manual_seed(0)
    plain = copy.deepcopy(layer)
    model = get_peft_model(nn.Sequential(layer), config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "base_layer" not in key:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        expected = model(x)
    stored = {split_key(key): tensor.detach() for key, tensor in get_peft_model_state_dict(model).items()}
    assert {name for name, _ in stored} == {"base_model_model_0"}
    check_change(plain, {part: tensor for (_, part), tensor in stored.items()}, 1.0, x, expected)


def test_a_full_change_is_the_change_itself():
    weight, change = torch.randn(32, 24, 3, 3), torch.randn(32, 24, 3, 3)
    assert torch.equal(delta_of({"diff": change}).of(weight), change)


@pytest.mark.parametrize("shape", [(32, 24), (32, 24, 3, 3)])
def test_glora_of_old_files_names_its_factors_the_other_way_round(shape):
    """W a2 a1 + b2 b1 with a1: (r, in), a2: (in, r), b1: (r, in), b2: (out, r)."""
    torch.manual_seed(0)
    weight, kernel = torch.randn(shape), shape[2:]
    a1, a2, b1, b2 = torch.randn(4, 24), torch.randn(24, 4), torch.randn(4, 24, *kernel), torch.randn(32, 4)
    parts = {"a1": a1, "a2": a2, "b1": b1, "b2": b2, "alpha": torch.tensor(2.0)}
    moved = (weight.movedim(1, -1) @ (a2 @ a1)).movedim(-1, 1)
    expected = (moved + (b2 @ b1.flatten(1)).reshape(shape)) * 0.5
    torch.testing.assert_close(delta_of(parts).of(weight), expected, rtol=1e-5, atol=1e-4)


def test_old_rotations_are_stored_as_matrices():
    weight, blocks = torch.randn(32, 24), torch.linalg.qr(torch.randn(4, 8, 8))[0]
    rotated = torch.cat([block.T @ piece for block, piece in zip(blocks, weight.split(8), strict=True)])
    torch.testing.assert_close(delta_of({"oft_diag": blocks}).of(weight), rotated - weight, rtol=1e-5, atol=1e-5)


def test_dyn_takes_the_first_ranks_alone():
    up, down = torch.randn(32, 8), torch.randn(8, 24)
    delta = delta_of({"up": up, "down": down, "alpha": torch.tensor(4.0), "dora_scale": torch.rand(32, 1)}).cut(3)
    expected = delta_of({"up": up[:, :3], "down": down[:3], "alpha": torch.tensor(1.5), "dora_scale": delta.magnitude})
    weight = torch.randn(32, 24)
    torch.testing.assert_close(delta.of(weight), expected.of(weight))


@pytest.mark.parametrize("name", [None, ".default"])
def test_pefts_magnitudes_belong_to_output_channels(name):
    """DoRA of the peft package itself, over a square layer, where the shape alone tells nothing."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(24, 24))
    weight = net[0].weight.detach().clone()
    model = get_peft_model(net, LoraConfig(r=4, lora_alpha=6, target_modules=["0"], use_dora=True))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora" in key:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    stored = model.state_dict() if name else get_peft_model_state_dict(model)
    parts = {part: tensor.detach() for key, tensor in stored.items() if "lora_" in key for _, part in [split_key(key)]}
    made = delta_of({**parts, "alpha": torch.tensor(6.0)}).of(weight)
    torch.testing.assert_close(made, model.merge_and_unload()[0].weight.detach() - weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parts", [{}, {"up": torch.ones(3, 2)}, {"alpha": torch.tensor(1.0)}, {"hada_w1_a": torch.ones(3, 2)}])
def test_incomplete_layers_are_no_change(parts):
    assert delta_of(parts) is None


@pytest.mark.parametrize(
    "parts",
    [
        {"up": torch.ones(24, 4), "down": torch.ones(4, 32)},
        {"up": torch.ones(1, 4), "down": torch.ones(4, 24)},
        {"up": torch.ones(32, 3), "down": torch.ones(4, 24)},
        {"diff": torch.ones(24, 32)},
        {"hada_w1_a": torch.ones(32, 2), "hada_w1_b": torch.ones(2, 24), "hada_w2_a": torch.ones(32, 2), "hada_w2_b": torch.ones(2, 1)},
        {"lokr_w1": torch.ones(4, 4), "lokr_w2": torch.ones(4, 4)},
        {"oft_blocks": torch.ones(3, 8, 8)},
        {"oft_blocks": torch.ones(2, 2, 8, 8)},
        {"weight": torch.ones(24), "on_input": torch.tensor(0)},
        {"diff": torch.ones(32, 24), "dora_scale": torch.ones(7, 1)},
    ],
)
def test_changes_of_another_shape_are_refused(parts):
    with pytest.raises((ValueError, RuntimeError)):
        delta_of(parts).of(torch.ones(32, 24))


def test_what_a_change_would_be_takes_no_memory_on_the_meta_device():
    huge = torch.ones(1, 1).expand(20_000, 20_000)
    with pytest.raises((ValueError, RuntimeError)):
        delta_of({"lokr_w1": huge, "lokr_w2": huge}).of(torch.empty(32, 24, device="meta"))


SHAPES = [(4,), (2,), (4, 6), (4, 2), (2, 6), (4, 2, 3, 1), (4, 2, 1, 1), (2, 6, 1, 1), (2, 2, 3, 1), (8, 3), (4, 0)]


@pytest.mark.parametrize("up", SHAPES, ids=str)
def test_a_low_rank_change_fits_where_torch_can_work_it_out(up):
    """The oracle is what every other kind does: try it on tensors without numbers."""
    for down in SHAPES:
        change = LowRank(torch.ones(up), torch.ones(down), None, 0.5)
        for shape in SHAPES:
            assert change.fits(shape) == Delta.fits(change, shape), (down, shape)
