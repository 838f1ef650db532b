"""Which family of checkpoints a LoRA file was made for, told from the names and shapes of its tensors, else from its metadata."""

from collections.abc import Iterable, Mapping

from webui.core.family import TEXT_WIDTHS, Shapes

# Names of tensors, by the axis that runs over what goes into the layer that they change.
IN_AXIS = {
    "lora_down.weight": 1,
    "lora_A.weight": 1,
    "lora.down.weight": 1,
    "_lora.down.weight": 1,
    "lora_linear_layer.down.weight": 1,
    "hada_w1_b": 1,
    "diff": 1,
    "b2.weight": 1,
}
OF_TEXT = ("attn2_to_k", "attn2_to_v", "attn2.to_k", "attn2.to_v", "attn2.processor.to_k", "attn2.processor.to_v")
SECOND_ENCODER = ("lora_te2_", "text_encoder_2.")
NEWER = ("double_blocks", "joint_blocks", "joint_transformer_blocks", "single_transformer_blocks", "single_blocks")
SAID = {
    "sdxl": "sdxl",
    "stable-diffusion-xl": "sdxl",
    "sd_v1": "sd1",
    "sd1": "sd1",
    "sd_1": "sd1",
    "stable-diffusion-v1": "sd1",
    "sd_v2": "sd2",
    "sd2": "sd2",
    "sd_2": "sd2",
    "stable-diffusion-v2": "sd2",
}


def lora_family(shapes: Shapes, metadata: Mapping[str, str]) -> str | None:
    """The `config` of the family in core.family ("sd1", "sdxl" ...), "newer" for kinds that Easel does not run, None if nothing tells.

    Widths tell more than metadata: trainers note what they were told.
    """
    if any(part in key for key in shapes for part in NEWER):
        return "newer"
    widths = {_family_of_width(width) for width in _text_widths(shapes)}
    if len(widths) == 1:
        return widths.pop()
    if any(key.startswith(SECOND_ENCODER) for key in shapes):
        return "sdxl"
    said = (metadata.get("ss_base_model_version", ""), metadata.get("modelspec.architecture", ""))
    return next((family for text in said for start, family in SAID.items() if text.lower().startswith(start)), None)


def _text_widths(shapes: Shapes) -> Iterable[int]:
    """How wide the text states are that the changed cross-attention layers take."""
    for key, shape in shapes.items():
        if not shape or not any(part in key for part in OF_TEXT):
            continue
        for ending, axis in IN_AXIS.items():
            if key.endswith(ending) and len(shape) > axis:
                yield shape[axis]
        if key.endswith("lokr_w2"):
            yield shape[-1] * _columns(shapes, key.removesuffix("lokr_w2") + "lokr_w1")
        elif key.endswith("lokr_w2_b"):
            yield shape[-1] * _columns(shapes, key.removesuffix("lokr_w2_b") + "lokr_w1")


def _columns(shapes: Shapes, key: str) -> int:
    """Of a matrix, or of the product whose second factor has `_b` in its name; 0 if there is neither."""
    shape = shapes.get(key) or shapes.get(f"{key}_b") or (0,)
    return shape[-1]


def _family_of_width(width: int) -> str | None:
    if 0 < width < 768 and width % 64 == 0:
        return "miniature"
    return TEXT_WIDTHS.get(width)
