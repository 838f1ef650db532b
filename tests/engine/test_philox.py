"""Philox against the known answers that its authors publish, and against its formula written out for one number."""

import math

import numpy as np
import pytest
import torch

from webui.engine.philox import PhiloxGenerator, philox

KNOWN = [  # Random123, kat_vectors: philox4x32, 10 rounds: counter, key, answer
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return np.array([int(word, 16) for word in text.split()], dtype=np.uint32)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_bits_are_those_that_the_authors_publish(counter, key, answer):
    assert philox(words(counter)[:, None], words(key))[:, 0].tolist() == words(answer).tolist()


def test_counters_do_not_touch_one_another():
    together = philox(np.stack([words(counter) for counter, _, _ in KNOWN], axis=1), words(KNOWN[2][1]))
    assert together[:, 2].tolist() == words(KNOWN[2][2]).tolist()


def test_a_number_is_the_sine_of_box_and_muller_over_its_own_counter():
    generator = PhiloxGenerator(0x299F31D0A4093822)
    generator.randn((2, 3))
    second = generator.randn((2, 3))
    counter = np.array([1, 0, 4, 0], dtype=np.uint32)  # the draw, and the number's place in it
    x, y = (int(word) for word in philox(counter[:, None], words(KNOWN[2][1]))[:2, 0])
    expected = math.sqrt(-2 * math.log((x + 0.5) / 2**32)) * math.sin(2 * math.pi * (y + 0.5) / 2**32)
    assert float(second[1, 1]) == pytest.approx(expected, rel=1e-5)


def test_numbers_are_normal():
    numbers = PhiloxGenerator(7).randn((200_000,))
    assert numbers.dtype == torch.float32
    assert float(numbers.mean()) == pytest.approx(0, abs=0.01)
    assert float(numbers.std()) == pytest.approx(1, abs=0.01)
    assert float((numbers**4).mean()) == pytest.approx(3, abs=0.1)


def test_first_numbers_of_seed_zero_are_a_cards():
    # torch.manual_seed(0); torch.randn(3, device="cuda") on NVIDIA cards
    assert PhiloxGenerator(0).randn((3,)).tolist() == pytest.approx([-0.9247, -0.4253, -2.6438], abs=5e-5)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1, -3])
def test_every_seed_makes_its_own_numbers(seed):
    mine = PhiloxGenerator(seed).randn((64,))
    assert mine.isfinite().all()
    assert not torch.equal(mine, PhiloxGenerator(seed + 1).randn((64,)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card to draw the same numbers")
@pytest.mark.parametrize("seed", [0, 1234567, 2**40 + 3])
def test_numbers_are_those_of_the_card(seed):
    card, ours = torch.Generator("cuda").manual_seed(seed), PhiloxGenerator(seed)
    for _ in range(2):
        theirs = torch.randn((4, 64, 64), generator=card, device="cuda").cpu()
        torch.testing.assert_close(ours.randn((4, 64, 64)), theirs, rtol=1e-5, atol=1e-5)
