"""A checkpoint's family is told by its tensors; what is no checkpoint is named."""

import pytest

from webui.core.errors import BadModelFile
from webui.core.family import FAMILIES, TEXT_WIDTHS, detect_family

FIRST = "model.diffusion_model.input_blocks.0.0.weight"


def unet(text_width, in_channels=4):
    return {
        FIRST: (320, in_channels, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, text_width),
    }


@pytest.mark.parametrize(
    ("text_width", "name", "size", "predicts"),
    [
        (256, "miniature", 128, "epsilon"),
        (768, "sd1", 512, "epsilon"),
        (1024, "sd2", 768, "v_prediction"),
        (1280, "sdxl_refiner", 1024, "epsilon"),
        (2048, "sdxl", 1024, "epsilon"),
    ],
)
def test_the_width_of_the_text_tells_the_family(text_width, name, size, predicts):
    family = detect_family(unet(text_width), {}, "x")
    assert (family.name, family.native_size, family.prediction_type, family.inpainting) == (name, size, predicts, False)


def test_nine_channels_are_an_inpainting_model():
    family = detect_family(unet(768, 9), {}, "x")
    assert (family.name, family.config, family.inpainting) == ("sd1_inpainting", "sd1", True)


def test_metadata_tell_sd2_base_from_sd2():
    family = detect_family(unet(1024), {"modelspec.prediction_type": "epsilon"}, "x")
    assert (family.prediction_type, family.native_size) == ("epsilon", 512)


@pytest.mark.parametrize(
    ("metadata", "channels", "expected"),
    [
        ({}, 4, ("v_prediction", 768, True)),
        ({}, 9, ("epsilon", 512, False)),  # there is none for v
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, 4, ("epsilon", 512, False)),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, 4, ("v_prediction", 768, False)),
        ({"modelspec.prediction_type": "v", "modelspec.architecture": "stable-diffusion-v2-512"}, 4, ("v_prediction", 768, False)),
    ],
)
def test_what_an_sd2_unet_predicts_is_a_guess_unless_something_tells_it(metadata, channels, expected):
    family = detect_family(unet(1024, channels), metadata, "x")
    assert (family.prediction_type, family.native_size, family.is_guess) == expected


def test_marker_tensors_tell_v_prediction_and_zero_terminal_snr():
    family = detect_family({**unet(2048), "v_pred": (0,), "ztsnr": (0,)}, {}, "x")
    assert (family.prediction_type, family.zero_terminal_snr) == ("v_prediction", True)


@pytest.mark.parametrize(("channels", "kind"), [(5, "depth-to-image"), (8, "instruct-pix2pix"), (6, "unknown kind")])
def test_other_channels_are_refused_by_name(channels, kind):
    with pytest.raises(BadModelFile, match=f"my.ckpt takes {channels} input channels .*{kind}"):
        detect_family(unet(768, channels), {}, "my.ckpt")


def test_unknown_text_widths_are_refused():
    with pytest.raises(BadModelFile, match="text width 99"):
        detect_family(unet(99), {}, "x")
    with pytest.raises(BadModelFile, match="text width None"):
        detect_family({FIRST: (320, 4, 3, 3)}, {}, "x")


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ("lora_unet_down_blocks_0.lora_down.weight", "a LoRA"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("decoder.conv_in.weight", "a VAE"),
        ("down_blocks.0.attentions.0.norm.weight", "diffusers folder"),
        ("emb_params", "an embedding"),
        ("anything", "no UNet"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told_what_it_is(tensor, kind):
    with pytest.raises(BadModelFile, match=kind):
        detect_family({tensor: (1,)}, {}, "x")


def test_every_width_leads_to_a_known_family():
    assert {*TEXT_WIDTHS.values(), "miniature"} == set(FAMILIES)
