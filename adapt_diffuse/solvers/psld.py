"""PSLD, posterior sampling with latent diffusion: what the photo tells is glued in (Rout et al. 2023, eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..degradation.base import require_linear
from ..guidance import Through, safe_norm
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import GuidedSolver


@dataclass(frozen=True)
class PSLD(GuidedSolver):
    """``x' -= k grad (eta |y' - A'(D(z0))| + gamma |z0 - E(A^T y + (I - A^T A) D(z0))|)``; see ``GuidedSolver``.

    For linear degradations only.

    Attributes:
        eta: step size of the data term; the paper uses 2 for blur, 10 for missing pixels.
        gamma: weight of the gluing; the paper uses 0.1 and 0.2 for blur, 0.5 for missing pixels.
    """

    eta: float = 2.0
    gamma: float = 0.2
    through: Through = "denoiser"
    normalise: bool = True

    def penalty(self, z0: Tensor, image: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        return self.gamma * safe_norm(z0 - prior.guide.encode(glued(image, measurement)))


def glued(image: Tensor, measurement: Measurement) -> Tensor:
    """``A^T y + (I - A^T A) image``, (B, 3, H, W) on [0, 1]; padding beyond the photo stays as it is."""
    correction = require_linear(measurement.degradation, "PSLD").adjoint(measurement.residual(image))
    extra = (image.shape[3] - correction.shape[3], image.shape[2] - correction.shape[2])
    return image + F.pad(correction, (0, extra[0], 0, extra[1]))
