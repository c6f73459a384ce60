"""What the estimator is trained on, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .damage import NO_JPEG, Damage
from .losses import blur_kind, negative_log_likelihood, targets
from .network import STARTS, DamageEstimator, Gaussian, Readings
from .simulate import DamageRange, found
from .statistics import BLOCK, Statistics, statistics_of

COVERED = 0.6827  # of a normal distribution lies within one standard deviation


@dataclass(frozen=True)
class Examples:
    """Statistics of damaged photos, and what was done to them."""

    statistics: Statistics
    damage: Damage

    def __len__(self) -> int:
        return len(self.damage)

    def select(self, indices: Tensor) -> Examples:
        spectra, numbers = self.statistics.spectra[indices], self.statistics.numbers[indices]
        return Examples(Statistics(spectra, numbers), self.damage.select(indices))


def draw_examples(photos: Tensor, ranges: DamageRange, generator: torch.Generator) -> Examples:
    """Damage photos (B, 3, H + 8, W + 8), and cut each at random, so that JPEG's grid begins anywhere."""
    hurt, damage = found(photos, ranges.draw(len(photos), generator), generator)
    height, width = hurt.shape[2] - BLOCK, hurt.shape[3] - BLOCK
    corners = torch.randint(BLOCK, (len(photos), 2), generator=generator).tolist()
    cut = [one[:, top : top + height, left : left + width] for one, (top, left) in zip(hurt, corners, strict=True)]
    return Examples(statistics_of(torch.stack(cut)), damage)


def mirrored(examples: Examples, chosen: Tensor) -> Examples:
    """The examples with those of ``chosen`` (n,) bool as if their photos stood on their heads: motion turns too."""
    spectra, damage = examples.statistics.spectra, examples.damage
    turned = torch.where(chosen[:, None, None, None], spectra.flip(2).roll(1, 2), spectra)
    angle = torch.where(chosen & (damage.length > 0), (180 - damage.angle) % 180, damage.angle)
    return Examples(Statistics(turned, examples.statistics.numbers), replace(damage, angle=angle))


def joined(parts: Sequence[Examples]) -> Examples:
    spectra = torch.cat([part.statistics.spectra for part in parts])
    numbers = torch.cat([part.statistics.numbers for part in parts])
    damage = Damage.joined([part.damage for part in parts])
    return Examples(Statistics(spectra, numbers), damage)


def loss_of(readings: Readings, damage: Damage) -> Tensor:
    """The mean negative log likelihood of a batch, all kinds of damage added up."""
    return torch.stack(list(negative_log_likelihood(readings, damage).values())).sum()


@torch.no_grad()
def calibrate(estimator: DamageEstimator, examples: Examples) -> None:
    """Stretch the uncertainties so that on ``examples`` 68 % of the errors are within one standard deviation."""
    stretch = estimator.get_buffer("stretch")
    stretch.fill_(1.0)
    found = scaled_errors(estimator(estimator.features(examples.statistics)), examples.damage)
    for place, name in enumerate(STARTS):
        if len(found[name]):
            stretch[place] = found[name].abs().quantile(COVERED).clamp(0.25, 4.0)


def scaled_errors(readings: Readings, damage: Damage) -> dict[str, Tensor]:
    """For every number its errors in units of the uncertainty, of the photos where there is one: (n,) each."""
    found = {}
    for name, (value, there) in targets(damage).items():
        said: Gaussian = getattr(readings, name)
        error = (value.to(said.mean) - said.mean) / said.std
        found[name] = error[there.to(error.device)].flatten().cpu()
    return found


@torch.no_grad()
def scores(estimator: DamageEstimator, examples: Examples) -> dict[str, float]:
    """The loss, the shares of right decisions, and the median absolute errors (in the numbers' own form)."""
    readings, damage = estimator(estimator.features(examples.statistics)), examples.damage
    found = {
        "loss": float(loss_of(readings, damage)),
        "blur right": float((readings.blur.argmax(1).cpu() == blur_kind(damage)).float().mean()),
        "factor right": float((readings.factor.argmax(1).cpu() + 1 == damage.factor).float().mean()),
        "jpeg right": float(((readings.jpeg.cpu() > 0) == (damage.quality < NO_JPEG)).float().mean()),
    }
    for name, (value, there) in targets(damage).items():
        error = (getattr(readings, name).mean.cpu() - value)[there].flatten().abs()
        found[f"{name} error"] = float(error.median()) if len(error) else 0.0
    return {name: round(value, 4) for name, value in found.items()}
