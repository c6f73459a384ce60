"""Degradations ``y = A(x) + n``: operators, noise, and random families of them."""

from .base import Degradation, LinearDegradation, measure, randn
from .blur import GaussianBlur
from .families import FAMILIES, Family, family_from_json, family_to_json
from .missing import MissingPixels, RandomMissingPixels, random_mask
from .spec import DEGRADATIONS, parse_degradation

__all__ = [
    "DEGRADATIONS",
    "FAMILIES",
    "Degradation",
    "Family",
    "GaussianBlur",
    "LinearDegradation",
    "MissingPixels",
    "RandomMissingPixels",
    "family_from_json",
    "family_to_json",
    "measure",
    "parse_degradation",
    "random_mask",
    "randn",
]
