"""Blur of a photo that was taken while the camera moved along a straight line."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Dense, Placed, SameSize, check_noise_std, parameter, per_image
from .kernel_blur import MAX_LENGTH, filter_plane, filter_plane_adjoint, line_path, path_kernel


class MotionBlur(Dense, SameSize):
    """Motion blur along a straight line, with reflected borders.

    Args:
        length: distance in pixels that the picture moved while it was taken, 0 (sharp) to 100; a number, or (B,).
        angle: direction in degrees, anticlockwise from the right; a number, or (B,).
        noise_std: standard deviation of the noise on [0, 1] images.

    Raises:
        AdaptDiffuseError: a length or an angle outside its range.
    """

    def __init__(self, length: float | Tensor, angle: float | Tensor = 0.0, noise_std: float = 0.0):
        self.length = parameter(length, 0, MAX_LENGTH, "The motion blur's length in pixels")
        self.angle = parameter(angle, -360, 360, "The motion blur's angle in degrees")
        self.noise_std = check_noise_std(noise_std)
        self._kernels = Placed(path_kernel(line_path(*torch.broadcast_tensors(self.length, self.angle))))

    def __call__(self, image: Tensor) -> Tensor:
        return filter_plane(image, self._kernels.like(image))

    def adjoint(self, y: Tensor) -> Tensor:
        return filter_plane_adjoint(y, self._kernels.like(y))

    def select(self, indices: Tensor) -> MotionBlur:
        if len(self.length) == len(self.angle) == 1:
            return self
        return MotionBlur(per_image(self.length, indices), per_image(self.angle, indices), self.noise_std)
