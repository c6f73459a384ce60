"""GML-DPS, goodness-modified Latent-DPS: z0 should be a fixed point of the autoencoder (Rout et al. 2023, eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..guidance import Through, data_gradient, safe_norm
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import Draw, guided_step


@dataclass(frozen=True)
class GMLDPS:
    """``x' -= k grad (eta |y' - A'(D(z0))| + gamma |z0 - E(D(z0))|)`` after an ancestral step.

    Attributes:
        eta: step size of the data term; the paper uses 2 and 3 for blur, 10 for missing pixels.
        gamma: weight of the fixed point; the paper uses 0.05. Too small is Latent-DPS, too large holds the latent
            where the autoencoder likes it and lets the photo go.
        through: "denoiser" as published; "decoder" holds the posterior mean fixed.
        normalise: scale the update by ``sqrt(m / (3 * 256 * 256))``; False is the published form.
    """

    eta: float = 3.0
    gamma: float = 0.05
    through: Through = "denoiser"
    normalise: bool = True

    def step(
        self,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        prior: LatentPrior,
        measurement: Measurement,
        draw: Draw,
        left: int,
    ) -> tuple[Tensor, Tensor]:
        def off_the_manifold(z0: Tensor, image: Tensor) -> Tensor:
            return self.gamma * safe_norm(z0 - prior.encode(image))

        guidance = data_gradient(prior, measurement, x, sigma, self.through, self.eta, off_the_manifold)
        return guided_step(x, guidance, sigma, sigma_next, measurement, draw(), self.normalise), guidance.z0
