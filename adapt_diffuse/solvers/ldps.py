"""Latent-DPS: diffusion posterior sampling with the data term behind the decoder (Rout et al. 2023, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..guidance import Through, data_gradient
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import Draw, guided_step


@dataclass(frozen=True)
class LDPS:
    """``x' -= k eta grad |y' - A'(D(z0))|`` after an ancestral step.

    Attributes:
        eta: step size; the paper uses 1 (varying blur) to 7 (missing pixels). Too small leaves the photo's damage
            to the prior's guess, too large fits the noise and, at last, diverges.
        through: "denoiser" as published; "decoder" holds the posterior mean fixed, at about half the cost.
        normalise: scale the update by ``sqrt(m / (3 * 256 * 256))``, so that eta means the same at every size; False
            is the published form.
    """

    eta: float = 1.0
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
        guidance = data_gradient(prior, measurement, x, sigma, self.through, self.eta)
        return guided_step(x, guidance, sigma, sigma_next, measurement, draw(), self.normalise), guidance.z0
