"""Random families of degradations: what a severity encoder is trained on, and what a benchmark task draws from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Generators, check_noise_std, parameter, whole
from .blur import MAX_STD, GaussianBlur
from .camera import MAX_GAIN, CameraBlur
from .film import MAX_GAMMA, MAX_MARKS, MAX_SIZE, MIN_SIZE, Fading, FilmDamage, random_marks
from .jpeg import Jpeg
from .kernel_blur import MAX_LENGTH
from .missing import MAX_DROP, MissingPixels, box_mask, random_mask
from .mixed import MixedFamily
from .motion import MotionBlur
from .noise import Noise
from .resize import MAX_FACTOR, LowResolution
from .sampling import Family, Shape, check_range, check_whole, uniform, uniform_whole

__all__ = ["FAMILIES", "Family", "family_from_json", "family_to_json", "parse_family"]


@dataclass(frozen=True)
class GaussianBlurFamily:
    """Gaussian blur with std uniform in [std_min, std_max] pixels."""

    std_min: float = 0.3
    std_max: float = 3.0
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("std", self.std_min, self.std_max, MAX_STD)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[GaussianBlur, Tensor]:
        std = uniform(self.std_min, self.std_max, shape[0], generators)
        return GaussianBlur(std, self.noise_std), std


@dataclass(frozen=True)
class MotionBlurFamily:
    """Motion blur of a length uniform in [length_min, length_max] pixels, in any direction; the level is the length."""

    length_min: float = 1.0
    length_max: float = 20.0
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("length", self.length_min, self.length_max, MAX_LENGTH)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[MotionBlur, Tensor]:
        length = uniform(self.length_min, self.length_max, shape[0], generators)
        angle = uniform(0, 180, shape[0], generators)
        return MotionBlur(length, angle, self.noise_std), length


@dataclass(frozen=True)
class CameraBlurFamily:
    """Random camera shakes, uniform in [extent_min, extent_max] pixels across; the level is the extent."""

    extent_min: float = 1.0
    extent_max: float = 20.0
    gain: float = 1.2
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("extent", self.extent_min, self.extent_max, MAX_LENGTH)
        if not 0.1 <= self.gain <= MAX_GAIN:
            raise AdaptDiffuseError(f"gain must be between 0.1 and {MAX_GAIN:g}, not {self.gain:g}.")
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[CameraBlur, Tensor]:
        extent = uniform(self.extent_min, self.extent_max, shape[0], generators)
        return CameraBlur.shaken(extent, generators, self.gain, self.noise_std), extent


@dataclass(frozen=True)
class MissingPixelsFamily:
    """Pixels lost one by one with probability uniform in [drop_min, drop_max]."""

    drop_min: float = 0.7
    drop_max: float = 0.8
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("drop", self.drop_min, self.drop_max, MAX_DROP)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[MissingPixels, Tensor]:
        drop = uniform(self.drop_min, self.drop_max, shape[0], generators)
        return MissingPixels(random_mask(shape, drop, generators), self.noise_std), drop


@dataclass(frozen=True)
class MissingBoxFamily:
    """A lost box anywhere, its sides a part of the photo's, uniform in [side_min, side_max]; the level is that part."""

    side_min: float = 0.2
    side_max: float = 0.6
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("side", self.side_min, self.side_max, MAX_DROP)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[MissingPixels, Tensor]:
        count, _, height, width = shape
        side = uniform(self.side_min, self.side_max, count, generators)
        down, right = uniform(0, 1, count, generators), uniform(0, 1, count, generators)
        rows, columns = (side * height).long(), (side * width).long()
        top, left = (down * (height - rows + 1)).long(), (right * (width - columns + 1)).long()
        boxes = torch.stack([top, left, rows, columns], 1).tolist()
        return MissingPixels(box_mask(height, width, [tuple(box) for box in boxes]), self.noise_std), side


@dataclass(frozen=True)
class FilmDamageFamily:
    """Faded photos with scratches and dust; the level is the fading, uniform in [fade_min, fade_max].

    The colour cast is uniform in [-cast_max, cast_max], gamma in [1 / gamma_max, gamma_max] in its logarithm, and the
    scratches and specks of dust are any number up to scratches_max and dust_max, of ``size`` as in ``Marks``.
    """

    fade_min: float = 0.0
    fade_max: float = 0.6
    cast_max: float = 0.8
    gamma_max: float = 1.4
    scratches_max: float = 6
    dust_max: float = 40
    size: float = 2.0
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("fade", self.fade_min, self.fade_max, 1)
        parameter(self.cast_max, 0, 1, "cast_max")
        parameter(self.gamma_max, 1, MAX_GAMMA, "gamma_max")
        for name in ("scratches_max", "dust_max"):
            whole(parameter(getattr(self, name), 0, MAX_MARKS, name), name)
        parameter(self.size, MIN_SIZE, MAX_SIZE, "size")
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[FilmDamage, Tensor]:
        count = shape[0]
        fade = uniform(self.fade_min, self.fade_max, count, generators)
        cast = uniform(-self.cast_max, self.cast_max, count, generators)
        gamma = self.gamma_max ** uniform(-1, 1, count, generators)
        scratches = uniform_whole(0, self.scratches_max, count, generators)
        dust = uniform_whole(0, self.dust_max, count, generators)
        lost = random_marks(shape, scratches.long(), dust.long(), self.size, generators)
        return FilmDamage(lost, Fading.of(fade, cast, gamma), self.noise_std), fade


@dataclass(frozen=True)
class DownscaleFamily:
    """Photos made smaller by a factor of factor_min, ... or factor_max, and enlarged again; the level is the factor.

    They keep their size, because a batch needs one; ``Downscale.start_image`` is what they look like.
    """

    factor_min: float = 2
    factor_max: float = 4
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("factor", self.factor_min, self.factor_max, MAX_FACTOR, least=1)
        check_whole("factor", self.factor_min, self.factor_max)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[LowResolution, Tensor]:
        factor = uniform_whole(self.factor_min, self.factor_max, shape[0], generators)
        return LowResolution(factor, noise_std=self.noise_std), factor


@dataclass(frozen=True)
class JpegFamily:
    """JPEG of a quality uniform in [quality_min, quality_max]; the level is 100 - quality."""

    quality_min: float = 5.0
    quality_max: float = 50.0
    noise_std: float = 0.05

    def __post_init__(self) -> None:
        check_range("quality", self.quality_min, self.quality_max, 100, least=1)
        check_noise_std(self.noise_std)

    def sample(self, shape: Shape, generators: Generators) -> tuple[Jpeg, Tensor]:
        quality = uniform(self.quality_min, self.quality_max, shape[0], generators)
        return Jpeg(quality, self.noise_std), 100 - quality


@dataclass(frozen=True)
class NoiseFamily:
    """Noise alone, its std uniform in [noise_min, noise_std]; the level is that std."""

    noise_min: float = 0.0
    noise_std: float = 0.2

    def __post_init__(self) -> None:
        check_noise_std(self.noise_std)
        if not 0 <= self.noise_min <= self.noise_std:
            raise AdaptDiffuseError(f"noise_min must be between 0 and noise_std, not {self.noise_min:g}.")

    def sample(self, shape: Shape, generators: Generators) -> tuple[Noise, Tensor]:
        noise_std = uniform(self.noise_min, self.noise_std, shape[0], generators)
        return Noise(noise_std), noise_std


FAMILIES: dict[str, type[Any]] = {
    "gaussian-blur": GaussianBlurFamily,
    "motion-blur": MotionBlurFamily,
    "camera-blur": CameraBlurFamily,
    "missing-pixels": MissingPixelsFamily,
    "missing-box": MissingBoxFamily,
    "downscale": DownscaleFamily,
    "jpeg": JpegFamily,
    "noise": NoiseFamily,
    "mixed": MixedFamily,
    "film-damage": FilmDamageFamily,
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
        given, known = sorted(set(options) - {"noise_std"}), list(signature(FAMILIES[name]).parameters)
        raise AdaptDiffuseError(
            f"The family '{name}' does not have one of the options {', '.join(given)}: it has {', '.join(known)}."
        ) from None


def parse_family(text: str, noise_std: float) -> Family:
    """``name`` or ``name:key=value,...`` as a family. Raises AdaptDiffuseError where it is none."""
    name, _, options = text.partition(":")
    values: dict[str, object] = {"name": name, "noise_std": noise_std}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        try:
            values[key.strip()] = float(value)
        except ValueError:
            raise AdaptDiffuseError(f"'{option}' in '{text}' should be key=number.") from None
    return family_from_json(values)
