"""A network of local reach, run tile by tile and stitched; and the gradient of that, tile by tile too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Run = Callable[[Tensor], Tensor]


class Units(NamedTuple):
    """How many values one latent position stands for along a side: in what goes in, and in what comes out.

    A decoder of factor 8 has (1, 8), its encoder (8, 1).
    """

    source: int
    output: int


@dataclass(frozen=True)
class Tile:
    """One tile of a layout, for one network.

    Attributes:
        source, output: rows and columns of it in what goes in and in what comes out.
        rows, columns: (h, 1) and (w,), whose product is its share of the output.
    """

    source: tuple[slice, slice]
    output: tuple[slice, slice]
    rows: Tensor
    columns: Tensor

    def share(self, values: Tensor) -> Tensor:
        """``values`` (B, C, h, w) times the tile's share of the output."""
        return values * self.rows * self.columns


@dataclass(frozen=True)
class TileLayout:
    """A grid of latent positions, covered by overlapping tiles of one size.

    The shares of all tiles sum to one everywhere. A tile's outermost quarter of the overlap has no share, since there
    it does not see its surroundings; along the inner half it is faded in.

    Attributes:
        height, width: of the grid.
        tile: positions along the side of a tile.
        overlap: positions that neighbours have in common, at least.
    """

    height: int
    width: int
    tile: int
    overlap: int

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Where the tiles begin and end along a side of ``length`` positions: evenly spaced."""
        size = min(self.tile, length)
        step = max(size - self.overlap, 1)
        steps = -(-(length - size) // step)
        return [
            (begin, begin + size) for begin in (round(k * (length - size) / max(steps, 1)) for k in range(steps + 1))
        ]

    def shares(self, length: int, unit: int) -> Tensor:
        """The tiles' shares along a side, (tiles, length * unit) float64; columns sum to one."""
        position = (torch.arange(length * unit, dtype=torch.float64) + 0.5) / unit
        fade = max(self.overlap / 2, 1e-9)
        made = []
        for begin, end in self.spans(length):
            rise = ((position - begin - fade / 2) / fade).clamp(0, 1) if begin > 0 else torch.ones_like(position)
            fall = ((end - fade / 2 - position) / fade).clamp(0, 1) if end < length else torch.ones_like(position)
            made.append(rise * fall)
        table = torch.stack(made)
        return table / table.sum(0)

    def tiles(self, units: Units, like: Tensor) -> list[Tile]:
        """All tiles, their shares in the dtype and on the device of ``like``."""
        sides = []
        for length in (self.height, self.width):
            shares = self.shares(length, units.output).to(like)
            sides.append([(begin, end, share) for (begin, end), share in zip(self.spans(length), shares, strict=True)])

        def cut(row: tuple[int, int, Tensor], column: tuple[int, int, Tensor], unit: int) -> tuple[slice, slice]:
            return slice(row[0] * unit, row[1] * unit), slice(column[0] * unit, column[1] * unit)

        made = []
        for row in sides[0]:
            for column in sides[1]:
                output = cut(row, column, units.output)
                rows, columns = row[2][output[0]][:, None], column[2][output[1]]
                made.append(Tile(cut(row, column, units.source), output, rows, columns))
        return made


def stitch(run: Run, source: Tensor, tiles: list[Tile]) -> Tensor:
    """``run`` tile by tile on ``source`` (B, C, h, w), stitched to (B, C', H, W)."""
    size = tiles[-1].output[0].stop, tiles[-1].output[1].stop
    stitched = None
    for tile in tiles:
        part = tile.share(run(cut_out(source, tile.source)))
        if stitched is None:
            stitched = part.new_zeros(*part.shape[:2], *size)
        cut_out(stitched, tile.output).add_(part)
    assert stitched is not None
    return stitched


def pull_back(run: Run, source: Tensor, gradient: Tensor, tiles: list[Tile]) -> Tensor:
    """The gradient with respect to ``source`` of what ``stitch`` makes of it, given the one of its result.

    Every tile is run once more, and forgotten before the next: that is all of a graph that is ever in memory.
    """
    pulled = torch.zeros_like(source)
    for tile in tiles:
        with torch.enable_grad():
            part = cut_out(source, tile.source).detach().requires_grad_()
            output = run(part)
        (back,) = torch.autograd.grad(output, part, tile.share(cut_out(gradient, tile.output)))
        del output
        cut_out(pulled, tile.source).add_(back)
    return pulled


def cut_out(values: Tensor, where: tuple[slice, slice]) -> Tensor:
    """A view of the tile's rows and columns."""
    return values[:, :, where[0], where[1]]


def tile_sizes(longest: int, smallest: int) -> Iterator[int]:
    """Sides of tiles to try on a grid whose longer side is ``longest``: shorter than that, each half of the last."""
    size = smallest
    while size * 2 < longest:
        size *= 2
    while smallest <= size < longest:
        yield size
        size //= 2
