"""Whether a photo is as its degradation says: more noise, or another operator, ruins a restoration."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .degradation import noise_levels
from .detail import with_detail
from .estimate import DamageEstimator, estimate_damage, load_estimator
from .estimate.estimate import ENOUGH
from .measurement import Measurement

LOOK = 768  # pixels of the photo's middle that are looked at, at most
MORE, LEAST = 1.5, 0.005  # times and plus what was said: below it is no mistake worth a word


def unsaid_noise(measurement: Measurement) -> list[float]:
    """For each photo the noise that is seen in it, on [0, 1], where it is clearly more than was said; else 0.

    Photos with lost pixels, and tiny ones, are not judged.
    """
    y = measurement.y
    noise = torch.zeros(len(y), dtype=torch.float64)
    whole = (measurement.degradation.observed(torch.ones_like(y)) > 0).flatten(1).all(1)
    if min(y.shape[2:]) < ENOUGH or not bool(whole.any()):
        return noise.tolist()
    said = noise_levels(measurement.degradation, len(y))[whole.cpu()]
    top, left = (max(side - LOOK, 0) // 2 for side in y.shape[2:])
    middle = y[whole, :, top : top + LOOK, left : left + LOOK]
    seen = estimate_damage(middle.clamp(0, 1).cpu().float(), _estimator()).damage.noise_std.cpu().double()
    noise[whole.cpu()] = torch.where(seen > MORE * said + LEAST, seen, 0)
    return noise.tolist()


@torch.no_grad()
def misfit(image: Tensor, measurement: Measurement, detail: float = 0.0) -> list[float]:
    """For each restored photo how far, on [0, 1], the damaged photo is from the damage done to it: its noise, or more.

    It is much more than the noise where the degradation is not what happened. What the autoencoder has lost is no sign
    of that: it is put back first.

    Args:
        image: (B, 3, H, W) on [0, 1], finished with ``detail``.
    """
    return measurement.residual_rms(image if detail >= 1 else with_detail(image, measurement)).tolist()


@cache
def _estimator() -> DamageEstimator:
    return load_estimator()
