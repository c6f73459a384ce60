"""From what the network reads to a degradation."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..degradation import Degradation
from ..errors import AdaptDiffuseError
from .damage import NO_JPEG, Damage
from .network import NOISE_FLOOR, DamageEstimator, Readings, scale_to_quality

# a number of an operator, that of its uncertainty, and its lowest and highest values
NUMBERS = (
    ("std", "std_error", 0.05, 50.0),
    ("length", "length_error", 0.5, 100.0),
    ("angle", "angle_error", -math.inf, math.inf),
    ("quality", "quality_error", 1.0, 99.0),
)
ROUNDING = 1 / 255 / 12**0.5  # noise of 8 bit: the least there is
LARGEST = 0.9  # of log-normal numbers: an uncertainty is told as a part of the number, and no more than this


@dataclass(frozen=True)
class Estimate:
    """The likeliest damage of B photos, and how sure that is; (B,) float64 each.

    Attributes:
        damage: what is likelier there than not; the rest is absent.
        blurred, compressed, reduced: probabilities that there is a blur, JPEG, a factor above 1.
        std_error, length_error, angle_error, quality_error, noise_error: one standard deviation of the numbers of
            ``damage``, in their units; of a number that is absent, what it would be.
    """

    damage: Damage
    blurred: Tensor
    compressed: Tensor
    reduced: Tensor
    std_error: Tensor
    length_error: Tensor
    angle_error: Tensor
    quality_error: Tensor
    noise_error: Tensor

    def __len__(self) -> int:
        return len(self.damage)

    def select(self, indices: Tensor) -> Estimate:
        """The estimates of the photos ``indices`` (n,)."""
        rest = (getattr(self, field.name)[indices] for field in fields(self) if field.name != "damage")
        return Estimate(self.damage.select(indices), *rest)

    def scaled(self, scale: float) -> Estimate:
        """The estimate for the photo made smaller to ``scale`` of its size, see ``Damage.scaled``."""
        if scale >= 1:
            return self
        return replace(
            self,
            damage=self.damage.scaled(scale),
            std_error=self.std_error * scale,
            length_error=self.length_error * scale,
            noise_error=self.noise_error * scale,
        )

    def told_noise(self, noise_std: float) -> Estimate:
        """The estimate with a noise level on [0, 1] images that is known."""
        level = torch.full_like(self.damage.noise_std, noise_std)
        return replace(
            self, damage=replace(self.damage, noise_std=level), noise_error=torch.zeros_like(self.noise_error)
        )

    def degradation(self) -> Degradation:
        """The operator with the noise that was found, one per photo where there are several: what the damage looks
        like. To restore, take the noise of ``cautious``."""
        return self.damage.degradation()


@torch.no_grad()
def estimate_damage(photo: Tensor, estimator: DamageEstimator) -> Estimate:
    """What happened to photos (B, 3, H, W) on [0, 1], of any size; each is looked at by itself.

    Raises:
        AdaptDiffuseError: no pixels, or pixels that are NaN or infinite.
    """
    if photo.ndim != 4 or photo.shape[1] != 3 or 0 in photo.shape:
        raise AdaptDiffuseError(f"The photo has no pixels: its shape is {tuple(photo.shape)}.")
    if not bool(torch.isfinite(photo).all()):
        raise AdaptDiffuseError("The photo has pixels that are NaN or infinite; repair it first.")
    return estimate_of(estimator.predict(photo))


def estimate_of(readings: Readings) -> Estimate:
    """The readings in the units of the operators."""
    blur, factor = readings.blur.double().softmax(1), readings.factor.double().softmax(1)
    blurred = 1 - blur[:, 0]
    there, motion = blurred > 0.5, blur[:, 2] > blur[:, 1]
    std, length = readings.log_std.mean.double().exp(), readings.log_length.mean.double().exp()
    cosine, sine = readings.direction.mean.double().unbind(1)
    # less certain the nearer the vector of the direction is to nothing
    off = readings.direction.std[:, 0].double() / torch.hypot(cosine, sine).clamp_min(1e-3)
    quality, quality_error = _quality(readings)
    compressed = readings.jpeg.double().sigmoid()
    level = readings.log_noise.mean.double().exp()
    damage = Damage(
        std=torch.where(there & ~motion, std, 0.0),
        length=torch.where(there & motion, length.clamp_max(100), 0.0),
        angle=torch.where(there & motion, torch.rad2deg(torch.atan2(sine, cosine) / 2) % 180, 0.0),
        factor=factor.argmax(1).double() + 1,
        quality=torch.where(compressed > 0.5, quality, NO_JPEG),
        noise_std=(level - NOISE_FLOOR).clamp(ROUNDING, 1),
    )
    return Estimate(
        damage,
        blurred,
        compressed,
        reduced=1 - factor[:, 0],
        std_error=std * readings.log_std.std.double().clamp_max(LARGEST),
        length_error=length * readings.log_length.std.double().clamp_max(LARGEST),
        angle_error=torch.rad2deg(off / 2).clamp_max(52.0),  # that of any angle at all
        quality_error=quality_error,
        noise_error=torch.hypot(level * readings.log_noise.std.double().clamp_max(LARGEST), level.new_tensor(ROUNDING)),
    )


def _quality(readings: Readings) -> tuple[Tensor, Tensor]:
    """JPEG's quality, and half the distance between the qualities one standard deviation up and down."""
    mean, error = readings.log_scale.mean.double(), readings.log_scale.std.double()
    low, middle, high = (scale_to_quality((mean + way * error).exp()).clamp(1, 99) for way in (1, 0, -1))
    return middle, (high - low) / 2
