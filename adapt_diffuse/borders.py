"""Borders around a photo: the paper of a print, the mat of a scan, film bars.

A blur that happened before a print was scanned, or a canvas put around it, is the photo's alone. A restoration that
takes the sharp edge of the border for blurred as well draws rings along it. So where a photo is to be deblurred its
border is filled with the photo, mirrored, and put back as it was in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .degradation import Degradation, blurs, steps_of

Mask = NDArray[np.bool_]
Plane = NDArray[np.float64]
Lines = tuple[slice, slice]

LOOK = 1024  # pixels of the longer side, at most: borders of larger photos are looked for in smaller ones
LAYERS = 3  # borders within borders: a frame, a mat
OUTERMOST = 2  # lines of a side that tell the colour of its border
MOST = 0.98  # of them that have it
TOLERANCE = 8 / 255, 0.15  # of that colour: the least (for JPEG), and the most (for noise)
NOISES = 5.0  # standard deviations of noise that are still that colour
MEDIAN, CALMED = 3, 0.45  # side of the median filter that calms it, and what it leaves of white noise
QUANTILE, ROBUST = 0.9, 1.645  # of absolute deviations, and that of white noise: a median misses what was clipped
PART, SOLID = 0.25, 0.75  # of the canvas that is photo, and of the photos' bounding boxes (an oval fills pi / 4)
LITTLE = 0.05  # of the canvas: what is smaller is no photo but dust, or writing on the border
RAGGED = 9  # pixels: JPEG and noise make an edge so uneven
SOFT = 4  # pixels of edge, at most, that are left to the border
SPARE = 1  # of them: an edge is not equally soft everywhere
STEP, SHARP = 0.08, 0.85  # on [0, 1], from border to photo, and how much of it behind those pixels
NEAR = 8  # pixels on both sides of an edge that are compared


@dataclass(frozen=True)
class Borders:
    """Photos with a border.

    Attributes:
        inside: bool (B, 1, H, W), what is no border; all of a photo that has none.
        filled: (B, 3, H, W) on [0, 1], with what is inside, mirrored at its edge, in the place of the borders.
        canvas: (B, 3, h, w), the photos at the size of the restored ones.
    """

    inside: Tensor
    filled: Tensor
    canvas: Tensor

    @classmethod
    def of(cls, photo: Tensor, degradation: Degradation) -> Borders | None:
        """The borders of photos (B, 3, H, W) that their blur has left sharp; None where there are none.

        Borders are not looked for where nothing is blurred, and pixels that are lost are no border: they are to be
        painted.
        """
        inside = torch.ones_like(photo[:, :1], dtype=torch.bool)
        rows = steps_of(degradation)
        for index, one in enumerate(photo):
            found = inside_borders(one) if blurs(rows[index if len(rows) > 1 else 0]) else None
            if found is None:
                continue
            mine = degradation.select(torch.tensor([index]))
            lost = mine.observed(torch.ones_like(one)[None])[0].amin(0) <= 0
            if not bool((lost & ~found).any()):
                inside[index, 0] = found
        if bool(inside.all()):
            return None
        filled = torch.stack([mirrored(*pair) for pair in zip(photo, inside[:, 0], strict=True)])
        return cls(inside, filled, degradation.start_image(photo).clamp(0, 1))

    def of_photo(self, index: int) -> Borders | None:
        """The border of one of the photos, None where it has none."""
        one = slice(index, index + 1)
        found = Borders(self.inside[one], self.filled[one], self.canvas[one])
        return None if bool(found.inside.all()) else found

    def put_back(self, image: Tensor) -> Tensor:
        """The restored images (B, 3, h, w) with the borders as they came."""
        inside = self.inside
        if inside.shape[2:] != self.canvas.shape[2:]:
            inside = F.interpolate(inside.float(), size=self.canvas.shape[2:]) > 0
        return torch.where(inside.to(image.device), image, self.canvas.to(image))


def inside_borders(photo: Tensor) -> Tensor | None:
    """Where a photo (3, H, W) is no border, bool (H, W); None where it has none that is sharp.

    A border has one colour, but for noise, from the edge of the canvas to a sharp edge around the photo, which may be
    a little askew, or round; there may be another within it. Noisy ones are looked for all around, what is really flat
    may be on one side alone.
    """
    from scipy import ndimage

    if not bool(torch.isfinite(photo).all()):
        return None
    factor = -(-max(photo.shape[1:]) // LOOK)
    canvas = F.avg_pool2d(photo.detach().cpu().float(), factor, ceil_mode=True).double().numpy()
    inside = inside_one(canvas)
    if inside is None:
        return None
    for _ in range(LAYERS - 1):
        box = ndimage.find_objects(inside.astype(int))[0]
        further = inside_one(canvas[:, box[0], box[1]])
        if further is None:
            break
        inside[box] &= further
    large = np.repeat(np.repeat(inside, factor, 0), factor, 1)[: photo.shape[1], : photo.shape[2]]
    return torch.from_numpy(large).to(photo.device)


def inside_one(canvas: Plane) -> Mask | None:
    """Where a canvas (3, H, W) is not its outermost border; None where it has none that is sharp."""
    from scipy import ndimage

    sides = border_sides(canvas)
    if not sides:
        return None
    border = np.zeros(canvas.shape[1:], bool)
    away = np.full(canvas.shape[1:], np.inf)
    for colour, tolerance, lines in sides:
        from_it = distance(canvas, colour)
        parts, _ = ndimage.label(ndimage.median_filter(from_it, MEDIAN, mode="nearest") <= tolerance)
        touching = np.unique(np.concatenate([parts[there].ravel() for there in lines]))
        border |= np.isin(parts, touching[touching > 0])
        away = np.minimum(away, from_it)
    inside = photos_of(~border)
    return None if inside is None else sharp_edged(inside, away)


def border_sides(canvas: Plane) -> list[tuple[Plane, float, list[Lines]]]:
    """The sides of a canvas (3, H, W) that may be border: colours (3,), their tolerance, and the outermost lines."""
    first, last, whole = slice(OUTERMOST), slice(-OUTERMOST, None), slice(None)
    found = []
    for lines in ((first, whole), (last, whole), (whole, first), (whole, last)):
        edge = canvas[:, lines[0], lines[1]].reshape(3, -1)
        colour = np.median(edge, 1)
        noise = float(np.quantile(np.abs(edge - colour[:, None]), QUANTILE)) / ROBUST
        low, high = TOLERANCE
        wide = NOISES * noise
        if wide * CALMED <= high and float((distance(edge, colour) <= max(wide, low)).mean()) >= MOST:
            flat = float(np.ptp(edge, 1).max()) <= low
            found.append((colour, min(max(wide * CALMED, low), high), lines, flat))
    sides: list[tuple[Plane, float, list[Lines]]] = []
    for colour, tolerance, lines, flat in found:
        if len(found) < 4 and not flat:
            continue
        same = next((side for side in sides if np.abs(side[0] - colour).max() <= TOLERANCE[0] / 2), None)
        if same is None:
            sides.append((colour, tolerance, [lines]))
        else:
            same[2].append(lines)
    return sides


def distance(canvas: Plane, colour: Plane) -> Plane:
    """How far (3, ...) is from a colour (3,), in the channel that is farthest."""
    return np.abs(canvas - colour.reshape(3, *(1,) * (canvas.ndim - 1))).max(0)


def photos_of(rest: Mask) -> Mask | None:
    """What of a canvas without its border is photo, holes filled; None where that does not look like photos."""
    from scipy import ndimage

    parts, _ = ndimage.label(rest)
    large = np.zeros_like(rest)
    boxes = 0
    for place, box in enumerate(ndimage.find_objects(parts), 1):
        one = ndimage.binary_fill_holes(parts[box] == place)
        if one.sum() >= LITTLE * rest.size:
            large[box] |= one
            boxes += one.size
    large = even(large)
    size = large.sum()
    return large if size >= PART * rest.size and size >= SOLID * boxes and size < rest.size else None


def even(mask: Mask) -> Mask:
    """``mask`` (H, W) without notches and tongues that are narrower than ``RAGGED``."""
    from scipy import ndimage

    padded = np.pad(mask, RAGGED, mode="edge")
    padded = ndimage.grey_opening(ndimage.grey_closing(padded, RAGGED), RAGGED)
    return padded[RAGGED:-RAGGED, RAGGED:-RAGGED]


def sharp_edged(inside: Mask, away: Plane) -> Mask | None:
    """``inside`` without the soft pixels of its edge; None where the edge is not sharp.

    Args:
        away: (H, W) how far each pixel is from the border's colour.
    """
    from scipy import ndimage

    depth, outside = (ndimage.distance_transform_edt(mask) for mask in (inside, ~inside))
    border = away[(outside > 1) & (outside <= NEAR)].mean() if (outside > 1).any() else 0.0
    photo = away[(depth > SOFT) & (depth <= NEAR)]
    if not photo.size or photo.mean() - border < STEP:
        return None
    for soft in range(1, SOFT - SPARE + 1):
        behind = away[(depth > soft) & (depth <= soft + 1)]
        if behind.mean() - border >= SHARP * (photo.mean() - border):
            return depth > soft + SPARE
    return None


def mirrored(photo: Tensor, inside: Tensor) -> Tensor:
    """A photo (3, H, W) whose pixels that are not ``inside``, bool (H, W), are those as far behind its edge.

    Where that is not inside either, the nearest pixel of the edge.
    """
    if bool(inside.all()):
        return photo
    from scipy import ndimage

    there = inside.cpu().numpy()
    nearest = ndimage.distance_transform_edt(~there, return_distances=False, return_indices=True)
    limits = np.array(there.shape).reshape(2, 1, 1)
    opposite = 2 * nearest - np.indices(there.shape)
    within = ((opposite >= 0) & (opposite < limits)).all(0)
    opposite = np.where(within, opposite, nearest)
    opposite = np.where(there[tuple(opposite)], opposite, nearest)
    rows, columns = (torch.from_numpy(index).to(photo.device) for index in opposite)
    return photo[:, rows, columns]
