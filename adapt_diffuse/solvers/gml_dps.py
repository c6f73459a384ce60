"""GML-DPS, goodness-modified Latent-DPS: z0 should be a fixed point of the autoencoder (Rout et al. 2023, eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..guidance import Through, safe_norm
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import GuidedSolver


@dataclass(frozen=True)
class GMLDPS(GuidedSolver):
    """``x' -= k grad (eta |y' - A'(D(z0))| + gamma |z0 - E(D(z0))|)``; see ``GuidedSolver``.

    Attributes:
        eta: step size of the data term; the paper uses 2 and 3 for blur, 10 for missing pixels.
        gamma: weight of the fixed point; the paper uses 0.05. Too small is Latent-DPS, too large holds the latent
            where the autoencoder likes it and lets the photo go.
    """

    eta: float = 3.0
    gamma: float = 0.05
    through: Through = "denoiser"
    normalise: bool = True

    def penalty(self, z0: Tensor, image: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        return self.gamma * safe_norm(z0 - prior.guide.encode(image))
