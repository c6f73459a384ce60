"""DCDP: data fit and diffusion purification in turn, from a falling level (Li et al. 2024, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..fit import fit_latent
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import State
from .decoupled import ChurnedSolver


@dataclass(frozen=True)
class DCDP(ChurnedSolver):
    """The estimate is fitted to the photo alone, as far as its noise allows, and then purified: noised and denoised.

    Differs from the paper, which takes a fixed number of gradients: conjugate ones, which end at the noise.

    Attributes:
        iterations: of a fit, see ``fit_latent``; it ends at the noise. Too few leave the damage, many fit artefacts
            that the purification must remove.
        churn: see ChurnedSolver; 1 in the paper.
        tau: a fit ends at so many times the noise. Too small fits the noise, too large leaves the damage.
    """

    iterations: int = 5
    churn: float = 1.0
    tau: float = 1.0

    def fit(self, state: State, z0: Tensor, sigma: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        return fit_latent(prior, measurement, z0, sigma.new_zeros(len(z0)), self.iterations, self.tau)
