"""A severity encoder of either architecture, with what its training needs of the autoencoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..autoencoder import LatentEncoder, encode_raw, latent_space_of
from ..errors import AdaptDiffuseError
from ..latent_space import LatentSpace
from .checkpoint import AnySeverityEncoder
from .encoder import Encode, SeverityEncoder
from .refiner import SeverityRefiner
from .replay import Batch
from .settings import TrainingSettings


@dataclass(frozen=True)
class Trainee:
    """A severity encoder to train.

    Attributes:
        encoder: on the device of the training.
        encode: images (B, 3, H, W) on [0, 1] to latents in the model's scale, of the frozen autoencoder.
        decode: latents in the model's scale to images on [-1, 1], with gradient; None where there is no decoder.
        autoencoder_config: what an encoder copy keeps in its file; None for a refiner.
    """

    encoder: AnySeverityEncoder
    encode: Encode
    decode: Callable[[Tensor], Tensor] | None
    autoencoder_config: dict[str, Any] | None

    @property
    def refines(self) -> bool:
        """Whether the encoder needs the encoding of the damaged photo."""
        return isinstance(self.encoder, SeverityRefiner)

    def estimate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """z_hat (B, C, h, w) and sigma_hat (B,) of the damaged photos, with gradient."""
        if batch.encoding is None:
            return self.encoder(batch.damaged)
        return self.encoder(batch.encoding, batch.damaged)


def trainee_of(autoencoder: Any, settings: TrainingSettings, device: torch.device) -> Trainee:
    """A new severity encoder, of the settings' architecture, for a diffusers autoencoder, which is moved to ``device``.

    Raises:
        AdaptDiffuseError: crops that do not fit the latent grid.
    """
    # convolutions of few channels run up to twice as fast on a CPU with the channels last
    autoencoder = autoencoder.to(device, memory_format=torch.channels_last)
    space = latent_space_of(autoencoder)

    def encode(image: Tensor) -> Tensor:
        return space.from_raw(encode_raw(autoencoder, image * 2 - 1))

    def decode(z0: Tensor) -> Tensor:
        return autoencoder.decode(space.to_raw(z0)).sample

    has_decoder = getattr(autoencoder, "decoder", None) is not None
    if settings.architecture == "refiner":
        return refiner_of(encode, space, settings, device, decode if has_decoder else None)
    config = {**autoencoder.config, "_class_name": type(autoencoder).__name__}

    def make() -> SeverityEncoder:
        copied = LatentEncoder(copy.deepcopy(autoencoder)).requires_grad_(True)
        return SeverityEncoder(copied, space, settings.head)

    return Trainee(_placed(make, space, settings, device), encode, decode if has_decoder else None, config)


def refiner_of(
    encode: Encode,
    space: LatentSpace,
    settings: TrainingSettings,
    device: torch.device,
    decode: Callable[[Tensor], Tensor] | None = None,
) -> Trainee:
    """A new refiner for any autoencoder of which there is an ``encode`` (model's scale) and its latent space.

    Raises:
        AdaptDiffuseError: crops that do not fit the latent grid.
    """

    def make() -> SeverityRefiner:
        return SeverityRefiner(space, settings.photo, settings.width)

    return Trainee(_placed(make, space, settings, device), encode, decode, None)


def _placed(
    make: Callable[[], Any], space: LatentSpace, settings: TrainingSettings, device: torch.device
) -> AnySeverityEncoder:
    """What ``make`` makes with first weights of the settings' seed, on ``device``."""
    if settings.size % space.factor:
        raise AdaptDiffuseError(f"The crop size must be a multiple of {space.factor}, not {settings.size}.")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # CUDA generators stay
        return make().to(device, memory_format=torch.channels_last)
