"""Severity without a trained encoder: how far the autoencoder's own encoding of a damaged photo is off.

The estimate z_hat is the encoding of the damaged photo, its lost pixels filled from those around them. Its error is
told by a probe: the photo is damaged once more, and its latent moves. On a few undamaged photos both are known, and a
power law between them is fitted.

Where pixels are lost, the error is that of the latent around them: reverse diffusion has to start where it can paint a
hole, however small a part of a good photo that is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..degradation import Degradation, GaussianBlur, measure
from ..degradation.levels import at_strength
from ..errors import AdaptDiffuseError
from ..padding import pad_to_multiple
from .encoder import Encode, Severity

STRENGTHS = (0.7, 1.0, 1.4)  # of the damage, next to which the power is fitted
STEADINESS = 0.5  # how strongly the power is held to 1: as much as photos whose log probes differ by this much
FILL_STDS = (32.0, 16.0, 8.0, 4.0, 2.0, 1.0)  # pixels
PROBE_SEED = 5_000_011  # apart from the noise of the photos
SMALLEST = 1e-4  # of an error or a probe, whose logarithm is taken
NEW = 0.25  # of the lost pixels: so many more must be other ones where the photo is moved instead of mirrored
FEWEST = 3  # views that each of several kinds of damage is measured on, where there are as many
MANY = 8  # values: a mask or a kernel has more

Numbers = tuple[Any, ...]


@dataclass(frozen=True)
class Calibration:
    """What stands in for a trained severity encoder: ``sigma_hat = scale * probe ** power``.

    Attributes:
        degradation: what it holds for.
        scale, power: of the law, in the model's latent scale; (B,) float64 where the damage of B photos differs.
    """

    degradation: Degradation
    scale: float | Tensor
    power: float | Tensor

    @torch.no_grad()
    def predict(self, photo: Tensor, multiple: int = 1, encode: Encode | None = None) -> Severity:
        """The severity of photos (B, 3, H, W) on [0, 1], at the image's size.

        Args:
            encode: the autoencoder's encoding, in the model's scale. Each photo is encoded twice.

        Raises:
            AdaptDiffuseError: there is no ``encode``, or the photos do not fit the degradation.
        """
        if encode is None:
            raise AdaptDiffuseError("A calibration needs the VAE's own encoding: give it the VAE as well.")
        z_hat, probe = probed(photo, self.degradation, multiple, encode)
        sigma_hat = (self.scale * probe.clamp_min(SMALLEST) ** self.power).to(photo.dtype)
        return Severity(z_hat.to(photo), sigma_hat, (photo.shape[2], photo.shape[3]))


@torch.no_grad()
def calibrate(
    photos: Tensor, degradation: Degradation, encode: Encode, multiple: int = 1, count: int = 1, seed: int = 0
) -> Calibration:
    """Measure what ``degradation`` does to the latents of undamaged photos.

    The law goes through the mean over the photos at the degradation's own strength; its power is fitted over milder
    and stronger damage of the same kind, too. Where the numbers of the damage differ between photos, each has the law
    that it would have alone, fitted on fewer views; different masks, and paths of a shake, share one.

    Args:
        photos: (n, 3, H, W) on [0, 1], undamaged, of the size that a mask has.
        encode: the autoencoder's encoding, in the model's scale.
        multiple: sides of what is encoded are multiples of this many pixels.
        count: how many photos ``degradation`` is for, where it differs between them.
        seed: of the noise.

    Raises:
        AdaptDiffuseError: no photos, photos that do not fit a mask, a degradation of fewer photos than ``count``, or
            encodings that are not finite.
    """
    if photos.ndim != 4 or 0 in photos.shape:
        raise AdaptDiffuseError("Calibrating the severity needs at least one undamaged photo.")
    degradation.select(torch.arange(count))  # which tells where there are numbers for fewer photos
    truths: dict[int, Tensor] = {}
    laws: dict[Numbers, tuple[float, float]] = {}
    for numbers, views in dealt(len(photos), degradation, count).items():
        pairs: list[tuple[float, float]] = []
        own: list[bool] = []  # of each pair, whether it is of the degradation's own strength
        for view, index in views:
            photo = photos[view : view + 1]
            if view not in truths:
                truths[view] = encode(pad_to_multiple(photo, multiple))
            damage = degradation.select(torch.tensor([index]))
            for strength in strengths_of(damage):
                own.append(strength == 1)
                other = at_strength(damage, strength)
                pairs.append(errors(photo, truths[view], other, multiple, encode, seed + len(pairs)))
        laws[numbers] = fitted_law(torch.tensor(pairs, dtype=torch.float64), torch.tensor(own))
    if len(laws) == 1:
        return Calibration(degradation, *next(iter(laws.values())))
    each = torch.tensor([laws[numbers] for numbers in numbers_of_each(degradation, count)], dtype=torch.float64)
    return Calibration(degradation, each[:, 0], each[:, 1])


def fitted_law(pairs: Tensor, own: Tensor) -> tuple[float, float]:
    """Scale and power of the law through (n, 2) pairs of error and probe; ``own`` (n,) are of the damage itself.

    Raises:
        AdaptDiffuseError: pairs that are not finite.
    """
    points = pairs.clamp_min(SMALLEST).log()
    if not bool(torch.isfinite(points).all()):
        raise AdaptDiffuseError("The VAE's encodings of the calibration photos are not finite: use float32 for it.")
    power = steady_power(points)
    error, probe = points[own].T
    return math.exp(float((error - power * probe).mean())), power


def dealt(photos: int, degradation: Degradation, count: int) -> dict[Numbers, list[tuple[int, int]]]:
    """Which of so many undamaged photos are damaged as which of the ``count`` photos that ``degradation`` is for.

    Returns:
        For each damage of other ``numbers``: places of undamaged photos, and beside each the place of its damage.
    """
    places: dict[Numbers, list[int]] = {}
    for place, numbers in enumerate(numbers_of_each(degradation, count)):
        places.setdefault(numbers, []).append(place)
    each = photos if len(places) == 1 else max(photos // len(places), min(photos, FEWEST))
    return {
        numbers: [((each * turn + view) % photos, own[view % len(own)]) for view in range(each)]
        for turn, (numbers, own) in enumerate(places.items())
    }


def numbers_of_each(degradation: Degradation, count: int) -> list[Numbers]:
    """``numbers_of`` the damage of each of ``count`` photos."""
    return [numbers_of(degradation.select(torch.tensor([place]))) for place in range(count)]


def numbers_of(value: Any) -> Numbers:
    """What tells two kinds or strengths of damage apart: their numbers, but not the pixels of a mask, or of a shake."""
    if isinstance(value, Tensor):
        return tuple(value.flatten().tolist()) if value.numel() <= MANY else tuple(value.shape)
    if isinstance(value, (tuple, list)):
        return tuple(map(numbers_of, value))
    if value is None or isinstance(value, (str, int, float)):
        return (value,)
    held = getattr(value, "__dict__", {})
    kept = sorted(name for name in held if name != "seed" and not name.startswith("_"))
    return (type(value).__name__, *((name, numbers_of(held[name])) for name in kept))


def strengths_of(degradation: Degradation) -> list[float]:
    """The strengths at which a degradation is measured: one where there is no other."""
    return [one for one in STRENGTHS if one == 1 or at_strength(degradation, one) is not degradation]


def encodings(photos: int, degradation: Degradation, count: int = 1) -> int:
    """How many images are encoded to calibrate on so many photos: each whole, and damaged once and twice.

    Args:
        count: see ``calibrate``.
    """
    pairs = [pair for views in dealt(photos, degradation, count).values() for pair in views]
    strengths = {index: len(strengths_of(degradation.select(torch.tensor([index])))) for _, index in pairs}
    return len({view for view, _ in pairs}) + sum(2 * strengths[index] for _, index in pairs)


def steady_power(points: Tensor) -> float:
    """The slope through (n, 2) points of log error and log probe, held towards 1 where they lie close together."""
    error, probe = (points - points.mean(0)).T
    hold = STEADINESS**2 * len(points)
    return float(((error * probe).sum() + hold) / (probe.square().sum() + hold))


def errors(
    photo: Tensor, truth: Tensor, degradation: Degradation, multiple: int, encode: Encode, seed: int
) -> tuple[float, float]:
    """The true error of the estimate of one photo (1, 3, H, W) that is damaged here, and its probe."""
    y = measure(photo, degradation, [torch.Generator().manual_seed(seed)])
    start = degradation.start_image(y)[:, :, : photo.shape[2], : photo.shape[3]]
    z_hat, probe = probed(start, degradation, multiple, encode)
    return float(spread(z_hat - truth, lost_part(start, degradation), multiple)), float(probe)


def probed(photo: Tensor, degradation: Degradation, multiple: int, encode: Encode) -> tuple[Tensor, Tensor]:
    """The estimate (B, C, h, w) of damaged photos, and the spread (B,), on the CPU, by which another damage moves it.

    The other damage is of the mirrored photo, so that other pixels are lost, or of the photo moved by half of its
    sides, where the mirrored one would lose much the same.
    """
    filled = fill_lost(photo, degradation)
    again, parts = zip(
        *(damaged_again(one, degradation.select(torch.tensor([i]))) for i, one in enumerate(filled.split(1))),
        strict=True,
    )
    z_hat, moved = (encode(pad_to_multiple(image, multiple)) for image in (filled, torch.cat(again)))
    return z_hat, spread(moved - z_hat, torch.cat(parts), multiple)


def damaged_again(filled: Tensor, degradation: Degradation) -> tuple[Tensor, Tensor]:
    """A damaged photo (1, 3, H, W) damaged once more, in other places and filled again, and where: (1, 1, H, W)."""
    height, width = filled.shape[2:]
    half = (height // 2, width // 2)
    ways = (
        (lambda image: image.flip(3), lambda image: image.flip(3)),
        (lambda image: image.roll(half, (2, 3)), lambda image: image.roll((-half[0], -half[1]), (2, 3))),
    )
    lost = lost_part(filled, degradation)
    same = [float((lost * back(lost)).sum() / lost.sum()) for _, back in ways]
    there, back = ways[int(same[1] < same[0] - NEW)]
    y = measure(there(filled.clamp(0, 1)), degradation, [torch.Generator().manual_seed(PROBE_SEED)])
    again = fill_lost(degradation.start_image(y)[:, :, :height, :width], degradation)
    return back(again), back(lost)


def lost_part(photo: Tensor, degradation: Degradation) -> Tensor:
    """Where photos (B, 3, H, W) have lost pixels, (B, 1, H, W) of 0 and 1; everywhere where a photo has lost none.

    Damage that changes the size is taken to lose none.
    """
    size = (photo.shape[2], photo.shape[3])
    everywhere = torch.ones_like(photo[:, :1])
    if degradation.image_size(*size) != size:
        return everywhere
    lost = (degradation.observed(torch.ones_like(photo)).amin(1, keepdim=True) <= 0).to(photo)
    return torch.where(lost.flatten(1).any(1).reshape(-1, 1, 1, 1), lost, everywhere)


def spread(error: Tensor, part: Tensor, multiple: int = 1) -> Tensor:
    """The root mean square (B,), float64 on the CPU, of latents (B, C, h, w) over a part of the image.

    Args:
        part: (B, 1, H, W) of 0 and 1. A position of the latent counts as much as its pixels are of the part.
        multiple: to which the image was padded before it was encoded.
    """
    padded = F.pad(part, (0, -part.shape[3] % multiple, 0, -part.shape[2] % multiple))
    weight = F.adaptive_avg_pool2d(padded, (error.shape[2], error.shape[3])).to(error)
    square = (weight * error.square()).sum((2, 3)) / weight.sum((2, 3))
    return square.mean(1).sqrt().cpu().double()


def fill_lost(photo: Tensor, degradation: Degradation) -> Tensor:
    """``photo`` (B, 3, H, W) with its lost pixels painted in the weighted mean of the known ones around them.

    The mean is as local as the known pixels are dense. Damage that changes the size is taken to lose none.
    """
    if degradation.image_size(photo.shape[2], photo.shape[3]) != (photo.shape[2], photo.shape[3]):
        return photo
    known = degradation.observed(torch.ones_like(photo))
    if bool((known > 0).all()):
        return photo
    observed = degradation.observed(photo)
    painted = observed.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp_min(1)
    for std in FILL_STDS:
        blur = GaussianBlur(std)
        density = blur(known)
        # trust a mean of about two known pixels or more
        trust = (density * math.pi * std**2).clamp(max=1)
        painted = trust * blur(observed) / density.clamp_min(1e-8) + (1 - trust) * painted
    return torch.where(known > 0, photo, painted)
