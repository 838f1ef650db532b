import math

import diffusers
import numpy as np
import pytest
import torch

from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import SCHEDULE_TYPES
from webui.core.errors import BadRequest
from webui.core.sampler_options import SamplerOptions
from webui.engine.model import alphas_cumprod
from webui.engine.schedules import LEAST_SIGNAL, NoiseSchedule, Range, ddim_levels, make_plan, sigma_schedule

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
@pytest.mark.parametrize("schedule_type", SCHEDULE_TYPES)
@pytest.mark.parametrize("steps", [1, 7])
def test_levels_fall_to_the_end(name, schedule_type, steps):
    sigmas = make_plan(SCHEDULE, name, schedule_type, steps).sigmas
    assert sigmas.dtype == torch.float32
    assert len(sigmas) > 1
    assert bool((sigmas.diff() <= 0).all())


@pytest.mark.parametrize("schedule_type", SCHEDULE_TYPES)
def test_a_thousand_levels_fall_to_the_end(schedule_type):
    assert bool((make_plan(SCHEDULE, "Euler", schedule_type, 1000).sigmas.diff() <= 0).all())


def levels(schedule_type, steps, **options):
    """Of a sampler without a habit of its own."""
    return sigma_schedule(SCHEDULE, CHOICES["Euler"], schedule_type, steps, SamplerOptions(**options))


def trained(*timesteps):
    return [float(SCHEDULE.sigmas[t]) for t in timesteps]


def test_beta_equals_diffusers():
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_beta_sigmas=True)
    scheduler.set_timesteps(20)
    np.testing.assert_allclose(levels("Beta", 20), scheduler.sigmas, rtol=1e-4)


def test_beta_with_one_and_one_is_a_line():
    np.testing.assert_allclose(levels("Beta", 3, beta_alpha=1.0, beta_beta=1.0), [14.61464, 7.3219, 0.029168, 0], rtol=1e-4)


def test_polyexponential_is_exponential_until_it_is_bent():
    np.testing.assert_allclose(levels("Polyexponential", 9), levels("Exponential", 9), rtol=1e-5)
    low, high = math.log(SCHEDULE.sigma_min), math.log(SCHEDULE.sigma_max)
    bent = [math.exp(low + part**2 * (high - low)) for part in (1, 0.5, 0)]
    np.testing.assert_allclose(levels("Polyexponential", 3, rho=2.0), [*bent, 0], rtol=1e-5)


def test_kl_optimal_ends_on_the_lowest_level_and_is_even_in_arctangents():
    sigmas = levels("KL Optimal", 4)
    angles = torch.atan(sigmas)
    assert len(sigmas) == 5
    assert float(sigmas[-1]) == pytest.approx(SCHEDULE.sigma_min, rel=1e-4)
    np.testing.assert_allclose(angles.diff(), angles.diff().mean().expand(4), rtol=1e-4)


def test_align_your_steps_has_the_published_levels_and_interpolates_their_logarithms():
    published = diffusers.schedulers.AysSchedules["StableDiffusionSigmas"][:-1]  # theirs go to 0, the field's to 0.029 and then to 0
    np.testing.assert_allclose(levels("Align Your Steps", 11), [*published, 0.029, 0], rtol=1e-6)
    twice = levels("Align Your Steps", 21)
    np.testing.assert_allclose(twice[:-1:2], [*published, 0.029], rtol=1e-5)
    assert float(twice[1]) == pytest.approx(math.sqrt(published[0] * published[1]), rel=1e-5)


def test_align_your_steps_has_other_levels_for_sdxl():
    schedule = NoiseSchedule.from_alphas(alphas_cumprod(), is_sdxl=True)
    published = diffusers.schedulers.AysSchedules["StableDiffusionXLSigmas"][:-1]
    np.testing.assert_allclose(sigma_schedule(schedule, CHOICES["Euler"], "Align Your Steps", 11)[:10], published, rtol=1e-6)


def test_simple_takes_every_nth_trained_level_from_the_top():
    np.testing.assert_allclose(levels("Simple", 4), [*trained(999, 749, 499, 249), 0], rtol=1e-6)


def test_ddim_takes_every_nth_trained_level_from_the_second_up_and_so_maybe_one_more():
    np.testing.assert_allclose(levels("DDIM", 4), [*trained(751, 501, 251, 1), 0], rtol=1e-6)
    assert len(levels("DDIM", 30)) == 32


def test_turbo_takes_the_last_timestep_of_each_part():
    np.testing.assert_allclose(levels("Turbo", 1), [*trained(999), 0], rtol=1e-6)
    np.testing.assert_allclose(levels("Turbo", 4), [*trained(999, 749, 499, 249), 0], rtol=1e-6)


def test_normal_is_uniform_between_ends_that_options_may_move():
    np.testing.assert_allclose(levels("Normal", 9), levels("Uniform", 9), rtol=1e-6)
    np.testing.assert_allclose(levels("Uniform", 9, sigma_max=5.0), levels("Uniform", 9), rtol=1e-6)
    assert float(levels("Normal", 9, sigma_max=5.0)[0]) == pytest.approx(5.0, rel=1e-4)


@pytest.mark.parametrize("schedule_type", ["Karras", "Exponential", "Polyexponential", "KL Optimal", "Normal", "Beta"])
def test_options_move_the_ends(schedule_type):
    sigmas = levels(schedule_type, 7, sigma_min=0.1, sigma_max=10.0)
    ends = float(sigmas[0]), float(sigmas[sigmas > 0].min())
    assert ends == pytest.approx((10.0, 0.1), rel=1e-3)


def test_rho_bends_karras():
    low, high = SCHEDULE.sigma_min ** (1 / 3), SCHEDULE.sigma_max ** (1 / 3)
    np.testing.assert_allclose(levels("Karras", 3, rho=3.0)[1], ((low + high) / 2) ** 3, rtol=1e-5)


def test_ends_the_wrong_way_round_are_refused_with_a_sentence():
    with pytest.raises(BadRequest, match=r"min sigma 20 is not below Schedule max sigma 14\.61"):
        levels("Karras", 7, sigma_min=20.0)


@pytest.mark.parametrize("name", ["DPM2", "DPM2 a", "DPM++ 3M SDE"])
def test_some_samplers_lay_one_level_more_and_leave_out_the_last_but_one(name):
    longer = sigma_schedule(SCHEDULE, CHOICES["Euler"], CHOICES[name].default_schedule, 8)
    assert torch.equal(make_plan(SCHEDULE, name, "Automatic", 7).sigmas, torch.cat([longer[:-2], longer[-1:]]))


def test_an_option_leaves_out_the_last_level_but_one_with_every_sampler_but_once():
    option = SamplerOptions(discard_penultimate_sigma=True)
    longer = levels("Karras", 8)
    assert torch.equal(sigma_schedule(SCHEDULE, CHOICES["Euler"], "Karras", 7, option), torch.cat([longer[:-2], longer[-1:]]))
    assert torch.equal(make_plan(SCHEDULE, "DPM2", "Karras", 7, None, option).sigmas, make_plan(SCHEDULE, "DPM2", "Karras", 7).sigmas)


def test_the_stronger_start_has_the_variance_of_noised_latents():
    plan = make_plan(SCHEDULE, "Euler", "Karras", 8, None, SamplerOptions(sgm_noise_multiplier=True))
    assert float(plan.start(torch.ones(1), None)) == pytest.approx(math.hypot(1, SCHEDULE.sigma_max))


@pytest.mark.parametrize("name", ["DPM fast", "DPM adaptive"])
def test_samplers_with_levels_of_their_own_go_from_end_to_end_without_0(name):
    plan = make_plan(SCHEDULE, name, "Karras", 8)
    assert (plan.steps, float(plan.sigmas[0])) == (8, pytest.approx(SCHEDULE.sigma_max))
    assert float(plan.sigmas[-1]) == pytest.approx(SCHEDULE.sigma_min)


@pytest.mark.parametrize("name", ["DPM fast", "DPM adaptive"])
def test_samplers_with_levels_of_their_own_begin_at_the_models_top_with_noise_of_the_schedules(name):
    """As in the field: the schedule type says how strong the first noise is, the checkpoint where the run begins."""
    plan = make_plan(SCHEDULE, name, "DDIM", 8)
    top = float(ddim_levels(Range.of(SCHEDULE, "DDIM", SamplerOptions()), 8)[0])
    assert top < 0.9 * SCHEDULE.sigma_max
    assert (float(plan.sigmas[0]), float(plan.sigmas[-1]), plan.steps) == (SCHEDULE.sigma_max, SCHEDULE.sigma_min, 8)
    assert float(plan.start(torch.ones(1), None)) == pytest.approx(top)


@pytest.mark.parametrize("name", ["DDIM", "PLMS", "DDIM CFG++", "UniPC"])
def test_timestep_samplers_lay_one_step_more_where_the_last_but_one_is_to_be_left_out(name):
    """As in the field, which then leaves none out."""
    more = make_plan(SCHEDULE, name, "Automatic", 9, None, SamplerOptions(discard_penultimate_sigma=True))
    assert torch.equal(more.sigmas, make_plan(SCHEDULE, name, "Automatic", 10).sigmas)


def test_samplers_with_levels_of_their_own_repaint_from_the_tails_first_level_to_its_last_but_0():
    whole = make_plan(SCHEDULE, "Euler", "Karras", 8)
    plan = make_plan(SCHEDULE, "DPM fast", "Karras", 8, 0.5)
    assert plan.steps == 5
    assert (float(plan.sigmas[0]), float(plan.sigmas[-1])) == pytest.approx((float(whole.sigmas[3]), float(whole.sigmas[-2])))
    assert float(make_plan(SCHEDULE, "DPM fast", "Karras", 8, 0.0).sigmas.diff()) < 0  # the lowest level alone is left: a step all the same


def test_tcd_in_img2img_begins_where_it_is_noised_to():
    plan = make_plan(SCHEDULE, "TCD", "Automatic", 4, 0.5)
    assert [round(SCHEDULE.t(sigma)) for sigma in plan.sigmas] == [759, 499, 259, 0]
    assert plan.noised_to == float(plan.sigmas[0])


@pytest.mark.parametrize(
    ("name", "label"), [("DPM++ 2M", "Karras"), ("Restart", "Karras"), ("DPM++ 3M SDE", "Exponential"), ("LMS", "Uniform")]
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


def test_unipc_lays_its_steps_evenly_in_the_root_of_time_or_in_log_sigma():
    roots = make_plan(SCHEDULE, "UniPC", "Automatic", 4, None, SamplerOptions(unipc_skip_type="time_quadratic")).sigmas
    expected = [((1000**0.5 * (4 - i) + i) / 4) ** 2 - 1 for i in range(5)]
    assert [SCHEDULE.t(sigma) for sigma in roots] == pytest.approx(expected, abs=0.05)
    logs = make_plan(SCHEDULE, "UniPC", "Automatic", 4, None, SamplerOptions(unipc_skip_type="logSNR")).sigmas.log()
    assert float(logs.diff().std()) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("schedule_type", "steps"), [("Normal", 5), ("SGM Uniform", 4)])
def test_ends_that_options_move_lie_on_lcms_own_timesteps(schedule_type, steps):
    options = SamplerOptions(sigma_max=float(SCHEDULE.sigma(torch.tensor(872.0))), sigma_min=float(SCHEDULE.sigma(torch.tensor(80.0))))
    sigmas = make_plan(SCHEDULE, "LCM", schedule_type, steps, None, options).sigmas
    assert SCHEDULE.t(sigmas[0]) == pytest.approx(879, abs=0.01)
    assert SCHEDULE.t(sigmas[1]) == pytest.approx(679, abs=0.01)


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
