"""The registry of degradations, and their names as text: ``gaussian-blur:std=3.0``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import AdaptDiffuseError
from .base import Degradation
from .blur import GaussianBlur
from .missing import MissingPixels, RandomMissingPixels


def _missing_pixels(noise_std: float, drop: float = 0.75, seed: float = 0) -> RandomMissingPixels:
    # larger whole numbers are not exact in the text's floating point
    if not 0 <= seed < 2**53 or seed != int(seed):
        raise AdaptDiffuseError(f"The seed of missing-pixels must be a whole number from 0 on, not {seed:g}.")
    return RandomMissingPixels(drop, int(seed), noise_std)


def _mask(noise_std: float, file: str = "") -> MissingPixels:
    from ..images import read_mask

    if not file:
        raise AdaptDiffuseError("The degradation mask needs a file: mask:file=MASK.png (white is kept, black is lost).")
    return MissingPixels(read_mask(Path(file)), noise_std)


def _gaussian_blur(noise_std: float, std: float = 3.0) -> GaussianBlur:
    return GaussianBlur(std, noise_std)


DEGRADATIONS: dict[str, Callable[..., Degradation]] = {
    "gaussian-blur": _gaussian_blur,
    "missing-pixels": _missing_pixels,
    "mask": _mask,
}


def parse_degradation(text: str, noise_std: float) -> Degradation:
    """The degradation that ``text`` names: ``name`` or ``name:key=value,key=value``.

    Raises:
        AdaptDiffuseError: an unknown name or key, or a value that is no number where one is needed.
    """
    name, _, options = text.partition(":")
    if name not in DEGRADATIONS:
        raise AdaptDiffuseError(f"Unknown degradation '{name}'; there are {', '.join(DEGRADATIONS)}.")
    values: dict[str, float | str] = {}
    for option in filter(None, options.split(",")):
        key, equals, value = option.partition("=")
        if not equals:
            raise AdaptDiffuseError(f"'{option}' in '{text}' should be key=value.")
        try:
            values[key] = value if key == "file" else float(value)
        except ValueError:
            raise AdaptDiffuseError(f"'{value}' in '{text}' is not a number.") from None
    try:
        return DEGRADATIONS[name](noise_std, **values)
    except TypeError:
        raise AdaptDiffuseError(f"'{name}' does not have one of the options in '{text}'.") from None
