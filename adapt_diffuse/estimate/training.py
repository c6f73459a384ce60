"""One step of the estimator's training, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .damage import NO_JPEG, Damage
from .losses import blur_kind, negative_log_likelihood, targets
from .network import STARTS, DamageEstimator, Gaussian
from .simulate import DamageRange, damaged

BLOCK = 8  # of JPEG
COVERED = 0.6827  # of a normal distribution lies within one standard deviation


@dataclass(frozen=True)
class Examples:
    """Damaged photos (B, 3, H, W), and what was done to them."""

    photo: Tensor
    damage: Damage


def draw_examples(photos: Tensor, ranges: DamageRange, generator: torch.Generator) -> Examples:
    """Damage photos (B, 3, H + 8, W + 8), and cut each at random, so that JPEG's grid begins anywhere."""
    damage = ranges.draw(len(photos), generator)
    hurt = damaged(photos, damage, generator)
    height, width = hurt.shape[2] - BLOCK, hurt.shape[3] - BLOCK
    corners = torch.randint(BLOCK, (len(photos), 2), generator=generator).tolist()
    cut = [one[:, top : top + height, left : left + width] for one, (top, left) in zip(hurt, corners, strict=True)]
    return Examples(torch.stack(cut), damage)


def loss_of(estimator: DamageEstimator, examples: Examples, autocast: bool = False) -> Tensor:
    """The mean negative log likelihood of a batch, all kinds of damage added up."""
    device = next(estimator.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        statistics = estimator.statistics(examples.photo.to(device))
    terms = negative_log_likelihood(estimator.readings(statistics), examples.damage)
    return torch.stack(list(terms.values())).sum()


@torch.no_grad()
def calibrate(estimator: DamageEstimator, batches: list[Examples]) -> None:
    """Stretch the uncertainties so that on ``batches`` 68 % of the errors are within one standard deviation."""
    stretch = estimator.get_buffer("stretch")
    stretch.fill_(1.0)
    found = scaled_errors(estimator, batches)
    for place, name in enumerate(STARTS):
        if len(found[name]):
            stretch[place] = found[name].abs().quantile(COVERED).clamp(0.25, 4.0)


@torch.no_grad()
def scaled_errors(estimator: DamageEstimator, batches: list[Examples]) -> dict[str, Tensor]:
    """For every number its errors in units of the uncertainty, of the photos where there is one: (n,) float32."""
    found: dict[str, list[Tensor]] = {name: [] for name in STARTS}
    for examples in batches:
        readings = estimator(examples.photo.to(next(estimator.parameters()).device))
        for name, (value, there) in targets(examples.damage).items():
            said: Gaussian = getattr(readings, name)
            error = ((value.to(said.mean) - said.mean) / said.std).cpu()
            found[name].append(error[there].flatten())
    return {name: torch.cat(errors) for name, errors in found.items()}


@torch.no_grad()
def scores(estimator: DamageEstimator, batches: list[Examples]) -> dict[str, float]:
    """The loss, the shares of right decisions, and the median absolute errors (in the numbers' own form)."""
    device = next(estimator.parameters()).device
    right: dict[str, list[Tensor]] = {"blur": [], "factor": [], "jpeg": []}
    errors: dict[str, list[Tensor]] = {name: [] for name in STARTS}
    losses = []
    for examples in batches:
        readings, damage = estimator(examples.photo.to(device)), examples.damage
        losses.append(torch.stack(list(negative_log_likelihood(readings, damage).values())).sum().cpu())
        right["blur"].append(readings.blur.argmax(1).cpu() == blur_kind(damage))
        right["factor"].append(readings.factor.argmax(1).cpu() + 1 == damage.factor)
        right["jpeg"].append((readings.jpeg.cpu() > 0) == (damage.quality < NO_JPEG))
        for name, (value, there) in targets(damage).items():
            errors[name].append((getattr(readings, name).mean.cpu() - value)[there].flatten().abs())
    shares = {f"{name} right": float(torch.cat(each).float().mean()) for name, each in right.items()}
    medians = {f"{name} error": float(torch.cat(each).median()) for name, each in errors.items()}
    return {"loss": float(torch.stack(losses).mean()), **shares, **medians}
