"""Latent-DPS: diffusion posterior sampling with the data term behind the decoder (Rout et al. 2023, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

from ..guidance import Through
from .base import GuidedSolver


@dataclass(frozen=True)
class LDPS(GuidedSolver):
    """``x' -= k eta grad |y' - A'(D(z0))|`` after an ancestral step; see ``GuidedSolver``.

    Attributes:
        eta: step size; the paper uses 1 (varying blur) to 7 (missing pixels). Too small leaves the photo's damage
            to the prior's guess, too large fits the noise and, at last, diverges.
    """

    eta: float = 1.0
    through: Through = "denoiser"
    normalise: bool = True
