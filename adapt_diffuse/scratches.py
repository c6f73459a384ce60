"""Where a photo is scratched and dusty: a mask to start from.

A small network (see scratch_network) tells marks from thin things that the photo shows. Pixels above a high threshold
seed, those above a low one extend them (Canny 1986); what is wider than a mark is left to the picture.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .errors import AdaptDiffuseError
from .scratch_network import MULTIPLE, ScratchNetwork, load_network

MAX_WIDTH = 64
KNOWN_WIDTH = 8  # pixels; wider marks are looked for in the photo made smaller
STRIP, OVERLAP = 512, 64  # rows that are looked at together, and those around them that the network sees as well
# a seed's logit at the middle sensitivity; what the whole dial adds; what extends a seed
HIGH, SPAN, EXTENT = -1.0, 6.0, 1.0
LEAST = 3  # pixels of a mark
FAINT = 0.01  # of a mark that is no lighter or darker than what is around it, this is rounding
SAMPLES, CHUNK = 8, 2**15  # pixels to each side that a median is taken of, and medians at once
GROWN = 1  # pixels around what was found: marks have soft edges
# a speck may be so many times as wide as the widest scratch, and what is found is some pixels wider than the mark
SPECK, EDGE = 2.0, 3.0

Plane = NDArray[np.float32]


@torch.no_grad()
def find_scratches(photo: Tensor, sensitivity: float = 0.5, width: int = 4) -> Tensor:
    """Masks (B, 1, H, W) float32 of photos (B, 3, H, W) on [0, 1]: 1 on scratches and dust, 0 elsewhere.

    Args:
        sensitivity: 0 (only the plainest marks) to 1 (every doubtful one).
        width: of the widest scratch in pixels, and half that of the largest speck; 1 to 64. Thinner ones are found as
            well, wider things are the picture's own.

    Raises:
        AdaptDiffuseError: a number outside its range.
    """
    check_search(sensitivity, width)
    seed = HIGH + SPAN * (0.5 - sensitivity)
    masks = []
    for one in photo.detach().float().cpu().split(1):
        logits = mark_logits(one, width, load_network())[0, 0].numpy()
        found = narrow(hysteresis(logits, seed - EXTENT, seed), SPECK * width + EDGE)
        found = standing_out(one[0].mean(0).numpy(), found, width)
        masks.append(torch.from_numpy(grown(found)))
    return torch.stack(masks)[:, None].to(photo.device)


def check_search(sensitivity: float, width: int) -> None:
    """Raise AdaptDiffuseError where one of the numbers of ``find_scratches`` is outside its range."""
    if not 0 <= sensitivity <= 1:
        raise AdaptDiffuseError(f"The sensitivity must be between 0 and 1, not {sensitivity:g}.")
    if not 1 <= width <= MAX_WIDTH:
        raise AdaptDiffuseError(f"The largest width must be between 1 and {MAX_WIDTH} pixels, not {width:g}.")


def mark_logits(photo: Tensor, width: int, network: ScratchNetwork) -> Tensor:
    """How likely every pixel of a photo (1, 3, H, W) is a mark up to ``width`` wide: logits (1, 1, H, W).

    The network knows marks of up to 8 pixels. For wider ones it looks at the photo at half its size too, at a quarter,
    and so on; the highest logit counts.
    """
    size, factor = photo.shape[2:], 1
    best = _in_strips(photo, network)
    while width > KNOWN_WIDTH * factor and min(size) > 2 * factor:
        factor *= 2
        reduced = F.interpolate(
            photo, [max(side // factor, 1) for side in size], mode="bilinear", antialias=True, align_corners=False
        )
        coarse = F.interpolate(_in_strips(reduced, network), size, mode="bilinear", align_corners=False)
        best = torch.maximum(best, coarse)
    return best


def _in_strips(photo: Tensor, network: ScratchNetwork) -> Tensor:
    """The network's logits of a photo, which would not fit the memory at once where it is large."""
    assert OVERLAP % MULTIPLE == 0 and STRIP % MULTIPLE == 0
    height, strips = photo.shape[2], []
    for top in range(0, height, STRIP):
        first = max(top - OVERLAP, 0)
        logits = network(photo[:, :, first : top + STRIP + OVERLAP])
        strips.append(logits[:, :, top - first : top - first + STRIP])
    return torch.cat(strips, 2)


def hysteresis(score: Plane, low: float, high: float) -> NDArray[np.bool_]:
    """The connected parts of what is above ``low`` that hold a pixel above ``high``, and are not tiny."""
    from scipy import ndimage

    labels, count = ndimage.label(score > low, np.ones((3, 3)))
    seeded = np.bincount(labels[score > high], minlength=count + 1) > 0
    large = np.bincount(labels.ravel(), minlength=count + 1) >= LEAST
    kept = seeded & large
    kept[0] = False
    return kept[labels]


def narrow(found: NDArray[np.bool_], limit: float) -> NDArray[np.bool_]:
    """``found`` (H, W) without the parts that a disc of the diameter ``limit`` fits into."""
    from scipy import ndimage

    inside = np.pad(found, 1)
    centres = ndimage.distance_transform_edt(inside) > limit / 2
    if not centres.any():
        return found
    wide = ndimage.distance_transform_edt(~centres) < limit / 2
    return found & ~wide[1:-1, 1:-1]


def standing_out(luminance: Plane, found: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """``found`` (H, W) without pixels that are as light as the median of what is around them, as beside an edge."""
    reach = width + 2
    step = -(-reach // SAMPLES)
    offsets = np.arange(-(reach // step) * step, reach + 1, step)
    padded = np.pad(luminance, reach, mode="edge")
    rows, columns = np.nonzero(found)
    kept = found.copy()
    if not found.any():
        return kept
    for part in np.array_split(np.arange(len(rows)), len(rows) // CHUNK + 1):
        down, right = rows[part, None, None] + reach + offsets[:, None], columns[part, None, None] + reach + offsets
        median = np.median(padded[down, right].reshape(len(part), -1), axis=1)
        jump = np.abs(luminance[rows[part], columns[part]] - median)
        kept[rows[part], columns[part]] = jump > FAINT
    return kept


def grown(found: NDArray[np.bool_]) -> Plane:
    """A mask (H, W) of 0 and 1, a pixel wider on every side than ``found``."""
    from scipy import ndimage

    return ndimage.binary_dilation(found, iterations=GROWN).astype(np.float32)
