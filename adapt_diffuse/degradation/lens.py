"""Blur of a photo that is out of focus: every point becomes a disk."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Dense, Placed, SameSize, check_noise_std, parameter, per_image
from .kernel_blur import filter_plane, filter_plane_adjoint

MAX_RADIUS = 50.0  # pixels
SHARP = 0.25  # pixels: a disk that lies within a single one


def disk_kernel(radius: Tensor) -> Tensor:
    """Kernels (B, 2 r + 1, 2 r + 1) of sum 1: the exact share of a disk of ``radius`` (B,) pixels in every pixel."""
    reach = int((radius - 0.5).clamp_min(0).max().ceil())
    edges = torch.arange(-reach, reach + 2, dtype=torch.float64, device=radius.device) - 0.5
    below = _quadrant(radius.double().clamp_min(SHARP)[:, None, None], edges[:, None].abs(), edges.abs())
    area = (below * edges.sign()[:, None] * edges.sign()).diff(dim=1).diff(dim=2).clamp_min(0)
    return area / area.sum((1, 2), keepdim=True)


def _quadrant(radius: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The area of the part of a disk around the origin whose points have coordinates in [0, x] and [0, y]."""
    x, y = torch.minimum(x, radius), torch.minimum(y, radius)
    bend = torch.minimum((radius**2 - y**2).sqrt(), x)  # up to here y is the limit, from here on the circle
    return y * bend + _under_circle(radius, x) - _under_circle(radius, bend)


def _under_circle(radius: Tensor, x: Tensor) -> Tensor:
    """The integral of ``sqrt(radius^2 - t^2)`` over t in [0, x]."""
    return (x * (radius**2 - x**2).clamp_min(0).sqrt() + radius**2 * torch.asin(x / radius)) / 2


class LensBlur(Dense, SameSize):
    """Defocus: blur by a uniform disk, with reflected borders.

    Args:
        radius: of the disk that a bright point becomes, in pixels, 0 to 50; up to 0.5 it stays within its pixel, and
            the photo sharp. A number, or (B,).
        noise_std: standard deviation of the noise on [0, 1] images.

    Raises:
        AdaptDiffuseError: a radius outside its range.
    """

    def __init__(self, radius: float | Tensor, noise_std: float = 0.0):
        self.radius = parameter(radius, 0, MAX_RADIUS, "The lens blur's radius in pixels")
        self.noise_std = check_noise_std(noise_std)
        self._kernels = Placed(disk_kernel(self.radius))

    def __call__(self, image: Tensor) -> Tensor:
        return filter_plane(image, self._kernels.like(image))

    def adjoint(self, y: Tensor) -> Tensor:
        return filter_plane_adjoint(y, self._kernels.like(y))

    def select(self, indices: Tensor) -> LensBlur:
        if len(self.radius) == 1:
            return self
        return LensBlur(per_image(self.radius, indices), self.noise_std)
