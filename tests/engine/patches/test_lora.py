"""LoRAs on whole models: against diffusers' own loader, bit-identity afterwards, refusals, warnings."""

import gc
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.lora_files import diffusers_name, kohya_ldm_name, kohya_name, layers_of, low_rank, patched_model, weights_model, write_lora
from webui.core.errors import BadModelFile, BadRequest
from webui.engine.patches import lora
from webui.engine.patches.lora import LoraUse, applied_loras, read_lora

LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
PATH = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
ATTN = "transformer_blocks"


def weights(model):
    """Copies of all weights by component and name."""
    components = {component: getattr(model.pipeline, component) for component, _, _ in layers_of(model)}
    return {(name, key): tensor.clone() for name, part in components.items() for key, tensor in part.state_dict().items()}


def assert_same_bits(one, other):
    assert all(torch.equal(one[key].view(torch.uint8), other[key].view(torch.uint8)) for key in one)


def changed(one, other):
    return {key for key in one if not torch.equal(one[key], other[key])}


def weights_with(model, *uses):
    with applied_loras(model, uses) as warnings:
        assert warnings == ()
        return weights(model)


@pytest.fixture
def model():
    """A tiny SD 1.x that must be afterwards as it was before."""
    model = patched_model("sd1")
    before = weights(model)
    yield model
    assert_same_bits(weights(model), before)


@pytest.fixture
def write(tmp_path, model):
    def write(name="x", **arguments):
        return read_lora(write_lora(tmp_path / f"{name}.safetensors", model, kohya_name("sd1"), **arguments))

    return write


def tensors_file(tmp_path, tensors, metadata=None):
    path = tmp_path / "made.safetensors"
    save_file(tensors, path, metadata=metadata)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("naming", ["sd1", "sd2", "sdxl", "sdxl ldm"])
def test_a_whole_model_changes_as_diffusers_own_loader_changes_it(naming, tmp_path):
    family = naming.split()[0]
    model, theirs = patched_model(family), weights_model(family)
    name = kohya_ldm_name(model) if "ldm" in naming else kohya_name(family)
    path = write_lora(tmp_path / "x.safetensors", model, name, only=ATTN)
    if "ldm" not in naming:
        path = write_lora(path, model, name, only="attentions")
    before = weights(model)
    ours = weights_with(model, LoraUse(read_lora(path)))
    assert_same_bits(weights(model), before)
    theirs.pipeline.load_lora_weights(path.parent, weight_name=path.name)
    theirs.pipeline.fuse_lora()
    theirs.pipeline.unload_lora_weights()
    expected = weights(theirs)
    assert len(changed(ours, before)) == len(load_file(path)) // 3
    for key, tensor in expected.items():
        torch.testing.assert_close(ours[key], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dora", [False, True])
def test_files_that_diffusers_writes_do_here_what_they_do_there(dora, tmp_path, model):
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    theirs = weights_model("sd1").pipeline
    torch.manual_seed(0)
    theirs.unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_out.0", "conv1"], use_dora=dora))
    theirs.text_encoder.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=["q_proj", "out_proj"], use_dora=dora))
    with torch.no_grad():
        for part in (theirs.unet, theirs.text_encoder):
            for key, parameter in part.named_parameters():
                if "lora_" in key:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_lora_weights(
        tmp_path,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(theirs.unet)),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(theirs.text_encoder)),
        **_collate_lora_metadata({"unet": theirs.unet, "text_encoder": theirs.text_encoder}),
    )
    x, text, ids = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 768), torch.arange(77)[None]
    with torch.no_grad(), applied_loras(model, [LoraUse(read_lora(tmp_path / "pytorch_lora_weights.safetensors"))]) as warnings:
        assert warnings == ()
        for made, expected in (
            (model.unet(x, 500, text).sample, theirs.unet(x, 500, text).sample),
            (model.text_encoder(ids).last_hidden_state, theirs.text_encoder(ids).last_hidden_state),
        ):
            torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("algorithm", ["lora", "loha", "lokr", "ia3", "full", "diag-oft", "boft", "glora"])
def test_files_that_lycoris_writes_do_here_what_they_do_there(algorithm, tmp_path, model):
    from lycoris import LycorisNetwork, create_lycoris

    theirs, path = weights_model("sd1").unet, tmp_path / "x.safetensors"
    LycorisNetwork.apply_preset({"target_module": ["Attention", "Downsample2D"]})
    torch.manual_seed(0)
    network = create_lycoris(theirs, 1.0, linear_dim=4, linear_alpha=2.0, algo=algorithm)
    network.apply_to()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        network.save_weights(path, torch.float32, {})
        x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 768)
        plain, expected = model.unet(x, 500, text).sample, theirs(x, 500, text).sample
        with applied_loras(model, [LoraUse(read_lora(path))]) as warnings:
            made = model.unet(x, 500, text).sample
    assert warnings == ()
    assert (expected - plain).norm() > 1e-3 * plain.norm()
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_names_of_old_diffusers_files_change_the_same_layers(tmp_path, model, write):
    kohya = write(only="attn")
    path = write_lora(tmp_path / "old.safetensors", model, diffusers_name, only="attn")
    renamed = {}
    for key, tensor in load_file(path).items():
        for leaf in ("to_q", "to_k", "to_v", "to_out.0"):
            key = key.replace(f".{leaf}.lora_", f".processor.{leaf.removesuffix('.0')}_lora.")
        if not key.endswith("alpha"):  # which such files do not have
            renamed[key.replace(".lora_", ".lora_linear_layer.")] = tensor
    assert any("processor.to_out_lora.up" in key for key in renamed)
    assert any("q_proj.lora_linear_layer.down" in key for key in renamed)
    save_file(renamed, path)
    expected = weights_with(model, LoraUse(kohya))
    made = weights_with(model, LoraUse(read_lora(path), te=0.5, unet=0.5))  # write_lora's alpha is half the rank
    for key, tensor in expected.items():
        torch.testing.assert_close(made[key], tensor)


def test_two_loras_are_the_sum_of_their_changes(model, write):
    before, one, two = weights(model), write("one", seed=1), write("two", seed=2)
    both = weights_with(model, LoraUse(one), LoraUse(two, te=0.5, unet=-0.25))
    first, second = weights_with(model, LoraUse(one)), weights_with(model, LoraUse(two, te=0.5, unet=-0.25))
    for key, weight in before.items():
        torch.testing.assert_close(both[key] - weight, (first[key] - weight) + (second[key] - weight), rtol=1e-5, atol=1e-5)


def test_changes_that_depend_on_the_weight_start_from_the_pristine_one(model, write):
    before = weights(model)
    plain = write("plain", only=ATTN)
    dora = write("dora", only=ATTN, make=lambda *a: low_rank(*a) | {"dora_scale": torch.rand(len(a[0]), *[1] * (a[0].ndim - 1))})
    both = weights_with(model, LoraUse(plain), LoraUse(dora))
    first, second = weights_with(model, LoraUse(plain)), weights_with(model, LoraUse(dora))
    for key, weight in before.items():
        torch.testing.assert_close(both[key] - weight, (first[key] - weight) + (second[key] - weight), rtol=1e-5, atol=1e-5)


def test_strength_zero_changes_nothing(model, write):
    before = weights(model)
    assert_same_bits(weights_with(model, LoraUse(write(), te=0.0, unet=0.0)), before)


def test_text_encoder_and_unet_have_their_own_strengths(model, write):
    before, file = weights(model), write()
    assert {name for name, _ in changed(before, weights_with(model, LoraUse(file, te=0.0)))} == {"unet"}
    assert {name for name, _ in changed(before, weights_with(model, LoraUse(file, unet=0.0)))} == {"text_encoder"}


def test_another_strength_looks_for_no_layer_again(model, write, monkeypatch):
    file, again = write(only=ATTN), write(only=ATTN)
    expected = weights_with(model, LoraUse(again, te=0.25, unet=0.5))
    with applied_loras(model, [LoraUse(file)]):
        pass
    monkeypatch.setattr(lora, "_fit", None)
    assert_same_bits(weights_with(model, LoraUse(file, te=0.25, unet=0.5)), expected)


def test_what_is_known_of_one_model_is_not_taken_for_another_and_goes_with_it(model, write, monkeypatch):
    file, other = write(only=ATTN), weights_model("sd1")
    for each in (model, other):
        before = weights(each)
        assert changed(weights_with(each, LoraUse(file)), before)
    assert len(file.fits) == 2
    del each, other
    gc.collect()
    assert len(file.fits) == 1


def test_warnings_are_told_for_every_use(tmp_path, model, write):
    write("some", only="mid_block.attentions")
    file = read_lora(tensors_file(tmp_path, load_file(tmp_path / "some.safetensors") | {"strange": torch.ones(1)}))
    for _ in range(2):
        with applied_loras(model, [LoraUse(file)]) as warnings:
            assert "1 of the 13 layers" in warnings[0]


def test_dyn_limits_the_rank(tmp_path, model, write):
    whole = write("whole", rank=4)
    tensors = load_file(tmp_path / "whole.safetensors")
    cut = {key: t[:, :1] if "lora_up" in key else t[:1] if "lora_down" in key else t / 4 for key, t in tensors.items()}
    expected = weights_with(model, LoraUse(read_lora(tensors_file(tmp_path, {key: t.contiguous() for key, t in cut.items()}))))
    for key, made in weights_with(model, LoraUse(whole, dyn=1)).items():
        torch.testing.assert_close(made, expected[key])


@pytest.mark.parametrize("layer_number", [0, 1, 7, 40])
@pytest.mark.parametrize("swapped", [("cpu",), ()], ids=["swapped", "in place"])
def test_weights_come_back_bit_for_bit_after_an_error_at_any_layer(layer_number, swapped, model, write, monkeypatch):
    before, seen = weights(model), []

    def failing(self, total, pristine, strength, out=None):
        seen.append(total)
        if len(seen) > layer_number:
            raise MemoryError
        return torch.zeros_like(total)

    file = write()
    monkeypatch.setattr("webui.engine.patches.lora.SWAPPED", swapped)
    monkeypatch.setattr("webui.engine.patches.lora_kinds.LowRank.added", failing)
    with pytest.raises(MemoryError), applied_loras(model, [LoraUse(file)]):
        pass
    assert len(seen) == layer_number + 1
    assert_same_bits(weights(model), before)


def test_weights_come_back_bit_for_bit_after_an_error_within_the_block(model, write):
    with pytest.raises(ZeroDivisionError), applied_loras(model, [LoraUse(write())]):
        raise ZeroDivisionError


def test_jobs_may_run_in_inference_mode(model, write):
    """As generate does: weights are ordinary tensors again afterwards, which the fixture compares."""
    file, before = write(only=ATTN), weights(model)
    with torch.inference_mode():
        assert changed(weights_with(model, LoraUse(file)), before)
    assert not any(parameter.is_inference() for parameter in model.unet.parameters())


def test_weights_stay_where_they_are_in_memory_on_accelerators(model, write, monkeypatch):
    """CUDA graphs and whoever else knows addresses go on working."""
    file = write()
    swapped = weights_with(model, LoraUse(file))
    monkeypatch.setattr("webui.engine.patches.lora.SWAPPED", ())
    places = [tensor.data_ptr() for tensor in model.unet.parameters()]
    with applied_loras(model, [LoraUse(file)]):
        assert [tensor.data_ptr() for tensor in model.unet.parameters()] == places
        assert_same_bits(weights(model), swapped)


def test_on_the_cpu_the_originals_are_neither_copied_nor_touched(model, write):
    file, places = write(), [tensor.data_ptr() for tensor in model.unet.parameters()]
    with applied_loras(model, [LoraUse(file)]):
        assert [tensor.data_ptr() for tensor in model.unet.parameters()] != places
    assert [tensor.data_ptr() for tensor in model.unet.parameters()] == places


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_rounded_once_and_restored_to_the_bit(dtype, tmp_path):
    model = weights_model("sd1")
    full = weights(model)
    model.unet.to(dtype), model.text_encoder.to(dtype)
    before = weights(model)
    path = write_lora(tmp_path / "x.safetensors", model, kohya_name("sd1"), only=ATTN)
    file, up_down = read_lora(path), load_file(path)
    made = weights_with(model, LoraUse(file), LoraUse(file, te=0.5, unet=0.5))
    assert_same_bits(weights(model), before)
    change = (up_down[f"{LAYER}.lora_up.weight"] @ up_down[f"{LAYER}.lora_down.weight"]) * 0.5 * 1.5
    key = ("unet", f"{PATH}.weight")
    torch.testing.assert_close(made[key], (before[key].float() + change).to(dtype), rtol=1e-2, atol=0)
    assert (made[key].float() - before[key].float() - change).abs().max() <= torch.finfo(dtype).eps * made[key].float().abs().max()
    assert full[key].dtype == torch.float32


def test_biases_and_norms_change_too(tmp_path, model):
    norm, conv = "lora_unet_down_blocks_0_resnets_0_norm1", "lora_unet_down_blocks_0_resnets_0_conv1"
    resnet = model.unet.down_blocks[0].resnets[0]
    tensors = {
        f"{norm}.w_norm": torch.randn(resnet.norm1.weight.shape),
        f"{norm}.b_norm": torch.randn(resnet.norm1.bias.shape),
        f"{conv}.diff": torch.randn(resnet.conv1.weight.shape),
        f"{conv}.diff_b": torch.randn(resnet.conv1.bias.shape),
    }
    before = weights(model)
    made = weights_with(model, LoraUse(read_lora(tensors_file(tmp_path, tensors)), unet=0.5))
    places = ("norm1.weight", "norm1.bias", "conv1.weight", "conv1.bias")
    for place, tensor in zip(places, tensors.values(), strict=True):
        key = ("unet", f"down_blocks.0.resnets.0.{place}")
        torch.testing.assert_close(made[key], before[key] + 0.5 * tensor)
    assert len(changed(before, made)) == 4


def test_an_inpainting_model_takes_the_first_layer_of_other_models(tmp_path, model):
    conv = torch.nn.Conv2d(9, 32, 3)
    change = torch.randn(32, 4, 3, 3)
    file = read_lora(tensors_file(tmp_path, {"lora_unet_conv_in.diff": change}))
    whole, model.unet.conv_in = model.unet.conv_in, conv
    try:
        before = conv.weight.detach().clone()
        with applied_loras(model, [LoraUse(file)]):
            made = conv.weight.detach().clone()
        assert torch.equal(conv.weight, before)
    finally:
        model.unet.conv_in = whole
    torch.testing.assert_close(made[:, :4], before[:, :4] + change)
    assert torch.equal(made[:, 4:], before[:, 4:])


@pytest.mark.parametrize(
    ("family", "title"), [("sd2", "Stable Diffusion 2.x"), ("sdxl", "Stable Diffusion XL"), ("miniature", "Easel miniature")]
)
def test_a_lora_for_another_family_is_refused_before_anything_changes(family, title, tmp_path, model):
    other = patched_model(family)
    file = read_lora(write_lora(tmp_path / "other.safetensors", other, kohya_name(family), only=ATTN))
    with (
        pytest.raises(BadRequest, match=rf"other.safetensors was made for {title}, and sd1.safetensors is Stable Diffusion 1.x"),
        applied_loras(model, [LoraUse(file)]),
    ):
        pass


def test_a_lora_for_a_newer_kind_of_model_is_refused(tmp_path, model):
    tensors = {f"lora_unet_double_blocks_0_img_attn_qkv.lora_{part}.weight": torch.ones(2, 2) for part in ("up", "down")}
    with pytest.raises(BadRequest, match="FLUX"), applied_loras(model, [LoraUse(read_lora(tensors_file(tmp_path, tensors)))]):
        pass


def test_shapes_that_do_not_fit_are_refused_by_name(tmp_path, model):
    layer = "lora_unet_mid_block_resnets_0_conv1"
    file = read_lora(tensors_file(tmp_path, {f"{layer}.lora_up.weight": torch.ones(7, 2), f"{layer}.lora_down.weight": torch.ones(2, 7)}))
    with (
        pytest.raises(BadRequest, match=f"does not fit sd1.safetensors: the weight of layer {layer}"),
        applied_loras(model, [LoraUse(file)]),
    ):
        pass


def test_keys_that_match_nothing_are_counted_and_a_few_named(tmp_path, model, write):
    write("some", only="mid_block.attentions")
    tensors = load_file(tmp_path / "some.safetensors")
    for i in range(5):
        tensors |= {f"lora_unet_nowhere_{i}.lora_{part}.weight": torch.ones(2, 2) for part in ("up", "down")}
    file = read_lora(tensors_file(tmp_path, tensors | {"strange": torch.ones(1)}))
    with applied_loras(model, [LoraUse(file)]) as warnings:
        (warning,) = warnings
    assert warning.startswith("6 of the 18 layers in the LoRA made.safetensors match nothing in sd1.safetensors: ")
    assert "'strange', 'lora_unet_nowhere_0'" in warning
    assert warning.count("nowhere") == 2


def test_a_lora_that_matches_nothing_at_all_is_refused(tmp_path, model):
    tensors = {f"lora_unet_nowhere.lora_{part}.weight": torch.ones(2, 2) for part in ("up", "down")}
    with (
        pytest.raises(BadRequest, match=r"changes no layer of sd1.safetensors.*nowhere"),
        applied_loras(model, [LoraUse(read_lora(tensors_file(tmp_path, tensors)))]),
    ):
        pass


def test_bundled_embeddings_are_read(tmp_path, model):
    tensors = {"bundle_emb.cat.string_to_param.*": torch.ones(2, 768), "bundle_emb.dog.clip_l": torch.ones(1, 768)}
    file = read_lora(tensors_file(tmp_path, tensors))
    assert {name: list(part) for name, part in file.embeddings.items()} == {"cat": ["string_to_param.*"], "dog": ["clip_l"]}
    assert weights_with(model, LoraUse(file))


def test_metadata_come_along(tmp_path):
    path = tensors_file(tmp_path, {f"{LAYER}.diff": torch.ones(2, 2)}, {"ss_tag_frequency": json.dumps({"a": 1})})
    assert read_lora(path).metadata == {"ss_tag_frequency": '{"a": 1}'}


def test_pickled_files_are_read_too(tmp_path, model, write):
    file = write()
    torch.save(load_file(tmp_path / "x.safetensors"), tmp_path / "x.pt")
    assert_same_bits(weights_with(model, LoraUse(read_lora(tmp_path / "x.pt"))), weights_with(model, LoraUse(file)))


def test_numbers_of_eight_bits_are_read(tmp_path):
    change = torch.randn(2, 2).to(torch.float8_e4m3fn)
    file = read_lora(tensors_file(tmp_path, {f"{LAYER}.diff": change}))
    assert torch.equal(file.layers[LAYER]["weight"].of(torch.zeros(2, 2)), change.float())


def test_of_a_checkpoint_among_the_loras_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "_read", None)
    with pytest.raises(BadModelFile, match="holds no LoRA"):
        read_lora(tensors_file(tmp_path, {"a.weight": torch.ones(2), "a.bias": torch.ones(2), "b.c.weight": torch.ones(2)}))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad, tmp_path):
    with pytest.raises(BadModelFile, match="not finite"):
        read_lora(tensors_file(tmp_path, {f"{LAYER}.diff": torch.tensor([[1.0, bad]])}))


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(1)}, "holds no LoRA.*'model.diffusion_model"),
        ({"lora_up.weight": torch.ones(2, 2)}, "holds no LoRA"),
        ({"lora_up.weight": torch.ones(2, 2), "lora_down.weight": torch.tensor(1.0)}, "do not belong together"),
        (
            {"diff": torch.ones(2, 2), "lora_up.weight": torch.ones(2, 2), "lora_down.weight": torch.ones(2, 2), "alpha": torch.ones(0)},
            "together",
        ),
        ({"lora_up.weight": torch.ones(2, 0), "lora_down.weight": torch.ones(0, 2), "alpha": torch.tensor(1.0)}, "together"),
    ],
)
def test_files_without_a_whole_lora_are_refused(tensors, problem, tmp_path):
    path = tensors_file(
        tmp_path, {f"{LAYER}.{part}" if "." not in part.removesuffix(".weight") else part: t for part, t in tensors.items()}
    )
    with pytest.raises(BadModelFile, match=f"made.safetensors.*{problem}"):
        read_lora(path)
