"""One degradation after the other, and another one for each photo."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Degradation, LinearDegradation, Pixelwise, noise_levels, per_image
from .noise import Noise


def chain(first: Degradation, second: Degradation) -> Chain | PerImage:
    """``y = second(first(x)) + n``, linear where both are; for each photo its own, where one of the two is.

    The noise is the second's: noise between the two is not modelled.

    Raises:
        AdaptDiffuseError: one of them is for fewer photos than the other.
    """
    counts = [len(one.degradations) for one in (first, second) if isinstance(one, PerImage)]
    if counts:  # what is observed, linear or compressed differs between the photos
        return for_each([chain(_of_photo(first, index), _of_photo(second, index)) for index in range(max(counts))])
    parts = (*_parts(first), *_parts(second))
    kind = LinearChain if all(isinstance(part, LinearDegradation) for part in parts) else Chain
    return kind(parts, second.noise_std)


def for_each(degradations: Sequence[Degradation]) -> PerImage:
    """A degradation of its own for each photo of a batch, linear where all are."""
    kind = LinearPerImage if all(isinstance(one, LinearDegradation) for one in degradations) else PerImage
    return kind(degradations)


def without_noise(parts: tuple[Degradation, ...]) -> tuple[Degradation, ...]:
    """``parts`` of a chain without those that only add noise; the last, where all do."""
    return tuple(part for part in parts if not isinstance(part, Noise)) or parts[-1:]


def _of_photo(degradation: Degradation, index: int) -> Degradation:
    one = degradation.select(torch.tensor([index]))
    return one.degradations[0] if isinstance(one, PerImage) else one


def _parts(degradation: Degradation) -> tuple[Degradation, ...]:
    return degradation.parts if isinstance(degradation, Chain) else (degradation,)


class Chain:
    """Degradations one after the other, for all photos of a batch; make it with ``chain``, which knows what is linear.

    What is lost at the end, or before steps that treat every pixel by itself, is unobserved. What is lost earlier is
    smeared over its neighbours, so every value tells something.

    Args:
        parts: in the order in which they happened.
        noise_std: of the noise after the last.
    """

    def __init__(self, parts: tuple[Degradation, ...], noise_std: float | Tensor):
        self.parts, self.noise_std = parts, noise_std

    def __call__(self, image: Tensor) -> Tensor:
        for part in self.parts:
            image = part(image)
        return image

    def observed(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.observed(y)
            if not isinstance(part, Pixelwise):
                break
        return y

    def count(self, y: Tensor) -> Tensor:
        return self.observed(torch.ones_like(y)).flatten(1).cpu().double().sum(1)  # not every GPU has float64

    def select(self, indices: Tensor) -> Chain:
        noise_std = self.noise_std
        if isinstance(noise_std, Tensor):
            noise_std = per_image(noise_std, indices)
        return type(self)(tuple(part.select(indices) for part in self.parts), noise_std)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        for part in reversed(self.parts):
            height, width = part.image_size(height, width)
        return height, width

    def start_image(self, y: Tensor) -> Tensor:
        image = y
        for part in reversed(self.parts):
            image = part.start_image(image)
        # what brings colours back, brings them to lost pixels, too
        return self.observed(image) if image.shape == y.shape else image


class LinearChain(Chain):
    """A chain of linear degradations."""

    def adjoint(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            assert isinstance(part, LinearDegradation)
            y = part.adjoint(y)
        return y


class PerImage:
    """A degradation of its own for each photo of a batch; make it with ``for_each``, which knows whether it is linear.

    Args:
        degradations: B of them, each for a single photo.

    Raises:
        AdaptDiffuseError: some make the photo smaller than others.
    """

    def __init__(self, degradations: Sequence[Degradation]):
        self.degradations = tuple(degradations)
        if len({one.image_size(1, 1) for one in self.degradations}) > 1:
            raise AdaptDiffuseError(
                "The photos of a batch cannot be made smaller by different factors: give them one by one."
            )
        self.noise_std = torch.cat([noise_levels(one, 1) for one in self.degradations])

    def __call__(self, image: Tensor) -> Tensor:
        return torch.cat([one(part) for one, part in self._pairs(image)])

    def observed(self, y: Tensor) -> Tensor:
        return torch.cat([one.observed(part) for one, part in self._pairs(y)])

    def count(self, y: Tensor) -> Tensor:
        return torch.cat([one.count(part) for one, part in self._pairs(y)])

    def select(self, indices: Tensor) -> PerImage:
        asked = 1 + max(indices.tolist(), default=0)
        if asked > len(self.degradations):
            raise self._miscounted(asked)
        return for_each([self.degradations[int(index)] for index in indices])

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return self.degradations[0].image_size(height, width)

    def start_image(self, y: Tensor) -> Tensor:
        return torch.cat([one.start_image(part) for one, part in self._pairs(y)])

    def _pairs(self, image: Tensor) -> list[tuple[Degradation, Tensor]]:
        if len(self.degradations) != len(image):
            raise self._miscounted(len(image))
        return list(zip(self.degradations, image.split(1), strict=True))

    def _miscounted(self, photos: int) -> AdaptDiffuseError:
        return AdaptDiffuseError(
            f"There are {len(self.degradations)} degradations for {photos} photos: give one per photo."
        )


class LinearPerImage(PerImage):
    """A linear degradation of its own for each photo of a batch."""

    def adjoint(self, y: Tensor) -> Tensor:
        adjoints = []
        for one, part in self._pairs(y):
            assert isinstance(one, LinearDegradation)
            adjoints.append(one.adjoint(part))
        return torch.cat(adjoints)
