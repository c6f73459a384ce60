"""Blur by any kernel in the plane, and the kernels that a moving camera draws."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Generators, randn
from .blur import convolve_each, index_select_adjoint, reflect_index

MAX_LENGTH = 100.0  # pixels
SAMPLES = 1024  # points along a path: at most a tenth of a pixel apart
SHAKE_WAVES = 5


def filter_plane(image: Tensor, kernels: Tensor) -> Tensor:
    """Convolve (B, C, H, W) with ``kernels`` (1 or B, 2 r + 1, 2 r + 1), reflecting at the borders."""
    radius = kernels.shape[1] // 2
    padded = image
    for axis in (2, 3):
        padded = padded.index_select(axis, reflect_index(image.shape[axis], radius, image.device))
    return convolve_each(padded, _flipped(kernels, image), F.conv2d)


def filter_plane_adjoint(y: Tensor, kernels: Tensor) -> Tensor:
    """The transpose of ``filter_plane``: correlate, then add what the reflected border received to its source."""
    radius = kernels.shape[1] // 2
    spread = convolve_each(y, _flipped(kernels, y), F.conv_transpose2d)
    for axis in (2, 3):
        source = reflect_index(y.shape[axis], radius, y.device)
        spread = index_select_adjoint(spread, axis, source, y.shape[axis])
    return spread


def _flipped(kernels: Tensor, image: Tensor) -> Tensor:
    count, batch = len(kernels), len(image)
    if count not in (1, batch):
        raise AdaptDiffuseError(f"The blur has {count} kernels for {batch} photos: give one, or one per photo.")
    return kernels.to(image).flip(1, 2)  # torch's convolution is a correlation


def path_kernel(path: Tensor) -> Tensor:
    """What a point leaves on the sensor while it moves along ``path``: kernels (B, 2 r + 1, 2 r + 1) of sum 1.

    Args:
        path: (B, n, 2) float64, positions (down, right) in pixels from the kernel's centre, evenly spaced in time. Each
            is shared out among the four pixels around it (bilinear), so the path's mean is kept exactly.
    """
    count = len(path)
    radius = int(path.abs().max().ceil()) + 1
    side = 2 * radius + 1
    corner = path.floor()
    part = path - corner
    kernel = path.new_zeros(count, side * side)
    for down in (0, 1):
        for right in (0, 1):
            row, column = (corner + torch.tensor([down, right], device=path.device) + radius).long().unbind(-1)
            share = (part[..., 0] if down else 1 - part[..., 0]) * (part[..., 1] if right else 1 - part[..., 1])
            kernel = kernel.scatter_add(1, row * side + column, share)
    return (kernel / path.shape[1]).reshape(count, side, side)


def line_path(length: Tensor, angle: Tensor) -> Tensor:
    """Straight paths (B, n, 2) of ``length`` (B,) pixels at ``angle`` (B,) degrees, anticlockwise from the right."""
    direction = torch.stack([-torch.sin(torch.deg2rad(angle)), torch.cos(torch.deg2rad(angle))], -1)
    time = (torch.arange(SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES - 0.5
    return length[:, None, None] * time[:, None] * direction[:, None]


def shake_path(extent: Tensor, generators: Generators) -> Tensor:
    """Random smooth paths (B, n, 2) of a hand that shakes, none of them further than ``extent`` / 2 from its mean.

    Sums of cosines whose strength falls with the square of their frequency.
    """
    wave = torch.arange(1, SHAKE_WAVES + 1, dtype=torch.float64)
    strength = randn((len(extent), SHAKE_WAVES, 2), wave, generators) / wave[:, None] ** 2
    time = (torch.arange(SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES
    # their mean over the path is zero
    path = torch.cos(math.pi * time[:, None] * wave) @ strength
    reach = path.norm(dim=-1).amax(1)[:, None, None]
    return path / reach * (extent[:, None, None] / 2)
