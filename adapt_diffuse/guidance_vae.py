"""Whether a small autoencoder may stand in for a model's own in the gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import AdaptDiffuseError
from .latent_space import test_pattern
from .prior import Codec

# relative distance of latents: taesd and taesdxl, of different spaces, are 1.7 apart, taesd3 and taef1 3.6
DOUBTFUL = 1.0


@dataclass(frozen=True)
class Agreement:
    """How much a small autoencoder is like the full one, on a test pattern.

    Attributes:
        latents: relative distance of what they encode.
        images: root mean square difference, on [0, 1] images, of what they decode the full one's latent to.
    """

    latents: float
    images: float

    def __str__(self) -> str:
        return (
            f"The guidance VAE decodes a test pattern {self.images:.3f} (RMS, of 1) from the full VAE and encodes it "
            f"{self.latents:.2f} (relative) from it"
            + ("; that is far: does it belong to this model?" if self.latents > DOUBTFUL else ".")
        )


@torch.no_grad()
def compare(full: Codec, small: Codec) -> Agreement:
    """How much ``small`` is like ``full``.

    Raises:
        AdaptDiffuseError: their latents differ in channels or size.
    """
    pattern = test_pattern()
    ours, theirs = full.encode(pattern), small.encode(pattern)
    if ours.shape != theirs.shape:
        raise AdaptDiffuseError(
            f"The guidance VAE is not of this model's latent space: it makes {_grid(theirs, pattern)}, and the VAE "
            f"{_grid(ours, pattern)}. Connect the tiny autoencoder of this model's family, or none."
        )
    pictures = [codec.decode(ours.float()).cpu().double().clamp(0, 1) for codec in (full, small)]
    ours, theirs = ours.cpu().double(), theirs.cpu().double()
    return Agreement(
        latents=float((ours - theirs).norm() / ours.norm().clamp_min(1e-6)),
        images=float((pictures[0] - pictures[1]).square().mean().sqrt()),
    )


def _grid(latent: Tensor, pattern: Tensor) -> str:
    return f"{latent.shape[1]} channels at {pattern.shape[3] // latent.shape[3]} pixels each"


@dataclass(frozen=True)
class Calls:
    """A ``Codec`` of two functions."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
