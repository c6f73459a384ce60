"""What a severity encoder learns: the clean latent, and the size of its own error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

LossName = Literal["nll", "paper"]


@dataclass(frozen=True)
class LossTerms:
    """Per-image terms, (B,) each: mean squared error of z_hat, the sigma term, and the target variance v."""

    reconstruction: Tensor
    sigma: Tensor
    variance: Tensor


def error_variance(z_hat: Tensor, z0: Tensor) -> Tensor:
    """The target of the severity: unbiased sample variance (B,) of the error over all latent entries of an image."""
    return (z_hat - z0).flatten(1).var(1, unbiased=True)


def paper_terms(z_hat: Tensor, variance_hat: Tensor, z0: Tensor) -> LossTerms:
    """The published loss: ``|e|^2 / d`` and ``(v - sigma_hat^2)^2``, v not detached (Fabian et al. 2024, eq. 4)."""
    variance = error_variance(z_hat, z0)
    return LossTerms(_mean_square(z_hat - z0), (variance - variance_hat).square(), variance)


def nll_terms(z_hat: Tensor, sigma_hat: Tensor, z0: Tensor) -> LossTerms:
    """Squared error for z_hat, and for sigma_hat the Gaussian negative log likelihood ``v / sigma^2 + log sigma^2``.

    Its minimum over sigma is ``sigma^2 = E[v | y]``: a calibrated severity. v is detached, so that each part learns
    its own task and neither has to be weighed against the other.
    """
    variance = error_variance(z_hat, z0).detach()
    sigma = (variance / sigma_hat**2 + 2 * sigma_hat.log()) / 2
    return LossTerms(_mean_square(z_hat - z0), sigma, variance)


def _mean_square(values: Tensor) -> Tensor:
    return values.flatten(1).square().mean(1)
