"""Samplers against diffusers' schedulers on the same noise levels, against exact solutions, and against their own orders."""

import math

import diffusers
import numpy as np
import pytest
import torch

from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import SCHEDULE_TYPES
from webui.core.sampler_options import SamplerOptions
from webui.engine.brownian import BrownianNoise
from webui.engine.model import alphas_cumprod
from webui.engine.rng import ImageNoise
from webui.engine.samplers import SAMPLERS
from webui.engine.samplers.multistep import _deis_weights, _vp_time
from webui.engine.schedules import SCHEDULES, NoiseSchedule, make_plan, sigma_schedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers with numpy 2
SCHEDULE = NoiseSchedule.from_alphas(alphas_cumprod())
SHAPE = (4, 8, 8)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
MIX = torch.linspace(-0.6, 0.8, 16).reshape(4, 4)
DETERMINISTIC = (
    *("Euler", "Heun", "LMS", "DPM++ 2M", "DDIM", "PLMS", "UniPC", "DPM2", "HeunPP2", "IPNDM", "DEIS", "Euler CFG++", "DDIM CFG++"),
    *("DPM fast", "DPM adaptive", "DPM++ 2S a", "DPM2 a", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"),  # at eta 0
)


def eps_model(x, sigma):
    """A network that is neither linear nor stationary. x of unit variance."""
    bent = torch.einsum("ij,bjhw->bihw", MIX.to(x.dtype), torch.tanh(x))
    return 0.7 * x + 0.3 * torch.sin(2 * bent + 0.2 * math.log(sigma))


def denoise(x, sigma, call):
    sigma = float(sigma)
    return x - sigma * eps_model(x / math.hypot(1, sigma), sigma)


def flow(name, x, sigmas, model=denoise):
    """Where a sampler ends that follows the probability flow alone: all its noise is turned off."""
    row = SAMPLERS[name]
    answer = (lambda x, sigma, call: model(x, sigma, call).expand(2, *x.shape)) if row.cfgpp else model
    return last(row.sample(answer, x, sigmas, *([None] if row.noise != "none" else []), **row.options(SamplerOptions(eta=0))))


def run(name, steps, model=denoise, noise=None, options=SamplerOptions(), begin=None, schedule_type="Automatic"):
    """The steps of a sampler as `generate` runs it."""
    row, plan = SAMPLERS[name], make_plan(SCHEDULE, name, schedule_type, steps, None, options)
    x = plan.start(globals()["noise"]() if begin is None else begin, None)
    answer = (lambda x, sigma, call: model(x, sigma, call).expand(2, *x.shape)) if row.cfgpp else model
    extra = {"schedule": SCHEDULE} if row.on_timesteps else {}
    arguments = [answer, x, plan.sigmas, *([noise] if row.noise != "none" else [])]
    return list(row.sample(*arguments, **row.options(options), **extra))


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


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_that_draw_noise_with_no_option_set_are_those_the_choices_call_ancestral(name):
    drawn = []
    run(name, 24, noise=lambda sigma, sigma_next: drawn.append(1) or noise(1))
    assert bool(drawn) == CHOICES[name].ancestral


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
    path = BrownianNoise(
        lambda seed: torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)), [5], (float(sigmas[-2]), float(sigmas[0]))
    )
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


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(("order", "variant"), [(3, "bh1"), (3, "bh2"), (2, "bh2"), (1, "bh1")])
@pytest.mark.parametrize("skip_type", ["time_uniform", "time_quadratic", "logSNR"])
def test_unipc_equals_diffusers(order, variant, lower, skip_type):
    options = SamplerOptions(unipc_order=order, unipc_variant=variant, unipc_lower_order_final=lower, unipc_skip_type=skip_type)
    plan = make_plan(SCHEDULE, "UniPC", "Automatic", 10, None, options)
    scheduler = diffusers.UniPCMultistepScheduler(**BETAS, solver_order=order, solver_type=variant, lower_order_final=lower)
    theirs = drive(scheduler, plan.sigmas, plan.start(noise(), None), True)
    assert relative(run("UniPC", 10, options=options)[-1].x, theirs) < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_unipc_takes_fewer_steps_than_its_order(steps):
    plan = make_plan(SCHEDULE, "UniPC", "Automatic", steps)
    scheduler = diffusers.UniPCMultistepScheduler(**BETAS, solver_order=3, solver_type="bh1", lower_order_final=True)
    x = plan.start(noise(), None)
    assert relative(last(SAMPLERS["UniPC"].sample(denoise, x, plan.sigmas)), drive(scheduler, plan.sigmas, x, True)) < 1e-4


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_dpm2_equals_diffusers():
    theirs = diffusers.KDPM2DiscreteScheduler(**BETAS, use_karras_sigmas=True)
    theirs.set_timesteps(9)
    sigmas = theirs.sigmas.unique_consecutive()  # the levels in between cannot be set from outside
    x = answer = noise() * sigmas[0]
    for t in theirs.timesteps:
        levels = theirs.sigmas if theirs.state_in_first_order else theirs.sigmas_interpol
        level = float(levels[theirs.step_index or 0])
        answer = theirs.step(eps_model(answer / math.hypot(1, level), level), t, answer).prev_sample
    assert relative(flow("DPM2", x, sigmas), answer) < 1e-4


def test_tcd_equals_diffusers_noise_for_noise():
    theirs = diffusers.TCDScheduler(**BETAS)
    theirs.set_timesteps(4)
    x, generator, image_noise = noise(), torch.Generator().manual_seed(3), ImageNoise([3])
    for t in theirs.timesteps:
        output = eps_model(x, float(SCHEDULE.sigmas[t]))
        x = theirs.step(output, t, x, eta=0.3, generator=generator).prev_sample
    steps = run("TCD", 4, noise=lambda sigma, sigma_next: image_noise.next(SHAPE))
    plan = make_plan(SCHEDULE, "TCD", "Automatic", 4)
    assert [round(SCHEDULE.t(sigma)) for sigma in plan.sigmas] == [*theirs.timesteps.tolist(), 0]
    assert relative(plan.finish(steps[-1].x), x) < 1e-4


def test_ddim_with_eta_equals_diffusers_noise_for_noise():
    theirs = diffusers.DDIMScheduler(**BETAS, set_alpha_to_one=False, steps_offset=1, clip_sample=False)
    theirs.set_timesteps(20)
    x, generator, image_noise = noise(), torch.Generator().manual_seed(3), ImageNoise([3])
    for t in theirs.timesteps[:-1]:
        x = theirs.step(eps_model(x, float(SCHEDULE.sigmas[t])), t, x, eta=0.7, generator=generator).prev_sample
    steps = run("DDIM", 20, noise=lambda sigma, sigma_next: image_noise.next(SHAPE), options=SamplerOptions(eta_ddim=0.7))
    assert relative(make_plan(SCHEDULE, "DDIM", "Automatic", 20).finish(steps[-1].x), x) < 1e-4


@pytest.mark.parametrize("name", ["DPM++ 2M SDE Heun", "DPM++ 3M SDE"])
def test_integrals_of_lines_in_log_sigma_are_exact(name):
    # dx/dl = denoised - x has, for denoised = a + b*l, the solution a + b*l - b + constant * e^-l
    sigmas = torch.exp(-torch.tensor([-1.0, -0.2, 0.3, 1.1, 1.6], dtype=torch.float64))

    def line(x, sigma, call):
        return torch.full_like(x, 0.3 - 0.5 * math.log(float(sigma)))

    x = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    steps = list(SAMPLERS[name].sample(line, x, sigmas, None, eta=0.0))
    drift = (float(steps[0].x) - (0.3 + 0.5 * -0.2 - 0.5)) * math.exp(-0.2)  # the first step is of lower order
    assert float(steps[-1].x) == pytest.approx(0.3 + 0.5 * 1.6 - 0.5 + drift * math.exp(-1.6), abs=1e-12)


def test_euler_cfgpp_keeps_the_noise_that_is_seen_without_the_prompt(sigmas):
    x = noise() * sigmas[0]

    def two(x, sigma, call):
        return torch.stack([x * 0.2, x * 0.1])

    first = next(SAMPLERS["Euler CFG++"].sample(two, x, sigmas))
    torch.testing.assert_close(first.x, x * 0.2 + sigmas[1] * (x - x * 0.1) / sigmas[0])
    assert torch.equal(first.denoised, x * 0.2)


def test_cfgpp_is_the_plain_sampler_where_the_prompt_makes_no_difference():
    for plain, name in (("Euler", "Euler CFG++"), ("DDIM", "DDIM CFG++")):
        assert relative(run(name, 9)[-1].x, run(plain, 9)[-1].x) < 1e-6


def test_churn_raises_the_level_before_the_step_and_only_between_its_bounds(sigmas):
    seen = []
    options = {"s_churn": 3.0, "s_tmin": 0.5, "s_tmax": 5.0, "s_noise": 1.0}
    list(
        SAMPLERS["Euler"].sample(lambda x, sigma, call: seen.append(float(sigma)) or x * 0, noise(), sigmas, lambda *_: noise(1), **options)
    )
    expected = [float(s) * (1.25 if 0.5 <= s <= 5.0 else 1.0) for s in sigmas[:-1]]
    assert seen == pytest.approx(expected)


def test_churn_keeps_the_distribution_of_the_data():
    generator = torch.Generator().manual_seed(0)
    sigmas = sigma_schedule(SCHEDULE, CHOICES["Euler"], "Karras", 180)
    x = torch.randn(1, 1, 100, 100, generator=generator) * math.hypot(float(sigmas[0]), SPREAD)
    fresh = lambda sigma, sigma_next: torch.randn(x.shape, generator=generator)  # noqa: E731
    assert float(last(SAMPLERS["Heun"].sample(gaussian_denoise, x, sigmas, fresh, s_churn=40.0)).std()) == pytest.approx(SPREAD, rel=0.04)


@pytest.mark.parametrize(("steps", "repeated"), [(19, 0), (20, 1), (35, 1), (36, 2), (50, 2)])
def test_restart_goes_back_up_from_a_tenth_to_two_and_takes_no_more_steps(steps, repeated):
    drawn = []
    told = run("Restart", steps, noise=lambda sigma, sigma_next: drawn.append((float(sigma), float(sigma_next))) or noise(1))
    jumps = [jump for jump in drawn if jump[1] > 1.01 * jump[0]]  # the walk down may begin a rounding higher than the repetition ended
    assert len(told) == steps
    assert len(jumps) == repeated
    for low, high in jumps:
        assert low == pytest.approx(0.1, rel=0.5)
        assert high == pytest.approx(2.0, rel=0.5)


def test_ipndm_extrapolates_four_slopes_as_on_even_levels():
    sigmas = torch.tensor([9.0, 7.0, 5.0, 3.0, 1.0])
    steps = list(SAMPLERS["IPNDM"].sample(lambda x, sigma, call: x - sigma * float(call**3), torch.zeros(1, 1, 1, 1), sigmas))
    blend = (55 * 27 - 59 * 8 + 37 * 1 - 9 * 0) / 24
    assert float(steps[3].x - steps[2].x) == pytest.approx(-2 * blend)


def test_deis_weights_are_the_integrals_of_lagranges_polynomials_over_sigma():
    sigmas = np.array([0.9, 2.0, 3.7, 6.0])
    times = _vp_time(sigmas)
    path = np.linspace(sigmas[1], sigmas[0], 200_001)
    t = _vp_time(path)
    for j, weight in enumerate(_deis_weights(times)):
        base = np.prod([(t - times[k]) / (times[j + 1] - times[k]) for k in (1, 2, 3) if k != j + 1], axis=0)
        assert weight == pytest.approx(float(np.trapezoid(base, path)), rel=1e-3)  # a sum of 10,000 terms


def test_dpm_fast_spends_its_calls_in_steps_of_order_three():
    for steps, indices in ((1, [0]), (2, [1]), (3, [1, 2]), (4, [2, 3]), (6, [2, 4, 5]), (8, [2, 5, 7])):
        assert [step.index for step in run("DPM fast", steps, noise=lambda *_: noise(1))] == indices


def test_dpm_fast_is_of_second_order_in_its_calls():
    assert math.log2(error("DPM fast", 48) / error("DPM fast", 96)) > 1.8  # even steps of order 3, the last two of order 2 and 1


def test_dpm_adaptive_takes_more_calls_for_a_network_that_bends_more():
    def calls(bend):
        count = []

        def model(x, sigma, call):
            count.append(call)
            return x - float(sigma) * torch.sin(bend * x)

        run("DPM adaptive", 10, model, options=SamplerOptions(eta=0))
        return len(count)

    assert calls(0.1) < calls(3.0)


def test_heunpp2_weighs_the_slopes_ahead_by_their_levels():
    sigmas = torch.tensor([8.0, 4.0, 2.0, 0.0])
    slopes = iter([1.0, 2.0, 5.0])
    first = next(SAMPLERS["HeunPP2"].sample(lambda x, sigma, call: x - sigma * next(slopes), torch.zeros(1, 1, 1, 1), sigmas))
    weights = (1 - 4 / 24 - 2 / 24, 4 / 24, 2 / 24)
    assert float(first.x) == pytest.approx(-4 * (weights[0] * 1 + weights[1] * 2 + weights[2] * 5))


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
    ours = plan.finish(flow(name, plan.start(noise(), None), plan.sigmas))
    assert relative(ours, x) < 1e-4


def test_lcm_puts_noise_of_the_next_level_on_the_clean_latents(sigmas):
    fresh = noise(9)
    steps = list(SAMPLERS["LCM"].sample(denoise, noise() * sigmas[0], sigmas, lambda sigma, sigma_next: fresh))
    torch.testing.assert_close(steps[0].x, steps[0].denoised + sigmas[1] * fresh)
    assert torch.equal(steps[-1].x, steps[-1].denoised)


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_are_numbered_in_order_and_the_last_step_is_the_plans_last(name):
    calls = []
    steps = run(name, 6, lambda x, sigma, call: calls.append(call) or denoise(x, sigma, call), lambda sigma, sigma_next: noise(1))
    assert calls == list(range(len(calls)))
    told = [step.index for step in steps]
    assert told == sorted(told)
    assert told[-1] == make_plan(SCHEDULE, name, "Automatic", 6).steps - 1
    if CHOICES[name].kind != "own":
        assert told == list(range(len(told)))


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        *[("Euler", 6), ("Heun", 11), ("DPM++ SDE", 11), ("LMS", 6), ("LCM", 6), ("DPM++ 2M", 6), ("TCD", 6), ("Euler CFG++", 6)],
        *[("DDIM", 6), ("DDIM CFG++", 6), ("PLMS", 7), ("UniPC", 7)],  # 1000 // 6 = 166: seven timesteps
        *[("DPM2", 11), ("DPM2 a", 11), ("DPM++ 2S a", 11), ("DPM++ 3M SDE", 6), ("IPNDM", 6), ("DEIS", 6)],
        *[("DPM fast", 6), ("HeunPP2", 15), ("Restart", 11)],
    ],
)
def test_network_calls_for_six_steps(name, calls):
    count = []
    run(name, 6, lambda x, sigma, call: count.append(call) or x * 0, lambda sigma, sigma_next: noise(1))
    assert len(count) == calls


SPREAD = 0.8  # standard deviation of Gaussian data, for which the best denoiser and the path of every x are known exactly


def gaussian_denoise(x, sigma, call):
    return x * (SPREAD**2 / (SPREAD**2 + float(sigma) ** 2))


def error(name, steps):
    """How far from the exact solution a sampler ends on `steps` even steps in log sigma, in float64."""
    sigmas = torch.exp(torch.linspace(math.log(10), math.log(0.1), steps + 1, dtype=torch.float64))
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    exact = math.sqrt((SPREAD**2 + 0.1**2) / (SPREAD**2 + 10**2))
    return abs(float(flow(name, x, sigmas, gaussian_denoise)) - exact)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        *[("Euler", 1), ("Euler CFG++", 1), ("DDIM CFG++", 1), ("Euler a", 1)],
        *[("Heun", 2), ("DPM2", 2), ("DPM2 a", 2), ("DPM++ 2S a", 2), ("DPM++ SDE", 2)],
        *[("DPM++ 2M", 2), ("DPM++ 2M SDE", 2), ("DPM++ 2M SDE Heun", 2), ("DPM++ 3M SDE", 2)],
        *[("LMS", 2), ("PLMS", 2), ("UniPC", 2), ("DEIS", 2)],
        *[("HeunPP2", 1), ("IPNDM", 1)],  # their weights are right for other levels than these
    ],
)
def test_error_falls_with_the_order_of_the_rule(name, order):
    # multistep rules begin with steps of low order, which hold the whole run's order down
    seen = math.log2(error(name, 80) / error(name, 160))
    assert seen > order - 0.45, seen


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_reach_the_exact_solution(name):
    assert error(name, 200) < 5e-3


@pytest.mark.parametrize(
    "name",
    [
        *("Euler a", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "DPM++ SDE", "DPM++ 2S a", "DPM2 a", "Restart"),
        *("DPM fast", "DDIM"),
    ],
)
def test_samplers_with_noise_end_in_the_distribution_of_the_data(name):
    generator = torch.Generator().manual_seed(0)
    sigmas = sigma_schedule(SCHEDULE, CHOICES["Euler"], "Karras", 180)
    if CHOICES[name].kind == "own":
        sigmas = sigmas[:-1]
    x = torch.randn(1, 1, 100, 100, generator=generator) * math.hypot(float(sigmas[0]), SPREAD)
    ended = last(SAMPLERS[name].sample(gaussian_denoise, x, sigmas, lambda s, s_next: torch.randn(x.shape, generator=generator)))
    assert float(ended.std()) == pytest.approx(SPREAD, rel=0.04)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_one_step_lands_on_something_finite(name):
    plan = make_plan(SCHEDULE, name, "Automatic", 1)
    assert plan.steps == 1
    ended = flow(name, plan.start(noise(), None), plan.sigmas)
    assert np.isfinite(ended.numpy()).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_takes_a_step_where_there_is_none(name):
    sampler = SAMPLERS[name]
    arguments = [lambda x, sigma, call: x.new_full(x.shape, math.nan), torch.ones(1, 4, 2, 2), torch.zeros(1)]
    arguments += [lambda sigma, sigma_next: torch.ones(1, 4, 2, 2)] if sampler.noise != "none" else []
    schedule = {"schedule": SCHEDULE} if sampler.on_timesteps else {}
    assert list(sampler.sample(*arguments, **sampler.options(SamplerOptions()), **schedule)) == []
