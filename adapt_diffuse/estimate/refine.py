"""A second look at an estimate, with the restored photo at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .damage import Damage, clean, has, with_number
from .estimate import NUMBERS, ROUNDING, Estimate

GOLDEN = (math.sqrt(5) - 1) / 2
EVALUATIONS = 12  # of an operator for each of its numbers
FAR = 2.0  # uncertainties of the estimate that a number may move by
HUBER = 2.0  # errors beyond twice the noise are the restoration's, not the operator's
ROBUST = 1.4826  # median absolute value to standard deviation


@torch.no_grad()
def refine(photo: Tensor, restored: Tensor, estimate: Estimate) -> Estimate:
    """The estimate whose operator takes the restored photo closest to the photo.

    For each number in turn a golden-section search of the mean Huber error of ``y - A(x)``, within two of the
    estimate's standard deviations; then the noise, robustly from what is left. What is there and what is not stays.

    Args:
        photo: (B, 3, H, W) on [0, 1], y.
        restored: (B, 3, H, W) on [0, 1], x.

    Raises:
        AdaptDiffuseError: images of different sizes, or another number of them than of estimates.
    """
    if photo.shape != restored.shape or len(photo) != len(estimate):
        raise AdaptDiffuseError(
            f"An estimate of {len(estimate)} photos is refined with the photos and as many restored ones of the same "
            f"size, not {tuple(photo.shape)} and {tuple(restored.shape)}."
        )
    rows = [
        _refined(photo[index : index + 1], restored[index : index + 1], estimate.select(torch.tensor([index])))
        for index in range(len(photo))
    ]
    damage = Damage.joined(rows)
    return replace(estimate, damage=damage)


def _refined(photo: Tensor, restored: Tensor, estimate: Estimate) -> Damage:
    damage = estimate.damage
    for name, error, low, high in NUMBERS:
        if not has(damage, name):
            continue
        middle, reach = float(getattr(estimate.damage, name)), FAR * float(getattr(estimate, error))
        noise = float(damage.noise_std)

        def misfit(value: float, name: str = name, noise: float = noise, damage: Damage = damage) -> float:
            return huber(photo - clean(with_number(damage, name, value), restored), noise)

        found = golden_section(misfit, max(middle - reach, low), min(middle + reach, high))
        # a flat valley's bottom is no better than where it began
        damage = with_number(damage, name, found if misfit(found) < misfit(middle) else middle)
    if damage.length > 0:
        damage = replace(damage, angle=damage.angle % 180)
    left = (photo - clean(damage, restored)).abs().median() * ROBUST
    return replace(damage, noise_std=left.cpu().double().reshape(1).clamp(ROUNDING, 1))


def huber(residual: Tensor, noise_std: float) -> float:
    """The mean of ``r^2`` that grows only linearly beyond twice ``noise_std``."""
    limit = HUBER * max(noise_std, ROUNDING)
    size = residual.abs()
    return float(torch.where(size < limit, size.square(), 2 * limit * size - limit**2).mean())


def golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Where ``function`` is least in [low, high], to a 250th of the interval (Kiefer 1953)."""
    inner = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)]
    values = [function(place) for place in inner]
    for _ in range(EVALUATIONS - 2):
        if values[0] < values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - GOLDEN * (high - low)
            values[0] = function(inner[0])
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + GOLDEN * (high - low)
            values[1] = function(inner[1])
    return (low + high) / 2
