"""Blur by a separable Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Dense, Placed, SameSize, check_noise_std, per_image
from .separable import Separable, Spectra

MAX_STD = 50.0
TRUNCATE = 6.0  # kernels end at six standard deviations, as in the paper's 61 x 61 kernel for std up to 5


def gaussian_taps(std: Tensor) -> Tensor:
    """Normalised 1-D Gaussian kernels (B, 2 r + 1), float64, each zero beyond ``int(6 std + 0.5)`` (scipy's rule)."""
    std = std.double().flatten()[:, None]
    reach = torch.floor(TRUNCATE * std + 0.5)
    radius = int(reach.max())
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64, device=std.device)[None]
    weights = torch.exp(-0.5 * (offsets / std.clamp_min(1e-9)) ** 2) * (offsets.abs() <= reach)
    return weights / weights.sum(1, keepdim=True)


def reflect_index(size: int, radius: int, device: torch.device) -> Tensor:
    """Indices (size + 2 radius,) that pad by reflection without repeating the border; any radius, any size >= 1."""
    position = torch.arange(-radius, size + radius, device=device)
    period = max(2 * (size - 1), 1)
    folded = position.remainder(period)
    return torch.minimum(folded, period - folded) if size > 1 else torch.zeros_like(position)


def filter_axis(image: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Correlate one axis (2 or 3) of (B, C, H, W) with ``taps`` (1 or B, 2 r + 1), reflecting at the borders."""
    radius = taps.shape[1] // 2
    padded = image.index_select(axis, reflect_index(image.shape[axis], radius, image.device))
    return convolve_each(padded, _along(taps, axis, len(image)), F.conv2d)


def filter_axis_adjoint(y: Tensor, taps: Tensor, axis: int) -> Tensor:
    """The transpose of ``filter_axis``: correlate back, then add what the reflected border received to its source."""
    radius = taps.shape[1] // 2
    spread = convolve_each(y, _along(taps, axis, len(y)), F.conv_transpose2d)
    return index_select_adjoint(spread, axis, reflect_index(y.shape[axis], radius, y.device), y.shape[axis])


def axis_matrix(std: float, size: int) -> Tensor:
    """The matrix (size, size) float64 of the blur along an axis of ``size``."""
    identity = torch.eye(size, dtype=torch.float64)[None, None]
    return filter_axis(identity, gaussian_taps(torch.tensor([std], dtype=torch.float64)), 2)[0, 0]


def _along(taps: Tensor, axis: int, batch: int) -> Tensor:
    if len(taps) not in (1, batch):
        raise AdaptDiffuseError(f"The blur has {len(taps)} stds for {batch} photos: give one std, or one per photo.")
    return rearrange(taps, "b k -> b k 1" if axis == 2 else "b k -> b 1 k")


def convolve_each(image: Tensor, kernels: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
    """Every channel of photo b (B, C, H, W) with kernel b (1 or B, h, w), by ``F.conv2d`` or its transpose."""
    batch, channels = image.shape[:2]
    weights = repeat(kernels.expand(batch, -1, -1), "b h w -> (b c) 1 h w", c=channels)
    out = convolve(rearrange(image, "b c h w -> 1 (b c) h w"), weights, groups=batch * channels)
    return rearrange(out, "1 (b c) h w -> b c h w", b=batch)


def index_select_adjoint(spread: Tensor, axis: int, source: Tensor, size: int) -> Tensor:
    """The transpose of ``index_select(axis, source)`` on an axis of ``size``: every value goes back to its source."""
    shape = list(spread.shape)
    shape[axis] = size
    return spread.new_zeros(shape).index_add(axis, source, spread)


class GaussianBlur(Separable, Dense, SameSize):
    """Gaussian blur with reflected borders; equals the paper's 61 x 61 kernel for std up to 5.

    Args:
        std: standard deviation in pixels of the photo, 0 to 50; a number, or a tensor (B,) with one per image.
        noise_std: standard deviation of the noise on [0, 1] images.

    Raises:
        AdaptDiffuseError: a std outside its range.
    """

    def __init__(self, std: float | Tensor, noise_std: float = 0.0):
        self.std = torch.as_tensor(std, dtype=torch.float64).detach().flatten().clone()
        self.noise_std = check_noise_std(noise_std)
        if not bool(((self.std >= 0) & (self.std <= MAX_STD)).all()):
            raise AdaptDiffuseError(f"The blur's std must be between 0 and {MAX_STD:g} pixels, not {std}.")
        self._taps = Placed(gaussian_taps(self.std))
        self.spectra = Spectra(axis_matrix, self.std.tolist())

    def __call__(self, image: Tensor) -> Tensor:
        taps = self._taps.like(image)
        return filter_axis(filter_axis(image, taps, 2), taps, 3)

    def adjoint(self, y: Tensor) -> Tensor:
        taps = self._taps.like(y)
        return filter_axis_adjoint(filter_axis_adjoint(y, taps, 3), taps, 2)

    def select(self, indices: Tensor) -> GaussianBlur:
        if len(self.std) == 1:
            return self
        chosen = GaussianBlur(per_image(self.std, indices), self.noise_std)
        chosen.spectra = self.spectra.sharing(chosen.std.tolist())
        return chosen
