"""The toy latent model of the reference vectors, as a LatentPrior, and the vectors themselves.

The vectors (``tests/data/reference_vectors.npz``) were computed in float64 by the method's released implementation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adapt_diffuse.prior import over_image, posterior_mean, timestep_of
from adapt_diffuse.schedule import vp_sigmas

VECTORS = Path(__file__).parent / "data" / "reference_vectors.npz"


def load_vectors() -> dict[str, Tensor]:
    with np.load(VECTORS) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


class ToyPrior:
    """D, E and eps of the reference vectors: convolutions without bias, float64."""

    multiple = 4

    def __init__(self, vectors: dict[str, Tensor]):
        self.Wd, self.We, self.W1, self.W2 = (vectors[name] for name in ("Wd", "We", "W1", "W2"))
        self.sigmas = vp_sigmas(vectors["alphas_cumprod"])

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = over_image(timestep_of(sigma, self.sigmas), x)
        z = x / (1 + over_image(sigma, x) ** 2).sqrt()
        hidden = torch.tanh(F.conv2d(z, self.W1, padding=1) + torch.cos(level / 100))
        return posterior_mean(x, sigma, F.conv2d(hidden, self.W2, padding=1), "epsilon")

    def decode(self, z0: Tensor) -> Tensor:
        image = torch.tanh(F.interpolate(F.conv2d(z0, self.Wd, padding=1), scale_factor=4, mode="nearest"))
        return (image + 1) / 2

    def encode(self, image: Tensor) -> Tensor:
        return F.conv2d(F.avg_pool2d(image * 2 - 1, 4), self.We, padding=1)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest deviation, relative to the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())
