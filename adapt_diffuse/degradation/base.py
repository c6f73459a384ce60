"""What a degradation must offer, and how a measurement is drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError

# CPU generators: one for the whole batch, or one per image
Generators = torch.Generator | Sequence[torch.Generator]


@runtime_checkable
class Degradation(Protocol):
    """The operator A of ``y = A(x) + n``, with the noise level of n.

    Images and measurements are (B, 3, H, W) in [0, 1]; ``noise_std`` is in the same unit. Parameters of an operator
    are one number for the whole batch or one per image. Calling it is differentiable in the image.
    """

    noise_std: float

    def __call__(self, image: Tensor) -> Tensor:
        """The noise-free measurement A(x)."""
        ...

    def observed(self, y: Tensor) -> Tensor:
        """``y`` with every value that carries no information set to zero."""
        ...

    def count(self, y: Tensor) -> Tensor:
        """How many values of each measurement carry information: (B,) float64 on the CPU, m in the formulas."""
        ...

    def select(self, indices: Tensor) -> Degradation:
        """The operator of the images ``indices`` (n,) of the batch."""
        ...


@runtime_checkable
class LinearDegradation(Degradation, Protocol):
    """A degradation whose A is linear."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: the transpose of A, borders included."""
        ...


class Dense:
    """Mixin of the operators that measure every pixel."""

    def observed(self, y: Tensor) -> Tensor:
        return y

    def count(self, y: Tensor) -> Tensor:
        return torch.full((len(y),), float(y[0].numel()), dtype=torch.float64)


def randn(shape: Sequence[int], like: Tensor, generators: Generators) -> Tensor:
    """Standard normal noise of ``shape``, in the dtype and on the device of ``like``.

    Drawn on the CPU in float32, so that a seed gives the same noise on every device and in every dtype. With a
    generator per image, image i of a batch gets the noise that it would get alone.
    """
    return _draw(torch.randn, shape, generators, torch.float32).to(like)


def rand(shape: Sequence[int], generators: Generators, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1) of ``shape``, on the CPU; generators as in ``randn``."""
    return _draw(torch.rand, shape, generators, dtype)


def _draw(draw: Callable[..., Tensor], shape: Sequence[int], generators: Generators, dtype: torch.dtype) -> Tensor:
    if isinstance(generators, torch.Generator):
        return draw(tuple(shape), generator=generators, dtype=dtype)
    return torch.stack([draw(tuple(shape[1:]), generator=generator, dtype=dtype) for generator in generators])


def measure(image: Tensor, degradation: Degradation, generators: Generators) -> Tensor:
    """A measurement ``y = A(x) + n``, n ~ N(0, noise_std^2), unobserved values zero.

    Args:
        image: (B, 3, H, W) in [0, 1].
        generators: CPU generators, one for the batch or one per image.
    """
    clean = degradation(image)
    return degradation.observed(clean + degradation.noise_std * randn(clean.shape, clean, generators))


def check_noise_std(noise_std: float) -> float:
    """``noise_std`` as it is, or an AdaptDiffuseError where it is no standard deviation on [0, 1] images."""
    if not 0 <= noise_std <= 1:
        raise AdaptDiffuseError(f"noise_std must be between 0 and 1 (images are in [0, 1]), not {noise_std:g}.")
    return float(noise_std)


def per_image(values: Tensor, indices: Tensor) -> Tensor:
    """The rows ``indices`` of an operator's parameter, which is shared by the batch when it has one row."""
    return values if len(values) == 1 else values[indices.to(values.device)]
