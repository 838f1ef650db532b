"""No sampler waits for its device: latents without values (torch's "meta" device) go through whole runs, masks and guidance included.

Whatever would read a latent on the way (.item(), float(), bool(), .cpu(), numpy) fails there. DPM adaptive alone has to look, once a step.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from webui.core.choices import SAMPLERS as CHOICES
from webui.core.sampler_options import SamplerOptions
from webui.engine.conditioning import Scheduled
from webui.engine.denoiser import denoiser, keep_unmasked, lcm_denoiser, show_unmasked
from webui.engine.guidance import Guidance, guided
from webui.engine.model import alphas_cumprod
from webui.engine.samplers import SAMPLERS
from webui.engine.schedules import NoiseSchedule, make_plan
from webui.engine.text_encoding import Conditioning

SCHEDULE = NoiseSchedule.from_alphas(alphas_cumprod())
OPTIONS = SamplerOptions(s_churn=3.0, s_tmin=0.1, s_tmax=9.0, s_noise=1.01, eta=0.8, eta_ddim=0.5)  # so that every branch is walked
META = torch.device("meta")


def steps(name, denoise, x, plan, options=OPTIONS):
    row = SAMPLERS[name]
    extra = {"schedule": SCHEDULE} if row.on_timesteps else {}
    drawn = [lambda sigma, sigma_next: torch.randn_like(x)] if row.noise != "none" else []
    return row.sample(denoise, x, plan.sigmas, *drawn, **row.options(options), **extra)


def whole_denoise(name):
    """Network, guidance and mask on the meta device."""
    kind, row = CHOICES[name].kind, SAMPLERS[name]
    cond, uncond = (Scheduled(((10, Conditioning(torch.zeros(77, 8, device=META))),), weight) for weight in (0.7, 1.0))
    guidance = Guidance(7.0, rescale=0.5)
    predict = guided(lambda x, t, context: torch.tanh(x) + context.states.mean(), [cond, cond], uncond, guidance, 2, row.cfgpp)
    denoise = lcm_denoiser(predict, SCHEDULE.for_lcm(), "epsilon") if kind == "lcm" else denoiser(predict, SCHEDULE, "v_prediction")
    mask, init = torch.zeros(1, 1, 8, 8, device=META), torch.zeros(2, 4, 8, 8, device=META)
    return (show_unmasked if kind == "timestep" else keep_unmasked)(denoise, mask, init)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "DPM adaptive"])
def test_a_run_reads_no_latents(name):
    plan = make_plan(SCHEDULE, name, "Automatic", 24, None, OPTIONS)
    x = plan.start(torch.zeros(2, 4, 8, 8, device=META), None)
    *_, last = steps(name, whole_denoise(name), x, plan)
    assert plan.finish(last.x).device == META


def test_a_run_that_reads_its_latents_would_be_noticed():
    plan = make_plan(SCHEDULE, "Euler", "Automatic", 4)
    x = plan.start(torch.zeros(2, 4, 8, 8, device=META), None)
    for look in (lambda x: x.sum().item(), lambda x: bool(x.sum() > 0), lambda x: x.cpu()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            list(steps("Euler", lambda x, sigma, call, look=look: x * look(x), x, plan))


class Looks(TorchDispatchMode):
    """Counts how often a value is read that was made from the latents."""

    def __init__(self, x):
        super().__init__()
        self.made, self.count = {id(x): x}, 0  # the tensors are kept, so that no other gets their id

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(id(value) in self.made for value in args):
            self.count += func is torch.ops.aten._local_scalar_dense.default
            if isinstance(out, torch.Tensor):
                self.made[id(out)] = out
        return out


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_dpm_adaptive_looks_once_for_each_step_that_it_tries(eta):
    plan, calls = make_plan(SCHEDULE, "DPM adaptive", "Automatic", 8), []
    x = plan.start(torch.ones(1, 4, 8, 8), None)
    with Looks(x) as looks:
        list(steps("DPM adaptive", lambda x, sigma, call: calls.append(call) or torch.tanh(x), x, plan, SamplerOptions(eta=eta)))
    assert looks.count == len(calls) / 3


@pytest.mark.parametrize("name", ["Euler", "DPM++ 2M SDE", "UniPC", "DEIS"])
def test_the_counter_agrees_that_the_others_never_look(name):
    plan = make_plan(SCHEDULE, name, "Automatic", 8)
    x = plan.start(torch.ones(1, 4, 8, 8), None)
    with Looks(x) as looks:
        list(steps(name, lambda x, sigma, call: torch.tanh(x), x, plan, SamplerOptions()))
    assert looks.count == 0
