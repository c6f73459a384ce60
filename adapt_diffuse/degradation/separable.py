"""Operators that treat rows and columns apart: their proximal step in closed form, by singular values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

LONGEST = 2048  # pixels along a side; a decomposition of 4096 takes a minute and a gigabyte


@dataclass(frozen=True)
class Axis:
    """The singular value decomposition ``u diag(s) v^T`` of what an operator does along one axis.

    Attributes:
        u: (1 or B, m, k).
        s: (1 or B, k), falling.
        v: (1 or B, n, k).
    """

    u: Tensor
    s: Tensor
    v: Tensor

    @classmethod
    def of(cls, matrices: Tensor) -> Axis:
        """Of matrices (1 or B, m, n), float64 on the CPU."""
        u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
        return cls(u, s, vt.mT)

    def to(self, like: Tensor) -> Axis:
        return Axis(self.u.to(like), self.s.to(like), self.v.to(like))


@dataclass(frozen=True)
class Spectra:
    """The decompositions that an operator has needed so far.

    A reflected border makes a symmetric kernel's matrix diagonal under the cosine transform DCT-I, but that transform
    is not orthogonal (its end points count half), so it does not make ``A^T A`` diagonal, and there is no closed form
    by Fourier. There is one by singular values: ``A`` is a matrix for the columns and one for the rows.

    Attributes:
        matrices: of the axis size n, (1 or B, m, n) float64 on the CPU.
    """

    matrices: Callable[[int], Tensor]
    _known: dict[tuple[int, torch.dtype, torch.device], Axis] = field(default_factory=dict)

    def axis(self, size: int, like: Tensor) -> Axis:
        key = (size, like.dtype, like.device)
        if key not in self._known:
            self._known[key] = Axis.of(self.matrices(size)).to(like)
        return self._known[key]

    def correction(self, residual: Tensor, size: tuple[int, int], weight: Tensor) -> Tensor:
        """``argmin_d 1/2 |residual - A d|^2 + weight/2 |d|^2``, (B, 3, H, W).

        Args:
            residual: (B, 3, h, w), shaped as measurements.
            size: (H, W) of the image.
            weight: (1 or B, 1, 1, 1). 0 gives the smallest d that fits best; directions that A shrinks to less than
                the dtype's rounding are then left alone.
        """
        down, right = self.axis(size[0], residual), self.axis(size[1], residual)
        s = down.s[:, None, :, None] * right.s[:, None, None, :]
        rounding = torch.finfo(s.dtype).eps * max(size) * s.amax((2, 3), keepdim=True)
        told = (weight > 0) | (s > rounding)
        gain = torch.where(told, s / torch.where(told, s**2 + weight, 1), 0)
        inner = gain * (down.u[:, None].mT @ residual @ right.u[:, None])
        return down.v[:, None] @ inner @ right.v[:, None].mT


class Separable(ABC):
    """Mixin of the operators with ``spectra``: their proximal step by singular values."""

    spectra: Spectra

    @abstractmethod
    def __call__(self, image: Tensor) -> Tensor: ...

    def prox(self, x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return x0 + self.spectra.correction(y - self(x0), (x0.shape[2], x0.shape[3]), weight)

    def closed_form_is_quick(self, height: int, width: int) -> bool:
        """Whether the decompositions for an image take seconds; their time grows with the cube of a side."""
        return max(height, width) <= LONGEST
