"""The registry of degradations, and their names as text: ``gaussian-blur:std=3.0``, ``downscale|jpeg:quality=30``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import reduce
from pathlib import Path

from ..errors import AdaptDiffuseError
from .base import Degradation
from .bkse import LearnedBlur
from .blur import GaussianBlur
from .camera import CameraBlur
from .chain import chain
from .film import Fading, FilmDamage, Marks
from .jpeg import Jpeg
from .kernel import KernelBlur, luminance
from .lens import LensBlur
from .missing import MissingBox, RandomMissingPixels, ScalableMask
from .motion import MotionBlur
from .noise import Noise
from .resize import Downscale

FADE = 0.3  # of the contrast, where nothing else is said
TEXTS = ("file", "filter")  # options that are no numbers


def _whole(name: str, value: float) -> int:
    # larger whole numbers are not exact in the text's floating point
    if not 0 <= value < 2**53 or value != int(value):
        raise AdaptDiffuseError(f"The {name} must be a whole number from 0 on, not {value:g}.")
    return int(value)


def _gaussian_blur(noise_std: float, std: float = 3.0) -> GaussianBlur:
    return GaussianBlur(std, noise_std)


def _lens_blur(noise_std: float, radius: float = 3.0) -> LensBlur:
    return LensBlur(radius, noise_std)


def _kernel_blur(noise_std: float, file: str = "") -> KernelBlur:
    from ..images import read_photo

    if not file:
        raise AdaptDiffuseError(
            "The degradation kernel-blur needs a file: kernel-blur:file=PSF.png (what a bright point became, on black)."
        )
    return KernelBlur(luminance(read_photo(Path(file))), noise_std)


def _motion_blur(noise_std: float, length: float = 9.0, angle: float = 0.0) -> MotionBlur:
    return MotionBlur(length, angle, noise_std)


def _camera_blur(noise_std: float, extent: float = 9.0, gain: float = 1.2, seed: float = 0) -> CameraBlur:
    return CameraBlur.seeded(extent, _whole("seed of camera-blur", seed), gain, noise_std)


def _bkse(noise_std: float, file: str = "", seed: float = 0) -> LearnedBlur:
    if not file:
        raise AdaptDiffuseError("The degradation bkse needs a file: bkse:file=GOPRO_wVAE.pth (see VinAIResearch).")
    return LearnedBlur.load(Path(file), _whole("seed of bkse", seed), noise_std)


def _missing_pixels(noise_std: float, drop: float = 0.75, seed: float = 0) -> RandomMissingPixels:
    return RandomMissingPixels(drop, _whole("seed of missing-pixels", seed), noise_std)


def _missing_box(
    noise_std: float,
    height: float = 32,
    width: float = 32,
    top: float | None = None,
    left: float | None = None,
    seed: float = 0,
) -> MissingBox:
    place = [None if given is None else _whole("place of missing-box", given) for given in (top, left)]
    side = [_whole("side of missing-box", given) for given in (height, width)]
    return MissingBox(side[0], side[1], place[0], place[1], _whole("seed of missing-box", seed), noise_std)


def _mask(noise_std: float, file: str = "") -> ScalableMask:
    from ..images import read_mask

    if not file:
        raise AdaptDiffuseError("The degradation mask needs a file: mask:file=MASK.png (white is lost, black is kept).")
    return ScalableMask(1 - read_mask(Path(file)), noise_std)


def _film_damage(
    noise_std: float,
    scratches: float = 5,
    dust: float = 40,
    size: float = 2.0,
    fade: float | None = None,
    cast: float = 0.0,
    gamma: float = 1.0,
    seed: float = 0,
    file: str = "",
) -> FilmDamage:
    if fade is None:  # marks that are painted are on a faded photo; those of a real one say nothing of its colours
        fade = 0.0 if file else FADE
    many, specks = (_whole("number of marks of film-damage", given) for given in (scratches, dust))
    lost = _mask(0.0, file) if file else Marks(many, specks, size, _whole("seed of film-damage", seed))
    return FilmDamage(lost, Fading.of(fade, cast, gamma), noise_std)


def _downscale(noise_std: float, factor: float = 4, filter: str = "bicubic") -> Downscale:
    return Downscale(_whole("factor of downscale", factor), filter, noise_std)  # type: ignore[arg-type]


def _jpeg(noise_std: float, quality: float = 20.0) -> Jpeg:
    return Jpeg(quality, noise_std)


def _noise(noise_std: float) -> Noise:
    return Noise(noise_std)


DEGRADATIONS: dict[str, Callable[..., Degradation]] = {
    "gaussian-blur": _gaussian_blur,
    "lens-blur": _lens_blur,
    "motion-blur": _motion_blur,
    "camera-blur": _camera_blur,
    "kernel-blur": _kernel_blur,
    "bkse": _bkse,
    "missing-pixels": _missing_pixels,
    "missing-box": _missing_box,
    "mask": _mask,
    "downscale": _downscale,
    "jpeg": _jpeg,
    "noise": _noise,
    "film-damage": _film_damage,
}


def degradation_name(text: str) -> str:
    """The name in ``text``, as ``parse_degradation`` reads it; several in turn are "mixed"."""
    return "mixed" if "|" in text else text.partition(":")[0]


def parse_degradation(text: str, noise_std: float) -> Degradation:
    """The degradation that ``text`` names: ``name`` or ``name:key=value,key=value``, several in turn with ``|``.

    Args:
        noise_std: of the noise after the last of them; there is none between them.

    Raises:
        AdaptDiffuseError: an unknown name or key, or a value that is no number where one is needed.
    """
    if text.strip() == "auto":
        raise AdaptDiffuseError("auto is of restore alone, which estimates the damage: name one here.")
    return reduce(chain, [_parse_one(part.strip(), noise_std) for part in text.split("|")])


def split_options(text: str) -> list[str]:
    """The parts between commas; those of a file's name, which hold no equals sign, belong to it."""
    parts: list[str] = []
    for part in filter(None, text.split(",")):
        if parts and parts[-1].startswith("file=") and "=" not in part:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _parse_one(text: str, noise_std: float) -> Degradation:
    name, _, options = text.partition(":")
    if name == "auto":
        raise AdaptDiffuseError(
            "auto stands alone. Scratches and holes hide the blur: restore with their mask first, then the result with "
            "auto."
        )
    if name not in DEGRADATIONS:
        raise AdaptDiffuseError(f"Unknown degradation '{name}'; there are {', '.join(DEGRADATIONS)}.")
    values: dict[str, float | str] = {}
    for option in split_options(options):
        key, equals, value = option.partition("=")
        if not equals:
            raise AdaptDiffuseError(f"'{option}' in '{text}' should be key=value.")
        try:
            values[key] = value if key in TEXTS else float(value)
        except ValueError:
            raise AdaptDiffuseError(f"'{value}' in '{text}' is not a number.") from None
    try:
        return DEGRADATIONS[name](noise_std, **values)
    except TypeError:
        known = [option for option in inspect.signature(DEGRADATIONS[name]).parameters if option != "noise_std"]
        raise AdaptDiffuseError(
            f"'{name}' does not have one of the options in '{text}': it has {', '.join(known) or 'none'}."
        ) from None
