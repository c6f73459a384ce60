"""The blur of a shaken camera, in light: nonlinear, and without weights."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Dense, Generators, Placed, SameSize, check_noise_std, in_float, parameter, per_image
from .kernel_blur import MAX_LENGTH, filter_plane, path_kernel, shake_path

# the same seed for kernel and noise would draw both from the same numbers
SHAKE_SEED = 4_000_037
MAX_GAIN = 8.0


def light_of(value: Tensor) -> Tensor:
    """Linear light of sRGB values (IEC 61966-2-1); the straight part goes on below 0, and its slope is finite."""
    curve = ((value.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(value > 0.04045, curve, value / 12.92)


def value_of(light: Tensor) -> Tensor:
    """sRGB values of linear light, the inverse of ``light_of``."""
    # the clamp keeps the derivative of the part that is not taken finite
    curve = 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(light > 0.0031308, curve, light * 12.92)


class CameraBlur(Dense, SameSize):
    """Camera shake as a sensor sees it: light is blurred, too much of it is cut off, then the response curve.

    ``value_of(clip(gain * blur(light_of(x)), 0, 1))``: nonlinear because of the curve and the clip. Borders reflect.

    Args:
        kernels: (1 or B, 2 r + 1, 2 r + 1) point spread functions of sum 1; ``shaken`` draws them.
        gain: exposure; above 1 the brightest parts saturate, and everything is lighter.
        noise_std: standard deviation of the noise on [0, 1] images.
    """

    def __init__(self, kernels: Tensor, gain: float = 1.2, noise_std: float = 0.0):
        self.gain = float(parameter(gain, 0.1, MAX_GAIN, "The camera's gain"))
        self.noise_std = check_noise_std(noise_std)
        self._kernels = Placed(kernels.detach().double())

    @classmethod
    def shaken(
        cls, extent: float | Tensor, generators: Generators, gain: float = 1.2, noise_std: float = 0.0
    ) -> CameraBlur:
        """A random camera shake of ``extent`` pixels across: 0 (sharp) to 100; a number, or (B,)."""
        checked = parameter(extent, 0, MAX_LENGTH, "The camera shake's extent in pixels")
        return cls(path_kernel(shake_path(checked, generators)), gain, noise_std)

    @classmethod
    def seeded(cls, extent: float, seed: int = 0, gain: float = 1.2, noise_std: float = 0.0) -> CameraBlur:
        """The camera shake of ``seed``, the same for all photos of a batch."""
        return cls.shaken(extent, torch.Generator().manual_seed(seed + SHAKE_SEED), gain, noise_std)

    def __call__(self, image: Tensor) -> Tensor:
        photo = in_float(image)
        light = filter_plane(light_of(photo), self._kernels.like(photo))
        return value_of((self.gain * light).clamp(0, 1)).to(image.dtype)

    def select(self, indices: Tensor) -> CameraBlur:
        if len(self._kernels.values) == 1:
            return self
        return CameraBlur(per_image(self._kernels.values, indices), self.gain, self.noise_std)
