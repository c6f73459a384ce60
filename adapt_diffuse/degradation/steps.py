"""What happened to each photo, step by step: what a choice of solver, numbers or severity encoder looks at."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Degradation, Pixelwise
from .bkse import LearnedBlur
from .blur import GaussianBlur
from .camera import CameraBlur
from .chain import Chain, PerImage, without_noise
from .kernel import KernelBlur
from .lens import LensBlur
from .missing import LOSING
from .motion import MotionBlur
from .noise import Noise

BLURRING = (CameraBlur, GaussianBlur, KernelBlur, LearnedBlur, LensBlur, MotionBlur)


def steps_of(degradation: Degradation) -> list[tuple[Degradation, ...]]:
    """The steps in which the damage of each photo happened; a single row where all photos share them.

    Steps that only add noise are left out, for a chain has the noise of its end: ``chain(blur, Noise(0.1))`` is a blur
    of noise 0.1. A photo that is noisy and nothing else has one of them. A mask that loses nothing is one, too.
    """
    return [without_noise(row) for row in _rows(degradation)]


def _rows(degradation: Degradation) -> list[tuple[Degradation, ...]]:
    if isinstance(degradation, PerImage):
        return [row for one in degradation.degradations for row in _rows(one)]
    if isinstance(degradation, Chain):
        return [tuple(step for part in degradation.parts for step in _rows(part)[0])]
    if isinstance(degradation, LOSING) and degradation.loses_nothing:
        return [(Noise(degradation.noise_std),)]
    return [(degradation,)]


def loses_pixels(steps: Sequence[Degradation]) -> bool:
    """Whether pixels are unobserved at the end: lost in the last step, or before steps that are pixelwise.

    What is lost earlier is smeared over its neighbours, see ``Chain``. Only steps that do nothing else than to lose
    pixels are looked for: False for film damage, which loses some and fades the others.
    """
    for step in reversed(steps):
        if isinstance(step, LOSING):
            return True
        if not isinstance(step, Pixelwise):
            return False
    return False


def blurs(steps: Sequence[Degradation]) -> bool:
    """Whether a photo was blurred. Downscaling and JPEG, which happen to what is around it too, do not count."""
    return any(isinstance(step, BLURRING) for step in steps)
