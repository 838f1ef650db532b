"""Finished pictures made larger (the tab Extras): what is asked for, what size comes of it, and how the result's file tells it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from webui.core.choices import check_upscaler
from webui.core.errors import BadRequest
from webui.core.image_metadata import MAX_PIXELS
from webui.core.key_values import joined, written
from webui.core.request import known_fields

MAX_IMAGES = 1000  # of one job
LARGEST = 16_000  # pixels of a side; WebP holds no more than 16,383
SMALLEST_TILE = 32  # pixels
Size = tuple[int, int]  # width, height


@dataclass(frozen=True, kw_only=True)
class ExtrasRequest:
    """One job: each of the images is made larger in the same way."""

    images: tuple[str, ...]  # sha256 of the pictures in the input store
    upscaler: str = "None"  # one of PIXEL_UPSCALERS, or a model's name; "None" leaves the size as it is
    second_upscaler: str = "None"
    second_visibility: float = 0.0  # 0 .. 1: how much of the second upscaler's picture is laid over the first one's
    scale: float = 2.0  # of width and height, 0.05 .. 16; counts where `width` and `height` are 0
    width: int = 0  # pixels that the result covers; both or none
    height: int = 0
    crop: bool = True  # cut off what sticks out of width x height, so that the size is exact
    tile: int = 256  # pixels a side that a model sees at once; 0: all
    tile_overlap: int = 32  # pixels that neighbouring tiles share

    @property
    def title(self) -> str:
        """What is done, for people."""
        how = f"{self.width} x {self.height}" if self.width else f"×{written(self.scale)}"
        count = f"{len(self.images)} pictures" if len(self.images) > 1 else "1 picture"
        return f"{count}, {self.upscaler}, {how}"

    def validate(self) -> None:
        """Raises BadRequest with the field, its value and what to do."""
        if not 1 <= len(self.images) <= MAX_IMAGES:
            raise BadRequest(f"there are {len(self.images)} pictures to work on; give 1 to {MAX_IMAGES}")
        for name, least, most in LIMITS:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN fails too
                raise BadRequest(f"{name.replace('_', ' ')} {value} is out of range: use {least} to {most}")
        if bool(self.width) != bool(self.height):
            raise BadRequest("a size needs both width and height; set the other one too, or neither and a scale")
        if 0 < self.tile < SMALLEST_TILE:
            raise BadRequest(f"tiles of {self.tile} pixels are too small; use {SMALLEST_TILE} or more, or 0 for the whole picture")
        check_upscaler("upscaler", self.upscaler)
        check_upscaler("upscaler 2", self.second_upscaler)

    def check_size(self, size: Size) -> None:
        """Raises BadRequest where a picture of this size would become too large, or nothing."""
        width, height = self.covering(size)
        if min(size) < 1 or max(width, height) > LARGEST or width * height > MAX_PIXELS:
            raise BadRequest(
                f"a picture of {size[0]}x{size[1]} would become one of {width}x{height}; at most {LARGEST} pixels a side and "
                f"{MAX_PIXELS // 1_000_000} million in all can be made: choose a smaller scale or size"
            )

    def covering(self, size: Size) -> Size:
        """What a picture of this size is enlarged to, in its own proportions, before anything is cut off.

        By a scale: rounded down to multiples of 8, as the field does; to a size: as small as covers it.
        """
        if self.upscaler == "None":
            return size
        if not self.width:
            width, height = (max(int(side * self.scale) // 8 * 8, 8) for side in size)
            return width, height
        scale = max(self.width / size[0], self.height / size[1])
        return max(math.ceil(size[0] * scale - 1e-6), 1), max(math.ceil(size[1] * scale - 1e-6), 1)

    def single(self, index: int) -> "ExtrasRequest":
        """The request for one of the images alone."""
        return replace(self, images=self.images[index : index + 1])

    def postprocessing(self) -> str:
        """What was done, as the line that the result's file carries under this name, in the field's words; "" for nothing."""
        return joined(self._told())

    def _told(self) -> Iterator[tuple[str, str]]:
        if self.upscaler == "None":
            return
        if self.width:
            yield "Postprocess upscale to", f"{self.width}x{self.height}"
        else:
            yield "Postprocess upscale by", written(self.scale)
        yield "Postprocess upscaler", self.upscaler
        if self.has_second:
            yield "Postprocess upscaler 2", self.second_upscaler
            yield "Postprocess upscaler 2 visibility", written(self.second_visibility)
        if self.width and self.crop:
            yield "Postprocess crop to", f"{self.width}x{self.height}"

    @property
    def has_second(self) -> bool:
        """Whether the second upscaler has a part in the result."""
        return self.upscaler != "None" and self.second_upscaler != "None" and self.second_visibility > 0

    def to_json(self) -> dict[str, Any]:
        """Plain data for storage; `from_json` reads it back to an equal request."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ExtrasRequest":
        values = known_fields(cls, data)
        return cls(**{**values, "images": tuple(values["images"])})


LIMITS: tuple[tuple[str, float, float], ...] = (
    ("second_visibility", 0, 1),
    ("scale", 0.05, 16),
    ("width", 0, LARGEST),
    ("height", 0, LARGEST),
    ("tile", 0, LARGEST),
    ("tile_overlap", 0, 1024),
)
