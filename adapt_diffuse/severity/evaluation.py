"""How good a severity encoder is: correlation with the damage and with its true error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..degradation import measure
from ..degradation.families import Family
from .checkpoint import AnySeverityEncoder
from .encoder import Encode
from .losses import error_variance


@dataclass(frozen=True)
class SeverityScores:
    """Over a set of photos, one random degradation each.

    Attributes:
        pearson_level, spearman_level: correlation of sigma_hat with the level of damage (the blur's std, the fraction
            of lost pixels); NaN where all photos have the same level.
        pearson_error, spearman_error: correlation of sigma_hat with the true standard deviation of the latent error.
        sigma_ratio: sigma_hat over the true standard deviation, mean over the photos; about 1 is calibrated, a little
            more where the errors of like photos differ much, since sigma_hat^2 is their mean square.
        latent_rmse: root mean square error of z_hat, model's scale.
    """

    pearson_level: float
    spearman_level: float
    pearson_error: float
    spearman_error: float
    sigma_ratio: float
    latent_rmse: float


@dataclass(frozen=True)
class Judged:
    """Damaged photos to judge severity encoders by, in parts; what the autoencoder has to do with it is done.

    Attributes:
        damaged: (B, 3, H, W) on [0, 1].
        z0: (B, C, h, w) of the good photos, model's scale.
        encoding: (B, C, h, w) of the damaged photos; None where only encoder copies are judged.
        level: (B,) of damage.
    """

    damaged: Tensor
    z0: Tensor
    encoding: Tensor | None
    level: Tensor


@dataclass(frozen=True)
class SeverityErrors:
    """What a severity encoder said of (n,) photos, and the truth.

    Attributes:
        level: of damage.
        sigma_hat, true_error: predicted and true standard deviation of the latent error.
        mean_square: squared error of z_hat, mean over the latent.
    """

    level: Tensor
    sigma_hat: Tensor
    true_error: Tensor
    mean_square: Tensor

    def scores(self) -> SeverityScores:
        return SeverityScores(
            *correlations(self.sigma_hat, self.level),
            *correlations(self.sigma_hat, self.true_error),
            sigma_ratio=float((self.sigma_hat / self.true_error).mean()),
            latent_rmse=float(self.mean_square.mean().sqrt()),
        )


@torch.no_grad()
def prepare(
    encode: Encode, family: Family, photos: Tensor, seed: int, device: torch.device, encoded: bool, batch: int = 16
) -> list[Judged]:
    """``photos`` (n, 3, H, W) on [0, 1], each damaged once by a draw from ``family``; kept on the CPU.

    Args:
        encode: images on ``device`` to latents in the model's scale.
        encoded: whether the damaged photos are encoded too, as refiners need them.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for part in photos.split(batch):
        count, channels, height, width = part.shape
        degradation, level = family.sample((count, channels, height, width), generator)
        part = part.to(device)
        damaged = measure(part, degradation, generator)
        encoding = encode(damaged).cpu() if encoded else None
        parts.append(Judged(damaged.cpu(), encode(part).cpu(), encoding, level))
    return parts


@torch.no_grad()
def errors_of(encoder: AnySeverityEncoder, judged: list[Judged]) -> SeverityErrors:
    """What ``encoder`` says of the photos; their sides must be multiples of the autoencoder's factor."""
    device = next(encoder.parameters()).device
    columns: list[tuple[Tensor, ...]] = []
    for part in judged:

        def encode(damaged: Tensor, known: Tensor | None = part.encoding) -> Tensor:
            assert known is not None, "refiners are judged on photos that were encoded"
            return known

        found = encoder.predict(part.damaged.to(device), 1, encode)
        error = found.z_hat.cpu() - part.z0
        true = error_variance(found.z_hat.cpu(), part.z0).sqrt()
        columns.append((part.level, found.sigma_hat, true, error.square().flatten(1).mean(1)))
    return SeverityErrors(*(torch.cat(column).double() for column in zip(*columns, strict=True)))


def correlations(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Pearson's and Spearman's correlation; NaN where one of them is constant or there are fewer than three values."""
    from scipy import stats

    if len(a) < 3 or float(a.std()) == 0 or float(b.std()) == 0:
        return float("nan"), float("nan")
    return float(stats.pearsonr(a, b).statistic), float(stats.spearmanr(a, b).statistic)
