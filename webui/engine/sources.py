"""What a job's pictures begin with: noise, an init image, a masked one, or one that grows pass by pass.

A source has `passes` (how many times the sampler runs) and three functions: `begin` gives what a pass starts from, `end` puts what
the VAE decoded of the latents in its place, `abandon` completes the pictures without the passes from `number` on. Between passes the
pictures of a batch travel as `canvases`, whole pictures, one per image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from webui.core.choices import RESIZE_MODES
from webui.core.errors import BadRequest
from webui.core.request import MAX_SIDE, GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.core.soft_inpainting import SoftInpainting
from webui.engine import grid, masking, outpainting
from webui.engine import outpainting_a1111 as a1111
from webui.engine.colours import with_colours_of
from webui.engine.latents import FACTOR, TILED_ABOVE, encode_image, encode_masked, encode_nothing
from webui.engine.masking import Region, Size
from webui.engine.model import DiffusionModel
from webui.engine.soft_inpainting import soft_mask, soft_region
from webui.engine.upscaling import FILTERS_ALONE, Enlarge, in_eights

LATENT_UPSCALE = RESIZE_MODES[3]
PASS_STRIDE = 1_000_003  # between the seeds of an outpainting's passes: the same noise twice would draw the same things twice
TILE_STRIDE = 1  # between the seeds of tiles, as the field counts them
LARGEST = 4 * MAX_SIDE  # pixels a side of what is made in tiles


@dataclass(frozen=True)
class Begin:
    """size: of the latents, (height/8, width/8). init: (1 or batch, 4, *size), clean, or None; mask: (1, 1, *size), 1 = repaint.

    shown: (1 or batch, 5, *size), what an inpainting UNet sees of picture and mask; None for other UNets. soft: then the mask has greys.
    free_at: as mask, the share of the noise at which a masked cell is let go; see `denoiser.held_back`.
    """

    size: tuple[int, int]
    init: Tensor | None = None
    mask: Tensor | None = None
    content: str = "original"  # one of MASKED_CONTENT
    shown: Tensor | None = None
    soft: SoftInpainting | None = None
    free_at: Tensor | None = None


class Source(Protocol):
    passes: int
    seed_stride: int  # between the seeds of two passes

    def begin(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> Begin: ...

    def end(self, number: int, canvases: Sequence[Image.Image], made: Sequence[Image.Image], latents: Tensor) -> list[Image.Image]: ...

    def abandon(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]: ...


class OnePass:
    """Sources whose pictures are done when the sampler has run once."""

    passes = 1
    seed_stride = PASS_STRIDE

    def end(self, number: int, canvases: Sequence[Image.Image], made: Sequence[Image.Image], latents: Tensor) -> list[Image.Image]:
        return list(made)

    def abandon(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        return list(canvases)


@dataclass(frozen=True)
class FromNoise(OnePass):
    """txt2img."""

    model: DiffusionModel
    size: Size

    def begin(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> Begin:
        return Begin((self.size[1] // FACTOR, self.size[0] // FACTOR), shown=self._shown)

    @cached_property
    def _shown(self) -> Tensor | None:
        return _shown_nothing(self.model, self.size)


@dataclass(frozen=True)
class FromImage(OnePass):
    """img2img: the whole picture is repainted."""

    model: DiffusionModel
    image: Image.Image
    size: Size
    told: InitImage

    def begin(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> Begin:
        return Begin((self.size[1] // FACTOR, self.size[0] // FACTOR), self._init, shown=self._shown)

    def end(self, number: int, canvases: Sequence[Image.Image], made: Sequence[Image.Image], latents: Tensor) -> list[Image.Image]:
        return [with_colours_of(image, self._fitted) for image in made] if self.told.colour_correction else list(made)

    @cached_property
    def _shown(self) -> Tensor | None:
        if not self.model.family.inpainting or self.told.mask_weight == 1:
            return _shown_nothing(self.model, self.size)
        whole = masking.resize(masking.flatten(self.image), self.size, self.told.resize_mode)
        return encode_masked(self.model, [whole], Image.new("L", self.size, 255), self.told.mask_weight)

    @cached_property
    def _fitted(self) -> Image.Image:
        """In the size in which it is encoded; its own for latent upscale, but whole latents where it is encoded in tiles."""
        image = masking.flatten(self.image)
        if self.told.resize_mode != LATENT_UPSCALE:
            return masking.resize(image, self.size, self.told.resize_mode)
        if min(image.size) >= FACTOR and image.width * image.height <= TILED_ABOVE:
            return image
        width, height = (max(side // FACTOR, 1) * FACTOR for side in image.size)
        return image.resize((width, height), masking.LANCZOS)

    @cached_property
    def _init(self) -> Tensor:
        latents = encode_image(self.model, self._fitted)
        if self.told.resize_mode != LATENT_UPSCALE:
            return latents
        return functional.interpolate(latents, (self.size[1] // FACTOR, self.size[0] // FACTOR), mode="bilinear")


@dataclass(frozen=True)
class FromRegion(OnePass):
    """Inpainting."""

    model: DiffusionModel
    region: Region
    told: InitImage
    inpaint: Inpaint

    def begin(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> Begin:
        return Begin(tuple(self._init.shape[2:]), self._init, self._mask, self.inpaint.content, self._shown, self.inpaint.soft)

    def end(self, number: int, canvases: Sequence[Image.Image], made: Sequence[Image.Image], latents: Tensor) -> list[Image.Image]:
        if self.told.colour_correction:
            made = [with_colours_of(image, self.region.image) for image in made]
        soft, regions = self.inpaint.soft, [self.region] * len(made)
        if soft is not None:
            regions = [soft_region(self.region, self._mask, self._init, latents[i : i + 1], soft) for i in range(len(made))]
        return [region.paste_back(image) for region, image in zip(regions, made, strict=True)]

    @cached_property
    def _init(self) -> Tensor:
        return encode_image(self.model, self.region.image)

    @cached_property
    def _mask(self) -> Tensor:
        with_greys = self.inpaint.soft is not None or self.inpaint.greys
        return (soft_mask if with_greys else masking.latent_mask)(self.region.remade).to(self.model.device)

    @cached_property
    def _shown(self) -> Tensor | None:
        if not self.model.family.inpainting:
            return None
        return encode_masked(self.model, [self.region.image], self.region.mask, self.told.mask_weight)


@dataclass(frozen=True)
class FromExtension:
    """Outpainting: every pass adds a strip, or a part of one, to each picture of the batch."""

    model: DiffusionModel
    image: Image.Image  # RGB
    outpaint: Outpaint
    seed_stride = PASS_STRIDE

    @property
    def passes(self) -> int:
        return len(self._plan)

    def begin(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> Begin:
        step = self._plan[number]
        windows = [outpainting.cut_window(canvas, step.window) for canvas in self._prefilled(number, canvases, seeds)]
        blend = outpainting.cut_window(self._blend(number), step.window)
        mask = outpainting.latent_mask(blend).to(self.model.device)
        init = torch.cat([encode_image(self.model, window) for window in windows])
        shown = encode_masked(self.model, windows, blend) if self.model.family.inpainting else None
        return Begin(tuple(mask.shape[2:]), init, mask, shown=shown, free_at=outpainting.free_at(step).to(self.model.device))

    def end(self, number: int, canvases: Sequence[Image.Image], made: Sequence[Image.Image], latents: Tensor) -> list[Image.Image]:
        before = canvases or [outpainting.place_on_canvas(self.image, self.outpaint)] * len(made)
        mask = self._blend(number)
        return [outpainting.lay_in(*pair, self._plan[number], mask) for pair in zip(before, made, strict=True)]

    def abandon(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """What is missing holds what the model would have begun with."""
        for rest in range(number, self.passes):
            canvases = self._prefilled(rest, canvases, seeds)
        return list(canvases)

    def _prefilled(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        before = canvases or [outpainting.place_on_canvas(self.image, self.outpaint)] * len(seeds)
        return [outpainting.prefill(canvas, self._plan[number], seed) for canvas, seed in zip(before, seeds, strict=True)]

    def _blend(self, number: int) -> Image.Image:
        return outpainting.blend_mask(outpainting.canvas_size(self.image.size, self.outpaint), self._plan[number], self.outpaint.blur)

    @cached_property
    def _plan(self) -> list[outpainting.Pass]:
        return outpainting.plan_passes(self.image.size, self.outpaint, self.model.family.native_size)


@dataclass(frozen=True)
class FromWindows:
    """Outpainting as A1111 has it: every pass repaints a window of a canvas on which the old picture lies."""

    model: DiffusionModel
    image: Image.Image  # RGB
    outpaint: Outpaint  # settled

    @property
    def passes(self) -> int:
        return len(self._steps)

    @property
    def seed_stride(self) -> int:
        return TILE_STRIDE if self._steps[0].tile else PASS_STRIDE

    def begin(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> Begin:
        step = self._steps[number]
        windows = [outpainting.cut_window(canvas, step.window) for canvas in self._prepared(number, self._before(canvases, len(seeds)))]
        repaint = outpainting.cut_window(step.repaint, (0, 0, *step.repaint.size))
        mask = masking.latent_mask(repaint).to(self.model.device)
        init = torch.cat([encode_image(self.model, window) for window in windows])
        shown = encode_masked(self.model, windows, repaint) if self.model.family.inpainting else None
        content = self.outpaint.content if step.tile else "original"
        return Begin(tuple(mask.shape[2:]), init, mask, content, shown)

    def end(self, number: int, canvases: Sequence[Image.Image], made: Sequence[Image.Image], latents: Tensor) -> list[Image.Image]:
        before, step = self._before(canvases, len(made)), self._steps[number]
        begun = self._prepared(number, before)
        return [a1111.lay_in(*pictures, step) for pictures in zip(before, begun, made, strict=True)]

    def abandon(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """What is missing holds what the model would have begun with."""
        for rest in range(number, self.passes):
            begun = self._prepared(rest, canvases)
            canvases = [a1111.lay_in(*pictures, self._steps[rest]) for pictures in zip(canvases, begun, begun, strict=True)]
        return list(canvases)

    def _before(self, canvases: Sequence[Image.Image], count: int) -> Sequence[Image.Image]:
        return canvases or [outpainting.place_on_canvas(self.image, self.outpaint)] * count

    def _prepared(self, number: int, canvases: Sequence[Image.Image]) -> list[Image.Image]:
        """Canvases as the model begins with them; tiles do not see what was made of the others."""
        step = self._steps[number]
        before = self._before([], len(canvases)) if step.tile else canvases
        return [a1111.prepared(canvas, step, self.outpaint, number) for canvas in before]

    @cached_property
    def _steps(self) -> list[a1111.Step]:
        return a1111.plan(self.image.size, self.outpaint, self.model.family.native_size)


@dataclass(frozen=True)
class FromTiles:
    """SD upscale: every pass repaints a tile of the enlarged picture."""

    model: DiffusionModel
    image: Image.Image  # RGB, enlarged
    size: Size  # of a tile
    overlap: int
    seed_stride = TILE_STRIDE

    @property
    def passes(self) -> int:
        return len(self._tiles)

    def begin(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> Begin:
        window = outpainting.cut_window(self.image, self._tiles[number].box)  # of the old picture: tiles do not see one another
        shown = _shown_nothing(self.model, window.size)
        return Begin((window.height // FACTOR, window.width // FACTOR), encode_image(self.model, window), shown=shown)

    def end(self, number: int, canvases: Sequence[Image.Image], made: Sequence[Image.Image], latents: Tensor) -> list[Image.Image]:
        tile = self._tiles[number]
        left, top, right, bottom = tile.box
        cut = [image.crop((0, 0, right - left, bottom - top)) for image in made]
        return [tile.lay_in(*pair) for pair in zip(canvases or [self.image] * len(made), cut, strict=True)]

    def abandon(self, number: int, canvases: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        return list(canvases)

    @cached_property
    def _tiles(self) -> list[grid.Tile]:
        return grid.split(self.image.size, self.size, self.overlap)


def _shown_nothing(model: DiffusionModel, size: Size) -> Tensor | None:
    """What an inpainting UNet sees where the whole picture is to be painted, in txt2img and img2img alike, as the field has it."""
    return encode_nothing(model, size) if model.family.inpainting else None


def make_source(
    request: GenerationRequest, model: DiffusionModel, open_input: Callable[[str], Image.Image], enlarge: Enlarge = FILTERS_ALONE
) -> Source:
    """The source that the request asks for. open_input: sha256 -> picture; enlarge: for SD upscale.

    Raises BadRequest where pictures or mask do not fit.
    """
    init, size = request.init, (request.width, request.height)
    if init is None:
        return FromNoise(model, size)
    image = open_input(init.image)
    if init.inpaint is not None:
        latents = open_input(init.inpaint.latent_mask) if init.inpaint.latent_mask else None
        region = masking.prepare_inpaint(image, open_input(init.inpaint.mask), init.inpaint, init.resize_mode, size, latents)
        return FromRegion(model, region, init, init.inpaint)
    if init.outpaint is not None:
        if max(outpainting.canvas_size(image.size, init.outpaint.settled(*image.size))) > MAX_SIDE:
            raise BadRequest(f"the extended picture would be larger than {MAX_SIDE} pixels a side; add less or shrink the picture first")
        outpaint = init.outpaint.settled(*image.size)
        return (FromExtension if outpaint.way == "Easel" else FromWindows)(model, masking.flatten(image), outpaint)
    if init.upscale is not None:
        return FromTiles(model, _enlarged(masking.flatten(image), init.upscale, enlarge), size, init.upscale.overlap)
    if init.resize_mode == LATENT_UPSCALE and max(image.size) > MAX_SIDE:
        raise BadRequest(f"a picture of {image.width}x{image.height} is too large for latent upscale; use another resize mode")
    return FromImage(model, image, size, init)


def _enlarged(image: Image.Image, upscale: TiledUpscale, enlarge: Enlarge) -> Image.Image:
    """Upscaler "None" leaves the picture as it is, as the field does."""
    size = in_eights(image.size, upscale.scale)
    if upscale.upscaler == "None":
        size = image.size
    if max(size) > LARGEST:
        raise BadRequest(f"a picture of {size[0]}x{size[1]} is larger than {LARGEST} pixels a side; upscale it by less")
    return enlarge(image, size, upscale.upscaler)
