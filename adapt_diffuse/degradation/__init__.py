"""Degradations ``y = A(x) + n``: operators, noise, and random families of them."""

from .base import Degradation, LinearDegradation, measure, noise_levels, randn
from .bkse import LearnedBlur
from .blur import GaussianBlur
from .camera import CameraBlur
from .chain import Chain, PerImage, chain, for_each
from .families import FAMILIES, Family, family_from_json, family_to_json
from .film import Fading, FilmDamage, Marks
from .jpeg import Jpeg
from .kernel import KernelBlur
from .lens import LensBlur
from .missing import LOSING, MissingBox, MissingPixels, RandomMissingPixels, ScalableMask, random_mask
from .motion import MotionBlur
from .noise import Noise
from .resize import Downscale, LowResolution
from .spec import DEGRADATIONS, degradation_name, parse_degradation
from .steps import BLURRING, blurs, loses_pixels, steps_of

__all__ = [
    "BLURRING",
    "DEGRADATIONS",
    "FAMILIES",
    "LOSING",
    "CameraBlur",
    "Chain",
    "Degradation",
    "Downscale",
    "Fading",
    "Family",
    "FilmDamage",
    "GaussianBlur",
    "Jpeg",
    "KernelBlur",
    "LearnedBlur",
    "LensBlur",
    "LinearDegradation",
    "LowResolution",
    "Marks",
    "MissingBox",
    "MissingPixels",
    "MotionBlur",
    "Noise",
    "PerImage",
    "RandomMissingPixels",
    "ScalableMask",
    "blurs",
    "chain",
    "degradation_name",
    "family_from_json",
    "family_to_json",
    "for_each",
    "loses_pixels",
    "measure",
    "noise_levels",
    "parse_degradation",
    "random_mask",
    "randn",
    "steps_of",
]
