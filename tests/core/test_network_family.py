"""Families of LoRAs, embeddings and hypernetworks are told from shapes before metadata."""

import pytest

from webui.core.errors import BadModelFile
from webui.core.network_family import embedding_family, embedding_shape, hypernetwork_family, lora_family

K = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
PEFT = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
LORAS = {
    "kohya, SD 1.x": ({f"{K}.lora_down.weight": (4, 768), f"{K}.lora_up.weight": (320, 4), f"{K}.alpha": ()}, "sd1"),
    "kohya, SD 2.x": ({f"{K}.lora_down.weight": (4, 1024)}, "sd2"),
    "kohya, SDXL": ({f"{K}.lora_down.weight": (4, 2048)}, "sdxl"),
    "PEFT": ({f"{PEFT}.lora_A.weight": (4, 768), f"{PEFT}.lora_B.weight": (320, 4)}, "sd1"),
    "diffusers": ({f"{PEFT}.lora.down.weight": (4, 2048)}, "sdxl"),
    "LoHa": ({f"{K}.hada_w1_a": (320, 4), f"{K}.hada_w1_b": (4, 1024)}, "sd2"),
    "LoKr, whole": ({f"{K}.lokr_w1": (8, 8), f"{K}.lokr_w2": (40, 96)}, "sd1"),
    "LoKr, taken apart": ({f"{K}.lokr_w1": (8, 16), f"{K}.lokr_w2_a": (40, 4), f"{K}.lokr_w2_b": (4, 128)}, "sdxl"),
    "full difference": ({f"{K}.diff": (320, 768)}, "sd1"),
    "OFT of PEFT": ({f"{PEFT}.oft_R.weight": (24, 496)}, "sd1"),
    "BOFT of PEFT": ({f"{PEFT}.boft_R": (1, 512, 4, 4), f"{PEFT}.boft_s": (640, 1)}, "sdxl"),
    "miniature": ({f"{K}.lora_down.weight": (4, 128)}, "miniature"),
    "two text encoders": ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 768)}, "sdxl"),
    "wide text encoder": ({"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (4, 1024)}, "sd2"),
    "many layers": ({"lora_te_text_model_encoder_layers_22_mlp_fc1.oft_blocks": (4, 8, 8)}, "sd2"),
    "many blocks": ({"lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q.oft_blocks": (4, 8, 8)}, "sdxl"),
}


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_shows_its_family_in_its_tensors(name: str) -> None:
    shapes, family = LORAS[name]
    found = lora_family(shapes, {"ss_base_model_version": "sdxl_base_v1-0" if family != "sdxl" else "sd_v1"}, "x")
    assert found is not None
    assert found.name == family


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"ss_base_model_version": "sd_v1"}, "sd1"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "sd2"),
        ({"ss_v2": "True"}, "sd2"),
        ({"ss_sd_model_name": "sd_xl_base_1.0.safetensors"}, "sdxl"),
        ({"ss_base_model_version": "flux1"}, None),
        ({}, None),
    ],
)
def test_metadata_tell_where_shapes_do_not(metadata: dict[str, str], family: str | None) -> None:
    found = lora_family({"lora_unet_conv_in.oft_blocks": (4, 8, 8)}, metadata, "x")
    assert (found.name if found else None) == family


def test_what_is_no_lora_or_for_a_newer_model_is_refused() -> None:
    with pytest.raises(BadModelFile, match=r"x is not a LoRA: it is a VAE"):
        lora_family({"decoder.conv_in.weight": (1,)}, {}, "x")
    with pytest.raises(BadModelFile, match="put it into models/Stable-diffusion/"):
        lora_family({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, {}, "x")
    with pytest.raises(BadModelFile, match="newer kind"):
        lora_family({"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (4, 3072)}, {}, "x")


@pytest.mark.parametrize(
    ("shapes", "family", "vectors"),
    [
        ({"emb_params": (3, 768)}, "sd1", (3, 768)),
        ({"emb_params": (3, 1024)}, "sd2", (3, 1024)),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "sdxl", (2, 768)),
        ({"clip_g": (2, 1280)}, "sdxl", (2, 1280)),
        ({"string_to_param.*": (5, 768)}, "sd1", (5, 768)),
        ({"<cat>": (768,)}, "sd1", (1, 768)),
        ({"emb_params": (1, 128)}, "miniature", (1, 128)),
    ],
)
def test_an_embedding_shows_its_family_in_its_width(shapes: dict[str, tuple[int, ...]], family: str, vectors: tuple[int, int]) -> None:
    found = embedding_family(shapes, {}, "x")
    assert found is not None
    assert (found.name, embedding_shape(shapes)) == (family, vectors)


def test_a_hypernetwork_has_layers_for_the_width_of_the_text_states() -> None:
    layers = {f"{width}.0.linear.0.weight": (width, width) for width in (320, 640, 1280)}
    assert hypernetwork_family(layers, {}, "x") is None
    assert hypernetwork_family({**layers, "768.1.linear.0.weight": (768, 768)}, {}, "x").name == "sd1"  # type: ignore[union-attr]
    with pytest.raises(BadModelFile, match="not a hypernetwork: it is a LoRA"):
        hypernetwork_family({f"{K}.lora_down.weight": (4, 768)}, {}, "x")


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
