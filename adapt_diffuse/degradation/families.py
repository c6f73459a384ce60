"""Random families of degradations: what a severity encoder is trained on, and what a benchmark task draws from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Degradation, Generators, check_noise_std, rand
from .blur import MAX_STD, GaussianBlur
from .missing import MAX_DROP, MissingPixels, random_mask

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


def _uniform(low: float, high: float, count: int, generators: Generators) -> Tensor:
    return low + (high - low) * rand((count,), generators, torch.float64)


def _check_range(name: str, low: float, high: float, limit: float) -> None:
    if not 0 <= low <= high <= limit:
        raise AdaptDiffuseError(
            f"{name}_min and {name}_max must rise between 0 and {limit:g}, not be {low:g} and {high:g}."
        )


@dataclass(frozen=True)
class GaussianBlurFamily:
    """Gaussian blur with std uniform in [std_min, std_max] pixels."""

    std_min: float = 0.3
    std_max: float = 3.0
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        _check_range("std", self.std_min, self.std_max, MAX_STD)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[GaussianBlur, Tensor]:
        std = _uniform(self.std_min, self.std_max, shape[0], generators)
        return GaussianBlur(std, self.noise_std), std


@dataclass(frozen=True)
class MissingPixelsFamily:
    """Pixels lost one by one with probability uniform in [drop_min, drop_max]."""

    drop_min: float = 0.7
    drop_max: float = 0.8
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        _check_range("drop", self.drop_min, self.drop_max, MAX_DROP)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[MissingPixels, Tensor]:
        drop = _uniform(self.drop_min, self.drop_max, shape[0], generators)
        return MissingPixels(random_mask(shape, drop, generators), self.noise_std), drop


FAMILIES: dict[str, type[GaussianBlurFamily] | type[MissingPixelsFamily]] = {
    "gaussian-blur": GaussianBlurFamily,
    "missing-pixels": MissingPixelsFamily,
}


def family_to_json(family: Family) -> dict[str, Any]:
    """The family as JSON values: its name and its numbers."""
    name = next(name for name, kind in FAMILIES.items() if isinstance(family, kind))
    return {"name": name, **asdict(family)}  # type: ignore[call-overload]


def family_from_json(values: dict[str, Any]) -> Family:
    """The family that ``family_to_json`` described. Raises AdaptDiffuseError for one this version does not know."""
    options = dict(values)
    name = options.pop("name", None)
    if name not in FAMILIES:
        raise AdaptDiffuseError(f"Unknown degradation family '{name}'; there are {', '.join(FAMILIES)}.")
    try:
        return FAMILIES[name](**options)
    except TypeError:
        raise AdaptDiffuseError(f"The family '{name}' does not have one of the options {sorted(options)}.") from None
