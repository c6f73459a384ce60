"""ReSample: every few steps the estimate is fitted to the photo and noised again (Song et al. 2024, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..degradation.base import in_float
from ..degradation.prox import look_every
from ..fit import contrast, noise_floor
from ..guidance import Through
from ..measurement import Measurement
from ..prior import LatentPrior, over_image, timestep_of
from .base import State, ddim_step

# of 1000 training levels: above the first no fit, below the second in latents, between them in pixels
PIXELS_BELOW, LATENTS_BELOW = 750, 300


@dataclass(frozen=True)
class ReSample:
    """DDIM steps; every tenth fits ``z* = argmin |y' - A'(D(z))|^2 + w |z - z0|^2`` and puts it back with noise.

    The proximal weight ``w = proximal sigma_y^2 (1 + sigma^2) / sigma^2`` makes z* the most probable z under a
    Gaussian of variance ``sigma^2 / (1 + sigma^2)`` around the posterior mean; a fit in pixels has it over the squared
    contrast of the image, see LATINO. The released code's proximal term is always zero, since its anchor moves with
    the variable. The last step gives the clean z* back.

    Attributes:
        gamma: how far a fit pulls x (gamma_r); the paper uses 200 to 2000. Too small forgets the fit, too large the
            steps before it.
        proximal: 1 weighs prior and photo as above, 0 fits the photo alone.
        every: a fit at every so many steps, counted from the last one.
        iterations: of Adam in a fit, at most; it ends when the mean squared residual is the noise's variance.
        learning_rate: of Adam.
        eta_ddim: noise of the steps between, 0 to 1.
    """

    gamma: float = 400.0
    proximal: float = 1.0
    every: int = 10
    iterations: int = 100
    learning_rate: float = 0.1
    eta_ddim: float = 1.0

    @property
    def through(self) -> Through:
        return "decoder"

    def step(
        self, state: State, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            z0 = prior.denoise(state.x, sigma)
        moved = ddim_step(state.x, z0, sigma, sigma_next, state.draw(), self.eta_ddim)
        if state.left % self.every:
            return moved, z0
        noise = state.draw()
        timesteps = timestep_of(sigma, prior.sigmas) * 1000 / len(prior.sigmas)
        moved, z0 = moved.clone(), z0.clone()
        for index in torch.nonzero(timesteps <= PIXELS_BELOW).flatten():
            one = slice(int(index), int(index) + 1)
            in_pixels = float(timesteps[index]) > LATENTS_BELOW
            z0[one] = self.fit(prior, measurement.select(index[None]), z0[one], float(sigma[index]), in_pixels)
            moved[one] = stochastic_resample(z0[one], moved[one], sigma[one], sigma_next[one], noise[one], self.gamma)
        return moved, z0

    def fit(
        self, prior: LatentPrior, measurement: Measurement, z0: Tensor, sigma: float, in_pixels: bool = False
    ) -> Tensor:
        """z* (1, C, h, w) of one image, from ``z0``: fitted as latent, or as image that is then encoded."""
        noise = (2 * float(noise_floor(measurement))) ** 2  # variance on [-1, 1] images
        weight = self.proximal * noise * (1 + sigma**2) / sigma**2
        enough = noise * float(measurement.count())
        start = z0
        if in_pixels:
            with torch.no_grad():
                start = prior.decode(z0) * 2 - 1
            weight /= float(contrast(start, z0)) ** 2
        fitted = self._descend(
            start, lambda v: measurement.residual((v + 1) / 2 if in_pixels else prior.guide.decode(v)), weight, enough
        )
        with torch.no_grad():
            return prior.encode((fitted + 1) / 2) if in_pixels else fitted

    def _descend(self, start: Tensor, residual: Callable[[Tensor], Tensor], weight: float, enough: float) -> Tensor:
        variable = in_float(start.detach()).clone().requires_grad_()  # Adam's epsilon is 0 in half precision
        optimizer = torch.optim.Adam([variable], lr=self.learning_rate)
        done, look = torch.zeros((), dtype=torch.bool, device=start.device), look_every(start.device)
        with torch.enable_grad():
            for iteration in range(self.iterations):
                misfit = (2 * in_float(residual(variable.to(start)))).square().sum()
                done = done | (misfit.detach() <= enough)
                if iteration % look == 0 and bool(done):
                    break
                loss = misfit + weight * (variable - start).square().sum()
                (variable.grad,) = torch.autograd.grad(loss, variable)
                last = variable.detach().clone()
                optimizer.step()
                with torch.no_grad():  # until the next look
                    variable.copy_(torch.where(done, last, variable))
        return variable.detach().to(start)


def stochastic_resample(
    fitted: Tensor, x_next: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Tensor, gamma: float
) -> Tensor:
    """The fitted latent with noise, weighed against the step's own ``x_next`` (Song et al. 2024, eq. 11).

    As in the code of Fabian et al. the signal's level is that of ``sigma``, where Song et al. have ``sigma_next``'s.
    Between levels that lie close, as ReSample's 500 do, both are the same to some percent; between few levels the
    result has more noise than ``sigma_next``. Their alphas are of neighbouring training levels, too, so that their
    gamma is not ours.

    Where ``sigma_next`` is 0 it is the fitted latent: nothing of the noise is left.
    """
    s, s_next = (over_image(level, in_float(fitted)) for level in (sigma, sigma_next))
    variance = gamma * s_next**2 * (s**2 - s_next**2) / (1 + s_next**2)
    abar = 1 / (1 + s**2)
    total = variance + 1 - abar
    z_next = x_next / (1 + s_next**2).sqrt()
    mean = (variance * abar.sqrt() * fitted + (1 - abar) * z_next) / total
    z = mean + (variance * (1 - abar) / total).sqrt() * noise
    return torch.where(s_next > 0, z * (1 + s_next**2).sqrt(), fitted).to(fitted)
