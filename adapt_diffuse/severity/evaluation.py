"""How good a severity encoder is: correlation with the damage and with its true error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..autoencoder import encode_raw
from ..degradation import measure
from ..degradation.families import Family
from .encoder import SeverityEncoder
from .losses import error_variance


@dataclass(frozen=True)
class SeverityScores:
    """Over a set of photos, one random degradation each.

    Attributes:
        pearson_level, spearman_level: correlation of sigma_hat with the level of damage (the blur's std, the fraction
            of lost pixels); NaN where all photos have the same level.
        pearson_error, spearman_error: correlation of sigma_hat with the true standard deviation of the latent error.
        sigma_ratio: sigma_hat over the true standard deviation, mean over the photos; 1 is calibrated.
        latent_rmse: root mean square error of z_hat, model's scale.
    """

    pearson_level: float
    spearman_level: float
    pearson_error: float
    spearman_error: float
    sigma_ratio: float
    latent_rmse: float


@torch.no_grad()
def evaluate(
    encoder: SeverityEncoder, autoencoder: Any, family: Family, photos: Tensor, seed: int, batch: int = 16
) -> SeverityScores:
    """Scores on ``photos`` (n, 3, H, W) on [0, 1], each damaged once by a draw from ``family``."""
    generator = torch.Generator().manual_seed(seed)
    device = next(encoder.parameters()).device
    levels, predicted, true, squares = [], [], [], []
    for part in photos.split(batch):
        count, channels, height, width = part.shape
        degradation, level = family.sample((count, channels, height, width), generator)
        part = part.to(device)
        z_hat, sigma_hat = encoder(measure(part, degradation, generator))
        z0 = encoder.space.from_raw(encode_raw(autoencoder, part * 2 - 1))
        levels.append(level)
        predicted.append(sigma_hat.double().cpu())
        true.append(error_variance(z_hat, z0).sqrt().double().cpu())
        squares.append((z_hat - z0).square().flatten(1).mean(1).double().cpu())
    level, sigma, error = torch.cat(levels), torch.cat(predicted), torch.cat(true)
    return SeverityScores(
        *correlations(sigma, level),
        *correlations(sigma, error),
        sigma_ratio=float((sigma / error).mean()),
        latent_rmse=float(torch.cat(squares).mean().sqrt()),
    )


def correlations(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Pearson's and Spearman's correlation; NaN where one of them is constant or there are fewer than three values."""
    from scipy import stats

    if len(a) < 3 or float(a.std()) == 0 or float(b.std()) == 0:
        return float("nan"), float("nan")
    return float(stats.pearsonr(a, b).statistic), float(stats.spearmanr(a, b).statistic)
