"""The last touch on a restored photo, where the damaged one is at hand."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import AdaptDiffuseError
from .measurement import Measurement


def known_pixels(measurement: Measurement) -> Tensor:
    """Where the photo holds information, bool (B, 3, H, W)."""
    return measurement.degradation.observed(torch.ones_like(measurement.y)) > 0


def paste_known(image: Tensor, measurement: Measurement) -> Tensor:
    """The restored ``image`` (B, 3, H, W) with the photo's own pixels where they are not lost.

    Raises:
        AdaptDiffuseError: a degradation that loses no pixel, or changes those that it keeps.
    """
    known = known_pixels(measurement)
    same_size = known.shape == image.shape
    if not same_size or bool(known.all()) or not torch.equal(measurement.degradation(image)[known], image[known]):
        raise AdaptDiffuseError(
            "Known pixels can be kept only where the damage is missing pixels and nothing else: switch that off."
        )
    return torch.where(known, measurement.y, image)


def match_colours(image: Tensor, measurement: Measurement) -> Tensor:
    """The restored ``image`` (B, 3, H, W), each channel shifted so that, damaged again, its mean is the photo's."""
    count = known_pixels(measurement).sum((2, 3), keepdim=True).clamp_min(1)
    return image + measurement.residual(image).sum((2, 3), keepdim=True) / count
