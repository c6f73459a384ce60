"""The four kinds of diffusers autoencoders, and none at all (models of pixels), seen as one.

Images are (B, 3, H, W) on [-1, 1] here; latents are *raw*, in the autoencoder's own scale. The model's scale is
``(raw - shift) * scale``.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .errors import AdaptDiffuseError
from .latent_space import LatentSpace
from .libraries import installed

CLASSES = ("AutoencoderKL", "VQModel", "AutoencoderTiny", "AutoencoderDC")
FOLDERS = ("vae", "vqvae")  # in a diffusers model, where the autoencoder is


def autoencoder_from_config(config: dict[str, Any], source: str | Path) -> nn.Module:
    """A diffusers autoencoder with fresh weights, from the config.json that ``source`` holds.

    Raises:
        AdaptDiffuseError: a class that is none of AutoencoderKL, VQModel, AutoencoderTiny, AutoencoderDC, or a
            configuration that makes no model.
    """
    with installed():
        import diffusers

    name = config.get("_class_name")
    if name not in CLASSES:
        raise AdaptDiffuseError(f"The autoencoder is a '{name}'; supported are {', '.join(CLASSES)}.")
    return build(getattr(diffusers, name), config, source)


def build(kind: Any, config: dict[str, Any], source: str | Path) -> nn.Module:
    """A diffusers model of class ``kind`` with fresh weights. Raises AdaptDiffuseError naming ``source``."""
    try:
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn from the global generator
            return kind.from_config(config)
    except Exception as error:  # whatever the class makes of a wrong value
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise AdaptDiffuseError(f"The configuration in {source} makes no {kind.__name__} ({reason}).") from error


class PixelAutoencoder(nn.Module):
    """The autoencoder of models that diffuse pixels: a latent is the image on [-1, 1] itself."""

    def __init__(self) -> None:
        with installed():
            from diffusers.configuration_utils import FrozenDict

        super().__init__()
        self.config = FrozenDict({"latent_channels": 3, "block_out_channels": (3,), "scaling_factor": 1.0})
        # autoencoders are asked for their dtype and device
        self.nothing = nn.Parameter(torch.zeros(1), requires_grad=False)

    def encode(self, image: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latents=image)

    def decode(self, latent: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=latent)


class LatentEncoder(nn.Module):
    """The encoder half: image on [-1, 1] to raw latent (the mean, where the autoencoder predicts a distribution)."""

    def __init__(self, autoencoder: Any):
        super().__init__()
        self.encoder = autoencoder.encoder
        # AutoencoderTiny and AutoencoderDC have none, AutoencoderKL may be configured without
        self.quant_conv = getattr(autoencoder, "quant_conv", None) or nn.Identity()
        self.channels = latent_channels(autoencoder)

    @property
    def last_layer(self) -> nn.Module:
        """The encoder's last convolution: what enters it are the encoder's features."""
        return self.encoder.conv_out if hasattr(self.encoder, "conv_out") else self.encoder.layers[-1]

    def forward(self, image: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(image))[:, : self.channels]


def latent_channels(autoencoder: Any) -> int:
    config = autoencoder.config
    return config.get("vq_embed_dim") or config.latent_channels


def downsampling(autoencoder: Any) -> int:
    """How many pixels of the image one latent position stands for, along a side."""
    blocks = autoencoder.config.get("block_out_channels") or autoencoder.config.encoder_block_out_channels
    return 2 ** (len(blocks) - 1)


def encode_raw(autoencoder: Any, image: Tensor) -> Tensor:
    """The raw latent (the mode of the distribution for AutoencoderKL, before quantisation for VQModel)."""
    encoded = autoencoder.encode(image)
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent


def decode_raw(autoencoder: Any, latent: Tensor) -> Tensor:
    """The image on [-1, 1], not clamped. VQModel quantises first; the gradient passes straight through."""
    return autoencoder.decode(latent).sample


@torch.no_grad()
def latent_space_of(autoencoder: Any) -> LatentSpace:
    """Scale, shift and fingerprint of a diffusers autoencoder."""
    config = autoencoder.config
    parameter = next(autoencoder.parameters())

    def encode(image: Tensor) -> Tensor:
        return encode_raw(autoencoder, image.to(parameter) * 2 - 1).float().cpu()

    return LatentSpace.measure(
        encode,
        scale=float(config.get("scaling_factor") or 1.0),
        shift=float(config.get("shift_factor") or 0.0),
        factor=downsampling(autoencoder),
    )


def autoencoder_folder(model: Path) -> Path:
    """Where a diffusers latent diffusion model keeps its autoencoder. Raises AdaptDiffuseError where it has none."""
    for name in FOLDERS:
        if (model / name).is_dir():
            return model / name
    raise AdaptDiffuseError(f"There is neither vae nor vqvae in {model}: is it a diffusers model folder?")


def diffuses_pixels(model: Path) -> bool:
    """Whether the diffusers model is one of pixels: its model_index.json names a pipeline and no autoencoder.

    Raises:
        AdaptDiffuseError: a model_index.json that cannot be read.
    """
    if any((model / name).is_dir() for name in FOLDERS) or not (model / "model_index.json").is_file():
        return False
    index = read_config(model / "model_index.json")
    return isinstance(index.get("_class_name"), str) and not any(name in index for name in FOLDERS)


def model_autoencoder(model: Path) -> nn.Module:
    """The autoencoder of a diffusers model folder, a ``PixelAutoencoder`` where the model diffuses pixels.

    Raises:
        AdaptDiffuseError: there is none though the model needs one, or it is damaged or unsupported.
    """
    if diffuses_pixels(model):
        return PixelAutoencoder().eval()
    return load_autoencoder(autoencoder_folder(model))


def load_autoencoder(folder: str | Path) -> nn.Module:
    """A diffusers autoencoder from its folder (config.json and safetensors), float32, frozen, in evaluation mode.

    Raises:
        AdaptDiffuseError: a missing, truncated or unsupported folder.
    """
    from .checkpoints import load_diffusers_weights

    folder = Path(folder)
    model = autoencoder_from_config(read_config(folder / "config.json"), folder)
    return load_diffusers_weights(model, folder)


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from disk. Raises AdaptDiffuseError where there is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise AdaptDiffuseError(f"There is no {path.name} in {path.parent}: is it a diffusers model folder?") from None
    except (OSError, ValueError) as error:
        raise AdaptDiffuseError(f"{path} cannot be read as JSON ({error}).") from None
    if not isinstance(config, dict):
        raise AdaptDiffuseError(f"{path} is not a configuration: it should hold a JSON object.")
    return config
