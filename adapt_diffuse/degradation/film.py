"""Old prints and slides: faded, scratched, dusty and grainy."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Dense, Generators, Pixelwise, Placed, SameSize, check_noise_std, in_float, parameter, per_image
from .defects import draw_marks, marks_mask
from .missing import MASK_SEED, MissingPixels, ScalableMask, SizedMask

TOE = 0.02  # below about this, gamma is nearly a straight line: a power's slope at black has no bound
MAX_GAMMA = 5.0
MAX_MARKS = 10_000
MIN_SIZE, MAX_SIZE = 0.5, 100.0
PALEST = 0.8  # of the contrast is lost at a fading of 1, and black has risen to half of that
CAST = (0.4, 0.15)  # what the outer channels and green lose of their strength at a cast of 1


class Fading(Dense, SameSize, Pixelwise):
    """What light and time do to dyes: ``offset + gain * g(x)`` for each colour, ``g(x)`` about ``x ** gamma``.

    ``g(x) = ((x + e)^gamma - e^gamma) / ((1 + e)^gamma - e^gamma)`` with e = 0.02, which keeps black and white where
    they are and has a slope everywhere; below black it goes on along its tangent.

    Args:
        gain: (1 or B, 3), 0.01 to 10.
        offset: (1 or B, 3), -1 to 1.
        gamma: (1 or B, 3), 0.2 to 5; above 1 darkens the middle tones.
        noise_std: grain, standard deviation on [0, 1] images.

    Raises:
        AdaptDiffuseError: a number outside its range, or not three per photo.
    """

    def __init__(self, gain: Tensor, offset: Tensor, gamma: Tensor, noise_std: float = 0.0):
        self.gain = _colours(gain, 0.01, 10, "The fading's gain")
        self.offset = _colours(offset, -1, 1, "The fading's offset")
        self.gamma = _colours(gamma, 1 / MAX_GAMMA, MAX_GAMMA, "The fading's gamma")
        self._numbers = [Placed(values[:, :, None, None]) for values in (self.gain, self.offset, self.gamma)]
        self.noise_std = check_noise_std(noise_std)

    @classmethod
    def of(
        cls,
        fade: float | Tensor = 0.0,
        cast: float | Tensor = 0.0,
        gamma: float | Tensor = 1.0,
        noise_std: float = 0.0,
    ) -> Fading:
        """A fading by three dials, each a number or (B,).

        Args:
            fade: 0 (none) to 1 (hardly a picture is left): contrast that is lost, evenly from black and white.
            cast: -1 (blue) to 1 (red), by weakening the other colours.
            gamma: of all colours.
        """
        lost, turned, bent = torch.broadcast_tensors(
            parameter(fade, 0, 1, "The fading"),
            parameter(cast, -1, 1, "The colour cast"),
            parameter(gamma, 1 / MAX_GAMMA, MAX_GAMMA, "The fading's gamma"),
        )
        pale = PALEST * lost
        weaker = [CAST[0] * (-turned).clamp_min(0), CAST[1] * turned.abs(), CAST[0] * turned.clamp_min(0)]
        gain = (1 - pale)[:, None] * (1 - torch.stack(weaker, 1))
        return cls(gain, (pale / 2)[:, None].expand(-1, 3), bent[:, None].expand(-1, 3), noise_std)

    def __call__(self, image: Tensor) -> Tensor:
        x = in_float(image)
        gain, offset, gamma = self._planes(x)
        low, high = self._ends(gamma)
        curve = ((x.clamp_min(0) + TOE) ** gamma - low) / (high - low)
        slope = gamma * TOE ** (gamma - 1) / (high - low)
        curved = torch.where(x > 0, curve, slope * x)  # not their sum: at 0 both would have a derivative
        return (offset + gain * torch.where(gamma == 1, x, curved)).to(image.dtype)

    def invert(self, y: Tensor) -> Tensor:
        """The image whose measurement ``y`` (B, 3, H, W) is without noise: the inverse of calling it."""
        gain, offset, gamma = self._planes(in_float(y))
        low, high = self._ends(gamma)
        value = (in_float(y) - offset) / gain
        curved = (value.clamp_min(0) * (high - low) + low) ** (1 / gamma) - TOE
        slope = gamma * TOE ** (gamma - 1) / (high - low)
        return torch.where(gamma == 1, value, curved + value.clamp_max(0) / slope).to(y.dtype)

    def select(self, indices: Tensor) -> Fading:
        if len(self.gain) == len(self.offset) == len(self.gamma) == 1:
            return self
        gain, offset, gamma = (per_image(values, indices) for values in (self.gain, self.offset, self.gamma))
        return Fading(gain, offset, gamma, self.noise_std)

    def start_image(self, y: Tensor) -> Tensor:
        """``y`` with its colours brought back, on [0, 1]; grain is strengthened with them.

        Below black a gamma above 1 is nearly flat, and its inverse would make grain in the shadows explode.
        """
        return self.invert(y).clamp(0, 1)

    def _planes(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if len(self.gain) not in (1, len(like)):
            count = len(self.gain)
            raise AdaptDiffuseError(f"There are {count} fadings for {len(like)} photos: give one, or one per photo.")
        gain, offset, gamma = (values.like(like) for values in self._numbers)
        return gain, offset, gamma

    @staticmethod
    def _ends(gamma: Tensor) -> tuple[Tensor, Tensor]:
        return TOE**gamma, (1 + TOE) ** gamma


def _colours(values: Tensor, low: float, high: float, what: str) -> Tensor:
    if values.ndim != 2 or values.shape[1] != 3:
        raise AdaptDiffuseError(f"{what} must be three numbers per photo, not of the shape {tuple(values.shape)}.")
    return parameter(values, low, high, what).reshape(values.shape)


class Marks(SizedMask, SameSize, Pixelwise):
    """Random scratches and dust, lost pixels both; they follow from the seed and the photo's size.

    Args:
        scratches, dust: how many, 0 to 10000.
        size: pixels, 0.5 to 100: a scratch is half to once as wide, a speck of dust once to four times as large.
        seed: of their places and shapes.
        noise_std: standard deviation of the noise on the kept pixels of [0, 1] images.
    """

    def __init__(self, scratches: int, dust: int, size: float = 2.0, seed: int = 0, noise_std: float = 0.0):
        self.scratches = int(parameter(scratches, 0, MAX_MARKS, "The number of scratches"))
        self.dust = int(parameter(dust, 0, MAX_MARKS, "The number of specks of dust"))
        self.size = float(parameter(size, MIN_SIZE, MAX_SIZE, "The size of scratches and dust in pixels"))
        self.seed, self.noise_std = seed, check_noise_std(noise_std)
        self._sized = {}

    @property
    def loses_nothing(self) -> bool:
        return self.scratches == self.dust == 0

    def mask(self, height: int, width: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + MASK_SEED)
        marks = draw_marks(height, width, self.scratches, self.dust, self.size, generator)
        return marks_mask(height, width, marks)

    def select(self, indices: Tensor) -> Marks:
        return self


def random_marks(
    shape: tuple[int, int, int, int], scratches: Tensor, dust: Tensor, size: float, generators: Generators
) -> MissingPixels:
    """Scratches and dust of its own for each photo of a batch: so many (B,) of each."""
    each = [generators] * shape[0] if isinstance(generators, torch.Generator) else generators
    drawn = zip(scratches.tolist(), dust.tolist(), each, strict=True)
    masks = [marks_mask(*shape[2:], draw_marks(*shape[2:], many, specks, size, one)) for many, specks, one in drawn]
    return MissingPixels(torch.cat(masks))


class FilmDamage(SameSize, Pixelwise):
    """A faded photo with scratches and dust; its grain is the noise.

    Lost pixels carry no information, as in ``MissingPixels``. Not linear: fading adds a grey veil.

    Args:
        lost: scratches and dust: random ones (``Marks``), or a mask's.
        fading: see ``Fading.of``.
        noise_std: grain, standard deviation on [0, 1] images, after fading.
    """

    def __init__(self, lost: Marks | MissingPixels | ScalableMask, fading: Fading, noise_std: float = 0.0):
        self.lost, self.fading, self.noise_std = lost, fading, check_noise_std(noise_std)

    def __call__(self, image: Tensor) -> Tensor:
        return self.lost(self.fading(image))

    def observed(self, y: Tensor) -> Tensor:
        return self.lost.observed(y)

    def count(self, y: Tensor) -> Tensor:
        return self.lost.count(y)

    def select(self, indices: Tensor) -> FilmDamage:
        return FilmDamage(self.lost.select(indices), self.fading.select(indices), self.noise_std)

    def start_image(self, y: Tensor) -> Tensor:
        """``y`` with its colours brought back, on [0, 1]; lost pixels stay black."""
        return self.lost.observed(self.fading.start_image(y))
