"""The detail that a photo still shows and an autoencoder loses, back in the restored photo.

A restored photo lacks something: ``y = A(image + e) + n``. Whatever the damaged photo tells of e beyond its noise is
put back by the linear estimate of least mean square error, ``e = T A' (A T A' + s^2)^-1 (y - A image)``, where T is the
variance of e at every pixel, read off the residual around it. It is Lee's filter (1980, "Digital image enhancement and
noise filtering by use of local statistics"), of what the restoration has left and through an operator. What JPEG does
to a photo counts as noise, whose variance s^2 at every pixel is read off what it does to the restored one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .degradation import Chain, Degradation, Jpeg, LinearDegradation, Noise, PerImage
from .degradation.base import in_float, randn
from .degradation.chain import LinearChain
from .degradation.prox import conjugate_gradients
from .fit import noise_floor
from .measurement import Measurement

WINDOW = 7  # pixels, odd: smaller windows take noise for detail, larger ones spread it
APART = 3  # pixels between the windows that are asked for the noise
QUIETEST = 0.05  # part of the windows in which hardly anything but noise is taken to be
MOST = 0.1  # standard deviation of e on [0, 1] at most, where an operator tells little of it
PROBE_SEED = 8_000_009
TOLERANCE, ITERATIONS = 1e-3, 60


@torch.inference_mode(False)
@torch.no_grad()
def with_detail(image: Tensor, measurement: Measurement, strength: float = 1.0) -> Tensor:
    """The restored ``image`` with what its photo tells of the detail that it lacks.

    Where the residual is no more than noise, little changes: by chance some windows have more of it, and a tenth of the
    noise comes back without a blur, a fifth after one of std 2, more after a stronger one. The noise is the
    measurement's, or more where even the quietest parts of the residual have more: noise that was told too small is not
    taken for detail. Damage that is not linear is taken as it is near ``image``.

    Args:
        image: (B, 3, H, W) on [0, 1], of the measurement's ``image_size``.
        strength: T is multiplied by it; 0 changes nothing, far above 1 brings the noise back too.

    Returns:
        (B, 3, H, W), not clamped, where ``image`` is. Where a GPU's memory does not hold the work, the CPU does it.
    """
    if not strength:
        return image
    if (wide := in_float(image)).dtype != image.dtype:
        there = Measurement(in_float(measurement.y), measurement.degradation)
        return with_detail(wide, there, strength).to(image.dtype)
    try:
        return put_back(image, measurement, strength)
    except torch.cuda.OutOfMemoryError:
        pass  # outside of the handler, which keeps what did not fit
    there = Measurement(measurement.y.cpu(), measurement.degradation)
    return put_back(image.cpu(), there, strength).to(image.device)


def put_back(image: Tensor, measurement: Measurement, strength: float) -> Tensor:
    """As ``with_detail``, where everything is."""
    degradation = measurement.degradation
    if isinstance(degradation, PerImage) and not isinstance(degradation, LinearDegradation):
        photos = zip(image.split(1), measurement.y.split(1), degradation.degradations, strict=True)
        return torch.cat([put_back(part, Measurement(y, one), strength) for part, y, one in photos])
    smooth = without_jpeg(degradation)
    operator = smooth if isinstance(smooth, LinearDegradation) else Tangent(smooth, image)
    undone = smooth(image)
    residual = operator.observed(measurement.y - undone)
    seen = operator.observed(torch.ones_like(residual))
    energy, enough = local_energy(residual, seen)
    bent = local_energy(degradation(image) - undone, seen)[0] if smooth is not degradation else torch.zeros_like(energy)
    noise = noise_floor(measurement).to(image).reshape(-1, 1, 1, 1) ** 2
    noise = torch.maximum(noise, quietest(energy - bent, enough)) + bent
    variance = (energy - noise).clamp_min(0) / gain(operator, image, seen)
    variance = strength * variance.clamp_max(MOST**2)
    if variance.shape[2:] != image.shape[2:]:
        variance = F.interpolate(variance, size=image.shape[2:], mode="bilinear")

    def spread(weights: Tensor) -> Tensor:
        return variance * operator.adjoint(weights)

    weights = conjugate_gradients(
        lambda u: operator.observed(operator(spread(u))) + noise * u, residual, TOLERANCE, ITERATIONS
    )
    return image + spread(weights)


def without_jpeg(degradation: Degradation) -> Degradation:
    """What happened to a photo besides its compression."""
    parts = degradation.parts if isinstance(degradation, Chain) else (degradation,)
    kept = tuple(part for part in parts if not isinstance(part, Jpeg))
    if len(kept) == len(parts):
        return degradation
    kind = LinearChain if all(isinstance(part, LinearDegradation) for part in kept) else Chain
    return kind(kept, degradation.noise_std) if kept else Noise(degradation.noise_std)


class Tangent:
    """A degradation as it is near an image (B, 3, H, W): its derivative, and the adjoint of that."""

    def __init__(self, degradation: Degradation, image: Tensor):
        self.degradation, self.image = degradation, image.clone()  # a tensor of inference mode has no derivatives
        self.observed = degradation.observed

    def __call__(self, change: Tensor) -> Tensor:
        return torch.func.jvp(self.degradation, (self.image,), (change,))[1]

    def adjoint(self, residual: Tensor) -> Tensor:
        with torch.enable_grad():
            source = self.image.detach().requires_grad_()
            return torch.autograd.grad(self.degradation(source), source, residual)[0]


def local_energy(residual: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The mean square of a residual (B, 3, h, w) around each pixel, (B, 1, h, w), and whether enough was seen there.

    Args:
        seen: (B, 3, h, w), 1 where there is a measurement and 0 where there is none.
    """

    def around(values: Tensor) -> Tensor:
        return F.avg_pool2d(values.mean(1, keepdim=True), WINDOW, 1, WINDOW // 2, count_include_pad=False)

    share = around(seen)
    return around(residual.square() * seen) / share.clamp_min(1 / WINDOW**2), share >= share.amax((2, 3), True) / 2


def quietest(energy: Tensor, enough: Tensor) -> Tensor:
    """The energy (B, 1, 1, 1) that only few of the windows with enough measurements are below."""
    known = torch.where(enough, energy, torch.nan)[:, :, ::APART, ::APART].flatten(1)
    return known.nanquantile(QUIETEST, dim=1).nan_to_num(0).reshape(-1, 1, 1, 1)


def gain(operator: LinearDegradation | Tangent, image: Tensor, seen: Tensor) -> Tensor:
    """What is left of the variance of white noise, (B, 1, 1, 1): 1 without a blur, little after a strong one."""
    probe = randn((1, *image.shape[1:]), image, [torch.Generator().manual_seed(PROBE_SEED)])
    left = operator.observed(operator(probe.expand_as(image))).square().sum((1, 2, 3), keepdim=True)
    return (left / seen.sum((1, 2, 3), keepdim=True) / probe.square().mean()).clamp_min(1e-6)
