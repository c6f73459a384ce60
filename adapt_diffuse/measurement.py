"""A photo and the degradation that made it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .degradation import Degradation, noise_levels
from .degradation.base import in_float
from .errors import AdaptDiffuseError


@dataclass(frozen=True)
class Measurement:
    """``y = A(x) + n``: the photo, at its own size, and its degradation.

    The image that it is of has ``image_size``. A restored one may be larger (padded to the latent grid): its upper left
    part counts.

    Attributes:
        y: (B, 3, H, W) on [0, 1], unobserved values zero.
        degradation: A and the noise level.
    """

    y: Tensor
    degradation: Degradation

    @classmethod
    def of(cls, photo: Tensor, degradation: Degradation) -> Measurement:
        """The measurement that ``photo`` is, checked.

        Raises:
            AdaptDiffuseError: an empty batch, a pixel that is observed and not finite, a photo of which nothing is
                observed, or a degradation of fewer photos.
        """
        if photo.ndim != 4 or 0 in photo.shape:
            raise AdaptDiffuseError(f"The photo has no pixels: its shape is {tuple(photo.shape)}.")
        y = degradation.observed(photo.detach())
        if not bool(torch.isfinite(y).all()):
            raise AdaptDiffuseError("The photo has pixels that are NaN or infinite; repair it before restoring.")
        degradation.select(torch.arange(len(y)))  # which tells where there are numbers for fewer photos
        made = cls(y, degradation)
        if not bool((made.count() > 0).all()):
            raise AdaptDiffuseError("Every pixel of a photo is lost: nothing is left to restore it from.")
        return made

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image; the photo's own, except where it was made smaller."""
        return self.degradation.image_size(self.y.shape[2], self.y.shape[3])

    def start_image(self) -> Tensor:
        """The photo at the image's size, for an encoder."""
        return self.degradation.start_image(self.y)

    def residual(self, image: Tensor) -> Tensor:
        """``y - A(image)`` on [0, 1], zero where nothing was observed; the padding of ``image`` is cut off.

        Raises:
            AdaptDiffuseError: an image that is too small to be this photo's.
        """
        height, width = self.image_size
        measured = self.degradation(image[:, :, :height, :width])
        if measured.shape != self.y.shape:
            raise AdaptDiffuseError(
                f"The photo is of an image of {width} x {height}, but what was restored has {image.shape[3]} x "
                f"{image.shape[2]}: encode the photo at the image's size."
            )
        return self.degradation.observed(self.y - measured)

    def count(self) -> Tensor:
        """The number of measured values, (B,) float64 on the CPU."""
        return self._count

    @cached_property
    def _count(self) -> Tensor:
        return self.degradation.count(self.y)  # every step of a run asks, and a GPU would be waited for

    def residual_ratio(self, image: Tensor) -> Tensor:
        """``|y - A(x)| / (noise_std sqrt(m))``, (B,) on the CPU: 1 fits perfectly, far below 1 overfits the noise.

        Where the degradation has no noise it is 0 for an image that fits exactly, and infinite for every other.
        """
        rms = self.residual_rms(image)
        return torch.where(rms == 0, 0, rms / noise_levels(self.degradation, len(rms)))

    def residual_rms(self, image: Tensor) -> Tensor:
        """Root mean square of ``residual`` over what was measured, (B,) float64 on the CPU."""
        return in_float(self.residual(image)).flatten(1).norm(dim=1).cpu().double() / self.count().sqrt()

    def for_latents(self, count: int) -> Measurement:
        """The measurement for ``count`` latents: a single photo is that of all of them."""
        return Measurement(self.y.expand(count, -1, -1, -1), self.degradation) if len(self.y) == 1 else self

    def select(self, indices: Tensor) -> Measurement:
        """The measurements ``indices`` (n,) of the batch."""
        return Measurement(self.y[indices.to(self.y.device)], self.degradation.select(indices))
