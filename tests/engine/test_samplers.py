"""Samplers against diffusers' schedulers on the same noise levels, against exact solutions, and against their own orders."""

import math

import diffusers
import numpy as np
import pytest
import torch

from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import SCHEDULE_TYPES
from webui.engine.model import alphas_cumprod
from webui.engine.rng import BrownianNoise, ImageNoise
from webui.engine.samplers import SAMPLERS
from webui.engine.schedules import SCHEDULES, NoiseSchedule, make_plan, sigma_schedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers with numpy 2
SCHEDULE = NoiseSchedule.from_alphas(alphas_cumprod())
SHAPE = (4, 8, 8)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
MIX = torch.linspace(-0.6, 0.8, 16).reshape(4, 4)
DETERMINISTIC = ("Euler", "Heun", "LMS", "DPM++ 2M", "DDIM", "PLMS", "UniPC")


def eps_model(x, sigma):
    """A network that is neither linear nor stationary. x of unit variance."""
    bent = torch.einsum("ij,bjhw->bihw", MIX.to(x.dtype), torch.tanh(x))
    return 0.7 * x + 0.3 * torch.sin(2 * bent + 0.2 * math.log(sigma))


def denoise(x, sigma, call):
    sigma = float(sigma)
    return x - sigma * eps_model(x / math.hypot(1, sigma), sigma)


def last(steps):
    *_, final = steps
    return final.x


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def noise(seed=0):
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed))


def drive(scheduler, sigmas, x, in_unit_variance, **arguments):
    """Run a diffusers scheduler over our levels; x goes in and comes out as signal + sigma * noise."""
    levels = [*sigmas.tolist()]
    scheduler.set_timesteps(len(levels) - 1)
    scheduler.sigmas = sigmas.clone()
    scheduler.timesteps = torch.arange(len(levels) - 1.0, 0, -1)
    scheduler.is_scale_input_called = True
    x = x / math.hypot(1, levels[0]) if in_unit_variance else x
    for i, t in enumerate(scheduler.timesteps):
        seen = x if in_unit_variance else x / math.hypot(1, levels[i])
        x = scheduler.step(eps_model(seen, levels[i]), t, x, **arguments).prev_sample
    return x * math.hypot(1, levels[-1]) if in_unit_variance else x


@pytest.fixture(params=["Uniform", "Karras"])
def sigmas(request):
    return sigma_schedule(SCHEDULE, CHOICES["Euler"], request.param, 12)


def test_every_sampler_of_the_choices_has_a_function_and_no_other():
    assert set(SAMPLERS) == set(CHOICES)


def test_every_schedule_type_of_the_choices_has_a_function_but_automatic():
    assert set(SCHEDULES) == set(SCHEDULE_TYPES) - {"Automatic"}


def test_samplers_that_draw_noise_are_those_the_choices_call_ancestral():
    assert {name for name, row in SAMPLERS.items() if row.noise != "none"} == {n for n, c in CHOICES.items() if c.ancestral}


def test_euler_equals_diffusers(sigmas):
    x = noise() * sigmas[0]
    theirs = drive(diffusers.EulerDiscreteScheduler(**BETAS), sigmas, x, False)
    assert relative(last(SAMPLERS["Euler"].sample(denoise, x, sigmas)), theirs) < 1e-5


def test_heun_equals_diffusers(sigmas):
    x = noise() * sigmas[0]
    scheduler = diffusers.HeunDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(len(sigmas) - 1)
    doubled = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    scheduler.sigmas, scheduler.timesteps = doubled, torch.arange(len(doubled) - 1, 0, -1)
    theirs = x
    levels = [float(sigmas[0]), *[float(s) for s in sigmas[1:-1] for _ in (0, 1)]]
    for level, t in zip(levels, scheduler.timesteps, strict=True):
        theirs = scheduler.step(eps_model(theirs / math.hypot(1, level), level), t, theirs).prev_sample
    assert relative(last(SAMPLERS["Heun"].sample(denoise, x, sigmas)), theirs) < 1e-5


def test_lms_equals_diffusers(sigmas):
    x = noise() * sigmas[0]
    theirs = drive(diffusers.LMSDiscreteScheduler(**BETAS), sigmas, x, False, order=4)
    assert relative(last(SAMPLERS["LMS"].sample(denoise, x, sigmas)), theirs) < 1e-4


def test_dpmpp_2m_equals_diffusers(sigmas):
    x = noise() * sigmas[0]
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS, solver_order=2, solver_type="midpoint", lower_order_final=True)
    assert relative(last(SAMPLERS["DPM++ 2M"].sample(denoise, x, sigmas)), drive(scheduler, sigmas, x, True)) < 1e-4


def test_dpmpp_2m_sde_equals_diffusers(sigmas):
    x = noise() * sigmas[0]
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS, algorithm_type="sde-dpmsolver++", solver_order=2, solver_type="midpoint")
    same = noise(7)
    theirs = drive(scheduler, sigmas, x, True, variance_noise=same)
    ours = last(SAMPLERS["DPM++ 2M SDE"].sample(denoise, x, sigmas, lambda sigma, sigma_next: same))
    assert relative(ours, theirs) < 1e-4


def test_dpmpp_sde_equals_diffusers(sigmas):
    x = noise() * sigmas[0]
    path = BrownianNoise(SHAPE, [5], (float(sigmas[-2]), float(sigmas[0])))
    scheduler = diffusers.DPMSolverSDEScheduler(**BETAS)
    scheduler.set_timesteps(len(sigmas) - 1)
    doubled = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    middles = [math.sqrt(a * b) for a, b in zip(sigmas[:-2].tolist(), sigmas[1:-1].tolist(), strict=True)]
    levels = [level for pair in zip(sigmas[:-2].tolist(), middles, strict=True) for level in pair] + [float(sigmas[-2])]
    scheduler.sigmas, scheduler.mid_point_sigma = doubled, None
    scheduler.timesteps = torch.arange(len(levels), 0, -1)
    scheduler.noise_sampler = lambda a, b: path(torch.as_tensor(a), torch.as_tensor(b))
    theirs = x
    for level, t in zip(levels, scheduler.timesteps, strict=True):
        theirs = scheduler.step(eps_model(theirs / math.hypot(1, level), level), t, theirs).prev_sample
    assert relative(last(SAMPLERS["DPM++ SDE"].sample(denoise, x, sigmas, path)), theirs) < 1e-3  # their midpoints differ in rounding


def test_euler_a_equals_diffusers_noise_for_noise(sigmas):
    x = noise() * sigmas[0]
    theirs = drive(diffusers.EulerAncestralDiscreteScheduler(**BETAS), sigmas, x, False, generator=torch.Generator().manual_seed(3))
    image_noise = ImageNoise([3])
    ours = last(SAMPLERS["Euler a"].sample(denoise, x, sigmas, lambda sigma, sigma_next: image_noise.next(SHAPE)))
    assert relative(ours, theirs) < 1e-5


def test_unipc_equals_diffusers():
    plan = make_plan(SCHEDULE, "UniPC", "Automatic", 10)
    x = plan.start(noise(), None)
    scheduler = diffusers.UniPCMultistepScheduler(**BETAS, solver_order=3, solver_type="bh1", lower_order_final=True)
    theirs = drive(scheduler, plan.sigmas, x, True)
    assert relative(last(SAMPLERS["UniPC"].sample(denoise, x, plan.sigmas)), theirs) < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_unipc_takes_fewer_steps_than_its_order(steps):
    plan = make_plan(SCHEDULE, "UniPC", "Automatic", steps)
    scheduler = diffusers.UniPCMultistepScheduler(**BETAS, solver_order=3, solver_type="bh1", lower_order_final=True)
    x = plan.start(noise(), None)
    assert relative(last(SAMPLERS["UniPC"].sample(denoise, x, plan.sigmas)), drive(scheduler, plan.sigmas, x, True)) < 1e-4


@pytest.mark.parametrize(("name", "scheduler"), [("DDIM", diffusers.DDIMScheduler), ("PLMS", diffusers.PNDMScheduler)])
def test_ddim_and_plms_equal_diffusers_up_to_their_last_timestep(name, scheduler):
    extra = {"clip_sample": False} if name == "DDIM" else {"skip_prk_steps": True}
    theirs = scheduler(**BETAS, set_alpha_to_one=False, steps_offset=1, **extra)
    theirs.set_timesteps(20)
    x = noise()
    for t in theirs.timesteps[:-1]:
        sigma = float(SCHEDULE.sigmas[t])
        x = theirs.step(eps_model(x, sigma), t, x).prev_sample
    plan = make_plan(SCHEDULE, name, "Automatic", 20)
    ours = plan.finish(last(SAMPLERS[name].sample(denoise, plan.start(noise(), None), plan.sigmas)))
    assert relative(ours, x) < 1e-4


def test_lcm_puts_noise_of_the_next_level_on_the_clean_latents(sigmas):
    fresh = noise(9)
    steps = list(SAMPLERS["LCM"].sample(denoise, noise() * sigmas[0], sigmas, lambda sigma, sigma_next: fresh))
    torch.testing.assert_close(steps[0].x, steps[0].denoised + sigmas[1] * fresh)
    assert torch.equal(steps[-1].x, steps[-1].denoised)


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_are_numbered_in_order_and_each_step_is_told(name):
    calls = []
    plan = make_plan(SCHEDULE, name, "Automatic", 6)

    def counted(x, sigma, call):
        calls.append(call)
        return denoise(x, sigma, call)

    arguments = [counted, plan.start(noise(), None), plan.sigmas]
    if SAMPLERS[name].noise != "none":
        arguments.append(lambda sigma, sigma_next: noise(1))
    steps = list(SAMPLERS[name].sample(*arguments))
    assert calls == list(range(len(calls)))
    assert [step.index for step in steps] == list(range(plan.steps))


@pytest.mark.parametrize(
    ("name", "calls"),
    [("Euler", 6), ("Heun", 11), ("DPM++ SDE", 11), ("LMS", 6), ("DDIM", 6), ("PLMS", 7), ("UniPC", 7), ("LCM", 6), ("DPM++ 2M", 6)],
)
def test_network_calls_for_six_steps(name, calls):  # 1000 // 6 = 166: seven timesteps for DDIM and its kin
    plan, count = make_plan(SCHEDULE, name, "Automatic", 6), []
    arguments = [lambda x, sigma, call: count.append(call) or x * 0, plan.start(noise(), None), plan.sigmas]
    if SAMPLERS[name].noise != "none":
        arguments.append(lambda sigma, sigma_next: noise(1))
    list(SAMPLERS[name].sample(*arguments))
    assert len(count) == calls


SPREAD = 0.8  # standard deviation of Gaussian data, for which the best denoiser and the path of every x are known exactly


def gaussian_denoise(x, sigma, call):
    return x * (SPREAD**2 / (SPREAD**2 + float(sigma) ** 2))


def error(name, steps):
    """How far from the exact solution a sampler ends on `steps` even steps in log sigma, in float64."""
    sigmas = torch.exp(torch.linspace(math.log(10), math.log(0.1), steps + 1, dtype=torch.float64))
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    exact = math.sqrt((SPREAD**2 + 0.1**2) / (SPREAD**2 + 10**2))
    return abs(float(last(SAMPLERS[name].sample(gaussian_denoise, x, sigmas))) - exact)


@pytest.mark.parametrize(("name", "order"), [("Euler", 1), ("Heun", 2), ("DPM++ 2M", 2), ("LMS", 2), ("PLMS", 2), ("UniPC", 2)])
def test_error_falls_with_the_order_of_the_rule(name, order):
    # multistep rules begin with steps of low order, which hold the whole run's order down
    seen = math.log2(error(name, 80) / error(name, 160))
    assert seen > order - 0.45, seen


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_reach_the_exact_solution(name):
    assert error(name, 200) < 5e-3


@pytest.mark.parametrize("name", ["Euler a", "DPM++ 2M SDE", "DPM++ SDE"])
def test_samplers_with_noise_end_in_the_distribution_of_the_data(name):
    generator = torch.Generator().manual_seed(0)
    sigmas = sigma_schedule(SCHEDULE, CHOICES["Euler"], "Karras", 250)
    x = torch.randn(1, 1, 150, 150, generator=generator) * math.hypot(float(sigmas[0]), SPREAD)
    ended = last(SAMPLERS[name].sample(gaussian_denoise, x, sigmas, lambda s, s_next: torch.randn(x.shape, generator=generator)))
    assert float(ended.std()) == pytest.approx(SPREAD, rel=0.03)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_one_step_lands_on_something_finite(name):
    plan = make_plan(SCHEDULE, name, "Automatic", 1)
    assert plan.steps == 1
    ended = last(SAMPLERS[name].sample(denoise, plan.start(noise(), None), plan.sigmas))
    assert np.isfinite(ended.numpy()).all()
