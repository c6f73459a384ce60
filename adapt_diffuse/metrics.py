"""How close a restored photo is to the true one. Computed by kornia, one number per photo."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import AdaptDiffuseError


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, (B,): both (B, C, H, W), clamped to [0, 1]; infinite for equal photos."""
    from kornia.metrics import psnr as kornia_psnr

    image, reference = _checked(image, reference)
    return torch.stack([kornia_psnr(a, b, max_val=1.0) for a, b in zip(image, reference, strict=True)])


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity, (B,): Gaussian window of 11 pixels, std 1.5 (Wang et al. 2004), mean over the photo.

    Photos smaller than the window are compared with the largest odd window that fits.
    """
    from kornia.metrics import ssim as kornia_ssim

    image, reference = _checked(image, reference)
    window = min(11, *image.shape[2:])
    window -= 1 - window % 2
    padding = "valid" if min(image.shape[2:]) > window else "same"
    return kornia_ssim(image, reference, window, padding=padding).flatten(1).mean(1)


def _checked(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if image.shape != reference.shape:
        raise AdaptDiffuseError(
            f"The photos to compare differ in shape: {tuple(image.shape)} and {tuple(reference.shape)}."
        )
    return image.double().clamp(0, 1), reference.double().clamp(0, 1)
