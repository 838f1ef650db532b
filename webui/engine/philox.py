"""Philox: the counter-based generator that CUDA cards draw normal numbers with, so that any machine can draw the same.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox4x32 with 10 rounds.
"""

import math

import numpy as np
import torch
from torch import Tensor

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))  # added to the key after each round
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)
UNIT = float(np.float32(2.0**-32))
TURN = float(np.float32(2.0**-32 * 2 * math.pi))


class PhiloxGenerator:
    """Normal numbers as torch.randn draws them on CUDA after manual_seed(seed), for shapes that a card draws in one sweep."""

    def __init__(self, seed: int) -> None:
        self._key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], dtype=np.uint32)
        self._draws = 0

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        """The next draw, float32, on the CPU. Number i of it comes from the card's thread i alone."""
        size = math.prod(shape)
        counters = np.zeros((4, size), dtype=np.uint32)
        counters[0] = self._draws
        counters[2] = np.arange(size, dtype=np.uint32)
        self._draws += 1
        bits = philox(counters, self._key)
        return torch.from_numpy(box_muller(bits[0], bits[1])).reshape(shape)


def philox(counters: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Random bits, (4, n) uint32, for counters (4, n) uint32 and a key of two uint32."""
    a, b, c, d = counters
    low_key, high_key = key
    with np.errstate(over="ignore"):
        for _ in range(ROUNDS):
            first, second = a.astype(np.uint64) * MULTIPLIERS[0], c.astype(np.uint64) * MULTIPLIERS[1]
            a, c = _high(second) ^ b ^ low_key, _high(first) ^ d ^ high_key
            b, d = _low(second), _low(first)
            low_key, high_key = low_key + WEYL[0], high_key + WEYL[1]
    return np.stack([a, b, c, d])


def _high(product: np.ndarray) -> np.ndarray:
    return (product >> np.uint64(32)).astype(np.uint32)


def _low(product: np.ndarray) -> np.ndarray:
    return (product & LOW).astype(np.uint32)


def box_muller(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Normal numbers, float32, from two sets of random bits (Box and Muller 1958; the sine, as cuRAND's first of a pair)."""
    radius = np.sqrt(-2 * np.log(x * UNIT + UNIT / 2))
    return (radius * np.sin(y * TURN + TURN / 2)).astype(np.float32)
