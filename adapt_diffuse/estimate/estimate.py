"""From what the network reads to a degradation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..borders import SOFT, inside_borders
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
ENOUGH = 64  # pixels of a side: smaller photos show too little of what happened to them
FLAT = 2.5 / 255  # rows and columns of edges in which no channel varies by more are no photo
MOST = 0.95  # of a line is photo where a border is askew
BLOCK = 8  # pixels, of JPEG: what is cut off is a multiple
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

    @staticmethod
    def joined(each: Sequence[Estimate]) -> Estimate:
        """The estimates of several batches as those of one."""
        names = [field.name for field in fields(Estimate) if field.name != "damage"]
        rest = (torch.cat([getattr(one, name) for one in each]) for name in names)
        return Estimate(Damage.joined([one.damage for one in each]), *rest)

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
    """What happened to photos (B, 3, H, W) on [0, 1], of any size from 64 pixels on; each is looked at by itself.

    Borders (a canvas, paper, film bars) are left out: JPEG and sharp blur are read in them. Where less than 64 pixels
    are left, nothing is found.

    Raises:
        AdaptDiffuseError: a photo that is too small, or with pixels that are NaN or infinite.
    """
    if photo.ndim != 4 or photo.shape[1] != 3 or 0 in photo.shape:
        raise AdaptDiffuseError(f"The photo has no pixels: its shape is {tuple(photo.shape)}.")
    if not bool(torch.isfinite(photo).all()):
        raise AdaptDiffuseError("The photo has pixels that are NaN or infinite; repair it first.")
    if (side := min(photo.shape[2:])) < ENOUGH:
        raise AdaptDiffuseError(
            f"The photo is too small to tell what happened to it: {side} pixels, where {ENOUGH} are needed. Name the "
            "damage."
        )
    boxes = [inside(one) for one in photo]
    if all(box == (0, 0, *photo.shape[2:]) for box in boxes):
        return estimate_of(estimator.predict(photo))
    found = [
        estimate_of(estimator.predict(photo[index : index + 1, :, top:bottom, left:right]))
        if min(bottom - top, right - left) >= ENOUGH
        else nothing_found(photo.device)
        for index, (top, left, bottom, right) in enumerate(boxes)
    ]
    return Estimate.joined(found)


def inside(photo: Tensor) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a photo (3, H, W) without its borders, a whole number of blocks from each."""
    top, bottom = _ends((photo.amax(2) - photo.amin(2)).amax(0) > FLAT)
    varying = photo[:, top:bottom]
    left, right = _ends((varying.amax(1) - varying.amin(1)).amax(0) > FLAT) if bottom > top else (0, 0)
    found = inside_borders(photo)
    if found is not None:
        high, low = _ends(found.sum(1) > MOST * found.sum(1).max())
        first, last = _ends(found[high:low].float().mean(0) > MOST)
        # a border that is flat ends where something varies; that it may have a soft edge does not matter
        top, left = (flat if edge - SOFT <= flat else edge for flat, edge in ((top, high), (left, first)))
        bottom, right = (flat if flat <= edge + SOFT else edge for flat, edge in ((bottom, low), (right, last)))
    height, width = photo.shape[1:]
    top, left = (-(-start // BLOCK) * BLOCK for start in (top, left))
    bottom, right = (side - -(-(side - end) // BLOCK) * BLOCK for side, end in ((height, bottom), (width, right)))
    return top, left, max(top, bottom), max(left, right)


def _ends(lines: Tensor) -> tuple[int, int]:
    """The first of the lines (n,) that is true, and the end of the last."""
    there = lines.nonzero()[:, 0].tolist()
    return (there[0], there[-1] + 1) if there else (0, 0)


def nothing_found(device: torch.device) -> Estimate:
    """The estimate of one photo that shows nothing."""
    none = torch.zeros(1, dtype=torch.float64, device=device)
    damage = Damage(none, none, none, none + 1, none + NO_JPEG, none + ROUNDING)
    return Estimate(damage, none, none, none, none, none, none, none, none)


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
