"""Rotations of what goes into a layer, against what peft itself makes of its weights. Those of what comes out: test_lora_kinds.py."""

import copy

import pytest
import torch
from torch import nn

from tests.lora_files import weights_model
from webui.engine.patches.lora import LoraUse, applied_loras, read_lora
from webui.engine.patches.lora_keys import split_key
from webui.engine.patches.lora_kinds import delta_of
from webui.engine.patches.lora_rotations import InputRotation

LAYERS = {
    "linear": lambda: nn.Linear(24, 32),
    "conv": lambda: nn.Conv2d(24, 32, 3, padding=1),
    "conv1": lambda: nn.Conv2d(24, 32, 1),
}
SERIES = [  # settings of peft, and ours
    ({}, {}),
    *(({"num_cayley_neumann_terms": terms}, {"terms": terms}) for terms in range(1, 8)),
    ({"use_cayley_neumann": False}, {"terms": 0}),
    ({"coft": True, "eps": 0.2}, {"limit": 0.2}),
    ({"coft": True, "eps": 9.0, "use_cayley_neumann": False}, {"terms": 0, "limit": 9.0}),
]
BLOCKS = [{"oft_block_size": 8}, {"oft_block_size": 0, "r": 2}, {"oft_block_size": 8, "block_share": True}, {"oft_block_size": 24}]


def id_of(value):
    return "-".join(f"{key}={said}" for key, said in value.items()) or "defaults" if isinstance(value, dict) else None


def peft_model(config, layer):
    """peft's over `layer`, its numbers drawn at random."""
    from peft import get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(copy.deepcopy(layer)), config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "base_layer" not in key:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def oft(**settings):
    from peft import OFTConfig

    return OFTConfig(target_modules=["0"], **settings)


def boft(**settings):
    from peft import BOFTConfig

    return BOFTConfig(target_modules=["0"], **settings)


def parts_of(model):
    """As lora.py reads them from a file."""
    from peft import get_peft_model_state_dict

    stored = {split_key(key): tensor.detach().clone() for key, tensor in get_peft_model_state_dict(model).items()}
    assert {name for name, _ in stored} == {"base_model_model_0"}
    return {part: tensor for (_, part), tensor in stored.items()}


def check(config, layer, **settings):
    """Our change of the weight against the one that peft merges."""
    model, weight = peft_model(config, layer), layer.weight.detach()
    made = delta_of({**parts_of(model), **{name: torch.tensor(value) for name, value in settings.items()}}).of(weight)
    change = model.merge_and_unload()[0].weight.detach() - weight
    if settings.get("terms") != 1:  # peft's series of one term turns nothing
        assert change.norm() > 0.01 * weight.norm()
    assert (made - change).norm() <= 1e-5 * weight.norm()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("blocks", BLOCKS, ids=id_of)
@pytest.mark.parametrize("exact", [False, True])
def test_rotations_of_every_block_size_are_pefts_own(kind, blocks, exact):
    check(oft(**blocks, use_cayley_neumann=not exact), LAYERS[kind](), **({"terms": 0} if exact else {}))


@pytest.mark.parametrize(("theirs", "ours"), SERIES, ids=id_of)
def test_rotations_of_every_setting_are_pefts_own(theirs, ours):
    check(oft(oft_block_size=8, **theirs), LAYERS["linear"](), **ours)


@pytest.mark.parametrize("kind", LAYERS)
def test_where_pefts_block_size_does_not_divide_the_file_says_the_one_that_was_taken(kind):
    with pytest.warns(UserWarning, match="Invalid `oft_block_size`"):
        check(oft(oft_block_size=7), LAYERS[kind]())


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", ["linear", "conv1"])
def test_a_rotated_layer_answers_as_pefts_own_does_unmerged(kind, exact):
    layer, x = LAYERS[kind](), torch.randn(2, 5, 24) if kind == "linear" else torch.randn(2, 24, 7, 7)
    model = peft_model(oft(oft_block_size=8, use_cayley_neumann=not exact), layer)
    delta = delta_of({**parts_of(model), "terms": torch.tensor(0 if exact else 5)})
    with torch.no_grad():
        layer.weight.add_(delta.of(layer.weight))
        torch.testing.assert_close(layer(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension", "ignore:Setting boft_n_butterfly_factor")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("blocks", [{"boft_block_size": 4}, {"boft_block_size": 0, "boft_block_num": 8}, {"boft_block_size": 3}], ids=id_of)
def test_butterflies_of_one_factor_are_pefts_own(kind, blocks):
    check(boft(**blocks), LAYERS[kind]())


@pytest.mark.parametrize("factors", [2, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_butterflies_of_several_factors_are_pefts_own(kind, factors, monkeypatch):
    """On the CPU peft makes none: its CUDA kernel, which puts blocks on a diagonal, is stood in for."""
    from peft.tuners.boft import layer as theirs

    monkeypatch.setattr(theirs, "get_fbd_cuda", lambda: True)
    monkeypatch.setattr(theirs.FastBlockDiag, "apply", lambda blocks: torch.stack([torch.block_diag(*stage) for stage in blocks]))
    model = peft_model(config := boft(boft_block_size=2, boft_n_butterfly_factor=factors), LAYERS[kind]())
    assert len(parts_of(model)["boft_R"]) == factors
    check(config, LAYERS[kind]())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["exact", "series", "boft"])
def test_files_of_pefts_rotations_that_diffusers_writes_give_the_weights_that_peft_merges(kind, tmp_path):
    """Of a UNet by itself: without a network's name, and with the settings that no tensor holds in the metadata."""
    from peft import BOFTConfig, OFTConfig

    model, theirs = weights_model("sd1"), weights_model("sd1").unet
    common = {"target_modules": ["to_q", "to_out.0", "conv2", "proj_in"], "init_weights": False}
    oft = {"oft_block_size": 8, "use_cayley_neumann": kind == "series", "num_cayley_neumann_terms": 3}
    torch.manual_seed(0)
    theirs.add_adapter(BOFTConfig(boft_block_size=4, **common) if kind == "boft" else OFTConfig(**oft, **common))
    theirs.save_lora_adapter(tmp_path)
    rotated = {name: part for name, part in theirs.named_modules() if hasattr(part, "merge")}
    assert len(rotated) > 20
    plain = copy.deepcopy(model.unet)
    with applied_loras(model, [LoraUse(read_lora(tmp_path / "pytorch_lora_weights.safetensors"))]) as warnings:
        assert warnings == ()
        for name, part in rotated.items():
            part.merge()
            made, expected, before = (x.weight for x in (model.unet.get_submodule(name), part.base_layer, plain.get_submodule(name)))
            assert (expected - before).norm() > 0.01 * before.norm()
            assert (made - expected).norm() <= 1e-5 * before.norm()


@pytest.mark.parametrize(
    "parts",
    [
        {"oft_R": torch.ones(4, 28)},
        {"oft_R": torch.ones(3, 27)},
        {"oft_R": torch.ones(1, 10)},
        {"oft_R": torch.ones(1, 0).expand(10**12, 0)},
        {"boft_R": torch.ones(1, 5, 4, 4), "boft_s": torch.ones(32, 1)},
        {"boft_R": torch.ones(6, 4, 4), "boft_s": torch.ones(32, 1)},
        {"boft_R": torch.ones(1, 6, 4, 4), "boft_s": torch.ones(31, 1)},
    ],
)
def test_rotations_of_another_size_are_refused(parts):
    with pytest.raises((ValueError, RuntimeError)):
        delta_of(parts).of(torch.empty(32, 24, device="meta"))


def test_convolutions_that_are_not_square_are_refused_as_peft_refuses_them():
    layer = nn.Conv2d(24, 32, (1, 3))
    model = peft_model(oft(oft_block_size=8), layer)
    with pytest.raises(ValueError, match="no rotation of 72 inputs"):
        delta_of(parts_of(model)).of(layer.weight)
    with pytest.raises(RuntimeError):
        model.merge_and_unload()


def test_rotations_fit_without_numbers():
    weight = torch.empty(32, 24, 3, 3, device="meta")
    for terms in (0, 5):
        assert InputRotation(torch.ones(27, 28), terms, 1.0).of(weight).shape == weight.shape
