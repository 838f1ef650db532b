"""Which family of checkpoints a LoRA, embedding or hypernetwork belongs to: told from its tensors, else from its metadata.

LoRA names are those of kohya (`lora_unet_..._attn2_to_k.lora_down.weight`), of diffusers and PEFT (`unet....attn2.to_k.lora_A.weight`)
and of LyCORIS (`.hada_w1_b`, `.lokr_w2`). What a network was trained on shows in the width of the text states that its
cross-attention reads: 768 for SD 1.x, 1024 for SD 2.x, 2048 for SDXL.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping

from webui.core.errors import BadModelFile
from webui.core.family import FAMILIES, TEXT_WIDTHS, Family, Shapes, other_kind

LORA_PARTS = (
    *("lora_unet_", "lora_te", ".lora_mid", ".alpha", "_lora.up", "_lora.down"),
    *("lora_up", "lora_down", "lora_A.", "lora_B.", ".lora.up.", ".lora.down.", "lora_linear_layer", "dora_scale"),
    *("hada_w", "lokr_w", "oft_blocks", "oft_diag", ".oft_R.", ".boft_R", ".ia3_l", ".on_input", ".w_norm", ".b_norm", "bundle_emb."),
    *(".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"),
)
LORA_ENDS = (".diff", ".diff_b")
NEWER_PARTS = ("double_blocks", "single_blocks", "joint_blocks", "single_transformer_blocks", "joint_attn", "lora_transformer_", "t5xxl")
CONTEXT_READERS = ("attn2_to_k.", "attn2_to_v.", "attn2.to_k.", "attn2.to_v.", "attn2.processor.to_k", "attn2.processor.to_v")
INNER = (  # endings of tensors whose second axis runs over what goes into the layer
    *("lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight", "lora_linear_layer.down.weight"),
    *("hada_w1_b", "hada_w2_b", ".diff", ".b2.weight"),
)
TEXT_READERS = ("self_attn_q_proj.", "self_attn.q_proj.", "self_attn.to_q_lora.", "self_attn_k_proj.", "mlp_fc1.", "mlp.fc1.")
SPOKEN: tuple[tuple[str, str], ...] = (  # what metadata call a family, small letters; the first that fits
    ("flux", ""),
    ("stable-diffusion-3", ""),
    ("sd3", ""),
    ("sdxl", "sdxl"),
    ("stable-diffusion-xl-v1-refiner", "sdxl_refiner"),
    ("stable-diffusion-xl", "sdxl"),
    ("stable-diffusion-v1", "sd1"),
    ("stable-diffusion-v2", "sd2"),
    ("sd_v1", "sd1"),
    ("sd_v2", "sd2"),
)
HINTS = (("xl", "sdxl"), ("v1-5", "sd1"), ("v1-4", "sd1"), ("sd15", "sd1"), ("v2-1", "sd2"), ("v2-0", "sd2"))  # in a base file's name


def lora_family(shapes: Shapes, metadata: Mapping[str, str], name: str) -> Family | None:
    """The family of the LoRA `name` (only for error texts); None where nothing tells.

    Raises BadModelFile for what is no LoRA, or one for a newer kind of model.
    """
    if any(part in key for key in shapes for part in NEWER_PARTS):
        raise BadModelFile(f"{name} belongs to a newer kind of model (FLUX, SD3 or the like), which Easel does not run")
    if not any(key.endswith(LORA_ENDS) or part in key for key in shapes for part in LORA_PARTS):
        raise BadModelFile(f"{name} is not a LoRA: {other_kind(shapes)}")
    return FAMILIES.get(_by_context(shapes) or _by_text_encoder(shapes) or _by_depth(shapes) or _by_metadata(metadata))


def embedding_family(shapes: Shapes, metadata: Mapping[str, str], name: str) -> Family | None:
    """The family of the embedding `name`, by the width of its vectors. Raises BadModelFile for what is none."""
    if any(key in ("clip_l", "clip_g") for key in shapes):
        return FAMILIES["sdxl"]
    vectors = embedding_shape(shapes)
    if vectors is None:
        raise BadModelFile(f"{name} is not an embedding: {other_kind(shapes)}")
    return FAMILIES.get(_of_width(vectors[-1])) or FAMILIES.get(_by_metadata(metadata))


def embedding_shape(shapes: Shapes) -> tuple[int, int] | None:
    """(vectors, width) of an embedding's first list of vectors; None where there is none that could be one."""
    named = [shape for key, shape in shapes.items() if key in ("emb_params", "clip_l", "clip_g") or key.startswith("string_to_param.")]
    for shape in named or (shapes.values() if len(shapes) <= 2 else ()):
        if len(shape) in (1, 2) and 64 <= shape[-1] <= 4096:
            return (shape[0] if len(shape) == 2 else 1), shape[-1]
    return None


def aesthetic_family(shapes: Shapes, metadata: Mapping[str, str], name: str) -> None:
    """Nothing tells for which CLIP an aesthetic embedding is. Raises BadModelFile for what is none: it is one vector and nothing else."""
    (shape,) = shapes.values() if len(shapes) == 1 else ((),)
    if len(shape) not in (1, 2) or math.prod(shape) != shape[-1] or shape[-1] < 64:
        raise BadModelFile(f"{name} is not an aesthetic embedding, which is one tensor of shape 1 x 768: {other_kind(shapes)}")


def hypernetwork_family(shapes: Shapes, metadata: Mapping[str, str], name: str) -> Family | None:
    """The family of the hypernetwork `name`: it has layers for each width it is used at, that of the text states among them."""
    widths = {int(found[1]) for key in shapes if (found := re.match(r"(\d{2,5})[._]", key))}
    if not widths:
        raise BadModelFile(f"{name} is not a hypernetwork: {other_kind(shapes)}")
    texts = [width for width in (768, 1024, 2048) if width in widths]
    return FAMILIES[TEXT_WIDTHS[texts[0]]] if texts else FAMILIES.get(_by_metadata(metadata))


def base_in_words(metadata: Mapping[str, str]) -> str:
    """What a network's metadata say it was trained on, "" if nothing."""
    said = (metadata.get(key, "").strip() for key in ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name"))
    return next((text for text in said if text and text != "None"), "")


def _of_width(width: int) -> str:
    if width in TEXT_WIDTHS:
        return TEXT_WIDTHS[width].replace("_refiner", "")  # 1280: the second text encoder, which SDXL has too
    return "miniature" if 0 < width < 768 and width % 64 == 0 else ""


def _by_context(shapes: Shapes) -> str:
    """By the width of the text states that cross-attention reads; "" where layers do not agree."""
    found = {"sdxl_refiner" if width == 1280 else _of_width(width) for width in _context_widths(shapes)}
    return found.pop() if len(found) == 1 else ""


def _context_widths(shapes: Shapes) -> Iterator[int]:
    for key, shape in shapes.items():
        if "lora_te" in key or not any(reader in key for reader in CONTEXT_READERS):
            continue
        if key.endswith(INNER) and len(shape) >= 2:
            yield shape[1]
        elif key.endswith(("lokr_w2", "lokr_w2_b")):  # a Kronecker product has the columns of w1 times those of w2
            stem = key.removesuffix("_b").removesuffix("lokr_w2")
            yield math.prod(
                (shapes.get(f"{stem}{factor}") or shapes.get(f"{stem}{factor}_b") or (0,))[-1] for factor in ("lokr_w1", "lokr_w2")
            )
        elif ".oft_R." in key and len(shape) == 2 and shape[0] > 1:  # of b x b blocks what is above the diagonal; one alone may be shared
            yield shape[0] * (1 + math.isqrt(1 + 8 * shape[1])) // 2
        elif ".boft_R" in key and len(shape) == 4:
            yield shape[1] * shape[2]


def _by_text_encoder(shapes: Shapes) -> str:
    """By the text encoders it changes: two of them for SDXL, else by their width or number of layers."""
    if any(key.startswith(("lora_te1_", "lora_te2_", "text_encoder_2.")) for key in shapes):
        return "sdxl"
    for key, shape in shapes.items():
        text = key.startswith(("lora_te", "text_encoder.")) and any(reader in key for reader in TEXT_READERS)
        if text and key.endswith(INNER) and len(shape) >= 2 and _of_width(shape[1]):
            return _of_width(shape[1])
    layers = _numbers(r"(?:lora_te_text_model|text_encoder\S*)_encoder_layers_(\d+)_", shapes)
    return "sd2" if layers and max(layers) > 11 else ""


def _by_depth(shapes: Shapes) -> str:
    """SDXL alone has more than one transformer block in an attention layer."""
    blocks = _numbers(r"transformer_blocks[_.](\d+)[_.]", shapes)
    return "sdxl" if blocks and max(blocks) > 1 else ""


def _by_metadata(metadata: Mapping[str, str]) -> str:
    for key in ("ss_base_model_version", "modelspec.architecture"):
        said = metadata.get(key, "").lower()
        for word, family in SPOKEN:
            if word in said:
                return family
    if metadata.get("ss_v2", "").lower() == "true":
        return "sd2"
    base = metadata.get("ss_sd_model_name", "").lower()
    return next((family for word, family in HINTS if word in base), "")


def _numbers(pattern: str, keys: Iterable[str]) -> list[int]:
    return [int(found[1][:6]) for key in keys if (found := re.search(pattern, key))]
