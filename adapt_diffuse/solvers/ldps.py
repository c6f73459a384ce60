"""Latent-DPS: diffusion posterior sampling with the data term behind the decoder (Rout et al. 2023, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..guidance import Through, data_gradient, size_factor
from ..measurement import Measurement
from ..prior import LatentPrior, over_image
from .base import ancestral_step


@dataclass(frozen=True)
class LDPS:
    """``x' -= eta k grad |y' - A'(D(z0))|`` after an ancestral step, ``k = sqrt((1 + sigma^2)(1 + sigma_next^2))``.

    k makes eta the step size of the paper's variance-preserving form.

    Attributes:
        eta: step size; the paper uses 1 (varying blur) to 7 (missing pixels). Too small leaves the photo's damage
            to the prior's guess, too large fits the noise and, at last, diverges.
        through: "denoiser" as published; "decoder" holds the posterior mean fixed, at about half the cost.
        normalise: scale eta by ``sqrt(m / (3 * 256 * 256))``, so that it means the same at every size; False is the
            published form.
    """

    eta: float = 1.0
    through: Through = "denoiser"
    normalise: bool = True

    def step(
        self, x: Tensor, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        guidance = data_gradient(prior, measurement, x, sigma, self.through)
        k = ((1 + sigma**2) * (1 + sigma_next**2)).sqrt()
        if self.normalise:
            k = k * size_factor(measurement).to(k)
        moved = ancestral_step(x, guidance.z0, sigma, sigma_next, noise)
        return moved - self.eta * over_image(k, x) * guidance.gradient, guidance.z0
