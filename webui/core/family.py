"""Which family of models a checkpoint belongs to, told from the names and shapes of its tensors (single-file LDM layout)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from webui.core.errors import BadModelFile

UNET = "model.diffusion_model."
FIRST_CONV = UNET + "input_blocks.0.0.weight"  # (channels, 4 | 9, 3, 3)
CROSS_ATTENTION = ".transformer_blocks.0.attn2.to_k.weight"  # (inner, width of the text states)
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Family:
    """What a kind of checkpoint is, apart from its weights.

    name: as its folder below webui/engine/configs, with "_inpainting" for UNets that take mask and masked picture (9 channels);
    native_size: pixels of one side it was trained on; prediction_type: what the UNet answers, "epsilon" or "v_prediction";
    zero_terminal_snr: whether its last training timestep is pure noise (arXiv:2305.08891); is_guess: whether nothing in the file tells
    what the UNet answers: only its weights do (engine/prediction.py).
    """

    name: str
    title: str
    native_size: int
    prediction_type: str
    config: str
    inpainting: bool = False
    zero_terminal_snr: bool = False
    is_guess: bool = False

    @property
    def is_sdxl(self) -> bool:
        """Whether the UNet also wants a pooled text state and the picture's sizes; its latents are others than those of SD 1.x and 2.x."""
        return self.config.startswith("sdxl")


AnyFamily = TypeVar("AnyFamily", bound=Family)
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("miniature", "Easel miniature", 128, "epsilon", "miniature"),
        Family("sd1", "Stable Diffusion 1.x", 512, "epsilon", "sd1"),
        Family("sd2", "Stable Diffusion 2.x", 768, "v_prediction", "sd2"),
        Family("sdxl", "Stable Diffusion XL", 1024, "epsilon", "sdxl"),
        Family("sdxl_refiner", "Stable Diffusion XL refiner", 1024, "epsilon", "sdxl_refiner"),
    )
}
ZERO_SNR = " + zero terminal SNR"
PREDICTION_TYPES = (
    "epsilon",
    "v_prediction",
    f"v_prediction{ZERO_SNR}",
)  # what a checkpoint can be said to predict, whatever its file says
TEXT_WIDTHS = {768: "sd1", 1024: "sd2", 1280: "sdxl_refiner", 2048: "sdxl"}
SD2_BASE_SIZE = 512  # pixels; those of the SD 2.x checkpoints that predict noise
PREDICTIONS = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon", "eps": "epsilon"}  # as metadata say it
ARCHITECTURES = {"v2-768-v": "v_prediction", "v2-512": "epsilon"}  # ends of "modelspec.architecture"

# Parts of tensor names, and what a file that has one of them is.
OTHER_KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("lora_unet", "lora_te", ".lora_A.", "lora_down"), "it is a LoRA; put it into loras/"),
    (
        ("double_blocks", "joint_blocks", "transformer_blocks.0.norm1.linear"),
        "it is a newer kind of model (FLUX, SD3 or the like), which Easel does not run",
    ),
    (("control_model.", "controlnet", "input_hint_block."), "it is a ControlNet; put it into models/ControlNet/"),
    (("decoder.conv_in.weight",), "it is a VAE; put it into models/VAE/"),
    (("down_blocks.0.",), "it is one part of a diffusers folder; name the folder instead"),
    (("emb_params", "string_to_param", "clip_g"), "it is an embedding; put it into embeddings/"),
)


def predicting(family: AnyFamily, prediction_type: str) -> AnyFamily:
    """`family`, but for what the UNet answers: one of PREDICTION_TYPES; "" and "Automatic" leave it as its file says."""
    if prediction_type in ("", "Automatic"):
        return family
    plain = prediction_type.removesuffix(ZERO_SNR)
    return replace(family, prediction_type=plain, zero_terminal_snr=plain != prediction_type)


def detect_family(shapes: Shapes, metadata: Mapping[str, str], name: str) -> Family:
    """The family of the single-file checkpoint `name` (only for error texts) by its tensors and its header's metadata.

    Neither names nor shapes show what an SD 2.x UNet predicts: where metadata do not say it either, v is a guess.
    Raises BadModelFile, saying what the file seems to be, for anything but a checkpoint that Easel runs.
    """
    first = shapes.get(FIRST_CONV)
    if first is None or len(first) != 4:
        raise BadModelFile(f"{name} is not a Stable Diffusion checkpoint: {other_kind(shapes)}")
    return _marked(family_of_unet(_text_width(shapes), first[1], name), shapes, metadata)


def family_of_unet(text_width: int | None, in_channels: int, name: str) -> Family:
    """The family of a UNet that attends to text states of `text_width` and takes `in_channels`. Raises BadModelFile, naming `name`."""
    known = TEXT_WIDTHS.get(text_width or 0)
    if known is None and text_width and text_width < 768 and text_width % 64 == 0:
        known = "miniature"
    if known is None:
        raise BadModelFile(f"{name} is a model of a kind that Easel does not know (text width {text_width})")
    family = FAMILIES[known]
    if in_channels == 9:
        return replace(family, name=f"{family.name}_inpainting", title=f"{family.title} inpainting", inpainting=True)
    if in_channels != 4:
        kind = {5: "depth-to-image", 7: "an upscaler", 8: "instruct-pix2pix"}.get(in_channels, "of an unknown kind")
        raise BadModelFile(f"{name} takes {in_channels} input channels ({kind}); Easel uses models with 4 or 9")
    return family


def answering(family: AnyFamily, prediction_type: str) -> AnyFamily:
    """`family` now that it is known what its UNet answers, "epsilon" or "v_prediction": it tells two sizes of SD 2.x apart."""
    is_base = family.config == "sd2" and prediction_type == "epsilon"
    size = SD2_BASE_SIZE if is_base else family.native_size
    return replace(family, prediction_type=prediction_type, native_size=size, is_guess=False)


def _marked(family: Family, shapes: Shapes, metadata: Mapping[str, str]) -> Family:
    """`family` with what marker tensors ("v_pred", "ztsnr") and metadata say about its prediction type."""
    said = _said_prediction(family, shapes, metadata)
    family = answering(family, said) if said else replace(family, is_guess=family.config == "sd2")
    return replace(family, zero_terminal_snr=True) if "ztsnr" in shapes else family


def _said_prediction(family: Family, shapes: Shapes, metadata: Mapping[str, str]) -> str:
    """ "epsilon" or "v_prediction"; "" where nothing is said. All inpainting UNets of SD 2.x predict noise."""
    if "v_pred" in shapes:
        return "v_prediction"
    architecture = metadata.get("modelspec.architecture", "").lower()
    by_architecture = next((predicts for end, predicts in ARCHITECTURES.items() if architecture.endswith(end)), "")
    said = PREDICTIONS.get(metadata.get("modelspec.prediction_type", "").lower(), "") or by_architecture
    return said or ("epsilon" if family.name == "sd2_inpainting" else "")


def _text_width(shapes: Shapes) -> int | None:
    """Columns of the first cross-attention's key matrix."""
    for name, shape in shapes.items():
        if name.startswith(UNET) and name.endswith(CROSS_ATTENTION) and shape:
            return shape[-1]
    return None


def other_kind(shapes: Shapes) -> str:
    """What a file without an LDM UNet seems to be, as half a sentence."""
    names = "\n".join(shapes)
    if FIRST_CONV in shapes:
        return "it is a checkpoint; put it into models/Stable-diffusion/"
    for parts, kind in OTHER_KINDS:
        if any(part in names for part in parts):
            return kind
    return f"it has no UNet (no tensor {FIRST_CONV})"
