"""Noise, and nothing else."""

from __future__ import annotations

from torch import Tensor

from .base import Dense, Pixelwise, SameSize, check_noise_std, parameter, per_image


class Noise(Dense, SameSize, Pixelwise):
    """A photo that is only noisy: A is the identity.

    Args:
        noise_std: standard deviation of the noise on [0, 1] images; a number, or (B,).
    """

    noise_std: float | Tensor

    def __init__(self, noise_std: float | Tensor = 0.0):
        if isinstance(noise_std, Tensor):
            self.noise_std = parameter(noise_std, 0, 1, "noise_std (images are in [0, 1])")
        else:
            self.noise_std = check_noise_std(noise_std)

    def __call__(self, image: Tensor) -> Tensor:
        return image

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def prox(self, x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return (y + weight * x0) / (1 + weight)

    def select(self, indices: Tensor) -> Noise:
        return Noise(per_image(self.noise_std, indices)) if isinstance(self.noise_std, Tensor) else self
