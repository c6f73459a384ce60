"""The network that reads damage off a photo's statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .simulate import FACTORS
from .statistics import NUMBERS, SPECTRUM, Statistics, statistics_of

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
    """A few convolutions over the photo's average spectrum, and a perceptron that sees its other statistics too.

    Not heads on a severity encoder: noise and the grid of JPEG live in single pixels, which an autoencoder's encoder
    (or a photo brought to its size) has thrown away; and one network serves every autoencoder.

    Args:
        width: channels of the first convolution; later ones have twice as many.
        hidden: width of the perceptron.
    """

    def __init__(self, width: int = 24, hidden: int = 128):
        super().__init__()
        self.width, self.hidden = width, hidden
        self.spectrum = nn.Sequential(
            nn.Conv2d(SPECTRUM[0], width, 5, stride=2, padding=2), nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(2 * width, width, 3, stride=2, padding=1), nn.SiLU(),
        )  # fmt: skip
        cells = width * 8 * 5
        self.read = nn.Sequential(
            nn.Linear(cells + NUMBERS, hidden), nn.SiLU(), nn.Dropout(0.1), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, sum(SIZES.values())),
        )  # fmt: skip
        # means and spreads of the statistics over the training photos
        self.register_buffer("spectra_mean", torch.zeros(SPECTRUM))
        self.register_buffer("spectra_std", torch.ones(SPECTRUM))
        self.register_buffer("numbers_mean", torch.zeros(NUMBERS))
        self.register_buffer("numbers_std", torch.ones(NUMBERS))
        # the uncertainties are multiplied by what held-out photos say, see ``calibrate``
        self.register_buffer("stretch", torch.ones(len(STARTS)))

    def set_scale(self, statistics: Statistics) -> None:
        """Take the means and spreads of ``statistics`` as those of all photos."""
        for name, values in (("spectra", statistics.spectra), ("numbers", statistics.numbers)):
            self.get_buffer(f"{name}_mean").copy_(values.float().mean(0))
            self.get_buffer(f"{name}_std").copy_(values.float().std(0).clamp_min(1e-2))

    def predict(self, photo: Tensor) -> Readings:
        """Readings of photos (B, 3, H, W) on [0, 1] of any size."""
        return self(statistics_of(photo))

    def forward(self, statistics: Statistics) -> Readings:
        stretch = self.get_buffer("stretch")
        spectra, numbers = (
            (values.to(stretch) - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_std")
            for name, values in (("spectra", statistics.spectra), ("numbers", statistics.numbers))
        )
        # nothing beyond five spreads was seen in training
        seen = torch.cat([self.spectrum(spectra.clamp(-5, 5)).flatten(1), numbers.clamp(-5, 5)], 1)
        raw = dict(zip(SIZES, self.read(seen).split(list(SIZES.values()), 1), strict=True))
        normal = {name: self._normal(raw[name], name) for name in STARTS}
        return Readings(blur=raw["blur"], factor=raw["factor"], jpeg=raw["jpeg"][:, 0], **normal)

    def _normal(self, raw: Tensor, name: str) -> Gaussian:
        stretch = self.get_buffer("stretch")[list(STARTS).index(name)]
        log_std = raw[:, -1].clamp(*LOG_STD_LIMITS) + stretch.log()
        mean = STARTS[name] + raw[:, :-1]
        return Gaussian(mean, log_std[:, None]) if name == "direction" else Gaussian(mean[:, 0], log_std)


def quality_to_scale(quality: Tensor) -> Tensor:
    """By what libjpeg multiplies its quantisation tables at ``quality`` (1 to 99): 50 is 1, 10 is 5, 90 is 0.2."""
    return torch.where(quality < 50, 50 / quality, 2 - quality / 50)


def scale_to_quality(scale: Tensor) -> Tensor:
    """The inverse of ``quality_to_scale``."""
    return torch.where(scale > 1, 50 / scale, 100 - 50 * scale)
