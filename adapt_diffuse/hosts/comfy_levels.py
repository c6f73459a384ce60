"""The host's noise levels, and its guided model, in noise-to-signal sigma: ``x = z0 + sigma eps``, flow models too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from ..prior import over_image
from ..schedule import thin

LEVELS = 1000  # of the models that the paper and its solvers were made for


class HostDenoiser:
    """The host's posterior mean, without gradients.

    Args:
        model: what the host calls its sampler function with; ``model(x, sigma, **arguments)`` is the posterior mean
            after CFG, ControlNet, LoRA and masks.
        arguments: the extra_args of the same call.

    Attributes:
        flow: whether the host's latents are ``(1 - t) z0 + t eps``.
        sigmas: (n,) ascending levels of the model.
    """

    def __init__(self, model: Any, arguments: dict[str, Any]):
        sampling = model.inner_model.model_patcher.get_model_object("model_sampling")
        self.flow, self.sigmas = is_flow(sampling), model_levels(sampling)
        self._call, self._arguments = model, arguments

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, C, h, w), sigma (B,)."""
        with torch.inference_mode():
            z0 = self._call(*self.in_host(x, sigma), **self._arguments)
        return z0.clone()

    def in_host(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """x and sigma in the host's coordinates, as its models want them."""
        level = sigma.to(x)
        if not self.flow:
            return x, level
        level = level / (1 + level)
        return x * (1 - over_image(level, x)), level


def is_flow(sampling: Any) -> bool:
    """Whether the host's latents at level t are ``(1 - t) z0 + t eps`` instead of ``z0 + sigma eps``.

    Raises:
        AdaptDiffuseError: a model whose latents are neither.
    """
    import comfy.model_sampling

    unknown = [getattr(comfy.model_sampling, name, None) for name in ("IMG_TO_IMG", "IMG_TO_IMG_FLOW")]
    if isinstance(sampling, tuple(kind for kind in unknown if kind is not None)):
        raise AdaptDiffuseError("This is an image-to-image model, not a diffusion prior: connect another MODEL.")
    if getattr(sampling, "noise_scale", 1.0) != 1:
        raise AdaptDiffuseError("This model's noise is not of standard deviation 1: connect another MODEL.")
    return isinstance(sampling, comfy.model_sampling.CONST)


def model_levels(sampling: Any) -> Tensor:
    """The model's levels as ascending noise-to-signal sigmas, float64 on the CPU; ``LEVELS`` of them, about, at most.

    Models of the Flux family have ten thousand, ten times those that the paper's solvers walk one by one.

    Raises:
        AdaptDiffuseError: levels that are not finite and rising (a schedule that leaked in from another run).
    """
    levels = sampling.sigmas.detach().cpu().double()
    if is_flow(sampling):
        levels = levels[levels < 1]  # pure noise has no finite ratio
        levels = levels / (1 - levels)
    levels = levels[levels > 0]
    if len(levels) < 2 or not bool(torch.isfinite(levels).all()) or not bool((levels.diff() > 0).all()):
        raise AdaptDiffuseError("The model's noise levels are not finite and rising: load the model again.")
    return thin(levels, LEVELS) if len(levels) > LEVELS else levels


def to_host(sigmas: Tensor, sampling: Any) -> Tensor:
    """Noise-to-signal sigmas as SIGMAS of this model, float32 on the CPU."""
    return (sigmas / (1 + sigmas) if is_flow(sampling) else sigmas).float().cpu()
