"""A copy of the host's VAE that gradients can pass, decoder and encoder, in the memory that there is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from ..fitted import FittedPass, differentiated
from ..tiling import Units
from .comfy_copy import fresh, plain_copy
from .comfy_memory import HostMachine
from .comfy_refusals import STORED

TIMELESS = (
    "Models of videos, and those that share their VAE (Wan, Qwen-Image), do not work here: take SD 1.x, SDXL, SD 3 or "
    "Flux.1."
)


class VaeCopy:
    """A frozen float32 copy of a VAE's network, between latents in the model's scale and images on [0, 1].

    To be made outside inference mode.

    Args:
        vae: the host's VAE object.
        latent_format: of the model.
        tile: side of the tiles in pixels; 0 takes what the free memory bears, see ``FittedPass``.

    Attributes:
        network: the copy.

    Raises:
        AdaptDiffuseError: a VAE that is none of single images, or whose image values have another convention.
    """

    def __init__(self, vae: Any, latent_format: Any, tile: int = 0):
        if getattr(vae, "latent_dim", 2) == 3:
            raise AdaptDiffuseError(f"The VAE's latents have a time axis. {TIMELESS}")
        if getattr(vae, "first_stage_model", None) is None or getattr(vae, "latent_dim", 2) != 2:
            raise AdaptDiffuseError("This VAE is not one for single images: connect the VAE that belongs to the model.")
        into, out_of = straight_line(vae.process_input), straight_line(vae.process_output)
        self._format = normal_format(latent_format)
        self.network = without_sampling(plain_copy(vae.first_stage_model, STORED).float())
        self._device = vae.device
        factor, machine = int(vae.spacial_compression_decode()), HostMachine(vae.device, vae.patcher)
        # no bound methods: a circle of references would keep the copy in memory after its run
        decode, encode = partial(decoded, self.network, out_of), partial(encoded, self.network, into)
        self._decoder = FittedPass(decode, self.network, Units(1, factor), machine, "decoder", tile)
        self._encoder = FittedPass(encode, self.network, Units(factor, 1), machine, "encoder", tile)

    def decode(self, z0: Tensor) -> Tensor:
        """(B, 3, H, W) on [0, 1], not clamped. Raises AdaptDiffuseError where the gradient is lost, or memory ends."""
        raw = self._format.process_out(z0).to(self._device, torch.float32)
        return self._decoder(raw).to(z0.device)

    def encode(self, image: Tensor) -> Tensor:
        """The latent (the mean, of a distribution) of (B, 3, H, W) on [0, 1]. Errors as in ``decode``."""
        return self._format.process_in(self._encoder(image.to(self._device, torch.float32))).to(image)


def decoded(network: Any, line: tuple[float, float], raw: Tensor) -> Tensor:
    """The image of a raw latent, by ``network`` and the ``line`` that maps its values to [0, 1]."""
    scale, offset = line
    image = network.decode(raw) * scale + offset
    if differentiated(raw) and not image.requires_grad:
        raise AdaptDiffuseError("The gradient is lost inside this VAE's decoder: use another VAE.")
    return image


def encoded(network: Any, line: tuple[float, float], image: Tensor) -> Tensor:
    """The raw latent of an image on [0, 1], by ``network`` and the ``line`` that maps [0, 1] to its values."""
    scale, offset = line
    raw = network.encode(image * scale + offset)
    if differentiated(image) and not raw.requires_grad:
        raise AdaptDiffuseError("The gradient is lost inside this VAE's encoder: take LDPS, or use another VAE.")
    return raw


def straight_line(convert: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Slope and offset of the host's map of image values, whose own call clamps and works in place.

    Raises:
        AdaptDiffuseError: a map that is not a rising straight line between 0.25 and 0.75.
    """
    low, middle, high = (float(convert(torch.full((1,), value))) for value in (0.25, 0.5, 0.75))
    if abs(low + high - 2 * middle) > 1e-5 or high <= low:
        raise AdaptDiffuseError("This VAE's images are not a linear map of image values: use another VAE.")
    slope = 2 * (high - low)
    return slope, middle - 0.5 * slope


def without_sampling(network: Any) -> Any:
    """``network``, which gives the mean of a distribution of latents, never a draw from it."""
    from comfy.ldm.models.autoencoder import DiagonalGaussianRegularizer

    for layer in network.modules():
        if isinstance(layer, DiagonalGaussianRegularizer):
            layer.sample = False
    return network


def normal_format(latent_format: Any) -> Any:
    """A copy of the latent format without inference tensors among its constants."""
    copied = copy.copy(latent_format)
    for name, value in vars(copied).items():
        setattr(copied, name, fresh(value))
    return copied
