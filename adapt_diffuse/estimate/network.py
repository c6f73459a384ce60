"""The network that reads damage off a photo's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .simulate import FACTORS

WIDTHS = (32, 64, 88)
LOG_STD_LIMITS = (-4.0, 2.0)
NOISE_FLOOR = 0.004  # a 250th of white, the rounding of 8 bit: less noise than this is none


@dataclass(frozen=True)
class Gaussian:
    """Normal distributions, (B,) or (B, n): their mean and the logarithm of their standard deviation."""

    mean: Tensor
    log_std: Tensor

    @property
    def std(self) -> Tensor:
        return self.log_std.exp()


@dataclass(frozen=True)
class Readings:
    """What the network says of B photos, each number in the form in which its error is about normal.

    Attributes:
        blur: (B, 3) logits of no blur, Gaussian, motion.
        log_std: of the Gaussian blur, were it there; pixels.
        log_length: of the motion, were it there; pixels.
        direction: (B, 2), cosine and sine of twice the motion's angle; one uncertainty for both, (B, 1).
        factor: (B, 4) logits of the factors 1 to 4.
        jpeg: (B,) logit of "was compressed".
        log_scale: logarithm of the scale of JPEG's quantisation tables, see ``quality_to_scale``.
        log_noise: logarithm of noise_std + 0.004.
    """

    blur: Tensor
    log_std: Gaussian
    log_length: Gaussian
    direction: Gaussian
    factor: Tensor
    jpeg: Tensor
    log_scale: Gaussian
    log_noise: Gaussian


# where the raw outputs begin: the means of what is drawn, with a wide error
STARTS = {"log_std": 0.35, "log_length": 2.1, "direction": 0.0, "log_scale": -0.2, "log_noise": -3.7}
SIZES = {"blur": 3, "factor": FACTORS, "jpeg": 1, "log_std": 2, "log_length": 2, "direction": 3, "log_scale": 2,
         "log_noise": 2}  # fmt: skip


class DamageEstimator(nn.Module):
    """Convolutions on the photo's own pixels, pooled over the photo, and a perceptron.

    Not heads on a severity encoder: noise and the grid of JPEG live in single pixels, which an autoencoder's encoder
    (or a photo brought to its size) has thrown away; and one network serves every autoencoder.

    The features' means and spreads over the photo, at three scales, are all that the perceptron sees, so photos of
    any size do, and a large one can be read in windows (``statistics`` of each, averaged).

    Args:
        widths: channels at half, a quarter and an eighth of the photo's size.
        hidden: width of the perceptron.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, hidden: int = 128):
        super().__init__()
        self.widths, self.hidden = tuple(widths), hidden
        self.stages = nn.ModuleList()
        channels = 6
        for width in widths:
            self.stages.append(Stage(channels, width))
            channels = width
        self.read = nn.Sequential(
            nn.Linear(2 * sum(widths), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, sum(SIZES.values())),
        )  # fmt: skip
        last = self.read[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        # log-stds are multiplied by what the held-out photos say, see ``calibrate``
        self.register_buffer("stretch", torch.ones(len(STARTS)))

    def forward(self, photo: Tensor) -> Readings:
        """Readings of photos (B, 3, H, W) on [0, 1], H and W at least 32."""
        return self.readings(self.statistics(photo))

    def statistics(self, photo: Tensor) -> Tensor:
        """(B, 2, n): means and mean squares of every feature over the photo."""
        fine = photo - F.avg_pool2d(photo, 3, 1, 1, count_include_pad=False)
        features = torch.cat([photo - 0.5, 8 * fine], 1)
        found = []
        for stage in self.stages:
            features = stage(features)
            flat = features.flatten(2).float()
            found.append(torch.stack([flat.mean(2), flat.square().mean(2)], 1))
        return torch.cat(found, 2)

    def readings(self, statistics: Tensor) -> Readings:
        mean, square = statistics.unbind(1)
        spread = (square - mean.square()).clamp_min(0).add(1e-6).sqrt()
        raw = dict(zip(SIZES, self.read(torch.cat([mean, spread], 1)).split(list(SIZES.values()), 1), strict=True))
        normal = {name: self._normal(raw[name], name) for name in STARTS}
        return Readings(blur=raw["blur"], factor=raw["factor"], jpeg=raw["jpeg"][:, 0], **normal)

    def _normal(self, raw: Tensor, name: str) -> Gaussian:
        stretch = self.get_buffer("stretch")[list(STARTS).index(name)]
        log_std = raw[:, -1].clamp(*LOG_STD_LIMITS) + stretch.log()
        mean = STARTS[name] + raw[:, :-1]
        return Gaussian(mean, log_std[:, None]) if name == "direction" else Gaussian(mean[:, 0], log_std)


class Stage(nn.Module):
    """Half the size, then a residual block; without normalisation, which would take the noise's strength away."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.halve = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for layer in (self.halve, self.first):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.second.weight, std=0.3 * math.sqrt(1 / (9 * width)))

    def forward(self, features: Tensor) -> Tensor:
        halved = F.silu(self.halve(features))
        return F.silu(halved + self.second(F.silu(self.first(halved))))


def quality_to_scale(quality: Tensor) -> Tensor:
    """By what libjpeg multiplies its quantisation tables at ``quality`` (1 to 99): 50 is 1, 10 is 5, 90 is 0.2."""
    return torch.where(quality < 50, 50 / quality, 2 - quality / 50)


def scale_to_quality(scale: Tensor) -> Tensor:
    """The inverse of ``quality_to_scale``."""
    return torch.where(scale > 1, 50 / scale, 100 - 50 * scale)
