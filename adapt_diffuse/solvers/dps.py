"""DPS: diffusion posterior sampling in pixel space (Chung et al. 2023, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import AdaptDiffuseError
from ..guidance import Through, data_gradient
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import Draw, guided_step


@dataclass(frozen=True)
class DPS:
    """``x' -= k eta grad |y' - A'(z0)|`` after an ancestral step: Latent-DPS whose latents are the pixels.

    Attributes:
        eta: step size; the paper uses 0.3 to 1.
        through: "denoiser" as published; "decoder" holds the posterior mean fixed.
        normalise: scale the update by ``sqrt(m / (3 * 256 * 256))``; False is the published form.
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
        height, width = measurement.image_size
        if x.shape[2] < height or x.shape[3] < width:
            raise AdaptDiffuseError("DPS is for models of pixels, and this one works on latents: take LDPS.")
        guidance = data_gradient(prior, measurement, x, sigma, self.through, self.eta)
        return guided_step(x, guidance, sigma, sigma_next, measurement, draw(), self.normalise), guidance.z0
