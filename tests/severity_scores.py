"""How good a severity encoder is, in one call."""

from __future__ import annotations

from torch import Tensor

from adapt_diffuse.degradation.families import Family
from adapt_diffuse.severity.checkpoint import AnySeverityEncoder
from adapt_diffuse.severity.encoder import Encode
from adapt_diffuse.severity.evaluation import SeverityScores, errors_of, prepare
from adapt_diffuse.severity.refiner import SeverityRefiner


def evaluate(
    encoder: AnySeverityEncoder, encode: Encode, family: Family, photos: Tensor, seed: int, batch: int = 16
) -> SeverityScores:
    """Scores on ``photos`` (n, 3, H, W) on [0, 1], each damaged once by a draw from ``family``."""
    device = next(encoder.parameters()).device
    refines = isinstance(encoder, SeverityRefiner)
    return errors_of(encoder, prepare(encode, family, photos, seed, device, refines, batch)).scores()
