"""Soft inpainting as a part of a request, and in infotext and API under the names that A1111's extension gave."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from webui.core.errors import BadRequest
from webui.core.key_values import Values, written


@dataclass(frozen=True, kw_only=True)
class SoftInpainting:
    """Half masked areas are half repainted: grey parts of the mask (its blur, above all) mix the old picture with the new."""

    schedule_bias: float = 1.0  # 0 .. 8; above 1 early steps keep more of the old picture, below 1 late ones
    preservation_strength: float = 0.5  # 0 .. 8; of the old picture where it is half masked
    contrast_boost: float = 4.0  # 1 .. 32; how much of the contrast mixing loses comes back
    mask_influence: float = 0.0  # 0 .. 1; of the mask on which pixels are the old ones at the end
    difference_threshold: float = 0.5  # 0 .. 8; how much may change in the latents before a pixel counts as new
    difference_contrast: float = 2.0  # 0 .. 8; how sharply new and old are told apart

    def validate(self) -> None:
        """Raise BadRequest, naming the value, the limit and the way out."""
        for name, (key, least, most) in NUMBERS.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN fails too
                raise BadRequest(f"{key} {value} is out of range: use {least} to {most}")


ENABLED = "Soft inpainting enabled"
NUMBERS: dict[str, tuple[str, float, float]] = {
    "schedule_bias": ("Soft inpainting schedule bias", 0, 8),
    "preservation_strength": ("Soft inpainting preservation strength", 0, 8),
    "contrast_boost": ("Soft inpainting transition contrast boost", 1, 32),
    "mask_influence": ("Soft inpainting mask influence", 0, 1),
    "difference_threshold": ("Soft inpainting difference threshold", 0, 8),
    "difference_contrast": ("Soft inpainting difference contrast", 0, 8),
}


def soft_items(soft: SoftInpainting) -> Iterator[tuple[str, str]]:
    """What stands in the infotext."""
    yield ENABLED, "True"
    for name, (key, _, _) in NUMBERS.items():
        yield key, written(getattr(soft, name))


def read_soft(values: Values) -> SoftInpainting | None:
    """What an infotext says of soft inpainting; all of its keys are taken."""
    enabled = values.text(ENABLED) == "True"
    told = {name: values.number(key, getattr(SoftInpainting, name), least, most) for name, (key, least, most) in NUMBERS.items()}
    return SoftInpainting(**told) if enabled else None


def soft_from_arguments(arguments: Sequence[Any]) -> SoftInpainting | None:
    """From the script's arguments of the API: whether it is on, then its numbers in order; or one object of them by name. BadRequest."""
    if len(arguments) == 1 and isinstance(arguments[0], Mapping):
        told: Mapping[str, Any] = arguments[0]
        names = {key.removeprefix("Soft inpainting ").capitalize(): name for name, (key, _, _) in NUMBERS.items()}
        unknown = [key for key in told if key not in names and key != "Soft inpainting"]
        if unknown:
            raise BadRequest(f"soft inpainting has no argument {str(unknown[0])[:60]!r}; use Soft inpainting, {', '.join(names)}")
        enabled, given = told.get("Soft inpainting", True), {names[key]: value for key, value in told.items() if key in names}
    else:
        enabled = bool(arguments) and arguments[0]
        given = dict(zip((field.name for field in fields(SoftInpainting)), arguments[1:], strict=False))
    for name, value in given.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise BadRequest(f"soft inpainting: {name.replace('_', ' ')} is not a number")
    return SoftInpainting(**given) if enabled else None
