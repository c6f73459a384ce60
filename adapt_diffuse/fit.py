"""A latent fitted to the photo near an anchor, with step lengths that follow from the problem itself.

``argmin_z 1/2 |y - A(D(z))|^2 + w/2 |z - anchor|^2``, images on [0, 1]. With ``w = noise_std^2 / s^2`` it is the most
probable latent under a Gaussian of standard deviation s around the anchor, to which decoder and operator are linear.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .degradation import noise_levels
from .degradation.base import dot, in_float
from .measurement import Measurement
from .prior import LatentPrior, over_image

# the rounding of an 8-bit photo: no photo has less noise
QUANTISATION = 1 / (255 * 12**0.5)
TINY = 1e-30
REACH = 4.0  # of a step, in multiples of the trial step: the parabola is trusted no further


def noise_floor(measurement: Measurement) -> Tensor:
    """The standard deviation (B,) float64 of the photos' noise, at least that of 8-bit rounding."""
    return noise_levels(measurement.degradation, len(measurement.y)).clamp_min(QUANTISATION)


def anchor_weight(measurement: Measurement, sigma: Tensor, trust: float = 1.0) -> Tensor:
    """w (B,) float64 of a posterior mean found at ``sigma`` (B,): ``trust noise_std^2 (1 + sigma^2) / sigma^2``.

    A latent of unit variance that was seen with noise sigma has the variance ``sigma^2 / (1 + sigma^2)``.
    """
    return trust * noise_floor(measurement) ** 2 * (1 + sigma**-2.0)


def contrast(image: Tensor, z0: Tensor) -> Tensor:
    """The spread of images (B, 3, H, W) over that of their latents (B, C, h, w): (B,) float64 on the CPU.

    An error of the latent is of this order in the image: half as large for photos of usual contrast (to which the
    solvers' ``trust`` of 1 is tuned), larger for flat ones, whose latents keep the means of their channels.
    """
    ratio = in_float(image).flatten(1).std(1) / in_float(z0).flatten(1).std(1)
    # any number does for an image that is not finite: ``solve`` has the sentence for that
    return ratio.nan_to_num(1.0).clamp_min(1e-3).cpu().double()


def slope(prior: LatentPrior, measurement: Measurement, z: Tensor) -> tuple[Tensor, Tensor]:
    """The residual ``r = y - A(D(z))`` on [0, 1], and ``-grad 1/2 |r|^2`` in z (B, C, h, w); both detached."""
    with torch.enable_grad():
        source = z.detach().requires_grad_()
        residual = measurement.residual(prior.guide.decode(source))
        (gradient,) = torch.autograd.grad(residual.square().sum() / 2, source)
    return residual.detach(), -gradient.detach()


@torch.no_grad()
def fit_latent(
    prior: LatentPrior,
    measurement: Measurement,
    anchor: Tensor,
    weight: Tensor,
    iterations: int = 1,
    tau: float = 1.0,
) -> Tensor:
    """Nonlinear conjugate gradients (Polak and Ribiere) from ``anchor`` (B, C, h, w), each image by itself.

    The length of a step is that of the parabola through the residuals at its ends: one more decoder pass, and no
    step size to choose.

    Args:
        weight: w, (B,).
        iterations: each costs two decoder passes and one backwards.
        tau: an image whose residual has reached so many times its noise, ``|r| <= tau noise_std sqrt(m)``, stays
            (Morozov's discrepancy principle); 0 never stops.
    """
    enough = (tau * noise_floor(measurement)) ** 2 * measurement.count()
    # of half precision the latents alone: what is found from them is too small and too large for it
    w, z = over_image(weight, in_float(anchor)), anchor
    residual, descent = slope(prior, measurement, z)
    direction, curving = descent, dot(descent, descent) / dot(residual, residual).clamp_min(TINY)
    for left in range(iterations - 1, -1, -1):
        trial = 1 / (curving + w).clamp_min(TINY)
        change = (residual - measurement.residual(prior.guide.decode((z + trial * direction).to(z)))) / trial
        curving = dot(change, change) / dot(direction, direction).clamp_min(TINY)
        falling = dot(residual, change) - w * dot(z - anchor, direction)
        alpha = falling / ((curving + w) * dot(direction, direction)).clamp_min(TINY)
        alpha = torch.minimum(alpha.clamp_min(0), REACH * trial)
        apart = dot(residual, residual)
        z = (z + torch.where(apart > over_image(enough, apart), alpha, 0) * direction).to(z)
        if left:
            residual, pull = slope(prior, measurement, z)
            last, descent = descent, pull - w * (z - anchor)
            beta = dot(descent, descent - last) / dot(last, last).clamp_min(TINY)
            direction = descent + beta.clamp_min(0) * direction
    return z


def curvature(prior: LatentPrior, measurement: Measurement, z: Tensor, residual: Tensor, direction: Tensor) -> Tensor:
    """``|J d|^2 / |d|^2`` (B, 1, 1, 1) of ``A(D(z))`` along a direction d, by one more decoder pass.

    Args:
        residual: at z.
    """
    size = dot(direction, direction).clamp_min(TINY)
    length = dot(residual, residual) / size  # where a linear model of slope d would be fitted
    ahead = (z + length * direction).to(z)
    change = (residual - measurement.residual(prior.guide.decode(ahead))) / length.clamp_min(TINY)
    return dot(change, change) / size
