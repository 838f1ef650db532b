"""Schedule types, and the samplers and options that test_field.py leaves out, against tests/field_solvers.py on a small closed formula."""

import math

import pytest
import torch

from tests import field_solvers as field
from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import SCHEDULE_TYPES
from webui.core.sampler_options import SamplerOptions
from webui.engine.denoiser import denoiser
from webui.engine.model import alphas_cumprod
from webui.engine.rng import ImageNoise
from webui.engine.samplers import SAMPLERS
from webui.engine.schedules import LEAST_SIGNAL, NoiseSchedule, make_plan, sigma_schedule

SCHEDULE = NoiseSchedule.from_alphas(alphas_cumprod())
SHAPE = (4, 6, 5)
SEEDS = [7, 8]
MIX = torch.linspace(-0.6, 0.8, 16).reshape(4, 4)
TYPES = [label for label in SCHEDULE_TYPES if label != "Automatic"]
STEPS = (1, 2, 3, 5, 11, 20, 30, 50, 150)


def network(x, t, call=0):
    """Neither linear nor stationary. x: of unit variance."""
    bent = torch.einsum("ij,bjhw->bihw", MIX.to(x.dtype), torch.tanh(x))
    return 0.7 * x + 0.3 * torch.sin(2 * bent + 0.004 * t)


def denoised(x, sigma):
    sigma = float(sigma)
    return x - sigma * network(x / math.hypot(1, sigma), field.time_of(sigma))


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def ours(name, label, steps, options=SamplerOptions(), schedule=SCHEDULE, prediction="epsilon"):
    """Of a batch of two; (final latents, plan)."""
    plan, row, noise = make_plan(schedule, name, label, steps, None, options), SAMPLERS[name], ImageNoise(SEEDS)
    x = plan.start(noise.first(SHAPE), None)
    draw = [lambda sigma, sigma_next: noise.next(SHAPE)] if row.noise != "none" else []
    *_, last = row.sample(denoiser(network, schedule, prediction), x, plan.sigmas, *draw, **row.options(options))
    return last.x, plan


def theirs(solve, plan, **options):
    """The same noise, in float64."""
    noise = ImageNoise(SEEDS)
    x = noise.first(SHAPE).double() * plan.noised_to
    return solve(x, denoised, plan.sigmas.tolist(), lambda *_: noise.next(SHAPE).double(), **options)


def close(made, expected):
    assert len(made) == len(expected)
    torch.testing.assert_close(made, torch.tensor(expected, dtype=torch.float64).float(), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("label", TYPES)
@pytest.mark.parametrize("steps", STEPS)
def test_levels_of_a_schedule_type_are_the_fields(label, steps):
    close(make_plan(SCHEDULE, "Euler", label, steps).sigmas, field.levels(label, steps))


@pytest.mark.parametrize("name", [name for name in CHOICES if CHOICES[name].kind == "sigma"])
@pytest.mark.parametrize("label", SCHEDULE_TYPES)
def test_every_sampler_discards_what_the_field_does(name, label):
    for steps in (2, 7):
        close(make_plan(SCHEDULE, name, label, steps).sigmas, field.own_levels(name, label, steps))
        option = SamplerOptions(discard_penultimate_sigma=True)
        close(make_plan(SCHEDULE, name, label, steps, None, option).sigmas, field.own_levels(name, label, steps, discard=True))


@pytest.mark.parametrize("label", TYPES)
@pytest.mark.parametrize("steps", [2, 9])
def test_ends_rho_and_beta_move_levels_as_in_the_field(label, steps):
    options = SamplerOptions(sigma_min=0.1, sigma_max=10.0, rho=5.0, beta_alpha=0.8, beta_beta=0.4)
    made = sigma_schedule(SCHEDULE, CHOICES["Euler"], label, steps, options)
    close(made, field.levels(label, steps, low=0.1, high=10.0, rho=5.0, ab=(0.8, 0.4)))


@pytest.mark.parametrize(("name", "solve"), [("HeunPP2", field.heunpp2), ("IPNDM", field.ipndm), ("DEIS", field.deis)])
@pytest.mark.parametrize("label", ["Uniform", "Karras", "Exponential", "KL Optimal", "Simple"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 12])
def test_samplers_of_other_programs_are_as_their_papers_say(name, solve, label, steps):
    made, plan = ours(name, label, steps)
    assert relative(made, theirs(solve, plan)) < 2e-5


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("skip_type", ["time_uniform", "time_quadratic", "logSNR"])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(("order", "steps"), [(1, 4), (2, 5), (3, 5), (3, 20), (4, 4), (5, 8)])
def test_unipc_rises_to_its_order_before_it_is_lowered(variant, skip_type, lower, order, steps):
    options = SamplerOptions(unipc_order=order, unipc_variant=variant, unipc_skip_type=skip_type, unipc_lower_order_final=lower)
    plan = make_plan(SCHEDULE, "UniPC", "Automatic", steps, None, options)
    x = ImageNoise(SEEDS).first(SHAPE)
    *_, last = SAMPLERS["UniPC"].sample(denoiser(network, SCHEDULE, "epsilon"), x, plan.sigmas, **SAMPLERS["UniPC"].options(options))
    expected = field.unipc(x.double(), denoised, plan.sigmas.tolist(), None, order, variant == "bh2", lower)
    assert relative(last.x, expected) < 5e-5


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 20])
@pytest.mark.parametrize("options", [SamplerOptions(), SamplerOptions(eta=0.4, s_noise=1.1), SamplerOptions(eta=0)])
def test_dpm_fast_is_the_fields_at_any_number_of_calls(steps, options):
    made, plan = ours("DPM fast", "Automatic", steps, options)
    assert relative(made, theirs(field.dpm_fast, plan, calls=steps, eta=options.eta, s_noise=options.s_noise)) < 2e-5


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_dpm_adaptive_takes_the_fields_steps(eta):
    made, plan = ours("DPM adaptive", "Karras", 9, SamplerOptions(eta=eta))
    assert relative(made, theirs(field.dpm_adaptive, plan, eta=eta)) < 2e-4


@pytest.mark.parametrize("options", [SamplerOptions(eta=eta, s_noise=0.9) for eta in (0.0, 0.5, 1.0, 1.2, 2.0)])
@pytest.mark.parametrize("label", ["Karras", "Normal"])
def test_dpm2_a_puts_no_noise_on_after_a_step_down_to_0(options, label):
    made, plan = ours("DPM2 a", label, 9, options)
    assert relative(made, theirs(field.dpm_2_a, plan, eta=options.eta, s_noise=options.s_noise)) < 2e-5


@pytest.mark.parametrize("label", ["Uniform", "Karras", "Simple"])
def test_next_to_pure_noise_heuns_rounding_is_the_fields(label):
    """Zero-terminal SNR: from sigma 4518 another order of operations ends 7e-4 away."""
    alphas = alphas_cumprod().float().sqrt()
    alphas = ((alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])) ** 2
    alphas[-1] = LEAST_SIGNAL
    schedule = NoiseSchedule.from_alphas(alphas)
    made, plan = ours("Heun", label, 5, schedule=schedule, prediction="v_prediction")

    def seen(x, sigma):
        guess = network(x / (sigma**2 + 1) ** 0.5, torch.tensor(schedule.t(sigma)))
        return x / (sigma**2 + 1) - guess * (sigma / (sigma**2 + 1) ** 0.5)

    x = ImageNoise(SEEDS).first(SHAPE) * plan.sigmas[0]
    assert float(plan.sigmas[0]) > 4000
    assert relative(made, field.heun_in_float32(x, seen, list(plan.sigmas), None)) < 5e-5
