"""The one table of names: how diffusers calls a weight, and how the field's single files (LDM layout) call it.

Both directions use it: loading asks where a diffusers key lies in the file, saving asks where it goes. A table maps
module paths (diffusers -> LDM); a key is looked up by its longest known path, and the rest stays as it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OLD_VAE_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # diffusers before 0.18
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


@dataclass(frozen=True)
class Place:
    """Where a weight lies in a single file."""

    key: str
    third: int | None = None  # of the rows: 0 q, 1 k, 2 v, which open_clip joins in one matrix
    transposed: bool = False  # open_clip's text projection is (width, projection)
    as_convolution: bool = False  # a linear layer's matrix that LDM keeps as a 1x1 convolution's: (out, in, 1, 1)


def unet_places(keys: Iterable[str], config: Mapping[str, Any]) -> dict[str, Place]:
    """UNet2DConditionModel's keys -> places under "model.diffusion_model."."""
    modules = _unet_modules(config)
    return {key: Place(_translate(key, modules)) for key in keys}


def vae_places(keys: Iterable[str], config: Mapping[str, Any]) -> dict[str, Place]:
    """AutoencoderKL's keys -> places under "first_stage_model."."""
    modules = _vae_modules(config)
    return {key: Place(_translate(key, modules), as_convolution="mid_block.attentions.0.to_" in key) for key in keys}


def text_places(keys: Iterable[str], naming: str) -> dict[str, Place]:
    """A CLIP text model's keys, with or without the level "text_model", -> places under the encoder's prefix."""
    bare = {key: key.removeprefix("text_model.") for key in keys}
    if naming == "clip":
        return {key: Place(name) for key, name in bare.items()}
    return {key: _open_clip_place(name) for key, name in bare.items()}


def _translate(key: str, modules: Mapping[str, str]) -> str:
    """Replace the longest leading path of `key` that `modules` knows."""
    end = len(key)
    while (end := key.rfind(".", 0, end)) > 0:
        if key[:end] in modules:
            return modules[key[:end]] + key[end:]
    return key


def _unet_modules(config: Mapping[str, Any]) -> dict[str, str]:
    modules = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
    }
    _add(modules, "mid_block.resnets.0", "middle_block.0", RESNET)
    _add(modules, "mid_block.resnets.1", "middle_block.2", RESNET)
    _add_down_blocks(modules, config["down_block_types"], config["layers_per_block"])
    _add_up_blocks(modules, config["up_block_types"], config["layers_per_block"])
    return modules


def _add_down_blocks(modules: dict[str, str], types: list[str], layers: int) -> None:
    """input_blocks count on from 1: each layer is one (.0 resnet, .1 attention), each downsampler another."""
    n = 0
    for i in range(len(types)):
        for j in range(layers):
            n += 1
            _add(modules, f"down_blocks.{i}.resnets.{j}", f"input_blocks.{n}.0", RESNET)
            modules[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{n}.1"
        n += 1
        modules[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n}.0.op"


def _add_up_blocks(modules: dict[str, str], types: list[str], layers: int) -> None:
    """output_blocks count on from 0; an upsampler belongs to the last layer of its block, after its attention."""
    n = -1
    for i, kind in enumerate(types):
        for j in range(layers + 1):
            n += 1
            _add(modules, f"up_blocks.{i}.resnets.{j}", f"output_blocks.{n}.0", RESNET)
            modules[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{n}.1"
        modules[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{n}.{1 + kind.startswith('CrossAttn')}.conv"


def _vae_modules(config: Mapping[str, Any]) -> dict[str, str]:
    blocks, layers = len(config["block_out_channels"]), config["layers_per_block"]
    modules: dict[str, str] = {}
    for side in ("encoder", "decoder"):
        modules[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        _add(modules, f"{side}.mid_block.resnets.0", f"{side}.mid.block_1", VAE_RESNET)
        _add(modules, f"{side}.mid_block.attentions.0", f"{side}.mid.attn_1", VAE_ATTENTION)
        _add(modules, f"{side}.mid_block.resnets.1", f"{side}.mid.block_2", VAE_RESNET)
    for i in range(blocks):
        up = blocks - 1 - i  # LDM counts the decoder's blocks from the picture inwards
        for j in range(layers):
            _add(modules, f"encoder.down_blocks.{i}.resnets.{j}", f"encoder.down.{i}.block.{j}", VAE_RESNET)
        for j in range(layers + 1):
            _add(modules, f"decoder.up_blocks.{i}.resnets.{j}", f"decoder.up.{up}.block.{j}", VAE_RESNET)
        modules[f"encoder.down_blocks.{i}.downsamplers.0.conv"] = f"encoder.down.{i}.downsample.conv"
        modules[f"decoder.up_blocks.{i}.upsamplers.0.conv"] = f"decoder.up.{up}.upsample.conv"
    return modules


def _add(modules: dict[str, str], ours: str, theirs: str, parts: Mapping[str, str]) -> None:
    """A module, and those of its parts that have other names."""
    modules[ours] = theirs
    modules.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in parts.items()})


def _open_clip_place(key: str) -> Place:
    """open_clip's name of a CLIP text model's weight; q, k and v are thirds of one matrix."""
    fixed = {
        "embeddings.token_embedding.weight": Place("token_embedding.weight"),
        "embeddings.position_embedding.weight": Place("positional_embedding"),
        "text_projection.weight": Place("text_projection", transposed=True),
    }
    if key in fixed:
        return fixed[key]
    if not key.startswith("encoder.layers."):
        return Place(key.replace("final_layer_norm.", "ln_final."))
    number, rest = key.removeprefix("encoder.layers.").split(".", 1)
    path, kind = rest.rsplit(".", 1)
    layer = f"transformer.resblocks.{number}"
    if path in OPEN_CLIP_LAYER:
        return Place(f"{layer}.{OPEN_CLIP_LAYER[path]}.{kind}")
    part = path.removeprefix("self_attn.").removesuffix("_proj")  # q, k or v
    return Place(f"{layer}.attn.in_proj_{kind}", third="qkv".index(part))
