"""The undamaged photos that a calibration measures on."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bundled import WEIGHTS
from ..degradation import Degradation, PerImage, measure
from ..errors import AdaptDiffuseError
from ..images import find_photos, read_photo

SAMPLE = WEIGHTS.parent / "assets" / "flower.jpg"
SIDE = 256  # pixels; enough for the statistics of an error
MOST_PHOTOS = 16
ZOOMS = (1.0, 0.6, 0.36)  # of the sample photo, so that its views differ in detail
PLACES = ((0.5, 0.5), (0.1, 0.2), (0.9, 0.7))  # of a view in it, down and across, as parts of the free way


def calibration_size(degradation: Degradation, height: int, width: int) -> tuple[int, int]:
    """The size of calibration photos for damaged ones whose image is ``height`` x ``width``.

    At most 256 pixels a side, except where the damage has a size of its own, as a mask has.
    """
    small = (min(height, SIDE), min(width, SIDE))
    own = degradation.degradations if isinstance(degradation, PerImage) else [degradation.select(torch.tensor([0]))]
    try:
        for one in own:
            measure(torch.zeros(1, 3, *small), one, torch.Generator())
    except AdaptDiffuseError:
        return height, width
    return small


def sample_views(height: int, width: int) -> Tensor:
    """Nine views (n, 3, height, width) of the pack's sample photo, or, of large ones, which differ less, three.

    Raises:
        AdaptDiffuseError: the photo is missing.
    """
    photo = read_photo(SAMPLE)
    places = PLACES if height * width <= 2 * SIDE**2 else PLACES[:1]
    return torch.cat([view(photo, height, width, zoom, place) for zoom in ZOOMS for place in places])


def folder_views(folder: Path, height: int, width: int) -> Tensor:
    """The middle (n, 3, height, width) of up to 16 photos of ``folder``, evenly spaced in its order.

    Raises:
        AdaptDiffuseError: no photos there, or one that cannot be read.
    """
    paths = find_photos(folder)
    count = min(len(paths), MOST_PHOTOS)
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    return torch.cat([view(read_photo(path), height, width) for path in chosen])


def view(photo: Tensor, height: int, width: int, zoom: float = 1.0, place: tuple[float, float] = (0.5, 0.5)) -> Tensor:
    """``height`` x ``width`` pixels of a photo (1, 3, H, W) reduced by ``zoom``, or as much as the view still fills."""
    zoom = max(zoom, height / photo.shape[2], width / photo.shape[3])
    if zoom != 1:
        size = (max(height, round(photo.shape[2] * zoom)), max(width, round(photo.shape[3] * zoom)))
        photo = F.interpolate(photo, size, mode="bicubic", antialias=zoom < 1, align_corners=False).clamp(0, 1)
    top = round((photo.shape[2] - height) * place[0])
    left = round((photo.shape[3] - width) * place[1])
    return photo[:, :, top : top + height, left : left + width]
