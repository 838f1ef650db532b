"""Colour correction: a picture with the colours of another one, and its own light and shade.

Colours are compared in L*a*b* of 8 bits a channel, as OpenCV makes them, in whole numbers: with more digits a histogram of so few
levels would be matched otherwise, by up to twenty grey levels.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Levels = NDArray[np.int64]
TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])  # sRGB, D65
WHITE = np.array([0.950456, 1.0, 1.088754])
LUMA = np.array([0.299, 0.587, 0.114])
STEPS = 8 * 255  # of linear light
BITS, FINE = 12, 15  # after the point: of the matrix, and of what L*a*b* are added up from


def with_colours_of(picture: Image.Image, model: Image.Image) -> Image.Image:
    """`picture` with the distribution of colours of `model` (histograms in L*a*b* matched), and its own luminosity; both RGB."""
    own = np.asarray(picture.convert("RGB"))
    ours, theirs = lab(own), lab(np.asarray(model.convert("RGB")))
    joined = np.stack([matched(ours[..., i], theirs[..., i]) for i in range(3)], axis=-1)
    return Image.fromarray(np.rint(_with_luminosity(rgb(joined), own.astype(np.float64))).astype(np.uint8))


def lab(pixels: NDArray[np.uint8]) -> Levels:
    """CIE L*a*b* (D65) of sRGB, 0 .. 255 both: L* times 2.55, a* and b* plus 128."""
    matrix = np.rint(2**BITS * TO_XYZ / WHITE[:, None]).astype(np.int64)
    x, y, z = np.moveaxis(BENT[_rounded(LINEAR[pixels] @ matrix.T, BITS)], -1, 0)
    lightness = (116 * 255 + 50) // 100 * y - (16 * 255 * 2**FINE + 50) // 100
    colours = np.stack([lightness, 500 * (x - y) + 2 ** (FINE + 7), 200 * (y - z) + 2 ** (FINE + 7)], axis=-1)
    return np.clip(_rounded(colours, FINE), 0, 255)


def _rounded(numbers: Levels, bits: int) -> Levels:
    """Whole numbers for numbers with so many bits after the point."""
    return (numbers + (1 << (bits - 1))) >> bits


def _linear() -> Levels:
    """Light, 0 .. STEPS, by sRGB value."""
    values = np.arange(256) / 255
    return np.rint(STEPS * np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)).astype(np.int64)


def _bent() -> Levels:
    """L*a*b*'s cube root of light, with its line near black, FINE bits after the point; by light, as far as roundings lead above white."""
    light = np.arange(STEPS + 8) / STEPS
    return np.rint(2**FINE * np.where(light < 0.008856, light * 7.787 + 16 / 116, np.cbrt(light))).astype(np.int64)


LINEAR, BENT = _linear(), _bent()


def rgb(colours: Levels) -> Array:
    """sRGB 0 .. 255, whole numbers, of what `lab` gives; what sRGB does not hold is cut."""
    y = (colours[..., 0] * (100 / 255) + 16) / 116
    bent = np.stack([y + (colours[..., 1] - 128) / 500, y, y - (colours[..., 2] - 128) / 200], axis=-1)
    relative = np.where(bent > 6 / 29, bent**3, (bent - 16 / 116) / 7.787)
    linear = np.clip((relative * WHITE) @ np.linalg.inv(TO_XYZ).T, 0, 1)
    return np.rint(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def matched(values: Levels, model: Levels) -> Levels:
    """`values`, 0 .. 255, moved, in their order, so that they are distributed as `model` is; rounded down."""
    counts, others = np.bincount(values.ravel(), minlength=256), np.bincount(model.ravel(), minlength=256)
    known = np.flatnonzero(others)
    moved = np.interp(np.cumsum(counts) / values.size, np.cumsum(others[known]) / model.size, known)
    return moved.astype(np.int64)[values]


def _with_luminosity(colours: Array, light: Array) -> Array:
    """The colours, 0 .. 255, with the luminosity of `light` (W3C Compositing and Blending 1, 10.4), cut towards grey where too strong."""
    grey = (light @ LUMA)[..., None]
    moved = colours + grey - (colours @ LUMA)[..., None]
    low, high = moved.min(axis=-1, keepdims=True), moved.max(axis=-1, keepdims=True)
    down = np.where(low < 0, grey / np.maximum(grey - low, 1e-9), 1.0)
    up = np.where(high > 255, (255 - grey) / np.maximum(high - grey, 1e-9), 1.0)
    return np.clip(grey + (moved - grey) * np.minimum(down, up), 0, 255)
