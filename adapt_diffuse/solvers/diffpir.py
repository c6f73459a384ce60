"""DiffPIR's proximal step in latents: every estimate becomes the most probable near it (after Zhu et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..fit import anchor_weight, fit_latent
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import State
from .decoupled import ChurnedSolver


@dataclass(frozen=True)
class LatentDiffPIR(ChurnedSolver):
    """``z* = argmin |y - A(D(z))|^2 / (2 noise_std^2) + trust |z - z0|^2 / (2 s^2)`` between denoising and renoising.

    s is the posterior's standard deviation at this level, see ``anchor_weight``.

    Differs from the paper's algorithm 1: behind a decoder the proximal step is a few conjugate gradients, which end at
    the noise; its s^2 is ``sigma^2 / (1 + sigma^2)`` instead of ``sigma^2``, so that high levels trust the prior;
    and what is put back is the noise that the denoiser found, not that between x and the fitted estimate, which few
    steps bear worse.

    Attributes:
        trust: weight of the model (lambda); above 1 the model counts more, below 1 the photo. Too large leaves the
            damage to the model's guess, too small fits the noise.
        churn: see ChurnedSolver; zeta, 0.3 in the paper.
        iterations: of conjugate gradients at every step.
        discrepancy: never fit closer than the noise.
    """

    trust: float = 1.0
    churn: float = 0.0
    iterations: int = 2
    discrepancy: bool = True

    def fit(self, state: State, z0: Tensor, sigma: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        weight = anchor_weight(measurement, sigma, self.trust)
        return fit_latent(prior, measurement, z0, weight, self.iterations, float(self.discrepancy))
