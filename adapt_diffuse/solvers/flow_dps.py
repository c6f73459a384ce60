"""FlowDPS: posterior sampling for flow models (Kim, Kim and Ye 2025, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..guidance import descend_norm
from ..measurement import Measurement
from ..prior import LatentPrior, over_image
from .base import State
from .decoupled import DecoupledSolver


@dataclass(frozen=True)
class FlowDPS(DecoupledSolver):
    """``z* = (1 - t) z0 + t fit(z0)`` with the flow's time ``t = sigma / (1 + sigma)``, then renoised.

    At the next time t' the share ``1 - t'`` of the noise is new: the later, the more. The paper's norm is behind A^T;
    here it is the residual's own, so that damage need not be linear. In these coordinates it runs on any model.

    Attributes:
        eta: step size of one gradient, normalised to 256 px as that of Latent-DPS.
        iterations: gradients per step; 3 in the paper.
    """

    eta: float = 6.0
    iterations: int = 3

    def fit(self, state: State, z0: Tensor, sigma: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        fitted = z0
        for _ in range(self.iterations):
            fitted = descend_norm(prior, measurement, fitted, self.eta)
        return z0 + over_image(sigma / (1 + sigma), z0) * (fitted - z0)

    def churn_at(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)
