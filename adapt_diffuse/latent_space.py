"""Which latent space a latent lives in: its scale, and a fingerprint of the autoencoder that made it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import AdaptDiffuseError

PATTERN_SIZE = 64
# Relative distance of fingerprints. Half precision moves them by 0.001, another latent space by 1 or more (TAESD to
# TAESDXL 1.5, TAESD 3 to TAEF1 2.2), the scale factor of Stable Diffusion by 0.8. In between there is room for those
# that share a latent space: fine-tuned autoencoders, and a tiny one in the place of the full one.
TOLERANCE = 0.35


def test_pattern() -> Tensor:
    """A fixed colour pattern (1, 3, 64, 64) on [0, 1], with smooth waves and edges, for fingerprints."""
    axis = torch.arange(PATTERN_SIZE, dtype=torch.float64) / PATTERN_SIZE
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    planes = [
        0.5 + 0.4 * torch.cos(math.tau * (k * u + (2 - k) * v + k / 3)) * torch.where(u + k * v / 4 > 0.6, 0.5, 1.0)
        for k in range(3)
    ]
    return torch.stack(planes)[None].float()


@dataclass(frozen=True)
class LatentSpace:
    """A latent space: ``model scale = (raw - shift) * scale``.

    Attributes:
        channels: of a latent.
        factor: pixels per latent position, along a side.
        scale, shift: from the autoencoder's own (raw) scale to the model's.
        fingerprint: the raw latent of ``test_pattern()``, averaged over quarters: 4 numbers per channel.
    """

    channels: int
    factor: int
    scale: float
    shift: float
    fingerprint: tuple[float, ...]

    @classmethod
    def measure(cls, encode: Callable[[Tensor], Tensor], scale: float, shift: float, factor: int) -> LatentSpace:
        """The space of ``encode``, which maps images on [0, 1] to raw latents."""
        latent = encode(test_pattern())
        return cls(latent.shape[1], factor, scale, shift, _fingerprint(latent))

    def check(self, encode: Callable[[Tensor], Tensor], what: str = "severity encoder") -> None:
        """Make sure that ``encode`` (images on [0, 1] to raw latents) maps into this space.

        Raises:
            AdaptDiffuseError: it does not; naming ``what`` was made for this space.
        """
        latent = encode(test_pattern())
        if latent.ndim == 5:  # hosts give video autoencoders a time axis
            latent = latent[:, :, 0]
        distance = self.distance(latent)
        advice = f"Load a {what} trained for this VAE, or the VAE that it was trained for."
        if latent.shape[1] != self.channels:
            raise AdaptDiffuseError(
                f"The {what} belongs to a latent space of {self.channels} channels, but this VAE makes "
                f"{latent.shape[1]}. {advice}"
            )
        if not distance <= TOLERANCE:
            raise AdaptDiffuseError(
                f"The {what} belongs to another latent space than this VAE's (distance {distance:.2f}). {advice}"
            )

    def distance(self, latent: Tensor) -> float:
        """How far the autoencoder that made ``latent`` (1, C, h, w), raw, of ``test_pattern()`` is from this one's.

        Relative to the fingerprint; infinite for another number of channels.
        """
        if latent.shape[1] != self.channels:
            return math.inf
        ours = torch.tensor(self.fingerprint, dtype=torch.float64)
        theirs = torch.tensor(_fingerprint(latent), dtype=torch.float64)
        return float((ours - theirs).norm() / ours.norm().clamp_min(1e-6))

    def to_raw(self, z: Tensor) -> Tensor:
        """From the model's scale to the autoencoder's own."""
        return z / self.scale + self.shift

    def from_raw(self, raw: Tensor) -> Tensor:
        """From the autoencoder's own scale to the model's."""
        return (raw - self.shift) * self.scale

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LatentSpace:
        values = json.loads(text)
        return cls(**{**values, "fingerprint": tuple(values["fingerprint"])})


def _fingerprint(latent: Tensor) -> tuple[float, ...]:
    quarters = F.adaptive_avg_pool2d(latent.detach().cpu().double(), 2)
    return tuple(round(value, 5) for value in quarters.flatten().tolist())
