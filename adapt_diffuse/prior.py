"""What a latent diffusion model must offer to the method, and how its parameterisations become one."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .errors import AdaptDiffuseError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Codec(Protocol):
    """An autoencoder between images (B, 3, H, W) on [0, 1] and latents; two that are compared share their scale."""

    def encode(self, image: Tensor) -> Tensor: ...

    def decode(self, z0: Tensor) -> Tensor: ...


class LatentPrior(Protocol):
    """A diffusion model in the latent space of an autoencoder.

    Latents are in the model's scale (after the 0.18215-type factor and shift), images are (B, 3, H, W) in [0, 1].

    Attributes:
        sigmas: (n,) ascending levels that the model was trained on.
        multiple: sides of images must be multiples of this many pixels.
    """

    @property
    def sigmas(self) -> Tensor: ...

    @property
    def multiple(self) -> int: ...

    @property
    def guide(self) -> Codec:
        """What the data term decodes and encodes with: the model's autoencoder, or a smaller one in its place."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The posterior mean E[z0 | x] for ``x = z0 + sigma eps``: x (B, C, h, w), sigma (B,). Differentiable in x."""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """The latent (B, C, h, w) of an image in [0, 1]."""
        ...

    def decode(self, z0: Tensor) -> Tensor:
        """The image of a latent, on [0, 1] but not clamped. Differentiable in z0."""
        ...


def over_image(values: Tensor, like: Tensor) -> Tensor:
    """Per-image values (B,) in the shape, dtype and device that multiply (B, C, h, w)."""
    return values.to(like).reshape(-1, 1, 1, 1)


def posterior_mean(x: Tensor, sigma: Tensor, output: Tensor, prediction: str) -> Tensor:
    """The posterior mean from a variance-preserving network's output.

    The network saw ``z_vp = x / sqrt(1 + sigma^2)``.

    Args:
        x: (B, C, h, w), ``z0 + sigma eps``.
        sigma: (B,).
        output: the network's output, shaped as x.
        prediction: diffusers' name: "epsilon", "v_prediction" or "sample".
    """
    s = over_image(sigma, x)
    if prediction == "epsilon":
        return x - s * output
    if prediction == "v_prediction":
        return x / (1 + s**2) - s / (1 + s**2).sqrt() * output
    if prediction == "sample":
        return output
    raise unknown_prediction(prediction)


def unknown_prediction(prediction: object) -> AdaptDiffuseError:
    """The error for a network whose output is of none of the ``PREDICTIONS``."""
    return AdaptDiffuseError(f"The model predicts '{prediction}'; epsilon, v_prediction and sample are supported.")


def timestep_of(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """The (fractional) timestep (B,) of a level: linear in log sigma between the model's own levels, clamped."""
    logs = sigmas.log()
    log_sigma = sigma.to(logs).clamp(sigmas[0], sigmas[-1]).log()
    low = (torch.searchsorted(logs, log_sigma, right=True) - 1).clamp(0, len(logs) - 2)
    return low + (log_sigma - logs[low]) / (logs[low + 1] - logs[low])
