"""A severity encoder that the host loads and unloads like its own models."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from ..latent_space import PATTERN_SIZE, LatentSpace, test_pattern
from ..severity import Severity, load_severity_encoder
from ..severity.checkpoint import AnySeverityEncoder
from .comfy_memory import whole_patcher
from .comfy_model import HostAutoencoder
from .comfy_progress import photo_by_photo

NUMBERS_PER_PIXEL = 800  # that the encoder keeps alive at once; generous


class HostSeverityEncoder:
    """A severity encoder under the host's memory management."""

    def __init__(self, encoder: AnySeverityEncoder):
        import comfy.model_management

        self.encoder = encoder
        devices = comfy.model_management.vae_device(), comfy.model_management.vae_offload_device()
        self.patcher = whole_patcher(encoder, *devices)

    @classmethod
    def load(cls, path: str | Path) -> HostSeverityEncoder:
        """From its safetensors file. Raises AdaptDiffuseError where that is damaged or no severity encoder."""
        with torch.inference_mode(False):
            return cls(load_severity_encoder(path))

    @property
    def space(self) -> LatentSpace:
        return self.encoder.space

    def check(self, vae: Any) -> None:
        """Raise AdaptDiffuseError unless the host's ``vae`` has the latent space that the encoder was trained in."""
        self.space.check(raw_encode(vae))

    def predict(self, photo: Tensor, vae: Any, multiple: int = 1) -> Severity:
        """The severity of (B, 3, H, W) on [0, 1] of any size, on the CPU, in the model's scale.

        Args:
            vae: the host's, of the encoder's latent space; a refiner lets it encode the photo.
            multiple: pixels whose multiples the sides are padded to, besides those of the VAE's factor.

        Raises:
            InterruptProcessingException: the user's Cancel, between two photos.
        """
        encode = raw_encode(vae)

        def encode_and_return(image: Tensor) -> Tensor:
            latent = self.space.from_raw(encode(image))
            self._load(image)  # for the VAE, the host may have moved it away
            return latent

        each = []
        for one in photo_by_photo(photo.split(1)):
            self._load(one)
            each.append(self.encoder.predict(one, multiple, encode_and_return))
        z_hat, sigma_hat = torch.cat([one.z_hat for one in each]), torch.cat([one.sigma_hat for one in each])
        return Severity(z_hat, sigma_hat, each[0].photo_size)

    def _load(self, photo: Tensor) -> None:
        import comfy.model_management

        memory = 4 * NUMBERS_PER_PIXEL * photo.shape[0] * photo.shape[2] * photo.shape[3]
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=True)


def raw_encode(vae: Any) -> Callable[[Tensor], Tensor]:
    """The host's encoding of images (B, 3, H, W) on [0, 1], whole multiples of its factor: (B, C, h, w), raw scale."""

    def encode(image: Tensor) -> Tensor:
        latent = vae.encode(image.movedim(1, -1))
        return latent[:, :, 0] if latent.ndim == 5 else latent  # video autoencoders have a time axis

    return encode


def pattern_latent(vae: Any) -> Tensor:
    """What the host's ``vae`` makes of the fingerprint's pattern: (1, C, h, w), raw scale."""
    return raw_encode(vae)(test_pattern())


def host_latent_space(vae: Any, model: Any | None = None) -> LatentSpace:
    """The latent space of the host's ``vae``, in the scale of ``model``, or in its own where it knows one.

    Raises:
        AdaptDiffuseError: a VAE that is not one of images, or not the model's; a scale that is not known, or is not
            one factor and one shift.
    """
    raw = pattern_latent(vae)
    if raw.ndim != 4 or len(raw) != 1 or PATTERN_SIZE % raw.shape[2] or raw.shape[2] != raw.shape[3]:
        raise AdaptDiffuseError("This VAE is not one for single images: connect the VAE that belongs to the model.")
    if model is None:
        scale, shift = own_scale_and_shift(vae)
    else:
        check_channels(raw, model)
        scale, shift = scale_and_shift(model.get_model_object("latent_format"), raw)
    return LatentSpace.measure(lambda image: raw, scale, shift, PATTERN_SIZE // raw.shape[2])


def check_channels(raw: Tensor, model: Any) -> None:
    """Raise AdaptDiffuseError where ``raw``, which a VAE has made, has not the channels of the model's latents."""
    channels = model.get_model_object("latent_format").latent_channels
    if raw.shape[1] != channels:
        raise AdaptDiffuseError(
            f"The VAE makes latents of {raw.shape[1]} channels, but the model has {channels}: connect the VAE that "
            "belongs to the model."
        )


def in_scale_of(model: Any, space: LatentSpace) -> bool:
    """Whether ``model`` scales its latents as ``space`` does; models of one VAE need not (Playground v2.5 and SDXL)."""
    raw = torch.linspace(-1, 1, 64 * space.channels).reshape(1, space.channels, 8, 8)  # any latent does
    try:
        found = scale_and_shift(model.get_model_object("latent_format"), raw)
    except AdaptDiffuseError:
        return False
    pairs = zip(found, (space.scale, space.shift), strict=True)
    return all(math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-3) for one, other in pairs)


def own_scale_and_shift(vae: Any) -> tuple[float, float]:
    """Scale and shift of a VAE that knows them: a tiny one, or one of a diffusers folder.

    Raises:
        AdaptDiffuseError: it does not.
    """
    network = vae.first_stage_model
    if hasattr(network, "vae_scale") and hasattr(network, "vae_shift"):
        return round(float(network.vae_scale), 6), round(float(network.vae_shift), 6)
    if isinstance(network, HostAutoencoder):
        config: Any = network.autoencoder.config
        return float(config.get("scaling_factor") or 1.0), float(config.get("shift_factor") or 0.0)
    raise AdaptDiffuseError(
        "This VAE does not say how its model scales latents: connect the diffusion model to the input 'model' too."
    )


def scale_and_shift(latent_format: Any, raw: Tensor) -> tuple[float, float]:
    """``scale`` and ``shift`` of ``process_in(raw) = (raw - shift) * scale``.

    Raises:
        AdaptDiffuseError: it is another map.
    """
    raw = raw.float().cpu()  # not every device has float64
    probes = [torch.full_like(raw, value) for value in (0.0, 1.0)]
    at_zero, at_one = (latent_format.process_in(probe).double() for probe in probes)
    scale = float((at_one - at_zero).mean())
    shift = -float(at_zero.mean()) / scale
    expected = (raw.double() - shift) * scale
    if not torch.allclose(latent_format.process_in(raw.float().clone()).double(), expected, rtol=1e-4, atol=1e-5):
        raise AdaptDiffuseError(
            "This model scales each channel of its latents by itself, which severity encoders do not support yet."
        )
    return round(scale, 6), round(shift, 6) + 0.0
