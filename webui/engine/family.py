"""Model families as the engine knows them: core's facts, and what the shipped configurations add to them."""

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from webui.core import family as core
from webui.engine.tokenizers import PAD_WITH_END, PAD_WITH_ZERO

CONFIGS = Path(__file__).parent / "configs"
UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
GREY = {"matrix": [[0.3] * 3, [0.1] * 3, [0.1] * 3, [-0.2] * 3], "bias": [0.0] * 3}  # where no preview.json was fitted


@dataclass(frozen=True)
class TextEncoderLayout:
    """Where a text encoder lies in a single file, and how its tokens are padded."""

    component: str  # of the pipeline: "text_encoder" or "text_encoder_2"
    prefix: str  # of its keys in the file
    naming: str  # "clip": transformers' names; "open_clip": resblocks with joined q, k and v
    pad_token: str

    @property
    def tokenizer(self) -> str:
        """The pipeline's component that goes with it."""
        return self.component.replace("text_encoder", "tokenizer")


CLIP_L = TextEncoderLayout("text_encoder", "cond_stage_model.transformer.text_model.", "clip", PAD_WITH_END)
CLIP_H = TextEncoderLayout("text_encoder", "cond_stage_model.model.", "open_clip", PAD_WITH_ZERO)
XL_CLIP_L = TextEncoderLayout("text_encoder", "conditioner.embedders.0.transformer.text_model.", "clip", PAD_WITH_END)
XL_CLIP_G = TextEncoderLayout("text_encoder_2", "conditioner.embedders.1.model.", "open_clip", PAD_WITH_ZERO)
REFINER_CLIP_G = TextEncoderLayout("text_encoder_2", "conditioner.embedders.0.model.", "open_clip", PAD_WITH_ZERO)

LAYOUTS = {
    "miniature": (CLIP_L,),
    "sd1": (CLIP_L,),
    "sd2": (CLIP_H,),
    "sdxl": (XL_CLIP_L, XL_CLIP_G),
    "sdxl_refiner": (REFINER_CLIP_G,),
}


@dataclass(frozen=True, kw_only=True)
class Family(core.Family):
    """The facts of one kind of checkpoint that do not depend on its weights."""

    latent_channels: int
    text_width: int  # of the text states that the UNet attends to
    scaling_factor: float  # latents of the UNet = latents of the VAE * this
    text_encoders: tuple[TextEncoderLayout, ...]
    preview_matrix: tuple[tuple[float, ...], ...]  # (latent channels, 3): rgb in -1..1 = latents @ matrix + bias
    preview_bias: tuple[float, ...]  # (3,)

    def read_config(self, component: str) -> dict[str, Any]:
        """A fresh copy of the configuration of "unet", "vae", "text_encoder", "scheduler" ..."""
        return _read_json(self.folder / component / ("scheduler_config.json" if component == "scheduler" else "config.json"))

    @property
    def folder(self) -> Path:
        """Its configurations, in the form of a diffusers folder without weights."""
        return CONFIGS / self.config


@cache
def load_family(name: str) -> Family:
    """The family of that name in core's table."""
    return complete(core.FAMILIES[name])


def complete(found: core.Family) -> Family:
    """A family as core tells it from a file, with the facts of its shipped configurations."""
    folder = CONFIGS / found.config
    unet, vae = _read_json(folder / "unet" / "config.json"), _read_json(folder / "vae" / "config.json")
    preview = _read_json(folder / "preview.json") if (folder / "preview.json").is_file() else GREY
    return Family(
        **{field.name: getattr(found, field.name) for field in fields(core.Family)},
        latent_channels=vae["latent_channels"],
        text_width=unet["cross_attention_dim"],
        scaling_factor=vae["scaling_factor"],
        text_encoders=LAYOUTS[found.config],
        preview_matrix=tuple(tuple(row) for row in preview["matrix"]),
        preview_bias=tuple(preview["bias"]),
    )


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
