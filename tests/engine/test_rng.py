import math

import pytest
import torch

from webui.engine.philox import PhiloxGenerator
from webui.engine.rng import ImageNoise, noise_source, slerp

SHAPE = (4, 8, 6)


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def test_the_first_noise_is_the_seeds_own():
    expected = torch.stack([torch.randn(SHAPE, generator=generator(seed)) for seed in (3, 4)])
    assert torch.equal(ImageNoise([3, 4]).first(SHAPE), expected)


def test_further_noises_continue_each_images_generator():
    noise, alone = ImageNoise([3, 4]), generator(4)
    noise.first(SHAPE), torch.randn(SHAPE, generator=alone)
    assert torch.equal(noise.next(SHAPE)[1], torch.randn(SHAPE, generator=alone))
    assert torch.equal(noise.next(SHAPE)[1], torch.randn(SHAPE, generator=alone))


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    noise = ImageNoise([3], [9], 0.5, (4, 4))
    noise.first(SHAPE), noise.next(SHAPE)
    noise_source("NV")(1).randn(SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_variation_mixes_in_the_variation_seeds_noise_along_the_height():
    low, high = (torch.randn(SHAPE, generator=generator(seed)).double() for seed in (3, 9))
    mixed = ImageNoise([3], [9], 0.3).first(SHAPE)[0]
    for channel, column in ((0, 0), (2, 5)):
        a, b = low[channel, :, column], high[channel, :, column]
        angle = math.acos(float(a @ b / a.norm() / b.norm()))
        expected = (math.sin(0.7 * angle) * a + math.sin(0.3 * angle) * b) / math.sin(angle)
        torch.testing.assert_close(mixed[channel, :, column].double(), expected, rtol=1e-5, atol=1e-5)


def test_variation_strength_one_is_the_variation_seed():
    expected = torch.randn(SHAPE, generator=generator(9))
    torch.testing.assert_close(ImageNoise([3], [9], 1.0).first(SHAPE)[0], expected, rtol=1e-4, atol=1e-5)


def test_slerp_of_equal_noises_is_finite():
    same = torch.randn(SHAPE, generator=generator(1))
    torch.testing.assert_close(slerp(0.4, same, same), same)


def test_seed_resize_lays_the_old_sizes_noise_on_the_middle_of_the_new():
    made = ImageNoise([5], resize_from=(6, 8)).first((4, 12, 4))[0]
    old = torch.randn((4, 6, 8), generator=generator(5))
    canvas = torch.randn((4, 12, 4), generator=generator(5))
    assert torch.equal(made[:, 3:9, :], old[:, :, 2:6])
    assert torch.equal(made[:, :3], canvas[:, :3])
    assert torch.equal(made[:, 9:], canvas[:, 9:])


def test_seed_resize_from_the_same_size_changes_nothing():
    assert torch.equal(ImageNoise([5], resize_from=SHAPE[1:]).first(SHAPE), ImageNoise([5]).first(SHAPE))


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63 + 5])
def test_every_allowed_seed_makes_noise(seed):
    assert ImageNoise([seed]).first(SHAPE).isfinite().all()


def test_columns_of_one_row_are_mixed_on_a_line():
    low, high = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[-3.0, 1.0]]])
    torch.testing.assert_close(slerp(0.25, low, high), torch.lerp(low, high, 0.25))


def nv(seed):
    return PhiloxGenerator(seed)


def test_noise_after_the_first_is_drawn_from_moved_seeds_where_a_delta_is_set():
    noise = ImageNoise([3, 4], later_seed=31337)
    assert torch.equal(noise.first(SHAPE), ImageNoise([3, 4]).first(SHAPE))
    assert torch.equal(noise.next(SHAPE)[1], torch.randn(SHAPE, generator=generator(4 + 31337)))


def test_nv_draws_first_noise_variations_and_later_noise_from_philox():
    noise = ImageNoise([3, 4], [9, 9], source=noise_source("NV"))
    alone = nv(4)
    assert torch.equal(noise.first(SHAPE)[1], alone.randn(SHAPE))
    assert torch.equal(noise.next(SHAPE)[1], alone.randn(SHAPE))
    varied = ImageNoise([3], [9], 1.0, source=noise_source("NV")).first(SHAPE)[0]
    torch.testing.assert_close(varied, nv(9).randn(SHAPE), rtol=1e-4, atol=1e-5)


def test_gpu_is_the_cpu_where_there_is_no_other_generator():
    for device in ("cpu", "mps", "meta"):
        drawn = ImageNoise([3], source=noise_source("GPU", torch.device(device))).first(SHAPE)
        assert torch.equal(drawn, ImageNoise([3]).first(SHAPE))
