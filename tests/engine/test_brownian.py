"""Brownian paths against torchsde's, whose pictures they are to repeat, and against the laws of Brownian motion."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

from webui.engine.brownian import BrownianNoise
from webui.engine.philox import PhiloxGenerator
from webui.engine.rng import noise_source
from webui.engine.schedules import karras_levels

pytestmark = pytest.mark.filterwarnings("ignore:Should have t:UserWarning")  # torchsde's: levels a rounding beyond its ends are held
SHAPE = (4, 8, 6)


def brownian(shape, seeds, span, source="CPU"):
    return BrownianNoise(lambda seed: noise_source(source)(seed).randn(shape), seeds, span)


def path(seed=1, size=(1, 100, 100)):
    return brownian(size, [seed], (0.03, 14.0))


def test_brownian_noise_equals_the_fields():
    sigma_min, sigma_max = torch.tensor(0.0291675), torch.tensor(14.614642)
    theirs = BrownianTreeNoiseSampler(torch.zeros(2, *SHAPE), sigma_min, sigma_max, seed=[3, 4])
    ours = brownian(SHAPE, [3, 4], (float(sigma_min), float(sigma_max)))
    for step in ((11.0, 7.5), (7.5, 0.9), (3.3, 3.2), (20.0, 14.0), (3.2, 0.01)):
        sigma, sigma_next = (torch.tensor(level) for level in step)
        torch.testing.assert_close(ours(sigma, sigma_next), theirs(sigma, sigma_next), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [5, 30])
def test_noise_down_a_whole_schedule_equals_the_fields(steps):
    sigmas = karras_levels(0.0291675, 14.614642, steps)
    theirs = BrownianTreeNoiseSampler(torch.zeros(2, *SHAPE), sigmas[-1], sigmas[0], seed=[2**32 + 7, 0])
    ours = brownian(SHAPE, [2**32 + 7, 0], (float(sigmas[-1]), float(sigmas[0])))
    for sigma, sigma_next in pairwise(sigmas):
        torch.testing.assert_close(ours(sigma, sigma_next), theirs(sigma, sigma_next), rtol=1e-4, atol=1e-4)  # theirs adds up in float32


def test_brownian_noise_has_unit_variance_at_any_step():
    for high, low in ((14.0, 9.0), (9.0, 8.9), (0.05, 0.03)):
        noise = path()(torch.tensor(high), torch.tensor(low))
        assert float(noise.std()) == pytest.approx(1, abs=0.03)
        assert float(noise.mean()) == pytest.approx(0, abs=0.03)


def test_brownian_steps_add_up_to_the_step_they_make_together():
    noise = path()
    whole = noise(torch.tensor(9.0), torch.tensor(1.0)) * math.sqrt(8)
    parts = noise(torch.tensor(9.0), torch.tensor(4.0)) * math.sqrt(5) + noise(torch.tensor(4.0), torch.tensor(1.0)) * math.sqrt(3)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-2)  # the path is known down to 1e-6 of sigma, the noise to its root


def test_brownian_noise_does_not_depend_on_the_order_of_questions():
    one, other = path(), path()
    one(torch.tensor(14.0), torch.tensor(3.0)), one(torch.tensor(2.0), torch.tensor(1.0))
    step = torch.tensor(7.0), torch.tensor(5.0)
    assert torch.equal(one(*step), other(*step))


def test_brownian_noise_of_an_image_does_not_depend_on_its_batch():
    together = brownian(SHAPE, [1, 2], (0.03, 14.0))
    alone = brownian(SHAPE, [2], (0.03, 14.0))
    step = torch.tensor(7.0), torch.tensor(5.0)
    assert torch.equal(together(*step)[1:], alone(*step))


def test_a_path_of_nv_is_drawn_from_philox():
    span = (0.03, 14.0)
    whole = brownian(SHAPE, [5], span, "NV")(torch.tensor(span[1]), torch.tensor(span[0]))[0]
    seed = int(np.random.SeedSequence(entropy=5, pool_size=24).generate_state(3)[0])
    torch.testing.assert_close(whole, -PhiloxGenerator(seed).randn(SHAPE), rtol=1e-5, atol=1e-5)


def test_each_picture_of_a_batch_has_the_path_of_its_own_seed_from_every_source():
    step = torch.tensor(7.0), torch.tensor(5.0)
    for name in ("CPU", "NV"):
        together, alone = (brownian(SHAPE, seeds, (0.03, 14.0), name) for seeds in ([1, 2], [2]))
        assert torch.equal(together(*step)[1:], alone(*step))


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63 + 5])
def test_every_allowed_seed_has_a_path(seed):
    assert brownian(SHAPE, [seed], (0.03, 14.0))(torch.tensor(14.0), torch.tensor(5.0)).isfinite().all()


def test_a_new_point_costs_a_noise_for_each_halving_that_it_does_not_share_with_the_point_before():
    drawn = []
    noise = BrownianNoise(lambda seed: drawn.append(seed) or torch.zeros(1), [3], (0.03, 14.0))
    noise(torch.tensor(9.0), torch.tensor(8.0))
    first = len(drawn)
    noise(torch.tensor(8.0), torch.tensor(7.999))
    assert first < 50
    assert len(drawn) - first < 15


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    path()(torch.tensor(10.0), torch.tensor(1.0))
    assert torch.equal(torch.get_rng_state(), before)
