"""A diffusion model from a diffusers folder: autoencoder (or none), UNet2DModel, scheduler config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..autoencoder import (
    build,
    decode_raw,
    encode_raw,
    latent_channels,
    latent_space_of,
    load_autoencoder,
    model_autoencoder,
    read_config,
)
from ..checkpoints import load_diffusers_weights
from ..errors import AdaptDiffuseError
from ..fitted import FittedPass
from ..guidance_vae import Agreement, compare
from ..latent_space import LatentSpace
from ..libraries import installed
from ..memory import LocalMachine
from ..prior import PREDICTIONS, Codec, over_image, posterior_mean, timestep_of, unknown_prediction
from ..schedule import vp_sigmas
from ..tiling import Units
from ..tiny_autoencoder import is_tiny, load_tiny_autoencoder

HEADS = "attention_heads"  # our key of a UNet2DModel's config.json


class DiffusersPrior:
    """An unconditional latent diffusion model as a LatentPrior.

    Args:
        autoencoder: diffusers AutoencoderKL, VQModel, AutoencoderTiny or AutoencoderDC; or a PixelAutoencoder.
        unet: diffusers UNet2DModel.
        alphas_cumprod: (n,) of the schedule it was trained on.
        prediction: "epsilon", "v_prediction" or "sample".
        guidance: a second, smaller autoencoder of the same latent space, in place of the first in the data term.
        tile: side in pixels of the tiles that autoencoders run in; 0 takes what the free memory bears.

    Attributes:
        agreement: how much the second autoencoder is like the first; None without one.

    Raises:
        AdaptDiffuseError: parts that do not belong together.
    """

    def __init__(
        self,
        autoencoder: Any,
        unet: Any,
        alphas_cumprod: Tensor,
        prediction: str,
        guidance: Any = None,
        tile: int = 0,
    ):
        if unet.config.in_channels != latent_channels(autoencoder):
            raise AdaptDiffuseError(
                f"The UNet takes {unet.config.in_channels} channels but the autoencoder's latents have "
                f"{latent_channels(autoencoder)}: they do not belong together."
            )
        if prediction not in PREDICTIONS:
            raise unknown_prediction(prediction)
        self.autoencoder, self.unet, self.prediction = autoencoder, unet, prediction
        self.space: LatentSpace = latent_space_of(autoencoder)
        self._codec = FittedAutoencoder(autoencoder, self.space, tile)
        self._guide = self._codec
        self.agreement: Agreement | None = None
        if guidance is not None:
            self._guide = FittedAutoencoder(guidance, latent_space_of(guidance), tile)
            self.agreement = compare(self._codec, self._guide)
        self._sigmas = vp_sigmas(alphas_cumprod.double())

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: torch.device | str = "cpu",
        guidance: str | Path | None = None,
        tile: int = 0,
    ) -> DiffusersPrior:
        """The model in ``folder``, float32, frozen, on ``device``.

        It holds unet, scheduler and vae or vqvae; a model of pixels has a model_index.json that names no autoencoder.

        Args:
            guidance: the smaller autoencoder, see ``load_guide``.

        Raises:
            AdaptDiffuseError: something is missing, truncated or of an unsupported kind.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise AdaptDiffuseError(f"There is no model folder {folder}.")
        autoencoder = model_autoencoder(folder)
        unet = load_unet(folder / "unet")
        scheduler = read_config(folder / "scheduler" / "scheduler_config.json")
        prediction = scheduler.get("prediction_type", "epsilon")
        # convolutions of few channels run up to twice as fast on a CPU with the channels last
        layout = torch.channels_last
        guide = None if guidance is None else load_guide(Path(guidance))
        for module in (autoencoder, unet, guide):
            if module is not None:
                module.to(device, memory_format=layout)  # type: ignore[call-overload]
        return cls(autoencoder, unet, alphas_cumprod_of(scheduler), prediction, guide, tile)

    @property
    def sigmas(self) -> Tensor:
        return self._sigmas

    @property
    def multiple(self) -> int:
        return self.space.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        timestep = timestep_of(sigma.to(self._sigmas), self._sigmas).to(x)
        parameter = next(self.unet.parameters())
        scaled = (x / (1 + over_image(sigma, x) ** 2).sqrt()).to(parameter)
        output = self.unet(scaled, timestep.to(parameter)).sample
        return posterior_mean(x, sigma, output.to(x), self.prediction)

    def encode(self, image: Tensor) -> Tensor:
        return self._codec.encode(image)

    def decode(self, z0: Tensor) -> Tensor:
        return self._codec.decode(z0)

    @property
    def guide(self) -> Codec:
        return self._guide


class FittedAutoencoder:
    """A diffusers autoencoder between images on [0, 1] and latents in the model's scale, in the memory that there is.

    Args:
        tile: side of the tiles in pixels; 0 takes what the free memory bears, see ``FittedPass``.
    """

    def __init__(self, autoencoder: Any, space: LatentSpace, tile: int = 0):
        self.autoencoder, self.space = autoencoder, space
        machine = LocalMachine(next(autoencoder.parameters()).device)
        self._decoder = FittedPass(self._decode, autoencoder, Units(1, space.factor), machine, "decoder", tile)
        self._encoder = FittedPass(self._encode, autoencoder, Units(space.factor, 1), machine, "encoder", tile)

    def encode(self, image: Tensor) -> Tensor:
        return self._encoder(image)

    def decode(self, z0: Tensor) -> Tensor:
        return self._decoder(z0)

    def _encode(self, image: Tensor) -> Tensor:
        parameter = next(self.autoencoder.parameters())
        return self.space.from_raw(encode_raw(self.autoencoder, (image * 2 - 1).to(parameter))).to(image)

    def _decode(self, z0: Tensor) -> Tensor:
        parameter = next(self.autoencoder.parameters())
        return (decode_raw(self.autoencoder, self.space.to_raw(z0).to(parameter)).to(z0) + 1) / 2


def load_guide(path: Path) -> Any:
    """The smaller autoencoder in ``path``: a diffusers folder, or a tiny one as its authors publish it."""
    return load_tiny_autoencoder(path) if is_tiny(path) else load_autoencoder(path)


def load_unet(folder: Path) -> Any:
    """A UNet2DModel, float32, frozen. Raises AdaptDiffuseError for another class or damaged weights."""
    return load_diffusers_weights(build_unet(read_config(folder / "config.json"), folder), folder)


def build_unet(config: dict[str, Any], source: str | Path) -> nn.Module:
    """A UNet2DModel with fresh weights, from the config.json that ``source`` holds.

    Its attention has as many heads as ``HEADS`` says, where the config has this key: UNet2DModel itself can only have
    so many channels per head.

    Raises:
        AdaptDiffuseError: another class, a conditional one, or a configuration that makes no model.
    """
    with installed():
        from diffusers import UNet2DModel

    if config.get("_class_name") != "UNet2DModel":
        raise AdaptDiffuseError(f"The unet in {source} is a '{config.get('_class_name')}'; supported is UNet2DModel.")
    if config.get("num_class_embeds") is not None or config.get("class_embed_type") is not None:
        raise AdaptDiffuseError(f"The unet in {source} wants classes; only unconditional ones are supported.")
    unet = build(UNet2DModel, {key: value for key, value in config.items() if key != HEADS}, source)
    if (heads := config.get(HEADS)) is not None:
        _set_heads(unet, heads, source)
    return unet


def _set_heads(unet: nn.Module, heads: Any, source: str | Path) -> None:
    from diffusers.models.attention_processor import Attention

    for attention in (module for module in unet.modules() if isinstance(module, Attention)):
        if not isinstance(heads, int) or heads < 1 or attention.inner_dim % heads:
            raise AdaptDiffuseError(f"The unet in {source} cannot have {heads} {HEADS}.")
        attention.heads = attention.sliceable_head_dim = heads
        attention.scale = (attention.inner_dim // heads) ** -0.5


def alphas_cumprod_of(scheduler: dict[str, Any]) -> Tensor:
    """abar (n,) float64 of a scheduler config.

    Raises:
        AdaptDiffuseError: a beta schedule other than linear, scaled_linear or trained_betas, or betas outside (0, 1).
    """
    kind = scheduler.get("beta_schedule", "linear")
    if scheduler.get("trained_betas") is None and kind not in ("linear", "scaled_linear"):
        raise AdaptDiffuseError(f"The scheduler's beta_schedule '{kind}' is not supported (linear, scaled_linear).")
    if scheduler.get("rescale_betas_zero_snr"):
        raise AdaptDiffuseError("The scheduler's rescale_betas_zero_snr is not supported.")
    try:
        betas = _betas(scheduler, kind)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AdaptDiffuseError(f"The scheduler's configuration holds a wrong value ({error}).") from None
    if len(betas) < 2 or not bool(((betas > 0) & (betas < 1)).all()):
        raise AdaptDiffuseError("The scheduler's betas must be two or more, all between 0 and 1.")
    return torch.cumprod(1 - betas, 0)


def _betas(scheduler: dict[str, Any], kind: str) -> Tensor:
    if scheduler.get("trained_betas") is not None:
        return torch.tensor(scheduler["trained_betas"], dtype=torch.float64)
    count = int(scheduler.get("num_train_timesteps", 1000))
    start, end = float(scheduler.get("beta_start", 1e-4)), float(scheduler.get("beta_end", 0.02))
    if kind == "linear":
        return torch.linspace(start, end, count, dtype=torch.float64)
    return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
