"""What happened to photos, in a handful of numbers each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce

import torch
from torch import Tensor

from ..degradation import Degradation, GaussianBlur, Jpeg, LowResolution, MotionBlur, Noise, chain, for_each

NO_JPEG = 100.0  # the quality of a photo that was never compressed
FLOOR = 0.01  # noise of rounding to 8 bit, JPEG of good quality and resampling: less is none
LEAST_STD, LEAST_LENGTH = 0.3, 1.0  # pixels of a blur; less is none
# What a photo keeps of its noise when it is made smaller with antialiasing, for each part of its size that it keeps,
# and the error of JPEG quality 50 in it; both measured on photographs
NOISE_KEPT, JPEG_ERROR = 0.8, 0.022


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

    @staticmethod
    def joined(each: Sequence[Damage]) -> Damage:
        """The damage of several batches as that of one."""
        return Damage(*(torch.cat([getattr(one, field.name) for one in each]) for field in fields(Damage)))

    @property
    def nothing(self) -> Tensor:
        """(B,) bool: where there is neither blur nor low resolution, no JPEG, and hardly any noise."""
        return (
            (self.std <= 0)
            & (self.length <= 0)
            & (self.factor <= 1)
            & (self.quality >= NO_JPEG)
            & (self.noise_std <= FLOOR)
        )

    def scaled(self, scale: float) -> Damage:
        """What is left of the damage where the photo is made smaller, with antialiasing, to ``scale`` of its size.

        Blur, motion and low resolution shrink with it, and are none below 0.3 pixels, 1 pixel and a factor of 1.5. A
        pixel is then the mean of several, so that noise falls, and the blocks of JPEG go; what JPEG lost is noise from
        then on. At a scale of 1 or more nothing changes.
        """
        if scale >= 1:
            return self
        std, length, factor = self.std * scale, self.length * scale, (self.factor * scale).round().clamp_min(1)
        moved = length >= LEAST_LENGTH
        lost = JPEG_ERROR * (scale * quality_to_scale(self.quality)).sqrt()
        lost = torch.where(self.quality < NO_JPEG, lost, 0.0)
        return Damage(
            std=torch.where(std >= LEAST_STD, std, 0.0),
            length=torch.where(moved, length, 0.0),
            angle=torch.where(moved, self.angle, 0.0),
            factor=factor,
            quality=torch.full_like(self.quality, NO_JPEG),
            noise_std=torch.hypot(NOISE_KEPT * scale * self.noise_std, lost),
        )

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


def has(damage: Damage, name: str) -> bool:
    """Whether a single photo's operator with the number ``name`` is there."""
    value = float(damage.length if name == "angle" else getattr(damage, name))
    return value < NO_JPEG if name == "quality" else value > 0


def with_number(damage: Damage, name: str, value: float) -> Damage:
    """The damage of a single photo with another number."""
    return replace(damage, **{name: torch.tensor([value], dtype=torch.float64)})


def clean(damage: Damage, image: Tensor) -> Tensor:
    """A(x) of a single photo, without noise."""
    return replace(damage, angle=damage.angle % 180).degradation()(image)


def quality_to_scale(quality: Tensor) -> Tensor:
    """By what libjpeg multiplies its quantisation tables at ``quality`` (1 to 100): 50 is 1, 10 is 5, 90 is 0.2."""
    return torch.where(quality < 50, 50 / quality, 2 - quality / 50)
