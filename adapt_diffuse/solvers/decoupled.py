"""What solvers share that denoise, fit the estimate to the photo, and put it back with noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ..guidance import Through
from ..measurement import Measurement
from ..prior import LatentPrior, over_image
from .base import State


class DecoupledSolver:
    """Denoise, ``fit``, renoise: the data term never sees the denoiser, and no gradient goes through it."""

    @property
    def through(self) -> Through:
        return "decoder"

    def fit(self, state: State, z0: Tensor, sigma: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        """The posterior mean z0 (B, C, h, w) of ``sigma`` (B,), moved towards the photo."""
        raise NotImplementedError

    def churn_at(self, sigma: Tensor) -> Tensor:
        """How much of the noise (of its variance) is drawn anew when a fitted estimate goes back to ``sigma``, (B,).

        0 keeps the noise that the denoiser found, which is deterministic, 1 forgets it.
        """
        raise NotImplementedError

    @torch.no_grad()
    def step(
        self, state: State, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement
    ) -> tuple[Tensor, Tensor]:
        z0 = prior.denoise(state.x, sigma)
        fitted = self.fit(state, z0, sigma, prior, measurement)
        found = (state.x - z0) / over_image(sigma, z0)
        return renoise(fitted, found, state.draw(), sigma_next, self.churn_at(sigma_next)), fitted


class ChurnedSolver(DecoupledSolver):
    """A decoupled solver that draws the same share of the noise anew at every level.

    Attributes:
        churn: that share, see ``churn_at``.
    """

    churn: float

    def churn_at(self, sigma: Tensor) -> Tensor:
        return torch.full_like(sigma, self.churn)


def renoise(z0: Tensor, found: Tensor, fresh: Tensor, sigma: Tensor, churn: Tensor) -> Tensor:
    """``z0 + sigma (sqrt(1 - churn) found + sqrt(churn) fresh)``; ``sigma`` and ``churn`` are (B,)."""
    mixed = over_image((1 - churn).sqrt(), z0) * found + over_image(churn.sqrt(), z0) * fresh
    return z0 + over_image(sigma, z0) * mixed
