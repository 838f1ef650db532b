"""What is asked of checkpoints: to merge some, save one anew, hold one in memory or none. Plain data, checked before a file is opened."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from webui.core.errors import BadRequest
from webui.core.request import check_prediction_type, known_fields

METHODS = ("No interpolation", "Weighted sum", "Add difference")
PRECISIONS = ("fp16", "bf16", "fp32")
LAYOUTS = ("single file", "diffusers folder")
WEIGHTS_ACTIONS = ("unload", "reload")
CONFIG_SOURCES = ("A, B or C", "B", "C", "Don't")
MAX_PATTERN = 500  # characters
FORBIDDEN = frozenset('/\\:*?"<>|')  # in file names, on one system or another
MAX_NAME = 200  # bytes, as many as every file system takes with an ending


@dataclass(frozen=True, kw_only=True)
class MergeRecipe:
    """One new checkpoint out of one to three others; `primary` is A, `secondary` B, `tertiary` C.

    method: "No interpolation" A as it is; "Weighted sum" A * (1 - multiplier) + B * multiplier;
    "Add difference" A + (B - C) * multiplier. The checkpoints and the VAE are named as everywhere: name, title, hash.
    """

    primary: str
    secondary: str = ""
    tertiary: str = ""
    method: str = "Weighted sum"
    multiplier: float = 0.3  # 0 .. 1
    name: str = ""  # of the new file, without ending; "": made of the others' names
    precision: str = "fp16"
    bake_in_vae: str = "None"  # a VAE that takes the place of A's own
    config_source: str = "A, B or C"  # whose .yaml, which other programs may want, is copied beside the new file
    discard_weights: str = ""  # a regular expression; tensors in whose names it is found are left out
    copy_metadata: bool = True  # of the merged files; where they differ, A's
    add_recipe: bool = True  # to the metadata: sd_merge_recipe, sd_merge_models, modelspec.*

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Those that the method uses."""
        return (self.primary, self.secondary, self.tertiary)[: METHODS.index(self.method) + 1]

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"{self.method}: {', '.join(self.checkpoints)}{f' to {self.name}' if self.name else ''}"

    def validate(self) -> None:
        """Raises BadRequest with the field, its value and what to do."""
        for field, value, choices in (
            ("method", self.method, METHODS),
            ("precision", self.precision, PRECISIONS),
            ("config source", self.config_source, CONFIG_SOURCES),
        ):
            _check_choice(f"merge's {field}", value, choices)
        for letter, checkpoint in zip("ABC", self.checkpoints, strict=False):
            if not checkpoint:
                raise BadRequest(f"{self.method} needs a checkpoint {letter}; choose one")
        if not math.isfinite(self.multiplier) or not 0 <= self.multiplier <= 1:
            raise BadRequest(f"the multiplier is {self.multiplier}; it goes from 0 to 1")
        if self.name:
            check_file_name(self.name)
        if len(self.discard_weights) > MAX_PATTERN:
            what = f"the pattern of the weights to discard has {len(self.discard_weights)} characters"
            raise BadRequest(f"{what}; use at most {MAX_PATTERN}")

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal recipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "MergeRecipe":
        return cls(**known_fields(cls, data))


@dataclass(frozen=True, kw_only=True)
class SaveOrder:
    """A checkpoint, with the VAE that is chosen for it, written anew beside the others. Names as everywhere: name, title, hash."""

    checkpoint: str
    name: str  # of the new file or folder, without ending
    vae: str = "None"  # "None": the checkpoint's own; else it takes that one's place
    text_encoder: str = ""  # as of a GenerationRequest; the new file holds what the old one lacks
    precision: str = "fp16"
    layout: str = "single file"
    prediction_type: str = ""  # as of a GenerationRequest; where it is not the file's, the new file says so itself

    @property
    def file_name(self) -> str:
        """With its ending, if it is a file."""
        return self.name if self.layout == "diffusers folder" else f"{self.name}.safetensors"

    @property
    def title(self) -> str:
        """What is done, for people."""
        return f"Save {self.checkpoint} as {self.name}, {self.precision}, {self.layout}"

    def validate(self) -> None:
        """Raises BadRequest with the field, its value and what to do."""
        _check_choice("number type", self.precision, PRECISIONS)
        _check_choice("layout", self.layout, LAYOUTS)
        check_prediction_type(self.prediction_type)
        if not self.checkpoint:
            raise BadRequest("there is no checkpoint to save; choose one")
        if not self.name:
            raise BadRequest("the new checkpoint has no name; type one")
        check_file_name(self.name)

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal order."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SaveOrder":
        return cls(**known_fields(cls, data))


@dataclass(frozen=True, kw_only=True)
class WeightsOrder:
    """What a worker shall hold in memory: nothing ("unload"), or this checkpoint ("reload")."""

    action: str
    checkpoint: str = ""  # named as everywhere; "" is the default one
    text_encoder: str = ""  # as of a GenerationRequest

    @property
    def title(self) -> str:
        """What is done, for people."""
        return "Let go of all models" if self.action == "unload" else f"Load {self.checkpoint or 'the checkpoint'}"

    def validate(self) -> None:
        """Raises BadRequest."""
        _check_choice("action", self.action, WEIGHTS_ACTIONS)

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal order."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "WeightsOrder":
        return cls(**known_fields(cls, data))


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadRequest(f"the {what} is {value!r}; choose one of: {'; '.join(choices)}")


def check_file_name(name: str) -> None:
    """Raises BadRequest unless `name` can be the name of a file, on every system and in one folder."""
    if FORBIDDEN & set(name) or not name.isprintable() or name.startswith(".") or name != name.strip():
        raise BadRequest(f"{name!r} cannot be the name of a file; use letters, digits, spaces, - and _")
    if len(name.encode("utf-8", "replace")) > MAX_NAME:
        raise BadRequest(f"the new file's name is too long; use at most {MAX_NAME} characters")
