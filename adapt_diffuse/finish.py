"""The last touch on a restored photo, where the damaged one is at hand."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .degradation import noise_levels
from .detail import with_detail
from .errors import AdaptDiffuseError
from .measurement import Measurement

KnownPixels = Literal["auto", "keep", "restore"]
QUIET = 0.02  # noise_std up to which a photo's own pixels look better than restored ones
FEATHER = 6  # pixels over which they go over into the restored hole
GREY_LEVEL = 1 / 255
SECANTS, SLOPES = 6, (0.2, 5.0)  # of the mean of a damaged photo over that of the photo


def finished(
    image: Tensor, measurement: Measurement, detail: float = 1.0, known_pixels: KnownPixels = "auto"
) -> Tensor:
    """The restored ``image`` (B, 3, H, W) as the command line and the nodes give it back: on [0, 1].

    Args:
        detail: see ``with_detail``.
        known_pixels: see ``with_known``.
    """
    detailed = match_grey(with_detail(image, measurement, detail), measurement)
    return with_known(detailed, measurement, known_pixels).clamp(0, 1)


def known_pixels(measurement: Measurement) -> Tensor:
    """Where the photo holds information, bool (B, 3, H, W)."""
    return measurement.degradation.observed(torch.ones_like(measurement.y)) > 0


def keeps_pixels(image: Tensor, measurement: Measurement) -> Tensor:
    """Which photos of ``image`` (B, 3, H, W) lose pixels and have the others as they are, but for noise: bool (B,)."""
    known = known_pixels(measurement)
    if known.shape != image.shape:
        return torch.zeros(len(image), dtype=torch.bool, device=image.device)
    kept = (measurement.degradation(image) == image) | ~known
    return (kept.flatten(1).all(1) & ~known.flatten(1).all(1)).to(image.device)


def paste_known(image: Tensor, measurement: Measurement, feather: int = 0) -> Tensor:
    """The restored ``image`` (B, 3, H, W) with the photos' own pixels where they are not lost, see ``keeps_pixels``.

    Args:
        feather: pixels over which a known region goes over into the lost one beside it, so that no border shows. A
            known pixel that has no known region around it is then left to the restoration. 0 pastes every one.

    Raises:
        AdaptDiffuseError: a degradation that loses no pixel of any photo, or changes those that it keeps.
    """
    kept = keeps_pixels(image, measurement)
    if not bool(kept.any()):
        raise AdaptDiffuseError(
            "Known pixels can be kept only where the damage is missing pixels and nothing else: switch that off."
        )
    return _pasted(image, measurement, kept, feather)


def _pasted(image: Tensor, measurement: Measurement, photos: Tensor, feather: int) -> Tensor:
    """``paste_known`` for those of ``photos``, bool (B,); the others stay as they are."""
    known = known_pixels(measurement) & photos[:, None, None, None]
    if feather <= 0:
        return torch.where(known, measurement.y, image)
    weight = feathered(known[:, :1], feather).to(image)
    return torch.where(known, weight * measurement.y + (1 - weight) * image, image)


def with_known(image: Tensor, measurement: Measurement, known_pixels: KnownPixels = "auto") -> Tensor:
    """The restored ``image`` (B, 3, H, W), with the photo's own pixels beside its holes where these look better.

    Args:
        known_pixels: "keep" takes them wherever the damage only loses pixels, "restore" leaves the model's, "auto"
            keeps those of a photo with hardly any noise.
    """
    if known_pixels == "restore":
        return image
    wanted = keeps_pixels(image, measurement)
    if known_pixels == "auto":
        wanted = wanted & (noise_levels(measurement.degradation, len(image)) <= QUIET).to(wanted.device)
    if not bool(wanted.any()):
        return image
    return _pasted(image, measurement, wanted, FEATHER)


def feathered(known: Tensor, width: int) -> Tensor:
    """Weights (B, 1, H, W) that rise from 0 beside lost pixels to 1 at ``width`` pixels into the known ones."""
    near = (width + 1) // 2
    size = 2 * near + 1
    lost = F.max_pool2d((~known).float(), size, stride=1, padding=near)
    padded = F.pad(1 - lost, (near,) * 4, mode="replicate")
    ramp = F.avg_pool2d(F.avg_pool2d(padded, (size, 1), stride=1), (1, size), stride=1)
    return ramp * ramp * (3 - 2 * ramp)


def match_colours(image: Tensor, measurement: Measurement) -> Tensor:
    """The restored ``image`` (B, 3, H, W), each channel shifted so that, damaged again, its mean is the photo's.

    By secants, because fading, or light that a camera has bent, moves less or more than what it damages.
    """
    count = known_pixels(measurement).sum((2, 3), keepdim=True).clamp_min(1)

    def gap(shift: Tensor | float) -> Tensor:
        return measurement.residual(image + shift).sum((2, 3), keepdim=True) / count

    shift, left = torch.zeros_like(count, dtype=image.dtype), gap(0.0)
    step = left
    for _ in range(SECANTS):
        shift, before = shift + step, left
        left = gap(shift)
        moved = step.abs() > GREY_LEVEL / 100  # below, a slope would be one of rounding
        slope = torch.where(moved, (before - left) / torch.where(moved, step, 1), 1)
        step = torch.where(left.abs() > GREY_LEVEL / 100, left / slope.clamp(*SLOPES), 0)
        if not bool(step.any()):
            break
    return image + shift


def match_grey(image: Tensor, measurement: Measurement) -> Tensor:
    """The restored ``image`` (B, 3, H, W), each without colour (the mean of its channels) where its photo has none."""
    y = measurement.y
    spread = (y.amax(1) - y.amin(1)).flatten(1).amax(1)
    grey = (spread < GREY_LEVEL / 2).to(image.device)[:, None, None, None]
    return torch.where(grey, image.mean(1, keepdim=True), image)
