"""The table of preferences: what a user may set while Easel runs, stored by the service, shown in the settings tab."""

import math
from dataclasses import dataclass
from typing import Any

from webui.core.errors import BadRequest
from webui.core.guidance_options import GUIDANCE, GuidanceOption
from webui.core.sampler_options import NOISE_SOURCES, OPTIONS, Option
from webui.core.text_encoders import KINDS as TEXT_ENCODERS

IMG2IMG_MERGING = "token_merging_ratio_img2img"


@dataclass(frozen=True)
class Preference:
    """One thing a user may set while Easel runs; `name` is also its name in /sdapi/v1/options. The default's type is the value's type."""

    name: str
    default: str | int | float | bool
    sentence: str
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None

    def check(self, value: Any) -> str | int | float | bool:
        """`value` in the default's type; numbers may come as text, whole numbers with a fraction. Raises BadRequest."""
        if isinstance(self.default, bool):
            return self._bool(value)
        if isinstance(self.default, str):
            return self._text(value)
        return self._number(value)

    def _bool(self, value: Any) -> bool:
        known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        if str(value).strip().lower() not in known:
            raise BadRequest(f"{self.name} {value!r} is neither true nor false: send one of them")
        return known[str(value).strip().lower()]

    def _text(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > 1000:
            raise BadRequest(f"{self.name} must be a text of at most 1000 characters")
        if self.choices is not None and value not in self.choices:
            raise BadRequest(f"{self.name} {value!r} is not known; choose one of: {', '.join(self.choices)}")
        return value

    def _number(self, value: Any) -> int | float:
        try:
            number = float(value)
            low = self.minimum if self.minimum is None else number < self.minimum
            high = self.maximum if self.maximum is None else number > self.maximum
            if low or high or not math.isfinite(number):
                raise BadRequest(f"{self.name} {value!r} is out of range: use {self.minimum} to {self.maximum}")
            return int(number) if isinstance(self.default, int) else number
        except (TypeError, ValueError, OverflowError):
            raise BadRequest(f"{self.name} {value!r} is not a number") from None


def _preferred(option: Option) -> Preference:
    least, most = (option.least, option.most) if option.most else (None, None)
    return Preference(option.name, option.default, option.sentence, option.choices or None, least, most)


def _limits(option: GuidanceOption) -> tuple[float | None, float | None]:
    return (0, option.most) if option.most else (None, None)


PREFERENCES: tuple[Preference, ...] = (
    Preference("sd_model_checkpoint", "", "Checkpoint that requests use when they name none; empty: the one of --ckpt, or the miniature."),
    Preference("sd_vae", "Automatic", "VAE: Automatic (one beside the checkpoint), None (the checkpoint's own) or a file's name."),
    *(
        Preference(
            kind.preference, "", f"{kind.title} for checkpoints that have no text encoder of this kind: a file in models/text_encoder/."
        )
        for kind in TEXT_ENCODERS
    ),
    Preference(
        "model_cache_gb",
        0,
        "Main memory in GB that each worker keeps checkpoints in, the last used ones; 0: half of all, or a quarter beside a card.",
        minimum=0,
        maximum=100_000,
    ),
    *(Preference(option.name, option.default, option.sentence, option.choices, *_limits(option)) for option in GUIDANCE),
    Preference("enable_prompt_comments", True, "Take what follows a # in prompts, up to the end of the line, for a comment."),
    Preference("CLIP_stop_at_last_layers", 1, "CLIP skip: 1 uses the text encoder's last layer, 2 the one before.", minimum=1, maximum=12),
    Preference(
        "samples_format",
        "png",
        "Format in which pictures are saved and sent by the API.",
        choices=("png", "jpg", "webp"),
    ),
    Preference("samples_save", True, "Keep the pictures of API requests that ask for it (save_images)."),
    Preference("grid_save", True, "Keep the grid of an API request for several pictures that are kept."),
    Preference("return_grid", True, "Send that grid, before the pictures."),
    Preference("grid_only_if_multiple", True, "Make no grid of one picture."),
    Preference("enable_pnginfo", True, "Send pictures with their parameters inside; the files that are kept always have them."),
    Preference("tiling", False, "Make seamless pictures where an API request says nothing of it."),
    Preference("initial_noise_multiplier", 1.0, "Noise laid on the picture by img2img requests of the API.", minimum=0, maximum=2),
    Preference("img2img_extra_noise", 0.0, "Noise beyond what the sampler expects, for the same.", minimum=0, maximum=1),
    Preference("img2img_color_correction", False, "Give results the old picture's colours, for the same."),
    Preference("img2img_fix_steps", False, "As many steps as asked for whatever the denoising strength, for the same."),
    Preference("inpainting_mask_weight", 1.0, "How strongly inpainting checkpoints' view is masked, for the same.", minimum=0, maximum=1),
    Preference(IMG2IMG_MERGING, 0.0, "Token merging ratio of img2img requests of the API; 0: that of all.", minimum=0, maximum=0.9),
    Preference("jpeg_quality", 80, "Quality of JPEG and WebP pictures.", minimum=1, maximum=100),
    Preference(
        "trash_days", 30, "Days of use that pictures stay in the gallery's trash; 0: until it is emptied by hand.", minimum=0, maximum=3650
    ),
    Preference("live_previews_enable", True, "Show the picture while it is being made."),
    Preference("show_progress_every_n_steps", 1, "Steps between two previews.", minimum=1, maximum=1000),
    Preference(
        "randn_source",
        "CPU",
        "Where noise is drawn: CPU and NV (as an NVIDIA card draws it) give the same on every device, GPU the device's own.",
        choices=NOISE_SOURCES,
    ),
    *map(_preferred, OPTIONS),
)

# Where the settings tab shows what.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Models": ("sd_model_checkpoint", "sd_vae", *(kind.preference for kind in TEXT_ENCODERS), "CLIP_stop_at_last_layers", "model_cache_gb"),
    "Prompts and guidance": ("enable_prompt_comments", *(option.name for option in GUIDANCE)),
    "Sampling": ("randn_source", *(option.name for option in OPTIONS)),
    "Saving": (
        "samples_format",
        "jpeg_quality",
        "samples_save",
        "grid_save",
        "return_grid",
        "grid_only_if_multiple",
        "enable_pnginfo",
        "trash_days",
    ),
    "Requests of the API": (
        "tiling",
        "initial_noise_multiplier",
        "img2img_extra_noise",
        "img2img_color_correction",
        "img2img_fix_steps",
        "inpainting_mask_weight",
        IMG2IMG_MERGING,
    ),
    "Live previews": ("live_previews_enable", "show_progress_every_n_steps"),
}
