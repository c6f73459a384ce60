"""The same kind of damage, milder and stronger."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .base import Degradation
from .blur import MAX_STD, GaussianBlur
from .chain import Chain, PerImage, for_each
from .jpeg import Jpeg
from .kernel_blur import MAX_LENGTH
from .lens import MAX_RADIUS, LensBlur
from .missing import MAX_DROP, RandomMissingPixels
from .motion import MotionBlur
from .noise import Noise
from .resize import MAX_FACTOR, Downscale, LowResolution


def at_strength(degradation: Degradation, factor: float) -> Degradation:
    """``degradation`` with ``factor`` times its blur and compression; the noise stays, but that of ``Noise`` alone.

    Of random lost pixels the fraction ``drop ** (1 / factor)`` is lost. Kinds without a strength (a mask, a camera's
    shake, a kernel of one's own) come back as they are, and so do chains and batches of nothing else.
    """
    if isinstance(degradation, GaussianBlur):
        return GaussianBlur((factor * degradation.std).clamp(max=MAX_STD), degradation.noise_std)
    if isinstance(degradation, LensBlur):
        return LensBlur((factor * degradation.radius).clamp(max=MAX_RADIUS), degradation.noise_std)
    if isinstance(degradation, MotionBlur):
        length = (factor * degradation.length).clamp(max=MAX_LENGTH)
        return MotionBlur(length, degradation.angle, degradation.noise_std)
    if isinstance(degradation, RandomMissingPixels):
        drop = min(degradation.drop ** (1 / factor), MAX_DROP)
        return RandomMissingPixels(drop, degradation.seed, degradation.noise_std)
    if isinstance(degradation, Downscale):
        size = min(max(round(factor * degradation.factor), 1), MAX_FACTOR)
        return Downscale(size, degradation.filter, degradation.noise_std)
    if isinstance(degradation, LowResolution):
        sizes = (factor * degradation.factor).round().clamp(1, MAX_FACTOR)
        return LowResolution(sizes, degradation.filter, degradation.noise_std)
    if isinstance(degradation, Jpeg):
        return Jpeg((100 - factor * (100 - degradation.quality)).clamp(min=1), degradation.noise_std)
    if isinstance(degradation, Noise):
        return Noise((factor * torch.as_tensor(degradation.noise_std)).clamp(max=1))
    if isinstance(degradation, PerImage):
        each = [at_strength(one, factor) for one in degradation.degradations]
        return for_each(each) if _changed(degradation.degradations, each) else degradation
    if isinstance(degradation, Chain):
        # its noise is that of its end, and a step that adds noise is the identity
        parts = [part if isinstance(part, Noise) else at_strength(part, factor) for part in degradation.parts]
        return (
            type(degradation)(tuple(parts), degradation.noise_std)
            if _changed(degradation.parts, parts)
            else degradation
        )
    return degradation


def _changed(before: Sequence[Degradation], after: Sequence[Degradation]) -> bool:
    return any(one is not other for one, other in zip(before, after, strict=True))
