"""What a random family of degradations is, and how its numbers are drawn."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Degradation, Generators, rand

Shape = tuple[int, int, int, int]


class Family(Protocol):
    """A distribution of degradations."""

    @property
    def noise_std(self) -> float: ...

    def sample(self, shape: Shape, generators: Generators) -> tuple[Degradation, Tensor]:
        """One degradation per image of a batch (B, 3, H, W), as one operator, and the level (B,) of each.

        The level is the number that a severity should follow: the blur's std, the fraction of lost pixels.
        With one generator per image, image i gets what it would get alone.
        """
        ...


def uniform(low: float, high: float, count: int, generators: Generators) -> Tensor:
    """Numbers (count,) float64, uniform in [low, high)."""
    return low + (high - low) * rand((count,), generators, torch.float64)


def uniform_whole(low: float, high: float, count: int, generators: Generators) -> Tensor:
    """Whole numbers (count,) float64, each of low, low + 1, ... high as likely."""
    return torch.floor(uniform(low, high + 1, count, generators)).clamp_max(high)


def check_range(name: str, low: float, high: float, limit: float, least: float = 0) -> None:
    """Raise AdaptDiffuseError where ``least <= low <= high <= limit`` does not hold."""
    if not least <= low <= high <= limit:
        raise AdaptDiffuseError(
            f"{name}_min and {name}_max must rise between {least:g} and {limit:g}, not be {low:g} and {high:g}."
        )


def check_whole(name: str, *values: float) -> None:
    """Raise AdaptDiffuseError where one of the values is not a whole number."""
    if any(value != int(value) for value in values):
        raise AdaptDiffuseError(f"{name}_min and {name}_max must be whole numbers.")
