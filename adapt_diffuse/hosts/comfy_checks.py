"""What latents and SIGMAS must be for the photos that a solver is given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from ..measurement import Measurement

MAX_PADDING = 8  # positions of a latent that may stand for more than the photo


def check_schedule(sigmas: Tensor) -> None:
    if not bool(torch.isfinite(sigmas).all()) or not bool((sigmas.diff() < 0).all()) or not bool(sigmas[-1] >= 0):
        raise AdaptDiffuseError("SIGMAS must be finite and fall at every step: take them from Start Time.")


def check_sizes(x: Tensor, measurement: Measurement, vae: Any) -> None:
    """Raise AdaptDiffuseError where the latents cannot belong to the measured photos."""
    if x.ndim != 4:
        raise AdaptDiffuseError("The latent is that of a video: photo restoration needs latents of single images.")
    if len(measurement.y) not in (1, len(x)):
        raise AdaptDiffuseError(
            f"The solver's image is a batch of {len(measurement.y)} but the latent one of {len(x)}: connect Start "
            "Time's latent to the solver's latent input too."
        )
    factor = int(vae.spacial_compression_decode())
    height, width = measurement.image_size
    extra = (x.shape[2] * factor - height, x.shape[3] * factor - width)
    if min(extra) < 0 or max(extra) >= MAX_PADDING * factor:
        stands_for = f"{x.shape[3] * factor} x {x.shape[2] * factor}"
        advice = cropping_told(extra, factor, stands_for) or (
            "make both from the same photo, and connect a degradation that changes the size to Encode Severity, too."
        )
        raise AdaptDiffuseError(
            f"The latent stands for {stands_for} pixels but the solver's image has {width} x {height}: {advice}"
        )


def cropping_told(extra: tuple[int, int], factor: int, stands_for: str) -> str:
    """What to do about VAE Encode, which cuts a photo off the VAE's grid; empty where it is not that.

    Args:
        extra: pixels that the latent stands for, less those of the photo.
        factor: of the VAE.
    """
    if not (-factor < min(extra) < 0 and max(extra) <= 0):
        return ""
    advice = "before everything else, as VAE Encode does, or take Encode Severity, which pads."
    return f"crop the photo to {stands_for} {advice}"
