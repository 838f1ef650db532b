import math

import pytest
import torch

from webui.engine.denoiser import denoiser, held_back, keep_unmasked, lcm_denoiser, show_unmasked, timestep_denoiser, unet_network
from webui.engine.guidance import Context
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


@pytest.mark.parametrize("t", [801.0, 599.4])
def test_timestep_samplers_read_a_v_by_the_trained_timestep_below(t):
    sigma = SCHEDULE.sigma(torch.tensor(t))
    x, v = torch.randn(2, 1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    signal = float(1 / (1 + SCHEDULE.sigmas[int(t)] ** 2))  # alpha_bar
    noise = signal**0.5 * v + (1 - signal) ** 0.5 * x
    length = float((1 + sigma**2) ** 0.5)
    made = timestep_denoiser(lambda seen, t, call: v, SCHEDULE, "v_prediction")(x * length, sigma, 0)
    assert torch.allclose(made, x * length - sigma * noise, atol=1e-5)


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


@pytest.mark.parametrize(("t", "free"), [(999.0, [5]), (600.0, [5]), (590.0, [4, 5]), (200.0, [3, 4, 5])])
def test_cells_held_back_are_kept_until_the_noise_has_fallen_to_their_share(t, free):
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 3:] = 1
    free_at = torch.tensor([0.1, 0.1, 0.1, 0.4, 0.6, 1.0]).expand(1, 1, 6, 6)
    init = torch.full_like(CLEAN, 5.0)
    denoise = held_back(lambda mask: keep_unmasked(lambda x, sigma, call: x * 0, mask, init), mask, free_at, SCHEDULE)
    kept = denoise(CLEAN, SCHEDULE.sigma(torch.tensor(t)), 0)
    assert [column for column in range(6) if not kept[..., column].any()] == free


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


class Unet:
    """Remembers how it was asked."""

    dtype = torch.float16

    def __call__(self, x, timestep, **given):
        self.x, self.timestep, self.given = x, timestep, given
        return (x[:, :4],)


def test_the_unet_is_asked_in_its_own_number_type_at_the_very_timestep():
    unet, states = Unet(), torch.zeros(1, 77, 2)
    answer = unet_network(unet)(CLEAN, 749.25, Context(states))
    assert (unet.x.dtype, answer.dtype, float(unet.timestep)) == (torch.float16, torch.float32, 749.25)
    assert unet.given["encoder_hidden_states"] is states
    assert unet.given["added_cond_kwargs"] is None


def test_sdxls_unet_is_told_pooled_states_and_sizes():
    unet = Unet()
    context = Context(torch.zeros(1, 77, 2), pooled=torch.ones(1, 3), sizes=torch.ones(1, 6))
    unet_network(unet)(CLEAN, 10.0, context)
    assert unet.given["added_cond_kwargs"] == {"text_embeds": context.pooled, "time_ids": context.sizes}


@pytest.mark.parametrize("rows", [1, 2])
def test_an_inpainting_unet_is_shown_the_same_with_and_without_the_prompt(rows):
    """Two pictures, with their prompt and then without it: the latents are followed by mask and masked picture, each by its own."""
    unet = Unet()
    shown = torch.arange(rows * 5 * 36, dtype=torch.float32).reshape(rows, 5, 6, 6)
    unet_network(unet, shown)(CLEAN.expand(4, -1, -1, -1), 10.0, Context(torch.zeros(4, 77, 2)))
    assert unet.x.shape == (4, 9, 6, 6)
    for row in range(4):
        torch.testing.assert_close(unet.x[row, 4:].float(), shown[row % rows])
