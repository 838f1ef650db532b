"""Names of layers: each way to write them leads to the layer that it means, in every family and in full size."""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.lora_files import diffusers_name, kohya_ldm_name, kohya_name, layers_of, patched_model
from webui.engine.checkpoint import save_single_file
from webui.engine.diffusers_parts import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, UNet2DConditionModel
from webui.engine.family import load_family
from webui.engine.model import DiffusionModel
from webui.engine.model_file import open_tensors
from webui.engine.patches.lora_keys import AdapterSettings, layer, sites, split_key

FAMILIES = ("sd1", "sd2", "sdxl", "sdxl_refiner", "miniature")
ATTENTION = "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
DOTTED = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


@cache
def full_size_model(family):
    """Without numbers."""
    facts = load_family(family)
    with torch.device("meta"):
        parts = {"unet": UNet2DConditionModel.from_config(facts.read_config("unet"))}
        for layout in facts.text_encoders:
            config = facts.read_config(layout.component)
            kind = CLIPTextModelWithProjection if config["architectures"] == ["CLIPTextModelWithProjection"] else CLIPTextModel
            parts[layout.component] = kind(CLIPTextConfig.from_dict(config))
    return DiffusionModel(SimpleNamespace(**parts), facts, Path(f"{family}.safetensors"))


@pytest.mark.parametrize(
    ("key", "name", "part"),
    [
        (f"lora_unet_{ATTENTION}.lora_up.weight", f"lora_unet_{ATTENTION}", "up"),
        (f"lora_unet_{ATTENTION}.alpha", f"lora_unet_{ATTENTION}", "alpha"),
        (f"lora_unet_{ATTENTION}.hada_w1_a", f"lora_unet_{ATTENTION}", "hada_w1_a"),
        (f"lora_unet_{ATTENTION}.diff_b", f"lora_unet_{ATTENTION}", "diff_b"),
        (f"unet.{DOTTED}.lora_A.weight", f"unet_{ATTENTION}", "down"),
        (f"unet.{DOTTED}.lora_B.default.weight", f"unet_{ATTENTION}", "up"),
        (f"unet.{DOTTED}.lora.up.weight", f"unet_{ATTENTION}", "up"),
        (f"unet.{DOTTED}.lora_magnitude_vector", f"unet_{ATTENTION}", "magnitude"),
        (f"{DOTTED.replace('to_k', 'processor.to_k_lora')}.down.weight", ATTENTION, "down"),
        (f"base_model.model.{DOTTED}.lora_A.weight", f"base_model_model_{ATTENTION}", "down"),
        (f"base_model.model.{DOTTED}.oft_R.weight", f"base_model_model_{ATTENTION}", "oft_R"),
        (f"unet.{DOTTED}.oft_R.default.weight", f"unet_{ATTENTION}", "oft_R"),
        (f"{DOTTED}.boft_R", ATTENTION, "boft_R"),
        (f"{DOTTED}.boft_s.default", ATTENTION, "boft_s"),
        (f"base_model.model.{DOTTED}.ia3_l", f"base_model_model_{ATTENTION}", "ia3_l"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.weight", "lora_te_text_model_encoder_layers_0_mlp_fc1", "weight"),
    ],
)
def test_a_key_is_a_layer_and_a_part(key, name, part):
    assert split_key(key) == (name, part)


@pytest.mark.parametrize("key", ["", "alpha", "lora_unet_x.bias_values", "lora_unet_x"])
def test_keys_of_no_kind_are_told_apart(key):
    assert split_key(key) is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("naming", ["kohya", "ldm", "diffusers"])
def test_every_layer_in_full_size_is_found_under_every_name(family, naming):
    model = full_size_model(family)
    name = {"kohya": kohya_name(family), "ldm": kohya_ldm_name(model), "diffusers": diffusers_name}[naming]
    known = sites(model)
    found = {(component, path): known.get(split_key(f"{name(component, path)}.alpha")[0]) for component, path, _ in layers_of(model)}
    assert len(found) > 150
    assert found == {site: site for site in found}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_ldm_names_lead_to_the_weights_that_single_files_have_under_them(family, tmp_path):
    model = patched_model(family)
    encoders = {component: getattr(model.pipeline, component, None) for component in ("text_encoder", "text_encoder_2")}
    path = tmp_path / "whole.safetensors"
    save_single_file(path, unet=model.unet, vae=model.vae, **encoders, dtype=torch.float32)
    known = sites(model)
    with open_tensors(path) as file:
        keys = [key for key in file.shapes if key.startswith("model.diffusion_model.") and key.endswith(".weight")]
        for key in keys:
            for prefix in ("lora_unet_", "diffusion_model_"):
                site = known[prefix + key.removeprefix("model.diffusion_model.").removesuffix(".weight").replace(".", "_")]
                assert torch.equal(layer(model, site).weight, file.read(key)), key
    assert len(keys) > 250


# As they stand in files that were published.
@pytest.mark.parametrize(
    ("family", "name", "path"),
    [
        ("sd1", f"lora_unet_{ATTENTION}", f"unet.{DOTTED}"),
        (
            "sd1",
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
            "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
        ),
        (
            "sd1",
            "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_out_0",
            "unet.up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0",
        ),
        ("sd1", "lora_unet_down_blocks_0_downsamplers_0_conv", "unet.down_blocks.0.downsamplers.0.conv"),
        ("sd1", "lora_unet_up_blocks_1_resnets_0_conv_shortcut", "unet.up_blocks.1.resnets.0.conv_shortcut"),
        ("sd1", f"lycoris_{ATTENTION}", f"unet.{DOTTED}"),
        ("sd1", f"base_model_model_{ATTENTION}", f"unet.{DOTTED}"),
        ("sd1", "lora_te_text_model_encoder_layers_11_self_attn_q_proj", "text_encoder.encoder.layers.11.self_attn.q_proj"),
        (
            "sd1",
            "up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_out",
            "unet.up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0",
        ),
        ("sd1", "text_encoder_text_model_encoder_layers_3_self_attn_to_out", "text_encoder.encoder.layers.3.self_attn.out_proj"),
        ("sd2", "lora_te_text_model_encoder_layers_22_mlp_fc2", "text_encoder.encoder.layers.22.mlp.fc2"),
        ("sd2", "lora_te_model_transformer_resblocks_22_mlp_c_proj", "text_encoder.encoder.layers.22.mlp.fc2"),
        (
            "sdxl",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k",
        ),
        ("sdxl", "lora_unet_middle_block_1_transformer_blocks_9_ff_net_2", "unet.mid_block.attentions.0.transformer_blocks.9.ff.net.2"),
        ("sdxl", "lora_unet_output_blocks_5_1_proj_out", "unet.up_blocks.1.attentions.2.proj_out"),
        ("sdxl", "lora_unet_output_blocks_2_2_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("sdxl", "lora_unet_input_blocks_1_0_emb_layers_1", "unet.down_blocks.0.resnets.0.time_emb_proj"),
        ("sdxl", "lora_unet_input_blocks_3_0_op", "unet.down_blocks.0.downsamplers.0.conv"),
        ("sdxl", "lora_unet_label_emb_0_0", "unet.add_embedding.linear_1"),
        ("sdxl", "lora_te1_text_model_encoder_layers_0_mlp_fc1", "text_encoder.encoder.layers.0.mlp.fc1"),
        ("sdxl", "lora_te2_text_model_encoder_layers_31_self_attn_v_proj", "text_encoder_2.text_model.encoder.layers.31.self_attn.v_proj"),
        (
            "sdxl",
            "oft_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k",
        ),
    ],
)
def test_names_of_real_files_are_known(family, name, path):
    assert ".".join(sites(full_size_model(family))[name]) == path


def test_pefts_alpha_comes_from_what_diffusers_noted():
    noted = (
        '{"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_k": 2}, "text_encoder.lora_alpha": 4, "text_encoder.use_rslora": true,'
        ' "text_encoder_2.lora_alpha": "x"}'
    )
    settings = AdapterSettings({"lora_adapter_metadata": noted})
    assert settings.alpha(f"unet_{ATTENTION.replace('_to_k', '_to_v')}", 4) == 8
    assert settings.alpha(f"unet_{ATTENTION}", 4) == 2
    assert settings.alpha("text_encoder_text_model_encoder_layers_0_mlp_fc1", 4) / 4 == 4 / 4**0.5
    assert settings.alpha("text_encoder_2_text_model_encoder_layers_0_mlp_fc1", 4) is None
    assert settings.alpha("lora_unet_x", 4) is None
    assert AdapterSettings({"lora_adapter_metadata": '{"lora_alpha": 8}'}).alpha(ATTENTION, 4) == 8  # of a UNet that was saved by itself


@pytest.mark.parametrize("noted", ["", "[", "[]", "null", "[" * 100_000, '{"unet.lora_alpha": "8", "unet.alpha_pattern": [1]}'])
def test_notes_that_make_no_sense_say_nothing(noted):
    assert AdapterSettings({"lora_adapter_metadata": noted}).alpha("unet_x", 4) is None


@pytest.mark.parametrize("network", ["unet.", ""])
def test_pefts_settings_of_rotations_come_from_what_diffusers_noted(network):
    def noted(**settings):
        return AdapterSettings({"lora_adapter_metadata": json.dumps({network + key: value for key, value in settings.items()})})

    name = f"{network.replace('.', '_')}{ATTENTION}"
    assert noted(use_cayley_neumann=True, num_cayley_neumann_terms=7, coft=True, eps=0.1).rotation(name) == {"terms": 7, "limit": 0.1}
    assert noted(use_cayley_neumann=False, num_cayley_neumann_terms=5, coft=False, eps=0.1).rotation(name) == {"terms": 0}
    for nonsense in ({}, {"num_cayley_neumann_terms": 10**9}, {"num_cayley_neumann_terms": "5"}, {"coft": True, "eps": float("nan")}):
        assert noted(**nonsense).rotation(name) == {}
