"""LatentDAPS: decoupled annealing posterior sampling (Zhang et al. 2025, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..degradation.base import in_float
from ..fit import anchor_weight, curvature, noise_floor, slope
from ..measurement import Measurement
from ..prior import LatentPrior, over_image
from .base import State, ddim_step
from .decoupled import ChurnedSolver


@dataclass(frozen=True)
class LatentDAPS(ChurnedSolver):
    """An estimate by the flow from x, Langevin dynamics from it towards the photo, and all noise drawn anew.

    The dynamics sample ``p(y | z) N(z; z0, s^2 / trust)``, s as in ``anchor_weight``.

    Differs from the paper: s is ``sigma / sqrt(1 + sigma^2)`` instead of sigma; a step is ``rate`` over the curvature
    of the logarithm, where the paper tunes one for each task; fewer steps of both kinds.

    Attributes:
        ode_steps: denoiser passes of an estimate; 1 is the posterior mean.
        iterations: Langevin steps, each a pass of the decoder and one backwards.
        rate: of a Langevin step, times the curvature; above 1 it diverges, far below it does not arrive.
        churn: see ChurnedSolver; 1 in the paper.
        trust: weight of the model; above 1 the model counts more, below 1 the photo.
    """

    ode_steps: int = 2
    iterations: int = 10
    rate: float = 0.2
    churn: float = 1.0
    trust: float = 1.0

    def fit(self, state: State, z0: Tensor, sigma: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        anchor = self.flow(state.x, z0, sigma, prior)
        weight = over_image(anchor_weight(measurement, sigma, self.trust), in_float(anchor))
        noise = over_image(noise_floor(measurement), weight)
        length, z = None, anchor
        for _ in range(self.iterations):
            residual, pull = slope(prior, measurement, z)
            if length is None:
                length = self.rate / (curvature(prior, measurement, z, residual, pull) + weight)
            heat = (2 * length).sqrt() * noise
            z = (z + length * (pull - weight * (z - anchor)) + heat * state.draw()).to(z)
        return z

    def flow(self, x: Tensor, z0: Tensor, sigma: Tensor, prior: LatentPrior) -> Tensor:
        """The end of the probability flow from ``x``, by ``ode_steps`` Euler steps to levels in equal ratios."""
        lowest = prior.sigmas[0].to(sigma)
        for left in range(self.ode_steps - 1, 0, -1):
            lower = lowest * (sigma / lowest) ** (left / (left + 1))
            x, sigma = ddim_step(x, z0, sigma, lower, torch.zeros_like(x), eta=0.0), lower
            z0 = prior.denoise(x, sigma)
        return z0
