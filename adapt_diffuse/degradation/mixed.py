"""Random chains of everything that happens to photos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Degradation, Generators, check_noise_std, rand
from .blur import MAX_STD, GaussianBlur
from .chain import PerImage, chain, for_each
from .jpeg import Jpeg
from .kernel_blur import MAX_LENGTH
from .missing import MAX_DROP, MissingPixels, random_mask
from .motion import MotionBlur
from .noise import Noise
from .resize import MAX_FACTOR, LowResolution
from .sampling import Shape

STAGES = 4


@dataclass(frozen=True)
class MixedFamily:
    """Chains of blur (Gaussian or motion), low resolution, JPEG and missing pixels, each with probability 1/2; noise.

    A low resolution of factor 1 is none: of the default factors up to 4 it is there 3 times in 8.

    A stage's strength is uniform from none to its strongest, and the noise in [0, noise_std]. The level is the sum of
    the strengths, each from 0 to 1, the noise's among them: 0 is a perfect photo, 5 the worst.

    Attributes:
        std_max: the strongest Gaussian blur, in pixels.
        length_max: the longest motion blur, in pixels.
        factor_max: the largest factor by which a photo has been made smaller, and enlarged again; whole.
        quality_min: the worst JPEG quality.
        drop_max: the largest fraction of lost pixels.
        noise_std: the strongest noise.
    """

    std_max: float = 3.0
    length_max: float = 15.0
    factor_max: float = 4
    quality_min: float = 10.0
    drop_max: float = 0.5
    noise_std: float = 0.1

    def __post_init__(self) -> None:
        limits = {
            "std_max": (0, MAX_STD),
            "length_max": (0, MAX_LENGTH),
            "factor_max": (2, MAX_FACTOR),
            "quality_min": (1, 99),
            "drop_max": (0, MAX_DROP),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                value = getattr(self, name)
                raise AdaptDiffuseError(f"{name} must be between {low:g} and {high:g}, not {value:g}.")
        if self.factor_max != int(self.factor_max):
            raise AdaptDiffuseError(f"factor_max must be a whole number, not {self.factor_max:g}.")
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[PerImage, Tensor]:
        count = shape[0]
        each = [generators] * count if isinstance(generators, torch.Generator) else generators
        made = [self._one((1, *shape[1:]), generator) for generator in each]
        levels = torch.tensor([level for _, level in made], dtype=torch.float64)
        return for_each([operator for operator, _ in made]), levels

    def _one(self, shape: Shape, generator: torch.Generator) -> tuple[Degradation, float]:
        chosen, strength = rand((2, STAGES), generator, torch.float64)
        motion, angle, noise = rand((3,), generator, torch.float64).tolist()
        blur, low, jpeg, drop = (strength * (chosen < 0.5)).tolist()
        factor = 1 + int(low * self.factor_max)
        parts: list[Degradation] = []
        if blur > 0 and motion < 0.5:
            parts.append(MotionBlur(blur * self.length_max, 180 * angle))
        elif blur > 0:
            parts.append(GaussianBlur(blur * self.std_max))
        if factor > 1:
            parts.append(LowResolution(factor))
        if jpeg > 0:
            parts.append(Jpeg(100 - jpeg * (100 - self.quality_min)))
        if drop > 0:
            mask = random_mask(shape, torch.tensor([drop * self.drop_max]), generator)
            parts.append(MissingPixels(mask))
        level = blur + (factor - 1) / (self.factor_max - 1) + jpeg + drop + noise
        return reduce(chain, [*parts, Noise(noise * self.noise_std)]), level
