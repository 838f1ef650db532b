"""Colour correction: a picture with the colours of another one, and its own light and shade."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])  # sRGB, D65
WHITE = TO_XYZ.sum(axis=1)
LINEAR_BELOW = 216 / 24389  # CIE 15: where the cube root of L*a*b* gives way to a line
SLOPE = 24389 / 27
LUMA = np.array([0.3, 0.59, 0.11])  # of the W3C's compositing, "luminosity"


def with_colours_of(picture: Image.Image, model: Image.Image) -> Image.Image:
    """`picture` with the distribution of colours of `model` (histograms in L*a*b* matched), and its own luminosity; both RGB."""
    own = np.asarray(picture.convert("RGB"), dtype=np.float64)
    ours, theirs = (lab(np.asarray(image.convert("RGB"), dtype=np.float64)) for image in (picture, model))
    joined = np.stack([matched(ours[..., i], theirs[..., i]) for i in range(3)], axis=-1)
    return Image.fromarray(np.rint(_with_luminosity(rgb(joined), own)).astype(np.uint8))


def lab(pixels: Array) -> Array:
    """CIE L*a*b* (D65) of sRGB 0 .. 255: L* 0 .. 100."""
    values = pixels / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    relative = linear @ TO_XYZ.T / WHITE
    bent = np.where(relative > LINEAR_BELOW, np.cbrt(relative), (SLOPE * relative + 16) / 116)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb(colours: Array) -> Array:
    """sRGB 0 .. 255 of CIE L*a*b*; what sRGB does not hold is cut."""
    y = (colours[..., 0] + 16) / 116
    bent = np.stack([y + colours[..., 1] / 500, y, y - colours[..., 2] / 200], axis=-1)
    relative = np.where(bent**3 > LINEAR_BELOW, bent**3, (116 * bent - 16) / SLOPE)
    linear = np.clip((relative * WHITE) @ np.linalg.inv(TO_XYZ).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def matched(values: Array, model: Array) -> Array:
    """`values` moved, in their order, so that they are distributed as `model` is."""
    _, place, counts = np.unique(np.round(values, 3), return_inverse=True, return_counts=True)
    others, other_counts = np.unique(model, return_counts=True)
    quantiles = np.cumsum(counts) / values.size
    moved = np.interp(quantiles, np.cumsum(other_counts) / model.size, others)
    return moved[place].reshape(values.shape)


def _with_luminosity(colours: Array, light: Array) -> Array:
    """The colours, 0 .. 255, with the luminosity of `light` (W3C Compositing and Blending 1, 10.4), cut towards grey where too strong."""
    wanted = light @ LUMA
    moved = colours + (wanted - colours @ LUMA)[..., None]
    grey = wanted[..., None]
    low, high = moved.min(axis=-1, keepdims=True), moved.max(axis=-1, keepdims=True)
    down = np.where(low < 0, grey / np.maximum(grey - low, 1e-9), 1.0)
    up = np.where(high > 255, (255 - grey) / np.maximum(high - grey, 1e-9), 1.0)
    return np.clip(grey + (moved - grey) * np.minimum(down, up), 0, 255)
