"""DPS: diffusion posterior sampling in pixel space (Chung et al. 2023, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import AdaptDiffuseError
from ..guidance import Through
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import GuidedSolver, State


@dataclass(frozen=True)
class DPS(GuidedSolver):
    """``x' -= k eta grad |y' - A'(z0)|``: Latent-DPS whose latents are the pixels; see ``GuidedSolver``.

    Attributes:
        eta: step size; the paper uses 0.3 to 1.
    """

    eta: float = 1.0
    through: Through = "denoiser"
    normalise: bool = True

    def step(
        self, state: State, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement
    ) -> tuple[Tensor, Tensor]:
        height, width = measurement.image_size
        if state.x.shape[2] < height or state.x.shape[3] < width:
            raise AdaptDiffuseError("DPS is for models of pixels, and this one works on latents: take LDPS.")
        return super().step(state, sigma, sigma_next, prior, measurement)
