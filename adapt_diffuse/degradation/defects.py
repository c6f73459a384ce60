"""Where a film is scratched and dusty: random marks, drawn as a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import rand

DRAWS = 9  # numbers that decide one mark
HAIRS = 0.2  # of the dust are hairs
ALONG = 0.7  # of the scratches run with the film, up and down


@dataclass(frozen=True)
class Mark:
    """A bent line with round ends, or, where it is short, a speck; pixels and radians.

    Attributes:
        row, column: its centre.
        angle: of its direction, from the columns' (downwards).
        length, width: from end to end and across.
        bend: how far its middle is off the line between its ends.
        waves: how often it sways to and fro on the way; half a sway is an arc.
    """

    row: float
    column: float
    angle: float
    length: float
    width: float
    bend: float
    waves: float


def draw_marks(
    height: int, width: int, scratches: int, dust: int, size: float, generator: torch.Generator
) -> list[Mark]:
    """Random marks: long thin scratches, most of them along the film, and specks and hairs of dust.

    Args:
        scratches, dust: how many of each.
        size: pixels; a scratch is half to once as wide, a speck once to four times as large.
    """
    numbers = rand((scratches + dust, DRAWS), generator, torch.float64).tolist()
    return [
        (_scratch if index < scratches else _dust)(height, width, size, drawn) for index, drawn in enumerate(numbers)
    ]


def _scratch(height: int, width: int, size: float, drawn: list[float]) -> Mark:
    row, column, turned, angle, length, broad, bend, waves, _ = drawn
    tilt = 0.06 * (2 * angle - 1) if turned < ALONG else math.pi * angle
    return Mark(
        row=row * height, column=column * width, angle=tilt, length=(0.15 + 1.05 * length**2) * height,
        width=size * (0.5 + 0.5 * broad), bend=0.01 * height * bend, waves=0.5 + 2 * waves,
    )  # fmt: skip


def _dust(height: int, width: int, size: float, drawn: list[float]) -> Mark:
    row, column, hair, angle, length, broad, bend, _, _ = drawn
    place = {"row": row * height, "column": column * width, "angle": math.pi * angle}
    if hair < HAIRS:
        long = size * (6 + 14 * length)
        return Mark(**place, length=long, width=size * (0.4 + 0.3 * broad), bend=0.3 * long * bend, waves=0.5)
    across = size * (1 + 3 * broad**3)
    return Mark(**place, length=across * (1 + length), width=across, bend=0.0, waves=0.5)


def marks_mask(height: int, width: int, marks: list[Mark]) -> Tensor:
    """Masks (1, 1, height, width), 1 where no mark lies; one pixel is kept where all would be lost."""
    mask = torch.ones(height, width)
    for mark in marks:
        _blot(mask, mark)
    if not bool(mask.any()):
        mask[0, 0] = 1
    return mask[None, None]


def _blot(mask: Tensor, mark: Mark) -> None:
    """Set the pixels of ``mask`` (H, W) under a mark to zero."""
    reach = mark.length / 2 + mark.width + mark.bend
    rows = _within(mark.row, reach * abs(math.cos(mark.angle)) + mark.width + mark.bend, mask.shape[0])
    columns = _within(mark.column, reach * abs(math.sin(mark.angle)) + mark.width + mark.bend, mask.shape[1])
    down = torch.arange(rows.start, rows.stop, dtype=torch.float64)[:, None] + 0.5 - mark.row
    right = torch.arange(columns.start, columns.stop, dtype=torch.float64) + 0.5 - mark.column
    along = down * math.cos(mark.angle) + right * math.sin(mark.angle)
    across = right * math.cos(mark.angle) - down * math.sin(mark.angle)
    half = max((mark.length - mark.width) / 2, 0.0)
    place = along.clamp(-half, half)
    sway = torch.cos(math.pi * mark.waves * place / max(half, 1e-9)) - math.cos(math.pi * mark.waves)
    bent = across - mark.bend * sway / 2
    # a mark covers the pixel whose centre it covers, and a thin one still the nearest to its line
    hit = (along - place).square() + bent.square() <= max(mark.width / 2, 0.5) ** 2
    mask[rows, columns] *= ~hit


def _within(centre: float, reach: float, size: int) -> slice:
    low, high = math.floor(centre - reach) - 1, math.ceil(centre + reach) + 1
    return slice(min(max(low, 0), size), min(max(high, 0), size))
