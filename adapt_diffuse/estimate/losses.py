"""What the estimator learns: how likely the damage is, given what it says of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .damage import NO_JPEG, Damage, quality_to_scale
from .network import NOISE_FLOOR, Gaussian, Readings


def targets(damage: Damage) -> dict[str, tuple[Tensor, Tensor]]:
    """For every number that is read as a normal distribution: its true value, and where there is one (B,)."""
    gaussian, motion, jpeg = damage.std > 0, damage.length > 0, damage.quality < NO_JPEG
    twice = torch.deg2rad(2 * damage.angle)
    return {
        "log_std": (damage.std.clamp_min(1e-3).log(), gaussian),
        "log_length": (damage.length.clamp_min(1e-3).log(), motion),
        "direction": (torch.stack([twice.cos(), twice.sin()], 1), motion),
        "log_scale": (quality_to_scale(damage.quality.clamp(1, 99)).log(), jpeg),
        "log_noise": ((damage.noise_std + NOISE_FLOOR).log(), torch.ones_like(jpeg)),
    }


def blur_kind(damage: Damage) -> Tensor:
    """(B,) 0 without blur, 1 Gaussian, 2 motion."""
    return (damage.std > 0).long() + 2 * (damage.length > 0).long()


def negative_log_likelihood(readings: Readings, damage: Damage) -> dict[str, Tensor]:
    """The terms of the loss, each a mean over the photos: Gaussian for numbers, cross entropy for what is there."""
    device = readings.blur.device
    terms = {
        "blur": F.cross_entropy(readings.blur, blur_kind(damage).to(device)),
        "factor": F.cross_entropy(readings.factor, damage.factor.long().to(device) - 1),
        "jpeg": F.binary_cross_entropy_with_logits(readings.jpeg, (damage.quality < NO_JPEG).to(readings.jpeg)),
    }
    for name, (value, there) in targets(damage).items():
        said: Gaussian = getattr(readings, name)
        error = (said.mean - value.to(said.mean)) / said.std
        each = 0.5 * error.square() + said.log_std
        terms[name] = (each.reshape(len(damage), -1).mean(1) * there.to(each)).mean()
    return terms
