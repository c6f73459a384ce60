"""DDIM inversion with the host's guided model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ..prior import LatentPrior, over_image
from ..start import ddim_inversion
from .comfy_guider import conditioned
from .comfy_levels import HostDenoiser, to_host


class Climb:
    """The denoiser of ``ddim_inversion``, which tells the host of every step and stops when its user does."""

    def __init__(self, host: HostDenoiser, callback: Callable[[dict[str, Any]], None] | None):
        self._host, self._callback, self._count = host, callback, 0

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()
        z0 = self._host.denoise(x, sigma)
        if self._callback is not None:
            self._callback({"x": x, "i": self._count, "sigma": sigma, "sigma_hat": sigma, "denoised": z0})
        self._count += 1
        return z0


def inversion_sampler(schedule: Tensor) -> Any:
    """A SAMPLER of the host that climbs ``schedule`` (falling sigmas that end in 0) from its end to its beginning."""
    import comfy.samplers

    def climb(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        host = HostDenoiser(model, dict(extra_args or {}))
        # an inversion stays among latents: of the prior it asks for the denoiser alone
        x = ddim_inversion(x, [schedule] * len(x), cast(LatentPrior, Climb(host, callback)))
        return x * (1 - over_image(sigmas[-1:], x)) if host.flow else x

    return comfy.samplers.KSAMPLER(climb)


def invert(model: Any, positive: Any, negative: Any, cfg: float, latent: Tensor, schedule: Tensor) -> Tensor:
    """The latents that the host's samplers, given no noise, begin with at the first level of ``schedule``.

    Args:
        model: the host's MODEL.
        positive, negative: CONDITIONING; negative may be None, cfg is not used then.
        latent: (B, C, h, w) clean latents, in the VAE's raw scale.
        schedule: (n + 1,) falling sigmas that end in 0, the same for all latents.

    Returns:
        (B, C, h, w) ``z0 + sigma eps`` of the model's scale, brought to the raw scale as every LATENT.
    """
    import comfy.model_management
    import comfy.utils
    import latent_preview

    guider = conditioned(model, positive, negative, cfg)
    # rising levels: the host scales by the first before the sampler, and back by the last after it
    sigmas = to_host(schedule.flip(0), model.get_model_object("model_sampling"))
    climbed = guider.sample(
        torch.zeros_like(latent),
        latent,
        inversion_sampler(schedule),
        sigmas,
        callback=latent_preview.prepare_callback(model, len(schedule) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=0,
    )
    return climbed.to(comfy.model_management.intermediate_device())
