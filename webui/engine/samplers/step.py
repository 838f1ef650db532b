"""What all samplers share: the step they yield, and the arithmetic of going down and up between noise levels."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from torch import Tensor, lerp, minimum

from webui.engine.denoiser import Denoise

Noise = Callable[[Tensor, Tensor], Tensor]
Steps = Generator["Step", None, None]
__all__ = ["Churn", "Denoise", "Noise", "Step", "Steps", "along", "ancestral_levels", "slope", "towards"]


@dataclass(frozen=True)
class Step:
    """Step `index` is done: x is what it led to, denoised the clean latents that the network saw on the way.

    index: of the level that x has come down to, so that the last is len(sigmas) - 2; a sampler that lays its own levels may leave some out.
    """

    index: int
    x: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class Churn:
    """Noise put on before a step, which then begins higher: Karras et al. 2022 (arXiv:2206.00364), Algorithm 2.

    s_tmin, s_tmax: the levels between which it is put on; s_tmax 0: no upper limit.
    """

    noise: Noise | None
    steps: int
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = 0.0
    s_noise: float = 1.0

    def __call__(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(x, sigma) from which the step goes on."""
        if not self.s_churn or self.noise is None:
            return x, sigma
        noise = self.noise(sigma, sigma)  # drawn at every step, used or not, as the field's noise is
        if sigma < self.s_tmin or (self.s_tmax and sigma > self.s_tmax):
            return x, sigma
        raised = sigma * (1 + min(self.s_churn / self.steps, 2**0.5 - 1))
        return x + noise * (self.s_noise * (raised**2 - sigma**2).sqrt()), raised


def towards(x: Tensor, denoised: Tensor, left: Tensor) -> Tensor:
    """x moved along the straight line to `denoised` until the part `left` of its noise is left: the exact step for a fixed `denoised`."""
    return lerp(denoised, x, left.item())


def slope(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """dx/dsigma at sigma: Karras et al. 2022 (arXiv:2206.00364), Algorithm 1."""
    return (x - denoised) / sigma


def along(x: Tensor, slope: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """x moved along `slope` from sigma to sigma_next.

    In the field's order of operations: next to pure noise (zero-terminal SNR, sigma 4518) its rounding shows in the fourth digit.
    """
    return x + slope * (sigma_next - sigma)


def ancestral_levels(sigma: Tensor, sigma_next: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """(down, up) with down^2 + up^2 = sigma_next^2: where to step to, and how much new noise brings it back.

    Song et al. 2020 (arXiv:2010.02502), equation 16, in latents of growing variance; eta 0: no new noise, 1: as much as DDPM.
    """
    up = minimum(sigma_next, eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt())
    return (sigma_next**2 - up**2).sqrt(), up
