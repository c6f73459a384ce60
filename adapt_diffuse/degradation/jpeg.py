"""JPEG compression, differentiable."""

from __future__ import annotations

from torch import Tensor

from ..errors import AdaptDiffuseError
from ..libraries import installed
from .base import Dense, SameSize, check_noise_std, in_float, parameter, per_image


class Jpeg(Dense, SameSize):
    """A photo saved as JPEG with 4:2:0 chroma and the standard tables (Reich et al. 2024; kornia's codec).

    Nonlinear: coefficients are rounded, softly so that a gradient passes, and the result is cut off at [0, 1]. Sizes
    that are no multiples of 16 are padded with their last row and column, as encoders do.

    The soft rounding still jumps half-way between whole numbers, by 3/4. What is rounding error in a photo, as between
    a batch and the photo alone or between two devices, may become grey levels in its restoration.

    Args:
        quality: 1 (worst) to 100; a number, or (B,).
        noise_std: standard deviation of the noise on [0, 1] images, added after the compression.

    Raises:
        AdaptDiffuseError: a quality outside its range.
    """

    def __init__(self, quality: float | Tensor, noise_std: float = 0.0):
        self.quality = parameter(quality, 1, 100, "The JPEG quality")
        self.noise_std = check_noise_std(noise_std)

    def __call__(self, image: Tensor) -> Tensor:
        with installed():
            from kornia.enhance import jpeg_codec_differentiable

        if len(self.quality) not in (1, len(image)):
            count = len(self.quality)
            raise AdaptDiffuseError(f"There are {count} qualities for {len(image)} photos: give one, or one per photo.")
        photo = in_float(image)
        return jpeg_codec_differentiable(photo, self.quality.to(photo)).clamp(0, 1).to(image.dtype)

    def select(self, indices: Tensor) -> Jpeg:
        if len(self.quality) == 1:
            return self
        return Jpeg(per_image(self.quality, indices), self.noise_std)
