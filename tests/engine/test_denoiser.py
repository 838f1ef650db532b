import math

import pytest
import torch

from webui.engine.denoiser import denoiser, keep_unmasked, lcm_denoiser, show_unmasked
from webui.engine.model import alphas_cumprod
from webui.engine.schedules import NoiseSchedule

SCHEDULE = NoiseSchedule.from_alphas(alphas_cumprod())
GENERATOR = torch.Generator().manual_seed(0)
CLEAN, NOISE = (torch.randn(1, 4, 6, 6, generator=GENERATOR) for _ in range(2))
MASK = torch.zeros(1, 1, 6, 6)
MASK[..., :3] = 1


@pytest.mark.parametrize("sigma", [0.03, 0.7, 14.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_network_that_knows_the_noise_gives_back_the_clean_latents(sigma, prediction_type):
    signal, spread = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    answer = NOISE if prediction_type == "epsilon" else NOISE * signal - CLEAN * spread  # v, arXiv:2202.00512

    def predict(x, t, call):
        torch.testing.assert_close(x, CLEAN * signal + NOISE * spread)
        assert pytest.approx(SCHEDULE.t(torch.tensor(sigma))) == t
        return answer

    denoised = denoiser(predict, SCHEDULE, prediction_type)(CLEAN + sigma * NOISE, torch.tensor(sigma), 0)
    torch.testing.assert_close(denoised, CLEAN, rtol=0, atol=2e-5)


def test_lcm_asks_at_trained_timesteps_only():
    asked = []
    denoise = lcm_denoiser(lambda x, t, call: asked.append(t) or NOISE, SCHEDULE.for_lcm(), "epsilon")
    denoise(CLEAN + 0.7 * NOISE, torch.tensor(0.7), 0)
    assert asked[0] % 20 == 19


def test_kept_latents_are_the_init_latents_outside_the_mask():
    init = torch.full_like(CLEAN, 5.0)
    kept = keep_unmasked(lambda x, sigma, call: x * 2, MASK, init)(CLEAN, torch.tensor(1.0), 0)
    torch.testing.assert_close(kept[..., :3], CLEAN[..., :3] * 2)
    assert bool((kept[..., 3:] == 5).all())


def test_shown_latents_are_clean_outside_the_mask_in_unit_variance():
    sigma, seen = torch.tensor(2.0), []
    x = CLEAN + 2 * NOISE

    def denoise(given, level, call):
        seen.append(given)
        return given - 2 * NOISE

    out = show_unmasked(denoise, MASK, CLEAN)(x, sigma, 0)
    torch.testing.assert_close(seen[0][..., :3], x[..., :3])
    torch.testing.assert_close(seen[0][..., 3:] / math.hypot(1, 2), CLEAN[..., 3:])
    torch.testing.assert_close(out, x - 2 * NOISE)  # the noise that was found is taken from the true x
