"""The network that reads damage off a photo's statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .simulate import FACTORS
from .statistics import NUMBERS, SPECTRUM, Statistics, statistics_of

RINGS, ORDERS = 32, (2, 4, 6)
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
    """A perceptron that sees the profiles of the photo's average spectrum, and its other statistics.

    Not heads on a severity encoder: noise and the grid of JPEG live in single pixels, which an autoencoder's encoder
    (or a photo brought to its size) has thrown away; and one network serves every autoencoder. A profile is the
    spectrum's mean over a ring and how it varies around it, which is what a blur's size and a motion's direction
    change.

    Args:
        hidden: width of the perceptron.
    """

    def __init__(self, hidden: int = 256):
        super().__init__()
        self.hidden = hidden
        self.register_buffer("harmonics", harmonics(), persistent=False)
        profiles = SPECTRUM[0] * len(self.get_buffer("harmonics"))
        self.read = nn.Sequential(
            nn.Dropout(0.05), nn.Linear(profiles + NUMBERS, hidden), nn.SiLU(), nn.Dropout(0.15),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Dropout(0.15), nn.Linear(hidden, sum(SIZES.values())),
        )  # fmt: skip
        # means and spreads over the training photos
        for name, shape in (("spectra", SPECTRUM), ("features", (profiles + NUMBERS,))):
            self.register_buffer(f"{name}_mean", torch.zeros(shape))
            self.register_buffer(f"{name}_std", torch.ones(shape))
        # the uncertainties are multiplied by what held-out photos say, see ``calibrate``
        self.register_buffer("stretch", torch.ones(len(STARTS)))

    def set_scale(self, statistics: Statistics) -> None:
        """Take the means and spreads of ``statistics`` as those of all photos."""
        self._set_scale("spectra", statistics.spectra.float())
        self._set_scale("features", self.profiles(statistics))

    def _set_scale(self, name: str, values: Tensor) -> None:
        self.get_buffer(f"{name}_mean").copy_(values.mean(0))
        self.get_buffer(f"{name}_std").copy_(values.std(0).clamp_min(1e-2))

    def predict(self, photo: Tensor) -> Readings:
        """Readings of photos (B, 3, H, W) on [0, 1] of any size."""
        return self(self.features(statistics_of(photo)))

    def profiles(self, statistics: Statistics) -> Tensor:
        """Profiles and numbers (B, n), not yet scaled."""
        spectra = self._scaled("spectra", statistics.spectra.to(self.get_buffer("stretch")))
        flat = (spectra.flatten(2) @ self.get_buffer("harmonics").T).flatten(1)
        return torch.cat([flat, statistics.numbers.to(flat)], 1)

    def features(self, statistics: Statistics) -> Tensor:
        """What ``forward`` takes, (B, n): the profiles in units of their spread."""
        return self._scaled("features", self.profiles(statistics))

    def _scaled(self, name: str, values: Tensor) -> Tensor:
        # nothing beyond five spreads was seen in training
        return ((values - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_std")).clamp(-5, 5)

    def forward(self, features: Tensor) -> Readings:
        raw = dict(zip(SIZES, self.read(features).split(list(SIZES.values()), 1), strict=True))
        normal = {name: self._normal(raw[name], name) for name in STARTS}
        return Readings(blur=raw["blur"], factor=raw["factor"], jpeg=raw["jpeg"][:, 0], **normal)

    def _normal(self, raw: Tensor, name: str) -> Gaussian:
        stretch = self.get_buffer("stretch")[list(STARTS).index(name)]
        log_std = raw[:, -1].clamp(*LOG_STD_LIMITS) + stretch.log()
        mean = STARTS[name] + raw[:, :-1]
        return Gaussian(mean, log_std[:, None]) if name == "direction" else Gaussian(mean[:, 0], log_std)


def harmonics() -> Tensor:
    """What takes a spectrum (64 x 33, flat) to its profiles: for each of 32 rings the mean, and the cosine and sine of
    two, four and six times the direction; (224, 2112), each row of unit length."""
    _, rows, columns = SPECTRUM
    down = (torch.arange(rows) - rows // 2)[:, None] / rows
    right = torch.arange(columns)[None] / rows
    radius, angle = torch.hypot(down, right), torch.atan2(down, right)
    ring = (radius * 2 * RINGS).floor().clamp_max(RINGS - 1)
    waves = [torch.ones_like(angle), *(part(order * angle) for order in ORDERS for part in (torch.cos, torch.sin))]
    found = torch.stack([(ring == place) * wave for place in range(RINGS) for wave in waves]).flatten(1)
    return found / found.norm(dim=1, keepdim=True).clamp_min(1e-6)


def scale_to_quality(scale: Tensor) -> Tensor:
    """The inverse of ``quality_to_scale``."""
    return torch.where(scale > 1, 50 / scale, 100 - 50 * scale)
