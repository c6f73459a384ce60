"""Photos of any size on the grid that the models need."""

from __future__ import annotations

from torch import Tensor

from .degradation.blur import reflect_index


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) reflected at the right and the bottom until both sides are multiples of ``multiple``.

    Any size >= 1 works: small photos are reflected as often as it takes.
    """
    for axis in (2, 3):
        size = image.shape[axis]
        extra = -size % multiple
        if extra:
            index = reflect_index(size, extra, image.device)[extra:]
            image = image.index_select(axis, index)
    return image
