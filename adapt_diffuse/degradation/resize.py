"""A photo that was made smaller."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Dense, Placed, SameSize, check_noise_std, in_float, parameter, per_image, whole
from .blur import index_select_adjoint, reflect_index
from .separable import Separable, Spectra

Filter = Literal["bicubic", "area"]
FILTERS = get_args(Filter)
MAX_FACTOR = 16


def reduction_taps(factor: int, filter: Filter) -> Tensor:
    """The weights (factor + 2 l,) float64, sum 1, of the pixels around a block of ``factor`` that becomes one.

    "area" is the block's mean, l = 0; "bicubic" the cubic of Keys (1981), a = -0.5, widened by ``factor``.
    """
    if filter == "area":
        return torch.full((factor,), 1 / factor, dtype=torch.float64)
    margin = 3 * factor // 2
    position = torch.arange(-margin, factor + margin, dtype=torch.float64)
    distance = (position - (factor - 1) / 2).abs() / factor
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum()


def reduce_axis(image: Tensor, factor: int, taps: Tensor, axis: int) -> Tensor:
    """One axis (2 or 3) of (B, C, H, W), n pixels, reduced to ``ceil(n / factor)``, reflecting at the borders."""
    padded = image.index_select(axis, _block_index(image.shape[axis], factor, len(taps), image.device))
    return _strided(padded, factor, taps, axis, F.conv2d)


def reduce_axis_adjoint(y: Tensor, factor: int, taps: Tensor, axis: int) -> Tensor:
    """The transpose of ``reduce_axis`` on axes of ``factor`` times y's pixels."""
    size = factor * y.shape[axis]
    spread = _strided(y, factor, taps, axis, F.conv_transpose2d)
    return index_select_adjoint(spread, axis, _block_index(size, factor, len(taps), y.device), size)


def _block_index(size: int, factor: int, taps: int, device: torch.device) -> Tensor:
    margin, rest = (taps - factor) // 2, -size % factor
    return reflect_index(size, margin + rest, device)[rest:]


def _strided(image: Tensor, factor: int, taps: Tensor, axis: int, convolve: Callable[..., Tensor]) -> Tensor:
    shape, stride = ((-1, 1), (factor, 1)) if axis == 2 else ((1, -1), (1, factor))
    kernel = taps.to(image).reshape(1, 1, *shape)
    out = convolve(rearrange(image, "b c h w -> (b c) 1 h w"), kernel, stride=stride)
    return rearrange(out, "(b c) 1 h w -> b c h w", b=len(image))


class Downscale(Separable, Dense):
    """A photo made smaller by a whole factor; sides that it does not divide are rounded up.

    The measurement is smaller than the image. In the interior it equals ``torch.nn.functional.interpolate`` with
    "area", or with "bicubic" and antialias; the borders reflect.

    Args:
        factor: 1 to 16.
        filter: "bicubic" or "area".
        noise_std: standard deviation of the noise on the small photo, on [0, 1].

    Raises:
        AdaptDiffuseError: another factor or filter.
    """

    def __init__(self, factor: int, filter: Filter = "bicubic", noise_std: float = 0.0):
        checked = parameter(factor, 1, MAX_FACTOR, "The downscale factor")
        self.factor, self.filter = int(whole(checked, "The downscale factor")), _checked(filter)
        self.noise_std = check_noise_std(noise_std)
        self._taps = Placed(reduction_taps(self.factor, self.filter))
        self.spectra = Spectra(partial(_reduction, self.filter), [self.factor])

    def __call__(self, image: Tensor) -> Tensor:
        taps = self._taps.like(image)
        return reduce_axis(reduce_axis(image, self.factor, taps, 2), self.factor, taps, 3)

    def adjoint(self, y: Tensor) -> Tensor:
        taps = self._taps.like(y)
        return reduce_axis_adjoint(reduce_axis_adjoint(y, self.factor, taps, 3), self.factor, taps, 2)

    def prox(self, x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        if self.filter == "area":  # A A^T = I / factor^2
            return x0 + self.adjoint((y - self(x0)) / (weight + self.factor**-2))
        return super().prox(x0, y, weight)

    def closed_form_is_quick(self, height: int, width: int) -> bool:
        return self.filter == "area" or super().closed_form_is_quick(height, width)

    def select(self, indices: Tensor) -> Downscale:
        return self

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return self.factor * height, self.factor * width

    def start_image(self, y: Tensor) -> Tensor:
        """The bicubic enlargement of ``y``."""
        size = self.image_size(y.shape[2], y.shape[3])
        return F.interpolate(in_float(y), size, mode="bicubic", align_corners=False).to(y.dtype)


class LowResolution(Separable, Dense, SameSize):
    """A photo made smaller and enlarged to its size again (bicubic): what it had of detail is gone.

    Args:
        factor: whole numbers from 1 to 16; one, or (B,).
        filter: "bicubic" or "area", for making it smaller.
        noise_std: standard deviation of the noise on the enlarged photo, on [0, 1].
    """

    def __init__(self, factor: int | Tensor, filter: Filter = "bicubic", noise_std: float = 0.0):
        checked = parameter(factor, 1, MAX_FACTOR, "The downscale factor")
        self.factor, self.filter = whole(checked, "The downscale factor"), _checked(filter)
        self.noise_std = check_noise_std(noise_std)
        self._made: dict[tuple[int, int], Tensor] = {}  # of a factor and a size
        self._sized: dict[int, Placed] = {}
        self.spectra = Spectra(partial(_down_and_up, self.filter), self.factor.tolist())

    def _matrices(self, like: Tensor, axis: int) -> Tensor:
        """(1 or B, n, n): what happens along an axis of n pixels."""
        size = like.shape[axis]
        if len(self.factor) not in (1, len(like)):
            count = len(self.factor)
            raise AdaptDiffuseError(f"There are {count} factors for {len(like)} photos: give one, or one per photo.")
        if size not in self._sized:
            each = [self._one(factor, size) for factor in self.factor.tolist()]
            self._sized[size] = Placed(each[0][None] if len(each) == 1 else torch.stack(each))
        return self._sized[size].like(like)

    def _one(self, factor: int, size: int) -> Tensor:
        if (factor, size) not in self._made:
            self._made[factor, size] = _down_and_up(self.filter, factor, size)
        return self._made[factor, size]

    def __call__(self, image: Tensor) -> Tensor:
        down, right = self._matrices(image, 2), self._matrices(image, 3)
        return down[:, None] @ image @ right[:, None].mT

    def adjoint(self, y: Tensor) -> Tensor:
        down, right = self._matrices(y, 2), self._matrices(y, 3)
        return down[:, None].mT @ y @ right[:, None]

    def select(self, indices: Tensor) -> LowResolution:
        if len(self.factor) == 1:
            return self
        chosen = LowResolution(per_image(self.factor, indices), self.filter, self.noise_std)
        chosen.spectra = self.spectra.sharing(chosen.factor.tolist())
        chosen._made = self._made
        return chosen


def _reduction(filter: Filter, factor: float, size: int) -> Tensor:
    """The matrix (ceil(size / factor), size) float64 that makes an axis smaller by ``factor``."""
    identity = torch.eye(size, dtype=torch.float64)[None, None]
    return reduce_axis(identity, int(factor), reduction_taps(int(factor), filter), 2)[0, 0]


def _down_and_up(filter: Filter, factor: float, size: int) -> Tensor:
    """The matrix (size, size) float64 that makes an axis smaller by ``factor`` and then as long as it was."""
    small = _reduction(filter, factor, size)[None, None]
    large = F.interpolate(small, (small.shape[2] * int(factor), size), mode="bicubic", align_corners=False)
    return large[0, 0, :size]


def _checked(filter: Filter) -> Filter:
    if filter not in FILTERS:
        raise AdaptDiffuseError(f"Unknown filter '{filter}'; there are {', '.join(FILTERS)}.")
    return filter
