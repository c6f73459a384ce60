"""Damage, estimates and pictures that tests of the estimator share."""

from __future__ import annotations

from dataclasses import fields

import torch

from adapt_diffuse.estimate import Damage, Estimate


def damage_of(**numbers: float) -> Damage:
    """A single photo's damage; what is not named is absent."""
    none = {"std": 0.0, "length": 0.0, "angle": 0.0, "factor": 1.0, "quality": 100.0, "noise_std": 0.0}
    return Damage(**{name: torch.tensor([value], dtype=torch.float64) for name, value in (none | numbers).items()})


def estimate(damage: Damage, **errors: float) -> Estimate:
    said = {"blurred": 0.99, "compressed": 0.99, "reduced": 0.99} | {
        field.name: 0.1 for field in fields(Estimate) if field.name.endswith("_error")
    }
    return Estimate(damage, **{name: torch.tensor([value]).double() for name, value in (said | errors).items()})


def scene(seed: int = 0, side: int = 96) -> torch.Tensor:
    """A photo-like picture (1, 3, side, side): edges at many scales, a little texture."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, side, side)
    for cells in (3, 7, 19, 41):
        coarse = torch.rand(1, 3, cells, cells, generator=generator)
        picture += torch.nn.functional.interpolate(coarse, side, mode="nearest")
    return (picture / 4 + 0.02 * torch.randn(picture.shape, generator=generator)).clamp(0, 1)
