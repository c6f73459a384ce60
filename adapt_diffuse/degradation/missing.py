"""Missing pixels: random dropout, a box, or a user's mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AdaptDiffuseError
from ..images import fitted_size
from .base import Generators, Pixelwise, SameSize, check_noise_std, per_image, rand

MAX_DROP = 0.99
UNSEEN = 0.5 / 255  # of white: what a pixel may have of a lost one
# the same seed for mask and noise would draw both from the same numbers: the kept pixels' noise would be too small
MASK_SEED = 2_000_003


def random_mask(shape: tuple[int, int, int, int], drop: Tensor, generators: Generators) -> Tensor:
    """Masks (B, 1, H, W), 1 where a pixel is kept: each is dropped on its own with probability ``drop`` (B,)."""
    return kept_pixels(rand((shape[0], 1, *shape[2:]), generators), drop)


def kept_pixels(uniform: Tensor, drop: Tensor) -> Tensor:
    """The masks that draws ``uniform`` (B, 1, H, W) in [0, 1) decide; where all would be lost, one pixel is kept."""
    # a photo of a few pixels may lose them all by chance, and then nothing is left to restore it from
    last = uniform == uniform.flatten(1).amin(1).reshape(-1, 1, 1, 1)
    return ((uniform < 1 - drop.reshape(-1, 1, 1, 1)) | last).float()


class MissingPixels(SameSize, Pixelwise):
    """Pixels that are known (mask 1) or lost (mask 0), all channels together.

    A lost pixel carries no information: it is zero in the measurement, in the residual and in the count.

    Args:
        mask: (1 or B, 1, H, W), anything above 0.5 is kept; the photos must have its size.
        noise_std: standard deviation of the noise on the kept pixels of [0, 1] images.

    Raises:
        AdaptDiffuseError: a mask of another shape than the photo, or without a single kept pixel.
    """

    def __init__(self, mask: Tensor, noise_std: float = 0.0):
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise AdaptDiffuseError(f"The mask must have the shape (batch, 1, height, width), not {tuple(mask.shape)}.")
        self.mask = mask.detach() > 0.5
        if not bool(self.mask.flatten(1).any(1).all()):
            raise AdaptDiffuseError("The mask keeps no pixel at all: nothing is left to restore the photo from.")
        self._placed: dict[torch.device, Tensor] = {}
        self.noise_std = check_noise_std(noise_std)

    @property
    def loses_nothing(self) -> bool:
        """Whether every pixel is kept."""
        return bool(self.mask.all())

    def __call__(self, image: Tensor) -> Tensor:
        return image * self._mask_for(image).to(image)

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)

    def prox(self, x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return torch.where(self._mask_for(x0), (y + weight * x0) / (1 + weight), x0)

    def observed(self, y: Tensor) -> Tensor:
        # where, not a product: a lost pixel may hold anything, NaN included
        return torch.where(self._mask_for(y), y, torch.zeros_like(y))

    def count(self, y: Tensor) -> Tensor:
        kept = self._mask_for(y).flatten(1).sum(1).cpu().double() * y.shape[1]
        return kept.expand(len(y))

    def select(self, indices: Tensor) -> MissingPixels:
        return self if len(self.mask) == 1 else MissingPixels(per_image(self.mask, indices), self.noise_std)

    def _mask_for(self, image: Tensor) -> Tensor:
        if self.mask.shape[2:] != image.shape[2:] or len(self.mask) not in (1, len(image)):
            count, _, height, width = self.mask.shape
            # hosts give an empty mask of a fixed size where none was painted
            empty = "it marks nothing as lost, so paint over the damage, or " if count and bool(self.mask.all()) else ""
            same_size = self.mask.shape[2:] == image.shape[2:]
            wanted = "one mask for all photos, or one per photo" if same_size else "a mask of the photo's size"
            raise AdaptDiffuseError(
                f"The mask is {width} x {height} ({count} of them) but the photo is {image.shape[3]} x "
                f"{image.shape[2]} ({len(image)} of them): {empty}give {wanted}."
            )
        if image.device not in self._placed:
            self._placed[image.device] = self.mask.to(image.device)
        return self._placed[image.device]


class SizedMask(ABC):
    """Mixin of the operators whose mask follows from the photo's size.

    All photos of a batch share the mask of their size, so that a batch gives what its photos give alone.
    """

    noise_std: float
    _sized: dict[tuple[int, int], MissingPixels]

    @abstractmethod
    def mask(self, height: int, width: int) -> Tensor:
        """(1, 1, height, width), 1 where a pixel is kept."""

    @property
    @abstractmethod
    def loses_nothing(self) -> bool:
        """Whether every pixel of a photo of any size is kept."""

    def sized(self, height: int, width: int) -> MissingPixels:
        """The operator with the mask for photos of one size."""
        if (height, width) not in self._sized:
            self._sized[height, width] = MissingPixels(self.mask(height, width), self.noise_std)
        return self._sized[height, width]

    def __call__(self, image: Tensor) -> Tensor:
        return self.sized(*image.shape[2:])(image)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.sized(*y.shape[2:]).adjoint(y)

    def prox(self, x0: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return self.sized(*y.shape[2:]).prox(x0, y, weight)

    def observed(self, y: Tensor) -> Tensor:
        return self.sized(*y.shape[2:]).observed(y)

    def count(self, y: Tensor) -> Tensor:
        return self.sized(*y.shape[2:]).count(y)


class RandomMissingPixels(SizedMask, SameSize, Pixelwise):
    """Each pixel lost with probability ``drop``; the mask follows from the seed and the photo's size.

    Args:
        drop: 0 to 0.99; the paper's task draws it from [0.70, 0.80].
        seed: of the mask.
        noise_std: standard deviation of the noise on the kept pixels of [0, 1] images.
    """

    def __init__(self, drop: float, seed: int = 0, noise_std: float = 0.0):
        if not 0 <= drop <= MAX_DROP:
            raise AdaptDiffuseError(f"The fraction of dropped pixels must be between 0 and {MAX_DROP:g}, not {drop:g}.")
        self.drop, self.seed, self.noise_std = drop, seed, check_noise_std(noise_std)
        self._sized = {}

    @property
    def loses_nothing(self) -> bool:
        return self.drop == 0

    def mask(self, height: int, width: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + MASK_SEED)
        return random_mask((1, 1, height, width), torch.tensor([self.drop]), generator)

    def select(self, indices: Tensor) -> RandomMissingPixels:
        return self


class MissingBox(SizedMask, SameSize, Pixelwise):
    """A box of lost pixels, at a place that is given or follows from the seed and the photo's size.

    Args:
        height, width: of the box in pixels; 0 loses nothing.
        top, left: its upper left pixel; None draws it.
        seed: of a place that is drawn.
        noise_std: standard deviation of the noise on the kept pixels of [0, 1] images.

    Raises:
        AdaptDiffuseError: a negative size or place, or, when it is used, a photo that does not hold the box.
    """

    def __init__(
        self,
        height: int,
        width: int,
        top: int | None = None,
        left: int | None = None,
        seed: int = 0,
        noise_std: float = 0.0,
    ):
        if min(height, width, top or 0, left or 0) < 0:
            raise AdaptDiffuseError("The box of missing pixels needs a height, width, top and left of 0 or more.")
        self.height, self.width, self.top, self.left, self.seed = height, width, top, left, seed
        self.noise_std = check_noise_std(noise_std)
        self._sized = {}

    @property
    def loses_nothing(self) -> bool:
        return min(self.height, self.width) == 0

    def mask(self, height: int, width: int) -> Tensor:
        where = rand((2,), torch.Generator().manual_seed(self.seed + MASK_SEED), torch.float64)
        free = torch.tensor([height - self.height + 1, width - self.width + 1])
        drawn = (where * free).long().tolist()
        top = drawn[0] if self.top is None else self.top
        left = drawn[1] if self.left is None else self.left
        if bool((free < 1).any()) or top + self.height > height or left + self.width > width:
            raise AdaptDiffuseError(
                f"The box of missing pixels, {self.width} x {self.height} from ({left}, {top}) on, leaves the photo of "
                f"{width} x {height}: make it smaller."
            )
        return box_mask(height, width, [(top, left, self.height, self.width)])

    def select(self, indices: Tensor) -> MissingBox:
        return self


class ScalableMask(SizedMask, SameSize, Pixelwise):
    """A user's mask that follows its photo where that is made smaller.

    A pixel of which any part was lost is lost, and one beside it whose value it moves, see ``images.smaller``.

    Args:
        kept: (1, 1, H, W), anything above 0.5 is kept.
        noise_std: standard deviation of the noise on the kept pixels of [0, 1] images.

    Raises:
        AdaptDiffuseError: a mask without a kept pixel, or, when it is used, a photo of other proportions or larger.
    """

    def __init__(self, kept: Tensor, noise_std: float = 0.0):
        self.whole = MissingPixels(kept, noise_std)
        self.noise_std = self.whole.noise_std
        self._sized = {(kept.shape[2], kept.shape[3]): self.whole}

    @property
    def loses_nothing(self) -> bool:
        return self.whole.loses_nothing

    def mask(self, height: int, width: int) -> Tensor:
        full = self.whole.mask
        if fitted_size(full.shape[2], full.shape[3], max(height, width)) != (height, width):
            return full  # which then says that it does not have the photo's size
        lost = (~full).float()
        touched = F.interpolate(lost, (height, width), mode="bilinear", antialias=True) > 1e-6
        # the filter that makes photos smaller reaches further, with weights below zero
        shone = F.interpolate(lost, (height, width), mode="bicubic", antialias=True).abs() > UNSEEN
        return (~(touched | shone)).float()

    def select(self, indices: Tensor) -> ScalableMask:
        return self


def box_mask(height: int, width: int, boxes: Sequence[tuple[int, int, int, int]]) -> Tensor:
    """Masks (n, 1, height, width), 1 outside of the n boxes (top, left, height, width)."""
    mask = torch.ones(len(boxes), 1, height, width)
    for plane, (top, left, rows, columns) in zip(mask, boxes, strict=True):
        plane[:, top : top + rows, left : left + columns] = 0
    return mask


# the degradations that lose pixels, and do nothing to the others
LOSING = (MissingPixels, SizedMask)
