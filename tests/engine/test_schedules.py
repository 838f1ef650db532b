import math

import diffusers
import numpy as np
import pytest
import torch

from webui.core.choices import SAMPLERS as CHOICES
from webui.engine.model import alphas_cumprod
from webui.engine.schedules import LEAST_SIGNAL, NoiseSchedule, make_plan, sigma_schedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers with numpy 2
SCHEDULE = NoiseSchedule.from_alphas(alphas_cumprod())


def network_timesteps(name, steps, strength=None):
    """The timesteps at which the network is called once per step."""
    plan = make_plan(SCHEDULE, name, "Automatic", steps, strength)
    return [SCHEDULE.t(sigma) for sigma in plan.sigmas[:-1]]


def test_sigmas_span_0_0292_to_14_6146():
    assert SCHEDULE.sigma_min == pytest.approx(0.02917, abs=1e-5)
    assert SCHEDULE.sigma_max == pytest.approx(14.6146, abs=1e-4)


def test_t_inverts_sigma_at_whole_and_broken_timesteps():
    for t in (0.0, 0.3, 1.0, 499.5, 749.25, 998.9, 999.0):
        assert SCHEDULE.t(SCHEDULE.sigma(torch.tensor(t))) == pytest.approx(t, abs=2e-3)


def test_t_holds_the_ends():
    assert SCHEDULE.t(torch.tensor(1e-4)) == 0
    assert SCHEDULE.t(torch.tensor(1e4)) == 999


def test_uniform_gives_the_network_fractional_timesteps():
    assert network_timesteps("Euler", 5) == pytest.approx([999, 749.25, 499.5, 249.75, 0], abs=2e-3)


def test_karras_equals_diffusers():
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True)
    scheduler.set_timesteps(20)
    np.testing.assert_allclose(sigma_schedule(SCHEDULE, CHOICES["Euler"], "Karras", 20), scheduler.sigmas, rtol=1e-5)


def test_exponential_equals_diffusers():
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_exponential_sigmas=True
    )
    scheduler.set_timesteps(20)
    np.testing.assert_allclose(sigma_schedule(SCHEDULE, CHOICES["Euler"], "Exponential", 20), scheduler.sigmas, rtol=1e-5)


def test_sgm_uniform_leaves_out_the_lowest_timestep():
    sigmas = sigma_schedule(SCHEDULE, CHOICES["Euler"], "SGM Uniform", 4)
    assert [SCHEDULE.t(sigma) for sigma in sigmas[:-1]] == pytest.approx([999, 749.25, 499.5, 249.75], abs=2e-3)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("schedule_type", ["Automatic", "Uniform", "Karras", "Exponential", "SGM Uniform"])
@pytest.mark.parametrize("steps", [1, 2, 7, 30, 1000])
def test_levels_fall_to_the_end(name, schedule_type, steps):
    sigmas = make_plan(SCHEDULE, name, schedule_type, steps).sigmas
    assert sigmas.dtype == torch.float32
    assert len(sigmas) > 1
    assert bool((sigmas.diff() <= 0).all())


@pytest.mark.parametrize(
    ("name", "label"), [("DPM++ 2M", "Karras"), ("DPM++ SDE", "Karras"), ("DPM++ 2M SDE", "Exponential"), ("LMS", "Uniform")]
)
def test_automatic_is_the_samplers_own_type(name, label):
    automatic = sigma_schedule(SCHEDULE, CHOICES[name], "Automatic", 9)
    assert torch.equal(automatic, sigma_schedule(SCHEDULE, CHOICES[name], label, 9))


def test_ddim_calls_the_network_one_time_less_than_it_has_timesteps():
    assert network_timesteps("DDIM", 5) == pytest.approx([801, 601, 401, 201])
    assert len(network_timesteps("DDIM", 20)) == 19
    assert network_timesteps("DDIM", 20)[0] == pytest.approx(951)
    assert len(network_timesteps("DDIM", 30)) == 30
    assert len(network_timesteps("DDIM", 1)) == 1  # one call where the field makes none


def test_ddim_in_img2img_begins_a_timestep_below_the_one_it_is_noised_to():
    plan = make_plan(SCHEDULE, "DDIM", "Automatic", 8, 0.5)
    assert network_timesteps("DDIM", 8, 0.5) == pytest.approx([376, 251, 126])
    assert SCHEDULE.t(torch.tensor(plan.noised_to)) == pytest.approx(501)


def test_ddim_starts_from_plain_noise_and_ends_in_unit_variance():
    plan = make_plan(SCHEDULE, "DDIM", "Automatic", 20)
    sigma = float(plan.sigmas[0])
    assert float(plan.start(torch.ones(1), None)) == pytest.approx(math.sqrt(1 + sigma**2))
    assert float(plan.finish(torch.ones(1))) == pytest.approx(math.sqrt(float(alphas_cumprod()[1])))


def test_unipc_lays_its_own_even_timesteps():
    assert network_timesteps("UniPC", 5) == pytest.approx([999, 799.2, 599.4, 399.6, 199.8], abs=0.01)


def test_lcm_uses_every_twentieth_timestep():
    lcm = SCHEDULE.for_lcm()
    plan = make_plan(SCHEDULE, "LCM", "Automatic", 5)
    assert [lcm.nearest_t(sigma) for sigma in plan.sigmas[:-1]] == [999, 759, 519, 259, 19]


def test_img2img_makes_the_share_of_steps_plus_one():
    whole = make_plan(SCHEDULE, "Euler", "Karras", 8)
    half = make_plan(SCHEDULE, "Euler", "Karras", 8, 0.5)
    assert half.steps == 5
    assert torch.equal(half.sigmas, whole.sigmas[3:])
    assert half.noised_to == float(half.sigmas[0])
    assert half.span == whole.span  # a Brownian path spans the whole schedule


def test_img2img_at_full_strength_takes_every_step():
    assert make_plan(SCHEDULE, "Euler", "Karras", 8, 1.0).steps == 8


def test_img2img_starts_from_the_latents_with_noise_on_top():
    plan = make_plan(SCHEDULE, "Euler", "Karras", 8, 0.5)
    init, noise = torch.full((1,), 3.0), torch.ones(1)
    assert float(plan.start(noise, init)) == pytest.approx(3 + float(plan.sigmas[0]))


@pytest.mark.parametrize("name", ["DDIM", "PLMS", "UniPC"])
def test_too_weak_a_strength_for_a_single_call_keeps_the_picture(name):
    plan = make_plan(SCHEDULE, name, "Automatic", 10, 0.0)
    init = torch.full((1,), 3.0)
    assert plan.steps == 0
    assert torch.equal(plan.finish(plan.start(torch.ones(1), init)), init)


def test_a_schedule_without_signal_at_its_end_stays_finite():
    alphas = alphas_cumprod()
    alphas[-1] = 0
    schedule = NoiseSchedule.from_alphas(alphas)
    assert schedule.sigma_max == pytest.approx(LEAST_SIGNAL**-0.5, rel=1e-3)


def test_the_timestep_of_a_threshold_parts_the_levels_below_it_from_the_others():
    for sigma in (0.01, 0.5, 3.0, 14.0, 15.0):
        low = SCHEDULE.t_above(sigma)
        assert [SCHEDULE.t(level) < low for level in SCHEDULE.sigmas[::37]] == [float(level) < sigma for level in SCHEDULE.sigmas[::37]]
