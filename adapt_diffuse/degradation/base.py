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

    Images and measurements are (B, 3, H, W) in [0, 1]; ``noise_std`` is in the same unit. Parameters of an operator are
    one number for the whole batch or one per image; ``noise_std`` is one number, and one per image of ``Noise``,
    ``Chain`` and ``PerImage`` alone. Calling it is differentiable in the image. A measurement may be smaller than its
    image.
    """

    @property
    def noise_std(self) -> float | Tensor: ...

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
        """The operator of the images ``indices`` (n,) of the batch; what they all share is not made again."""
        ...

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the images whose measurements are ``height`` x ``width``."""
        ...

    def start_image(self, y: Tensor) -> Tensor:
        """``y`` brought to the image's size: what an encoder, which wants an image, is shown."""
        ...


@runtime_checkable
class LinearDegradation(Degradation, Protocol):
    """A degradation whose A is linear."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, borders included: the transpose of A on images of ``image_size``."""
        ...


@runtime_checkable
class ProximalDegradation(LinearDegradation, Protocol):
    """A linear degradation whose proximal step has a closed form; ``prox.prox`` finds it for the others too."""

    def prox(self, x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """``argmin_x 1/2 |y - A x|^2 + weight/2 |x - x0|^2`` over the observed values; called by ``prox.prox``.

        Args:
            x0: (B, 3, H, W) of ``image_size``, float32 or float64.
            y: what it measures, unobserved values zero.
            weight: (B, 1, 1, 1), 0 or more.
        """
        ...


class SameSize:
    """Mixin of the operators whose measurement is as large as the image."""

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def start_image(self, y: Tensor) -> Tensor:
        return y


class Pixelwise:
    """Mixin that marks operators which treat every pixel by itself: one lost before them is lost after them."""


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

    Raises:
        AdaptDiffuseError: generators for another number of images.
    """
    return _draw(torch.randn, shape, generators, torch.float32).to(like)


def rand(shape: Sequence[int], generators: Generators, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1) of ``shape``, on the CPU; generators as in ``randn``."""
    return _draw(torch.rand, shape, generators, dtype)


def _draw(draw: Callable[..., Tensor], shape: Sequence[int], generators: Generators, dtype: torch.dtype) -> Tensor:
    if isinstance(generators, torch.Generator):
        return draw(tuple(shape), generator=generators, dtype=dtype)
    check_generators(generators, shape[0])
    return torch.stack([draw(tuple(shape[1:]), generator=generator, dtype=dtype) for generator in generators])


def check_generators(generators: Sequence[torch.Generator], count: int) -> None:
    """Raise AdaptDiffuseError unless there is a generator for each of ``count`` photos."""
    if len(generators) != count:
        raise AdaptDiffuseError(f"There are {len(generators)} generators for {count} photos: give one per photo.")


def measure(image: Tensor, degradation: Degradation, generators: Generators) -> Tensor:
    """A measurement ``y = A(x) + n``, n ~ N(0, noise_std^2), unobserved values zero.

    Args:
        image: (B, 3, H, W) in [0, 1].
        generators: CPU generators, one for the batch or one per image.
    """
    clean = degradation(image)
    noise_std = noise_levels(degradation, len(clean)).to(clean.device, clean.dtype).reshape(-1, 1, 1, 1)
    return degradation.observed(clean + noise_std * randn(clean.shape, clean, generators))


def noise_levels(degradation: Degradation, count: int) -> Tensor:
    """The noise_std of each of ``count`` images, (B,) float64 on the CPU."""
    levels = torch.as_tensor(degradation.noise_std, dtype=torch.float64).cpu()
    if levels.numel() not in (1, count):
        raise AdaptDiffuseError(f"There are {levels.numel()} noise_std for {count} photos: give one, or one per photo.")
    return levels.expand(count)


def require_linear(degradation: Degradation, who: str) -> LinearDegradation:
    """The degradation, made sure to be linear for ``who`` needs that. Raises AdaptDiffuseError where it is not."""
    if not isinstance(degradation, LinearDegradation):
        raise AdaptDiffuseError(
            f"{who} works with linear degradations only (noise, blur, missing pixels, downscaling). Take DiffPIR or "
            "LDPS here."
        )
    return degradation


def check_noise_std(noise_std: float) -> float:
    """``noise_std`` as it is, or an AdaptDiffuseError where it is no standard deviation on [0, 1] images."""
    if not 0 <= noise_std <= 1:
        raise AdaptDiffuseError(f"noise_std must be between 0 and 1 (images are in [0, 1]), not {noise_std:g}.")
    return float(noise_std)


def parameter(values: float | Tensor, low: float, high: float, what: str) -> Tensor:
    """An operator's number, or numbers (B,), as float64 (1 or B,) of its own, on the CPU.

    Raises:
        AdaptDiffuseError: a value outside [low, high], or NaN; ``what`` begins the sentence.
    """
    here = values.detach().cpu() if isinstance(values, Tensor) else values  # not every GPU has float64
    checked = torch.as_tensor(here, dtype=torch.float64).flatten().clone()
    bad = checked[~((checked >= low) & (checked <= high))]
    if len(bad):
        raise AdaptDiffuseError(f"{what} must be between {low:g} and {high:g}, not {float(bad[0]):g}.")
    return checked


def whole(values: Tensor, what: str) -> Tensor:
    """``values`` as int64; an AdaptDiffuseError, begun by ``what``, where one is no whole number."""
    bad = values[values != values.round()]
    if len(bad):
        raise AdaptDiffuseError(f"{what} must be a whole number, not {float(bad[0]):g}.")
    return values.long()


def in_float(image: Tensor) -> Tensor:
    """``image`` in a dtype of at least float32, for what half precision is too coarse or too narrow for."""
    return image.float() if image.dtype in (torch.float16, torch.bfloat16) else image


class Placed:
    """A tensor of an operator, brought only once to every device and dtype that asks: to bring it makes a GPU wait.

    Attributes:
        values: as they were made, on the CPU.
    """

    def __init__(self, values: Tensor):
        self.values = values
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, image: Tensor) -> Tensor:
        """The values in the dtype and on the device of ``image``."""
        key = (image.dtype, image.device)
        if key not in self._copies:
            with torch.inference_mode(False):  # a tensor that is made within has no derivatives later
                copied = self.values.to(image)
                self._copies[key] = copied.clone() if copied.is_inference() else copied
        return self._copies[key]


def per_image(values: Tensor, indices: Tensor) -> Tensor:
    """The rows ``indices`` of an operator's parameter, which is shared by the batch when it has one row.

    Raises:
        AdaptDiffuseError: an index beyond the last row.
    """
    if len(values) == 1:
        return values
    asked = 1 + max(indices.tolist(), default=0)
    if asked > len(values):
        raise AdaptDiffuseError(
            f"The degradation has numbers for {len(values)} photos, and there are {asked}: give one, or one per photo."
        )
    return values[indices.to(values.device)]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each image of (B, C, H, W), as (B, 1, 1, 1) in a dtype of at least float32."""
    return (in_float(a) * in_float(b)).flatten(1).sum(1).reshape(-1, 1, 1, 1)
