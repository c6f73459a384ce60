"""Where a photo is scratched and dusty: a mask to start from, found without a network.

A mark is narrower than what surrounds it: it stands out from the median of its neighbourhood, and along a line from
both of its sides. How much it does is weighed against the texture around it, which does the same. Pixels above a high
threshold seed, those above a low one extend them (Canny 1986).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import AdaptDiffuseError

MAX_WIDTH = 64
DIRECTIONS = 16
LINE, SHORT = 31, 5  # pixels along which a line's strength, and the strips beside it, are averaged
LINE_LIMITS = (-0.1, 0.25)  # one strong spot must not pass for a line
TEXTURE, NARROW = 21, 9  # pixels across the neighbourhoods whose texture a mark is judged by
# of the logarithms of jump, line, texture and narrow texture; a logistic fit to painted marks on photographs
WEIGHTS = (1.8, 0.8, -2.3, 0.85)
FAINT = 0.004  # a grey level of 8 bit: what is less is rounding
HIGH, SPAN, EXTENT = 1.0, 3.0, 1.0  # a seed's score at the middle sensitivity; what the dial adds; what extends a seed
LEAST = 3  # pixels of a mark
GROWN = 1  # pixels around what was found: marks have soft edges

Plane = NDArray[np.float32]


def find_scratches(photo: Tensor, sensitivity: float = 0.5, width: int = 4) -> Tensor:
    """Masks (B, 1, H, W) float32 of photos (B, 3, H, W) on [0, 1]: 1 on scratches and dust, 0 elsewhere.

    Args:
        sensitivity: 0 (only the plainest marks) to 1 (every doubtful one).
        width: of the widest scratch, and the largest speck, in pixels; 1 to 64. Wider things are the picture's own.

    Raises:
        AdaptDiffuseError: a number outside its range.
    """
    check_search(sensitivity, width)
    luminance = photo.detach().float().cpu().mean(1).numpy()
    masks = [torch.from_numpy(_mask(plane, sensitivity, int(width))) for plane in luminance]
    return torch.stack(masks)[:, None].to(photo.device)


def check_search(sensitivity: float, width: int) -> None:
    """Raise AdaptDiffuseError where one of the numbers of ``find_scratches`` is outside its range."""
    if not 0 <= sensitivity <= 1:
        raise AdaptDiffuseError(f"The sensitivity must be between 0 and 1, not {sensitivity:g}.")
    if not 1 <= width <= MAX_WIDTH:
        raise AdaptDiffuseError(f"The largest width must be between 1 and {MAX_WIDTH} pixels, not {width:g}.")


def _mask(luminance: Plane, sensitivity: float, width: int) -> Plane:
    from scipy import ndimage

    seed = HIGH + SPAN * (0.5 - sensitivity)
    found = np.zeros(luminance.shape, bool)
    for score in mark_scores(luminance, width):
        found |= _hysteresis(score, seed - EXTENT, seed)
    return ndimage.binary_dilation(found, iterations=GROWN).astype(np.float32)


def mark_scores(luminance: Plane, width: int) -> list[Plane]:
    """How much each pixel of a luminance (H, W) looks like a light mark, and like a dark one; minus infinity: not."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(luminance, 0.6)
    surround = ndimage.median_filter(luminance, 2 * width + 5)
    texture, scores = _texture(luminance), []
    for sign in (1, -1):
        jump = sign * (luminance - surround)
        score = texture + WEIGHTS[0] * _log(jump) + WEIGHTS[1] * _log(line_strength(sign * smooth, width))
        scores.append(np.where(jump > 0, score, -np.inf))
    return scores


def _log(answer: Plane) -> Plane:
    return np.log(np.maximum(answer, 0) + FAINT)


def _texture(luminance: Plane) -> Plane:
    """The part of the score that texture has: (H, W), high where the photo is smooth."""
    from scipy import ndimage

    fine = np.abs(luminance - ndimage.gaussian_filter(luminance, 2.0))
    wide, narrow = ndimage.uniform_filter(fine, TEXTURE), ndimage.median_filter(fine, NARROW)
    return WEIGHTS[2] * _log(wide) + WEIGHTS[3] * _log(narrow)


def line_strength(plane: Plane, width: int) -> Plane:
    """How much the best of 16 lines through each pixel is lighter than what is on either side of it, (H, W).

    Taking the lesser of both sides is what tells a line from the edge of something.
    """
    reach = LINE // 2 + SHORT // 2 + width // 2 + 3
    best = np.full(plane.shape, LINE_LIMITS[0], np.float32)
    for index in range(DIRECTIONS):
        angle = math.pi * index / DIRECTIONS
        strips = _along(np.pad(plane, reach, mode="edge"), angle, SHORT)
        beside = [_moved(strips, side * (width / 2 + 1.5), angle + math.pi / 2) for side in (1, -1)]
        sharp = np.clip(strips - np.maximum(*beside), *LINE_LIMITS)
        best = np.maximum(best, _along(sharp, angle, LINE)[reach:-reach, reach:-reach])
    return best


def _along(plane: Plane, angle: float, length: int) -> Plane:
    """The mean of ``length`` pixels along a line through each pixel of a plane (H, W)."""
    places = range(-(length // 2), length // 2 + 1)
    total = sum((_moved(plane, place, angle) for place in places), np.zeros_like(plane))
    return (total / length).astype(np.float32)


def _moved(plane: Plane, distance: float, angle: float) -> Plane:
    """Every pixel's neighbour at a distance; what leaves the plane comes in on its other side."""
    return np.roll(plane, (-round(distance * math.sin(angle)), -round(distance * math.cos(angle))), (0, 1))


def _hysteresis(score: Plane, low: float, high: float) -> NDArray[np.bool_]:
    """The connected parts of what is above ``low`` that hold a pixel above ``high``, and are not tiny."""
    from scipy import ndimage

    labels, count = ndimage.label(score > low, np.ones((3, 3)))
    seeded = np.bincount(labels[score > high], minlength=count + 1) > 0
    large = np.bincount(labels.ravel(), minlength=count + 1) >= LEAST
    kept = seeded & large
    kept[0] = False
    return kept[labels]
