"""How close a restored photo is to the true one, one number per photo. PSNR and SSIM are kornia's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import AdaptDiffuseError
from .libraries import installed

# National Television System Committee, 1953: luminance Y and the two colour differences I and Q of R, G and B
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, (B,): both (B, C, H, W), clamped to [0, 1]; infinite for equal photos."""
    with installed():
        from kornia.metrics import psnr as kornia_psnr

    image, reference = _checked(image, reference)
    return torch.stack([kornia_psnr(a, b, max_val=1.0) for a, b in zip(image, reference, strict=True)])


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity, (B,): Gaussian window of 11 pixels, std 1.5 (Wang et al. 2004), mean over the photo.

    Photos smaller than the window are compared with the largest odd window that fits.
    """
    with installed():
        from kornia.metrics import ssim as kornia_ssim

    image, reference = _checked(image, reference)
    window = min(11, *image.shape[2:])
    window -= 1 - window % 2
    padding = "valid" if min(image.shape[2:]) > window else "same"
    return kornia_ssim(image, reference, window, padding=padding).flatten(1).mean(1)


def haarpsi(image: Tensor, reference: Tensor) -> Tensor:
    """Haar wavelet-based perceptual similarity, (B,): 0 to 1, 1 for equal photos.

    Both (B, 3, H, W), clamped to [0, 1]. Reisenhofer et al. 2018, arXiv 1607.06140: local similarity of the edges at
    two scales and of the colours, weighted by the edges at a third; C = 30 on the scale of 255, alpha = 4.2.

    Raises:
        AdaptDiffuseError: photos of different shapes, or not of three channels.
    """
    sharpness = 4.2
    image, reference = (_halved(255 * _yiq(photo)) for photo in _checked(image, reference))
    fine, middle, coarse = ((_haar_edges(image, size), _haar_edges(reference, size)) for size in (2, 4, 8))
    edges = (_similarity(*fine, 30) + _similarity(*middle, 30)) / 2
    colours = _similarity(_colours(image), _colours(reference), 30).mean(1, keepdim=True)
    weight = torch.maximum(*coarse)
    weights = torch.cat([weight, weight.mean(1, keepdim=True)], 1)
    squashed = (torch.sigmoid(sharpness * torch.cat([edges, colours], 1)) * weights).sum((1, 2, 3))
    total = weights.sum((1, 2, 3))
    # no edge has a weight only where both photos are black, and then they are equal
    return torch.where(total > 0, (torch.logit(squashed / total) / sharpness).square(), 1.0)


def gmsd(image: Tensor, reference: Tensor) -> Tensor:
    """Gradient magnitude similarity deviation, (B,): 0 for equal photos, larger is worse.

    Both (B, 3, H, W), clamped to [0, 1]. Xue et al. 2014, arXiv 1308.3052: how unevenly the luminance's edges, by
    Prewitt's filter at half size, are kept over the photo; T = 170 on the scale of 255.

    Raises:
        AdaptDiffuseError: photos of different shapes, or not of three channels.
    """
    image, reference = (_halved(_yiq(photo)) for photo in _checked(image, reference))
    return _similarity(_slope(image), _slope(reference), 170 / 255**2).flatten(1).std(1, correction=0)


def _yiq(photo: Tensor) -> Tensor:
    """Colours (B, 3, H, W) as luminance and the two colour differences."""
    if photo.shape[1] != 3:
        raise AdaptDiffuseError(f"This metric compares photos of three colours, not of {photo.shape[1]} channels.")
    return torch.einsum("yc,bchw->byhw", torch.tensor(_YIQ, dtype=torch.float64).to(photo), photo)


def _halved(photo: Tensor) -> Tensor:
    """Means of 2 x 2 pixels: what both metrics take for the distance between photo and viewer. Zeros fill odd sizes."""
    return F.avg_pool2d(F.pad(photo, (0, 1, 0, 1)), 2)


def _haar_edges(yiq: Tensor, size: int) -> Tensor:
    """Magnitudes of the luminance under the two Haar filters of ``size`` x ``size`` pixels, (B, 2, H, W)."""
    half = torch.ones(size, size).to(yiq) / size
    half[size // 2 :] *= -1
    padded = F.pad(yiq[:, :1], (size // 2 - 1, size // 2) * 2)
    return F.conv2d(padded, torch.stack([half, half.T])[:, None]).abs()


def _colours(yiq: Tensor) -> Tensor:
    """Magnitudes of the two colour differences, means of 2 x 2 pixels, (B, 2, H, W)."""
    return F.avg_pool2d(F.pad(yiq[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs()


def _slope(yiq: Tensor) -> Tensor:
    """Length of the luminance's gradient under Prewitt's filters, (B, H, W)."""
    across = torch.tensor([1.0, 0.0, -1.0]).to(yiq).expand(3, 3) / 3
    return F.conv2d(yiq[:, :1], torch.stack([across, across.T])[:, None], padding=1).square().sum(1).sqrt()


def _similarity(a: Tensor, b: Tensor, constant: float) -> Tensor:
    return (2 * a * b + constant) / (a.square() + b.square() + constant)


def _checked(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if image.shape != reference.shape:
        raise AdaptDiffuseError(
            f"The photos to compare differ in shape: {tuple(image.shape)} and {tuple(reference.shape)}."
        )
    return image.cpu().double().clamp(0, 1), reference.cpu().double().clamp(0, 1)
