"""The family of a LoRA from its header alone."""

import pytest

from webui.core.errors import BadModelFile
from webui.core.network_family import lora_family

ATTENTION = "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
DOTTED = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2"


def family_of(shapes, metadata):
    found = lora_family(shapes, metadata, "x.safetensors")
    return found.name if found else None


@pytest.mark.parametrize(
    ("width", "family"), [(256, "miniature"), (768, "sd1"), (1024, "sd2"), (1280, "sdxl_refiner"), (2048, "sdxl"), (777, None)]
)
@pytest.mark.parametrize(
    "shapes",
    [
        lambda width: {f"lora_unet_{ATTENTION}.lora_down.weight": (8, width), f"lora_unet_{ATTENTION}.lora_up.weight": (320, 8)},
        lambda width: {f"{DOTTED}.to_k.lora_A.weight": (8, width)},
        lambda width: {f"{DOTTED}.processor.to_v_lora.down.weight": (8, width)},
        lambda width: {f"lora_unet_{ATTENTION}.hada_w1_b": (8, width)},
        lambda width: {f"lora_unet_{ATTENTION}.diff": (320, width)},
        lambda width: {f"lora_unet_{ATTENTION}.lokr_w1": (8, 1), f"lora_unet_{ATTENTION}.lokr_w2": (40, width)},
        lambda width: {f"lora_unet_{ATTENTION}.lokr_w1_b": (2, width), f"lora_unet_{ATTENTION}.lokr_w2_b": (2, 1)},
        lambda width: {f"lora_unet_{ATTENTION}.b2.weight": (4, width), f"lora_unet_{ATTENTION}.b1.weight": (320, 4)},
    ],
)
def test_the_width_of_cross_attention_tells(shapes, width, family):
    assert family_of(shapes(width), {}) == family


def test_a_second_text_encoder_is_sdxls():
    assert family_of({"lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": ()}, {}) == "sdxl"
    assert family_of({"text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": (4, 1280)}, {}) == "sdxl"


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"ss_base_model_version": "sd_v1"}, "sd1"),
        ({"ss_base_model_version": "sd_v2_768_v"}, "sd2"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd1"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
        ({"ss_base_model_version": "something"}, None),
        ({}, None),
    ],
)
def test_else_metadata_tell(metadata, family):
    assert family_of({"lora_unet_mid_block_resnets_0_conv1.alpha": ()}, metadata) == family


def test_shapes_are_believed_before_metadata():
    shapes = {f"lora_unet_{ATTENTION}.lora_down.weight": (8, 768)}
    assert family_of(shapes, {"ss_base_model_version": "sdxl_base_v1-0"}) == "sd1"


@pytest.mark.parametrize(
    "key",
    [
        "lora_unet_double_blocks_0_img_attn_qkv.alpha",
        "lora_unet_joint_blocks_0_x.alpha",
        "transformer.single_transformer_blocks.0.x.lora_A.weight",
    ],
)
def test_newer_kinds_are_told_by_their_names(key):
    with pytest.raises(BadModelFile, match="newer kind"):
        lora_family({key: ()}, {}, "x.safetensors")


@pytest.mark.parametrize("shape", [(), (8,), (8, 0)])
def test_odd_shapes_tell_nothing(shape):
    assert family_of({f"lora_unet_{ATTENTION}.lora_down.weight": shape, f"lora_unet_{ATTENTION}.lokr_w2": shape}, {}) is None
