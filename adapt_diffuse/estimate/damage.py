"""What happened to photos, in a handful of numbers each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce

import torch
from torch import Tensor

from ..degradation import Degradation, GaussianBlur, Jpeg, LowResolution, MotionBlur, Noise, chain, for_each

NO_JPEG = 100.0  # the quality of a photo that was never compressed


@dataclass(frozen=True)
class Damage:
    """Blur, low resolution, JPEG and noise, in the order in which they happened; (B,) float64 each.

    Attributes:
        std: of a Gaussian blur, pixels; 0 is none.
        length: of a motion blur, pixels; 0 is none. A photo has one blur at most.
        angle: of the motion, degrees in [0, 180).
        factor: by which the photo was made smaller and enlarged again; 1 is not.
        quality: of JPEG; 100 is not compressed.
        noise_std: on [0, 1] images.
    """

    std: Tensor
    length: Tensor
    angle: Tensor
    factor: Tensor
    quality: Tensor
    noise_std: Tensor

    def __len__(self) -> int:
        return len(self.std)

    def select(self, indices: Tensor) -> Damage:
        return Damage(*(getattr(self, field.name)[indices] for field in fields(self)))

    def degradation(self) -> Degradation:
        """The operator with its noise: a chain of what is there, one per photo where there are several photos."""
        each = [_degradation(self.select(torch.tensor([index]))) for index in range(len(self))]
        return each[0] if len(each) == 1 else for_each(each)


def clean_parts(one: Damage, noise_std: float = 0.0) -> list[Degradation]:
    """The operators of a single photo, in order; ``noise_std`` is told to each of them."""
    parts: list[Degradation] = []
    if one.std > 0:
        parts.append(GaussianBlur(float(one.std), noise_std))
    if one.length > 0:
        parts.append(MotionBlur(float(one.length), float(one.angle), noise_std))
    if one.factor > 1:
        parts.append(LowResolution(int(one.factor), noise_std=noise_std))
    if one.quality < NO_JPEG:
        parts.append(Jpeg(float(one.quality), noise_std))
    return parts


def _degradation(one: Damage) -> Degradation:
    noise_std = float(one.noise_std)
    return reduce(chain, clean_parts(one, noise_std) or [Noise(noise_std)])
