"""The proximal step of a linear degradation: the image that fits a measurement without leaving a given one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Degradation, ProximalDegradation, dot, in_float, parameter, require_linear
from .chain import LinearChain, PerImage, without_noise
from .separable import Separable

MAX_WEIGHT = 1e12
TOLERANCE = 1e-4  # far below the rounding of an 8-bit photo, at half the iterations of 1e-6
ITERATIONS = 300
LOOK = 8  # iterations between two looks at whether all images are done: a look makes a GPU wait


@torch.no_grad()
def prox(
    degradation: Degradation,
    x0: Tensor,
    y: Tensor,
    weight: Tensor | float,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Tensor:
    """``argmin_x 1/2 |y - A x|^2 + weight/2 |x - x0|^2``, the first sum over the observed values.

    Closed form for noise, missing pixels, Gaussian blur, downscaling and low resolution; conjugate gradients for lens
    and motion blur, kernels of one's own, chains and large photos (``separable.LONGEST``). A closed form costs what one
    or two iterations of conjugate gradients do, and those are ten to forty, the more the smaller the weight: for a blur
    of std 3 at 512 px it is 13 (weight 0.1) to 35 times (0.01) faster. Gaussian blur and low resolution need a
    decomposition for it, once for each operator and size.

    Args:
        degradation: linear.
        x0: (B, 3, H, W) on [0, 1], not clamped. What it has beyond ``image_size`` (padding) stays as it is.
        y: (B, 3, h, w) on [0, 1]; unobserved values may hold anything.
        weight: one number or (B,), 0 or more: ``noise_std^2 / rho^2`` gives the most probable x under noise of
            noise_std and a Gaussian of standard deviation rho around x0. 0 gives the image nearest to x0 among those
            that fit best; blurs then amplify noise without bound.
        tolerance, iterations: conjugate gradients end for an image when their residual has fallen to ``tolerance``
            times what it was at x0, or after so many iterations. The error relative to ``|x - x0|`` is then below
            ``tolerance (|A|^2 + weight) / weight``.

    Returns:
        (B, 3, H, W), not clamped, in the dtype of x0; computed in float32 at least.

    Raises:
        AdaptDiffuseError: a nonlinear degradation, sizes that do not belong together, or an impossible weight.
    """
    weights = parameter(weight, 0, MAX_WEIGHT, "The weight of a proximal step")
    height, width = degradation.image_size(y.shape[2], y.shape[3])
    if len(x0) != len(y) or x0.shape[2] < height or x0.shape[3] < width or len(weights) not in (1, len(x0)):
        raise AdaptDiffuseError(
            f"A proximal step needs an image of {width} x {height} and one weight, or one per photo, for each of the "
            f"{len(y)} photos: there are {len(x0)} of {x0.shape[3]} x {x0.shape[2]}, and {len(weights)} weights."
        )
    image = in_float(x0[:, :, :height, :width])
    solved = _solve(degradation, image, y.to(image), weights.expand(len(x0)), tolerance, iterations)
    out = x0.clone()
    out[:, :, :height, :width] = solved.to(x0.dtype)
    return out


def _solve(
    degradation: Degradation, x0: Tensor, y: Tensor, weights: Tensor, tolerance: float, iterations: int
) -> Tensor:
    operator = _quiet(degradation)
    if isinstance(operator, PerImage):
        parts = zip(operator.degradations, x0.split(1), y.split(1), weights.split(1), strict=True)
        return torch.cat([_solve(*part, tolerance, iterations) for part in parts])
    seen, weight = operator.observed(y), weights.to(x0).reshape(-1, 1, 1, 1)
    slow = isinstance(operator, Separable) and not operator.closed_form_is_quick(x0.shape[2], x0.shape[3])
    if isinstance(operator, ProximalDegradation) and not slow:
        return operator.prox(x0, seen, weight)
    linear = require_linear(operator, "A proximal step")
    pull = linear.adjoint(linear.observed(seen - linear(x0)))
    return x0 + conjugate_gradients(
        lambda d: linear.adjoint(linear.observed(linear(d))) + weight * d, pull, tolerance, iterations
    )


def _quiet(degradation: Degradation) -> Degradation:
    """A chain without its steps that only add noise; the single other step, where that is all that is left."""
    if not isinstance(degradation, LinearChain):
        return degradation
    parts = without_noise(degradation.parts)
    return parts[0] if len(parts) == 1 else LinearChain(parts, degradation.noise_std)


def look_every(device: torch.device) -> int:
    """After how many iterations to look at whether they are enough."""
    return 1 if device.type == "cpu" else LOOK


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], b: Tensor, tolerance: float = TOLERANCE, iterations: int = ITERATIONS
) -> Tensor:
    """``apply^-1 b`` for a symmetric positive operator on images (B, C, H, W), each image by itself.

    Starts at 0, so that a singular operator gives the smallest solution. An image whose residual is at most
    ``tolerance |b|`` does not move any more.
    """
    x, r, p = torch.zeros_like(b), b, b
    rr = dot(r, r)
    enough, look = tolerance**2 * rr, look_every(b.device)
    for iteration in range(iterations):
        if iteration % look == 0 and not bool((rr > enough).any()):
            break
        q = apply(p)
        curvature = dot(p, q)
        moving = (rr > enough) & (curvature > 0)
        step = torch.where(moving, rr / torch.where(moving, curvature, 1), 0)
        x, r = x + step * p, r - step * q
        smaller = dot(r, r)
        p = r + torch.where(moving, smaller / torch.where(moving, rr, 1), 0) * p
        rr = smaller
    return x
