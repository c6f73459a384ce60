"""MPGD: the gradient of the data term moves the posterior mean itself (He et al. 2024, algorithm 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..guidance import descend_norm
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import State
from .decoupled import ChurnedSolver


@dataclass(frozen=True)
class MPGD(ChurnedSolver):
    """``z* = z0 - eta grad |y' - A'(D(z0))|``, then renoised. Nothing is differentiated but the decoder.

    Attributes:
        eta: step size, normalised to 256 px as that of Latent-DPS. Too small leaves the damage to the model's guess,
            too large fits the noise and, at last, diverges.
        churn: see ChurnedSolver.
    """

    eta: float = 6.0
    churn: float = 0.0

    def fit(self, state: State, z0: Tensor, sigma: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        return descend_norm(prior, measurement, z0, self.eta)
