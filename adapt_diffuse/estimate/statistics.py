"""What a photo's pixels tell of blur, scale, JPEG and noise, whatever it shows: spectra, and traces of 8 x 8 blocks.

Convolutions with fixed filters (the Fourier basis of a window, the cosine basis of a block), a nonlinearity, and an
average over the photo; so photos of any size do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..padding import pad_to_multiple

WINDOW, HOP = 64, 16
MOST_WINDOWS = 400  # about
CHANNELS = 3  # of the spectra
SPECTRUM = (CHANNELS, WINDOW, WINDOW // 2 + 1)
BLOCK = 8
QUALITIES = tuple(range(5, 97))  # of JPEG, that the coefficients are compared with
SLOWEST = 6  # of the tables, frequencies down and across add up to this at most: the others are mostly zero
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles over the windows
NUMBERS = 2 * BLOCK + 1 + len(QUALITIES) + 2 * BLOCK + 2 * len(LEVELS) + 1
FLOOR = 1e-8  # of a power; the rounding of 8 bit has 1.3e-6
# ITU-T T.81, table K.1, which libjpeg and nearly all cameras scale
LUMINANCE_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


@dataclass(frozen=True)
class Statistics:
    """Of B photos: average logarithms of spectra (B, 3, 64, 33), low frequencies in the middle row; numbers (B, n)."""

    spectra: Tensor
    numbers: Tensor


def statistics_of(photo: Tensor) -> Statistics:
    """The statistics of photos (B, 3, H, W) on [0, 1], any size; float32 on the CPU."""
    photo = photo.detach().float().cpu()
    height, width = max(photo.shape[2], WINDOW), max(photo.shape[3], WINDOW)
    padded = pad_to_multiple(photo, WINDOW) if min(photo.shape[2:]) < WINDOW else photo
    each = [_one(one[:, :height, :width]) for one in padded]
    return Statistics(torch.stack([spectra for spectra, _ in each]), torch.stack([numbers for _, numbers in each]))


def _one(photo: Tensor) -> tuple[Tensor, Tensor]:
    red, green, blue = photo
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    power = window_powers(luminance)
    colour = window_powers(blue - luminance)
    logs = (power + FLOOR).log()
    spectra = torch.stack([logs.mean(0), (power.mean(0) + FLOOR).log(), (colour + FLOOR).log().mean(0)])
    fine = _fine(power).add(FLOOR).log()
    levels = torch.tensor(LEVELS)
    spread = torch.cat([fine.quantile(levels), logs.mean((1, 2)).quantile(levels)])
    count = torch.tensor([math.log(len(power))])
    return spectra.roll(WINDOW // 2, 1), torch.cat([*block_traces(luminance), spread, count])


def window_powers(plane: Tensor) -> Tensor:
    """Power spectra (n, 64, 33) of windows all over a plane (H, W), about 400 at most; white noise of std s has s^2."""
    tops, lefts = _places(*plane.shape)
    windows = torch.stack([plane[top : top + WINDOW, left : left + WINDOW] for top in tops for left in lefts])
    taper = torch.hann_window(WINDOW, periodic=False)
    taper = taper[:, None] * taper
    windows = (windows - windows.mean((1, 2), keepdim=True)) * taper
    return torch.fft.rfft2(windows).abs().square() / taper.square().sum()


def _places(height: int, width: int) -> tuple[list[int], list[int]]:
    """Where windows begin: every 16 pixels, or further apart where those were many more than 400."""
    hop = max(HOP, math.ceil(math.sqrt(max(height - WINDOW, 1) * max(width - WINDOW, 1) / MOST_WINDOWS)))
    tops, lefts = (list(range(0, side - WINDOW + 1, hop)) for side in (height, width))
    return tops, lefts


def _fine(power: Tensor) -> Tensor:
    """The mean power of each window at more than 0.35 of the sampling rate in both directions, (n,)."""
    low = int(0.35 * WINDOW)
    return power[:, low : WINDOW - low, low:].mean((1, 2))


def block_traces(luminance: Tensor) -> list[Tensor]:
    """What blocks leave behind: jumps at their edges, and coefficients that are multiples of the tables' steps.

    Returns the logarithm of the jumps down and across at each of the 8 places of a block, from its edge on (16,), how
    sure the edge is (1,), how well the coefficients fit the tables at each of the qualities (92,), and the mean
    logarithms of the coefficients' size along both axes of the frequencies (16,).
    """
    down, right = (_phases(luminance, axis) for axis in (0, 1))
    top, left = int(down.argmax()), int(right.argmax())
    rolled = [jumps.roll(-place) for jumps, place in ((down, top), (right, left))]
    sure = (rolled[0][0] - rolled[0][1:].mean() + rolled[1][0] - rolled[1][1:].mean())[None]
    blocks = cosines(luminance[(top + 1) % BLOCK :, (left + 1) % BLOCK :])
    return [*rolled, sure, table_fits(blocks), *_sizes(blocks)]


def _phases(plane: Tensor, axis: int) -> Tensor:
    """Mean logarithms (8,) of the second differences across each place modulo 8, their mean taken off."""
    jump = plane.diff(dim=axis)
    count = jump.shape[axis]
    bend = jump.narrow(axis, 1, count - 2) - 0.5 * (jump.narrow(axis, 0, count - 2) + jump.narrow(axis, 2, count - 2))
    strength = bend.abs().mean(1 - axis)
    means = torch.stack([strength[(place - 1) % BLOCK :: BLOCK].mean() for place in range(BLOCK)])
    logs = (means + 1e-4).log()
    return logs - logs.mean()


def cosines(plane: Tensor) -> Tensor:
    """The cosine transforms (n, 8, 8) of a plane's 8 x 8 blocks, as JPEG has them, on 0 to 255."""
    height, width = (side // BLOCK * BLOCK for side in plane.shape)
    blocks = plane[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).permute(0, 2, 1, 3)
    place, wave = torch.arange(BLOCK) + 0.5, torch.arange(BLOCK)[:, None]
    basis = torch.cos(math.pi / BLOCK * wave * place) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    return basis @ (255 * blocks.reshape(-1, BLOCK, BLOCK) - 128) @ basis.T


def table_fits(blocks: Tensor) -> Tensor:
    """For each quality (92,) the mean of ``cos(2 pi c / step)`` over the coefficients that are not small."""
    frequency = torch.arange(BLOCK)
    slow = frequency[:, None] + frequency <= SLOWEST
    table = torch.tensor(LUMINANCE_TABLE, dtype=torch.float32)[slow]
    coefficients = blocks[:, slow]
    found = []
    for quality in QUALITIES:
        scale = 50 / quality if quality < 50 else 2 - quality / 50  # libjpeg's
        steps = (table * scale).round().clamp(1, 255)
        large = (coefficients.abs() > 0.6 * steps) & (steps > 1)
        fits = torch.cos(2 * math.pi / steps * coefficients)
        found.append((fits * large).sum() / (large.sum() + 10))
    return torch.stack(found)


def _sizes(blocks: Tensor) -> list[Tensor]:
    logs = (blocks.abs() + 0.3).log().mean(0)
    return [logs.mean(0), logs.mean(1)]
