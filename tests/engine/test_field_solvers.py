"""Schedule types, and the samplers and options that test_field.py leaves out, against tests/field_solvers.py on a small closed formula."""

import itertools
import math

import pytest
import torch

from tests import field_solvers as field
from tests.field import restart
from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import SCHEDULE_TYPES
from webui.core.sampler_options import SamplerOptions
from webui.engine.denoiser import denoiser, timestep_denoiser
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


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(("order", "steps"), [(1, 4), (2, 2), (2, 5), (3, 3), (3, 5), (3, 20), (4, 8)])
def test_unipc_of_varying_coefficients_integrates_its_polynomial_exactly(lower, order, steps):
    options = SamplerOptions(unipc_order=order, unipc_variant="vary_coeff", unipc_lower_order_final=lower)
    made, plan = ours("UniPC", "Automatic", steps, options)
    x = ImageNoise(SEEDS).first(SHAPE).double() * math.hypot(1, plan.sigmas[0])
    assert relative(made, field.unipc_exactly(x, denoised, plan.sigmas.tolist(), None, order, lower)) < 2e-5


@pytest.mark.parametrize("label", TYPES)
@pytest.mark.parametrize("steps", [10, 20, 21, 36])
def test_restart_draws_noise_for_its_restarts_alone(label, steps):
    """Whatever the last digit of the level is that its descent, laid anew, begins on."""
    made, plan = ours("Restart", label, steps)
    assert relative(made, theirs(restart, plan)) < 2e-5


@pytest.mark.parametrize("skip_type", ["time_uniform", "time_quadratic", "logSNR"])
def test_unipc_reads_v_of_a_whole_timestep_as_float32_cuts_it_off(skip_type):
    """img2img of 0.3 at 20 steps begins at timestep 251, which in parts of 1 and back is 250.99998: its v is read as one of 250."""
    plan = make_plan(SCHEDULE, "UniPC", "Automatic", 20, 0.3, SamplerOptions(unipc_skip_type=skip_type))
    row, x = SAMPLERS["UniPC"], ImageNoise(SEEDS).first(SHAPE) * plan.sigmas[0]
    *_, last = row.sample(
        timestep_denoiser(network, SCHEDULE, "v_prediction", plan.read_at), x, plan.sigmas, **row.options(SamplerOptions())
    )

    def theirs(first):
        def seen(x, sigma):
            t = field.time_of(sigma)
            read = float(field.SIGMAS[first if sigma == float(plan.sigmas[0]) else int(t + 1e-4)])
            unit = x / math.hypot(1, sigma)
            return x - sigma * (network(unit, t) + unit * read) / math.hypot(1, read)

        return field.unipc(x.double(), seen, plan.sigmas.tolist(), None)

    assert plan.sigmas[0] == SCHEDULE.sigmas[251]
    assert relative(last.x, theirs(250)) < 1e-5
    assert relative(last.x, theirs(251)) > 3e-5


@pytest.mark.parametrize(
    ("skip_type", "steps", "strength", "top", "read"),
    [
        ("time_uniform", 30, 0.4, 364, 364),
        ("time_quadratic", 30, 0.4, 364, 363),
        ("time_quadratic", 30, 0.7, 661, 660),
        ("logSNR", 30, 0.4, 364, 364),
        ("logSNR", 10, 0.2, 101, 100),
    ],
)
def test_what_float32_cuts_off_hangs_on_how_unipc_lays_its_timesteps(skip_type, steps, strength, top, read):
    plan = make_plan(SCHEDULE, "UniPC", "Automatic", steps, strength, SamplerOptions(unipc_skip_type=skip_type))
    assert float(plan.sigmas[0]) == pytest.approx(float(SCHEDULE.sigmas[top]), rel=1e-6)
    assert plan.read_at[0] == read


def pure_noise():
    """Zero-terminal SNR."""
    alphas = alphas_cumprod().float().sqrt()
    alphas = ((alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])) ** 2
    alphas[-1] = LEAST_SIGNAL
    return NoiseSchedule.from_alphas(alphas)


def beside_pure_noise(name, label, steps, solve):
    """(ours, what `solve` makes of it in float32), for v-prediction."""
    schedule = pure_noise()
    made, plan = ours(name, label, steps, schedule=schedule, prediction="v_prediction")

    def seen(x, sigma):
        guess = network(x / (sigma**2 + 1) ** 0.5, torch.tensor(schedule.t(sigma)))
        return x / (sigma**2 + 1) - guess * (sigma / (sigma**2 + 1) ** 0.5)

    x = ImageNoise(SEEDS).first(SHAPE) * plan.sigmas[0]
    assert float(plan.sigmas[0]) > 4000
    return made, solve(x, seen, list(plan.sigmas), None)


@pytest.mark.parametrize("label", ["Uniform", "Karras", "Simple"])
def test_next_to_pure_noise_heuns_rounding_is_the_fields(label):
    """From sigma 4518 another order of operations ends 7e-4 away."""
    assert relative(*beside_pure_noise("Heun", label, 5, field.heun_in_float32)) < 5e-5


@pytest.mark.parametrize("label", ["Beta", "Uniform", "Karras", "KL Optimal"])
@pytest.mark.parametrize("steps", [4, 5, 9])
def test_next_to_pure_noise_the_rounding_of_lms_is_the_fields(label, steps):
    """With exact distances of levels Beta ends 2e-4 away."""
    assert relative(*beside_pure_noise("LMS", label, steps, field.lms_in_float32)) < 5e-5


@pytest.mark.parametrize("name", ["DPM++ 2S a", "DPM++ SDE"])
def test_a_single_step_from_pure_noise_to_0_is_eulers_with_its_rounding(name):
    """The clean latents themselves are 2e-4 away."""

    def euler(x, seen, sigmas, noise):
        return x + (x - seen(x, sigmas[0])) / sigmas[0] * (sigmas[1] - sigmas[0])

    assert relative(*beside_pure_noise(name, "Uniform", 1, euler)) < 2e-5


@pytest.mark.parametrize(("name", "steps"), [("Euler", 150), ("LCM", 3), ("DPM fast", 150)])
def test_a_tail_of_more_steps_than_the_type_ddim_has_levels_takes_its_last_ones(name, steps):
    """Hires fix of strength 0.05: the tail of a schedule of twenty times as many steps."""
    plan = make_plan(SCHEDULE, name, "DDIM", steps, 0.05, exact=True)
    assert plan.steps == steps
    assert (plan.sigmas.diff() < 0).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_and_two_make_latents_with_every_schedule_type(name):
    row, init = SAMPLERS[name], torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels = ("Automatic", "KL Optimal") if name == "DPM adaptive" else SCHEDULE_TYPES  # it knows the ends only, and takes its time
    for label, steps, strength in itertools.product(labels, (1, 2), (None, 0.05, 0.5, 1.0)):
        for exact in {False, strength is not None}:
            plan = make_plan(SCHEDULE, name, label, steps, strength, exact=exact)
            noise = ImageNoise(SEEDS)
            x = plan.start(noise.first(SHAPE), None if strength is None else init)
            answer = denoiser(network, SCHEDULE, "epsilon")
            both = (lambda *call: torch.stack([answer(*call)] * 2)) if row.cfgpp else answer  # noqa: B023
            draw = [lambda *levels: noise.next(SHAPE)] if row.noise != "none" else []  # noqa: B023
            extra = {"schedule": SCHEDULE} if row.on_timesteps else {}
            for step in row.sample(both, x, plan.sigmas, *draw, **row.options(SamplerOptions()), **extra):
                x = step.x
            assert torch.isfinite(plan.finish(x)).all(), (label, steps, strength, exact)
