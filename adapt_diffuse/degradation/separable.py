"""Operators that treat rows and columns apart: their proximal step in closed form, by singular values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SIZES = 4  # of a side, kept at a time: a folder of photos may have hundreds
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
    def of(cls, matrix: Tensor, dtype: torch.dtype) -> Axis:
        """Of a matrix (m, n), float64 on the CPU, as ``dtype``."""
        u, s, vt = torch.linalg.svd(matrix[None], full_matrices=False)
        return cls(u.to(dtype), s.to(dtype), vt.mT.to(dtype))

    @classmethod
    def stacked(cls, rows: Sequence[Axis], device: torch.device) -> Axis:
        """One row after the other; those of one operator have the same m, n and k."""
        if len(rows) == 1:
            return cls(rows[0].u.to(device), rows[0].s.to(device), rows[0].v.to(device))
        u, s, v = (torch.cat(parts).to(device) for parts in zip(*((row.u, row.s, row.v) for row in rows), strict=True))
        return cls(u, s, v)


class Spectra:
    """The decompositions that an operator has needed so far, each made once for all operators that share them.

    A reflected border makes a symmetric kernel's matrix diagonal under the cosine transform DCT-I, but that transform
    is not orthogonal (its end points count half), so it does not make ``A^T A`` diagonal, and there is no closed form
    by Fourier. There is one by singular values: ``A`` is a matrix for the columns and one for the rows.

    Args:
        matrix: of a photo's parameter and the axis size n, (m, n) float64 on the CPU.
        parameters: of each photo, or of all in one.
        made: decompositions to begin with, and to add to.
    """

    def __init__(
        self,
        matrix: Callable[[float, int], Tensor],
        parameters: Sequence[float],
        made: dict[tuple[float, int, torch.dtype], Axis] | None = None,
    ):
        self.matrix, self.parameters = matrix, tuple(parameters)
        self._made = {} if made is None else made
        self._placed: dict[tuple[int, torch.dtype, torch.device], Axis] = {}

    def sharing(self, parameters: Sequence[float]) -> Spectra:
        """Those of the same operator with ``parameters``: what one of the two has made, the other has too.

        What was brought to a GPU is not shared, and goes with the operator that needed it there.
        """
        return Spectra(self.matrix, parameters, self._made)

    def axis(self, size: int, like: Tensor) -> Axis:
        key = (size, like.dtype, like.device)
        if key not in self._placed:
            make_room(self._placed, size, 0)
            rows = self.parameters if len(set(self.parameters)) > 1 else self.parameters[:1]
            self._placed[key] = Axis.stacked([self._one(row, size, like.dtype) for row in rows], like.device)
        return self._placed[key]

    def _one(self, parameter: float, size: int, dtype: torch.dtype) -> Axis:
        key = (parameter, size, dtype)
        if key not in self._made:
            make_room(self._made, size, 1)
            self._made[key] = Axis.of(self.matrix(parameter, size), dtype)
        return self._made[key]

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


def make_room(kept: dict[Any, Axis], size: int, place: int) -> None:
    """Before a decomposition of a new ``size`` is ``kept``, drop those of the oldest one where there are ``SIZES``.

    Args:
        place: of the size in a key.
    """
    sizes = list(dict.fromkeys(key[place] for key in kept))
    if size not in sizes and len(sizes) >= SIZES:
        for key in [key for key in kept if key[place] == sizes[0]]:
            del kept[key]


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
