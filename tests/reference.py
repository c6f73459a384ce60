"""The toy latent model of the reference vectors, as a LatentPrior, and the vectors themselves.

The vectors were computed in float64 by the method's released implementation and are not part of the repository:
name the file in ADAPT_DIFFUSE_REFERENCE, or keep it as ``reference/reference_vectors.npz`` in a folder beside the
checkout. Without them ``unit/test_vp_form.py`` still compares with the papers' formulas.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adapt_diffuse.prior import over_image, posterior_mean, timestep_of
from adapt_diffuse.schedule import vp_sigmas

VARIABLE = "ADAPT_DIFFUSE_REFERENCE"
CHECKOUT = Path(__file__).resolve().parents[1]
ABSENT = f"The reference vectors are not on this machine: name their file in {VARIABLE}."


def find_vectors() -> Path | None:
    """The file of the reference vectors, or None. A file named in the environment is taken without a look."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return next(iter(sorted(CHECKOUT.parent.glob("*/reference/reference_vectors.npz"))), None)


def load_vectors(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def ldm_alphas_cumprod(count: int = 1000) -> Tensor:
    """abar of the LDM schedule, sqrt(beta) linear from sqrt(0.0015) to sqrt(0.0195), float64."""
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, count, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def toy_weights(seed: int = 0) -> dict[str, Tensor]:
    """Weights of a toy model with the shapes of the reference vectors' one, but drawn here."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"Wd": (3, 4, 3, 3), "We": (4, 3, 3, 3), "W1": (8, 4, 3, 3), "W2": (4, 8, 3, 3)}
    weights = {name: 0.2 * torch.randn(s, generator=generator, dtype=torch.float64) for name, s in shapes.items()}
    return {**weights, "alphas_cumprod": ldm_alphas_cumprod()}


class ToyPrior:
    """D, E and eps of the reference vectors: convolutions without bias, float64."""

    multiple = 4

    def __init__(self, vectors: dict[str, Tensor]):
        self.Wd, self.We, self.W1, self.W2 = (vectors[name] for name in ("Wd", "We", "W1", "W2"))
        self.sigmas = vp_sigmas(vectors["alphas_cumprod"])

    @property
    def guide(self):
        return self

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
