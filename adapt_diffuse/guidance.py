"""The gradient of the data term, through decoder and denoiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .degradation.base import in_float
from .measurement import Measurement
from .prior import LatentPrior, over_image

Through = Literal["denoiser", "decoder"]
# of the posterior mean z0 (B, C, h, w) and its image on [0, 1]: (B,), already weighted; or nothing
Penalty = Callable[[Tensor, Tensor], Tensor | None]
REFERENCE_VALUES = 3 * 256 * 256


@dataclass(frozen=True)
class Guidance:
    """What a guided step needs, all detached.

    Attributes:
        z0: (B, C, h, w) posterior mean.
        gradient: (B, C, h, w), of the objective with respect to x ("denoiser") or to z0 ("decoder").
    """

    z0: Tensor
    gradient: Tensor


def data_gradient(
    prior: LatentPrior,
    measurement: Measurement,
    x: Tensor,
    sigma: Tensor,
    through: Through,
    eta: float = 1.0,
    penalty: Penalty = lambda z0, image: None,
) -> Guidance:
    """The gradient of ``eta |y' - A'(D(z0))| + penalty(z0, D(z0))``, z0 the posterior mean; norms are per image.

    Args:
        x: (B, C, h, w), ``z0 + sigma eps``.
        sigma: (B,).
        through: "denoiser" differentiates with respect to x through decoder and denoiser, as published; "decoder"
            holds the posterior mean fixed and differentiates with respect to it, through the decoder alone.
        eta: weight of the data term, whose images are on [-1, 1].
        penalty: what else the step descends.

    Returns:
        What may hold NaN or infinity where the model overflows. ``solve`` looks, one step later: to look here would
        make a GPU wait until this gradient is there.
    """
    with torch.enable_grad():
        if through == "denoiser":
            source = x.detach().requires_grad_()
            z0 = prior.denoise(source, sigma)
        else:
            with torch.no_grad():
                z0 = prior.denoise(x.detach(), sigma)
            source = z0 = z0.detach().requires_grad_()
        # [-1, 1] images double the [0, 1] residual
        image = prior.guide.decode(z0)
        objective, more = eta * safe_norm(2 * measurement.residual(image)), penalty(z0, image)
        if more is not None:
            objective = objective + more
        (gradient,) = torch.autograd.grad(objective.sum(), source)
    return Guidance(z0.detach(), gradient.detach())


def descend_norm(prior: LatentPrior, measurement: Measurement, z0: Tensor, eta: float) -> Tensor:
    """``z0 - eta grad |y' - A'(D(z0))|``, z0 (B, C, h, w); norms are per image, eta normalised to photos of 256 px."""
    with torch.enable_grad():
        source = z0.detach().requires_grad_()
        norm = safe_norm(2 * measurement.residual(prior.guide.decode(source)))
        (gradient,) = torch.autograd.grad(norm.sum(), source)
    return z0.detach() - over_image(eta * size_factor(measurement), z0) * gradient


def safe_norm(values: Tensor) -> Tensor:
    """Euclidean norm per image, (B,) of at least float32; its gradient is 0, not NaN, where the values are all zero."""
    squares = in_float(values).flatten(1).square().sum(1)
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, torch.ones_like(squares)).sqrt(), 0)


def size_factor(measurement: Measurement) -> Tensor:
    """``sqrt(m / (3 * 256 * 256))``, (B,): makes a step size mean the same at every photo size and mask.

    The gradient of a whole-image norm shrinks per latent entry as 1 / sqrt(m); the published step sizes are for
    256 px photos.
    """
    return (measurement.count().double() / REFERENCE_VALUES).sqrt()
