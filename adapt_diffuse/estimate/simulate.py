"""Photos damaged in a random way, with the numbers of what was done to them."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..degradation import Jpeg
from ..degradation.base import rand, randn
from ..degradation.kernel import LUMINANCE
from ..images import to_pil
from .damage import NO_JPEG, Damage, clean_parts

FACTORS = 4
TONED = (0.0, 0.15, 0.4)  # how much less red, green and blue there is at most in a sepia photo


@dataclass(frozen=True)
class DamageRange:
    """What is drawn: each kind of damage is there or not, and its strength lies in a range.

    Attributes:
        gaussian, motion: how often a photo has that blur; else it has none.
        std: pixels, log-uniform.
        length: pixels, log-uniform.
        low: how often a photo was made smaller, by 2, 3 or 4.
        jpeg: how often it was compressed.
        quality: uniform.
        noisy: how often there is noise.
        noise_std: the strongest; half of the photos with noise have less than a quarter of it.
    """

    gaussian: float = 0.4
    motion: float = 0.25
    std: tuple[float, float] = (0.4, 5.0)
    length: tuple[float, float] = (2.5, 25.0)
    low: float = 0.4
    jpeg: float = 0.5
    quality: tuple[float, float] = (8.0, 95.0)
    noisy: float = 0.8
    noise_std: float = 0.2

    def draw(self, count: int, generator: torch.Generator) -> Damage:
        """The damage of ``count`` photos."""
        kind, low, jpeg, noisy = rand((4, count), generator, torch.float64)
        blur, angle, factor, quality, noise = rand((5, count), generator, torch.float64)
        gaussian, motion = kind < self.gaussian, kind >= 1 - self.motion
        return Damage(
            std=_log_uniform(self.std, blur) * gaussian,
            length=_log_uniform(self.length, blur) * motion,
            angle=180 * angle * motion,
            factor=torch.where(low < self.low, 2 + torch.floor((FACTORS - 1) * factor), 1.0),
            quality=torch.where(jpeg < self.jpeg, _uniform(self.quality, quality), NO_JPEG),
            noise_std=self.noise_std * noise**2 * (noisy < self.noisy),
        )


def _uniform(limits: tuple[float, float], share: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * share


def _log_uniform(limits: tuple[float, float], share: Tensor) -> Tensor:
    return _uniform((math.log(limits[0]), math.log(limits[1])), share).exp()


def damaged(photos: Tensor, damage: Damage, generator: torch.Generator) -> Tensor:
    """Photos (B, 3, H, W) on [0, 1] with ``damage``, its noise apart in each channel and last of all.

    Half of the compressed ones go through Pillow's JPEG, the others through the differentiable operator: their
    blocks look alike, their rounding does not. Three of four are then cut off at [0, 1] and rounded to 8 bit.
    """
    real, whole = rand((2, len(photos)), generator)
    made = [_clean(photo, damage, index, bool(real[index] < 0.5)) for index, photo in enumerate(photos.split(1))]
    clean = torch.cat(made)
    noise = damage.noise_std.to(clean)[:, None, None, None] * randn(clean.shape, clean, generator)
    return _rounded(clean + noise, whole < 0.75)


def found(photos: Tensor, damage: Damage, generator: torch.Generator) -> tuple[Tensor, Damage]:
    """As ``damaged``, but as photos are found: without colour, with grain of film, and compressed at the very end.

    One photo in five is grey, half of these toned. Their noise, and that of a third of the others, is the same in all
    channels, as that of silver grains is. Half of the compressed ones were noisy before they were compressed.

    Returns:
        The photos, and the damage with the noise that is left in each: the root mean square of what it changes.
    """
    grey, tone, common, early, real, whole = rand((6, len(photos)), generator)
    gain = 1 - (rand((len(photos),), generator) * (tone < 0.5))[:, None] * torch.tensor(TONED)
    gain = torch.where((grey < 0.2)[:, None], gain, 1.0)[:, :, None, None].to(photos)
    luminance = (photos * photos.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
    photos = torch.where((grey < 0.2)[:, None, None, None], gain * luminance, photos)
    drawn = randn(photos.shape, photos, generator)
    alike = ((grey < 0.2) | (common < 1 / 3))[:, None, None, None]
    grain = gain * torch.where(alike, drawn[:, :1], drawn) * damage.noise_std.to(photos)[:, None, None, None]
    made, left = [], []
    for index, (photo, noise) in enumerate(zip(photos.split(1), grain.split(1), strict=True)):
        pillow = bool(real[index] < 0.5)
        clean = _clean(photo, damage, index, pillow)
        if bool(early[index] < 0.5):
            noise = _clean(photo, damage, index, pillow, noise) - clean
        made.append(clean + noise)
        left.append(noise.square().mean().sqrt().double())
    return _rounded(torch.cat(made), whole < 0.75), replace(damage, noise_std=torch.stack(left))


def _rounded(y: Tensor, chosen: Tensor) -> Tensor:
    """``y``, where ``chosen`` (B,) as a file of 8 bit keeps it."""
    return torch.where(chosen[:, None, None, None], (y.clamp(0, 1) * 255).round() / 255, y)


def _clean(photo: Tensor, damage: Damage, index: int, pillow: bool, noise: Tensor | None = None) -> Tensor:
    """Photo ``index`` (1, 3, H, W) with its part of ``damage``; ``noise`` is there before it is compressed."""
    one = damage.select(torch.tensor([index]))
    for part in clean_parts(one):
        if isinstance(part, Jpeg) and noise is not None:
            photo, noise = photo + noise, None
        photo = saved(photo, float(one.quality)) if pillow and isinstance(part, Jpeg) else part(photo)
    return photo if noise is None else photo + noise


def saved(photo: Tensor, quality: float) -> Tensor:
    """A photo (1, 3, H, W) through Pillow's JPEG with 4:2:0 chroma."""
    file = io.BytesIO()
    to_pil(photo).save(file, "JPEG", quality=max(round(quality), 1), subsampling=2)
    values = np.array(Image.open(file), dtype=np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None].to(photo)
