"""The VAE tile by tile, for pictures that are too large for it in one piece. Exact: there are no seams to blend.

Decoding a picture in tiles that know nothing of each other shows seams, whatever their overlap: group norm takes its mean
and variance over the whole picture, and each tile would have its own. So here the layers are run one after the other over
all tiles, with what lies between two layers kept whole: each tile sees its neighbours' edges (a convolution needs one
pixel of them), and group norm sees the whole picture. Only the work of a layer, which needs several times the memory of
its result, is done in pieces; results are written over what is no longer needed. That halves the memory on the device,
and with `keep_on` main memory the device holds little more than one tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from webui.engine.diffusers_parts import AutoencoderKL
from webui.engine.patches.seamless import goes_around

TILE = 256  # sides of the pieces of a layer's result, in its own pixels
QUERIES = 4096  # rows of attention scores at once


def decode_tiled(vae: AutoencoderKL, latents: Tensor, *, tile: int = TILE, keep_on: torch.device | None = None) -> Tensor:
    """What `vae.decode(latents)` answers, (1, 3, height, width), up to rounding.

    latents: (1, channels, height/8, width/8), in the VAE's scale and number type. keep_on: where what lies between layers is kept
    (and the result lies); the VAE's device where None.
    """
    layers = _Layers(vae.device, keep_on or vae.device, tile)
    decoder = vae.decoder
    x = latents if vae.post_quant_conv is None else layers.convolve(latents, vae.post_quant_conv)
    x = layers.middle(layers.convolve(x, decoder.conv_in), decoder.mid_block)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = layers.resnet(x, resnet)
        for upsampler in block.upsamplers or ():
            x = layers.convolve(x, upsampler.conv, grow=2)
    return layers.convolve(x, decoder.conv_out, decoder.conv_norm_out)


def encode_tiled(vae: AutoencoderKL, pixels: Tensor, *, tile: int = TILE, keep_on: torch.device | None = None) -> Tensor:
    """The mean of what `vae.encode(pixels)` answers, (1, channels, height/8, width/8), up to rounding.

    pixels: (1, 3, height, width), -1 .. 1, in the VAE's number type. keep_on: as of `decode_tiled`.
    """
    layers = _Layers(vae.device, keep_on or vae.device, tile)
    encoder = vae.encoder
    x = layers.convolve(pixels, encoder.conv_in)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            x = layers.resnet(x, resnet)
        for downsampler in block.downsamplers or ():
            x = layers.convolve(x, downsampler.conv)
    x = layers.convolve(layers.middle(x, encoder.mid_block), encoder.conv_out, encoder.conv_norm_out)
    moments = x if vae.quant_conv is None else layers.convolve(x, vae.quant_conv)
    return moments[:, : vae.config.latent_channels]  # the other half are logarithms of variances


@dataclass(frozen=True)
class _Layers:
    """The VAE's layers, each over all tiles of a whole (1, channels, height, width)."""

    device: torch.device  # where tiles are worked on
    keep_on: torch.device  # where wholes are kept
    tile: int

    def middle(self, x: Tensor, block: nn.Module) -> Tensor:
        """Resnet, attention, resnet, and so on."""
        first, *others = block.resnets
        x = self.resnet(x, first)
        for attention, resnet in zip(block.attentions, others, strict=True):
            x = self.resnet(x if attention is None else self.attend(x, attention), resnet)
        return x

    def resnet(self, x: Tensor, block: nn.Module) -> Tensor:
        """x + two convolutions, each after group norm and SiLU; written over x where it has the room."""
        hidden = self.convolve(x, block.conv1, block.norm1)
        channels = hidden.shape[1]
        out = x[:, :channels] if x.shape[1] >= channels else torch.empty_like(hidden)
        norm = _GroupNorm.of(hidden, block.norm2, self.device)
        for rows, columns in self._tiles(out):
            inner = _convolve_tile(hidden, block.conv2, rows, columns, self.device, norm)
            outer = x[:, :, rows, columns].to(self.device)
            if block.conv_shortcut is not None:
                outer = functional.conv2d(outer, block.conv_shortcut.weight, block.conv_shortcut.bias)
            out[:, :, rows, columns] = (outer + inner) / block.output_scale_factor
        return out

    def convolve(self, x: Tensor, convolution: nn.Conv2d, norm: nn.GroupNorm | None = None, grow: int = 1) -> Tensor:
        """A convolution; after group norm and SiLU, or after each pixel has been made `grow` x `grow` ones, where asked for."""
        height, width = (side * grow // convolution.stride[0] for side in x.shape[2:])
        out = torch.empty((1, convolution.out_channels, height, width), dtype=x.dtype, device=self.keep_on)
        prepared = _GroupNorm.of(x, norm, self.device) if norm is not None else None
        for rows, columns in self._tiles(out):
            out[:, :, rows, columns] = _convolve_tile(x, convolution, rows, columns, self.device, prepared, grow)
        return out

    def attend(self, x: Tensor, attention: Any) -> Tensor:
        """Every pixel to every other, for some of them at a time."""
        flat = x[0].flatten(1).T.to(self.device)[None]  # (1, pixels, channels)
        normed = attention.group_norm(flat.transpose(1, 2)).transpose(1, 2)
        query, key, value = (
            project(normed).unflatten(2, (attention.heads, -1)).transpose(1, 2)  # (1, heads, pixels, channels of a head)
            for project in (attention.to_q, attention.to_k, attention.to_v)
        )
        parts = [
            functional.scaled_dot_product_attention(query[:, :, i : i + QUERIES], key, value, scale=attention.scale)
            for i in range(0, query.shape[2], QUERIES)
        ]
        mixed = attention.to_out[0](torch.cat(parts, 2).transpose(1, 2).flatten(2))
        result = (mixed + flat) / attention.rescale_output_factor
        return result[0].T.reshape(x.shape).to(self.keep_on)

    def _tiles(self, whole: Tensor) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        height, width = whole.shape[2:]
        for y in range(0, height, self.tile):
            for x in range(0, width, self.tile):
                yield slice(y, min(y + self.tile, height)), slice(x, min(x + self.tile, width))


@dataclass(frozen=True)
class _GroupNorm:
    """A group norm with the whole picture's statistics, then SiLU; as each channel's factor and summand: (1, channels, 1, 1), fp32."""

    factor: Tensor
    summand: Tensor

    @classmethod
    def of(cls, x: Tensor, norm: nn.GroupNorm, device: torch.device) -> "_GroupNorm":
        groups = [torch.var_mean(group.to(device, torch.float32), correction=0) for group in x[0].chunk(norm.num_groups)]
        variance, mean = (
            torch.stack(values).repeat_interleave(norm.num_channels // norm.num_groups) for values in zip(*groups, strict=True)
        )
        factor = norm.weight.float() * (variance + norm.eps).rsqrt()
        summand = norm.bias.float() - mean * factor
        return cls(factor[None, :, None, None], summand[None, :, None, None])

    def __call__(self, tile: Tensor) -> Tensor:
        return functional.silu(torch.addcmul(self.summand, tile.float(), self.factor).to(tile.dtype))


def _convolve_tile(
    x: Tensor,
    convolution: nn.Conv2d,
    rows: slice,
    columns: slice,
    device: torch.device,
    norm: _GroupNorm | None = None,
    grow: int = 1,
) -> Tensor:
    """These rows and columns of a convolution's result; it sees the neighbours' pixels, and zeros around the whole, or its other side."""
    across, down = goes_around(convolution)
    height = _inputs(rows, convolution, x.shape[2] * grow, down)
    width = _inputs(columns, convolution, x.shape[3] * grow, across)
    part = _cut(_cut(x, 2, height, grow), 3, width, grow).to(device)
    if norm is not None:
        part = norm(part)
    if grow > 1:
        part = part.repeat_interleave(grow, 2).repeat_interleave(grow, 3)
        top, left = height.start % grow, width.start % grow
        part = part[:, :, top : top + height.stop - height.start, left : left + width.stop - width.start]
    padding = (width.before, width.after, height.before, height.after)
    return functional.conv2d(functional.pad(part, padding), convolution.weight, convolution.bias, convolution.stride)


def _cut(x: Tensor, axis: int, inputs: "_Inputs", grow: int) -> Tensor:
    """The pixels along one axis that grow to hold `inputs`; beyond the edges, where those reach, come the ones of the other side."""
    start, stop = inputs.start // grow, -(-inputs.stop // grow)
    if start >= 0 and stop <= x.shape[axis]:
        return x.narrow(axis, start, stop - start)
    return x.index_select(axis, torch.arange(start, stop, device=x.device) % x.shape[axis])


@dataclass(frozen=True)
class _Inputs:
    """Which pixels of one axis a convolution needs (beyond the edges too where the picture goes around), and how many zeros beside them."""

    start: int
    stop: int
    before: int
    after: int


def _inputs(results: slice, convolution: nn.Conv2d, size: int, around: bool) -> _Inputs:
    start = results.start * convolution.stride[0] - convolution.padding[0]
    stop = (results.stop - 1) * convolution.stride[0] - convolution.padding[0] + convolution.kernel_size[0]
    if around:
        return _Inputs(start, stop, 0, 0)
    return _Inputs(max(start, 0), min(stop, size), max(-start, 0), max(stop - size, 0))
