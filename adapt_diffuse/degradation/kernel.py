"""Blur by a kernel of one's own: a point spread function that was measured, or that another tool found."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Dense, Placed, SameSize, check_noise_std, per_image
from .kernel_blur import filter_plane, filter_plane_adjoint

MAX_SIDE = 101  # pixels
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
HALF = 0.5 + 1e-6  # so that rounding errors do not decide where an even kernel has its middle


def centred_kernel(kernel: Tensor) -> Tensor:
    """Kernels (B, 2 r + 1, 2 r + 1) of sum 1, float64, with the centre of mass of each in the middle pixel.

    It is rounded to whole pixels, and no kernel is resampled. Where it lies half-way, as in an even symmetric kernel,
    the middle is the pixel to the right and below, as in scipy.

    Args:
        kernel: (B, h, w), non-negative, each with a sum above 0.
    """
    placed = []
    for one in kernel.double():
        places = one.nonzero()
        weights = one[places.unbind(1)] / one.max()  # whose sum cannot overflow
        weights = weights / weights.sum()
        placed.append((places - (weights @ places.double() + HALF).floor().long(), weights))
    radius = max(int(offsets.abs().max()) for offsets, _ in placed)
    out = kernel.new_zeros(len(kernel), 2 * radius + 1, 2 * radius + 1, dtype=torch.float64)
    for one, (offsets, weights) in zip(out, placed, strict=True):
        one[(offsets + radius).unbind(1)] = weights
    return out


def luminance(image: Tensor) -> Tensor:
    """(B, 3, H, W) as (B, H, W): a kernel from a picture."""
    return torch.einsum("bchw,c->bhw", image, torch.tensor(LUMINANCE).to(image))


class KernelBlur(Dense, SameSize):
    """Blur by a given kernel, with reflected borders. It is a convolution, as light does it: a bright point becomes
    the kernel, not mirrored.

    The kernel's centre of mass is its middle, so that a photo is not moved, however the kernel was cut out; see
    ``centred_kernel``. Only ratios of its values count.

    Args:
        kernel: (h, w) or (B, h, w) with one per image, 0 or more; at most 101 x 101 without black borders.
        noise_std: standard deviation of the noise on [0, 1] images.

    Raises:
        AdaptDiffuseError: another shape, too large, values that are negative or no numbers, or a kernel all black.
    """

    def __init__(self, kernel: Tensor, noise_std: float = 0.0):
        self.kernel = _checked(kernel)
        self.noise_std = check_noise_std(noise_std)
        self._kernels = Placed(centred_kernel(self.kernel))

    def __call__(self, image: Tensor) -> Tensor:
        return filter_plane(image, self._kernels.like(image))

    def adjoint(self, y: Tensor) -> Tensor:
        return filter_plane_adjoint(y, self._kernels.like(y))

    def select(self, indices: Tensor) -> KernelBlur:
        if len(self.kernel) == 1:
            return self
        return KernelBlur(per_image(self.kernel, indices), self.noise_std)


def _checked(kernel: Tensor) -> Tensor:
    """The kernel as (B, h, w) float64 of its own, on the CPU, cut to what is not black in any."""
    if kernel.ndim not in (2, 3) or 0 in kernel.shape:
        raise AdaptDiffuseError(
            "A blur's kernel must have the shape (height, width) or (photos, height, width), not "
            f"{tuple(kernel.shape)}."
        )
    whole = kernel.detach().cpu().double().reshape(-1, *kernel.shape[-2:])
    if not bool((torch.isfinite(whole) & (whole >= 0)).all()):
        raise AdaptDiffuseError("A blur's kernel must hold numbers of 0 or more, and none that is NaN or infinite.")
    if not bool((whole > 0).flatten(1).any(1).all()):
        raise AdaptDiffuseError("The blur's kernel is black: it needs a bright spot, which is what a point became.")
    rows, columns = (whole.amax((0, axis)).nonzero().flatten() for axis in (2, 1))
    cut = whole[:, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1].clone()
    height, width = cut.shape[1:]
    if max(height, width) > MAX_SIDE:
        raise AdaptDiffuseError(
            f"The blur's kernel is {width} x {height} pixels, and at most {MAX_SIDE} x {MAX_SIDE} are possible: crop "
            "it to the bright spot, and make what is around that wholly black."
        )
    return cut
