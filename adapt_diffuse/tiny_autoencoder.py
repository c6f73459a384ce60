"""Tiny autoencoders (TAESD and its relatives) as their authors publish them: one file is the encoder, one the decoder.

They map images to latents in the model's own scale, where a full autoencoder's latents are raw. Here they are made to
give raw ones too, so that what is trained with them fits the full autoencoder of the same latent space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .autoencoder import build
from .checkpoints import load_state, read_safetensors
from .errors import AdaptDiffuseError
from .libraries import installed

# name: channels, scale and shift of the model's latents, as in the configurations of the full autoencoders
TINY: dict[str, tuple[int, float, float]] = {
    "taesd": (4, 0.18215, 0.0),
    "taesdxl": (4, 0.13025, 0.0),
    "taesd3": (16, 1.5305, 0.0609),
    "taef1": (16, 0.3611, 0.1159),
}
ENCODER, DECODER = "_encoder.safetensors", "_decoder.safetensors"


def is_tiny(path: Path) -> bool:
    """Whether ``path`` is a file, or a folder of files, with the encoder of a tiny autoencoder."""
    return path.name.endswith(ENCODER) or (path.is_dir() and any(path.glob(f"*{ENCODER}")))


def load_tiny_encoder(path: Path) -> nn.Module:
    """The encoder half of a tiny autoencoder as a diffusers AutoencoderTiny, frozen; its latents are raw.

    Args:
        path: ``taesd_encoder.safetensors`` (taesdxl, taesd3, taef1), or a folder with one such file in it.

    Raises:
        AdaptDiffuseError: another name, several to choose from, or damaged weights.
    """
    file = _the_file(path)
    name = file.name.removesuffix(ENCODER)
    if name not in TINY:
        known = ", ".join(key + ENCODER for key in TINY)
        raise AdaptDiffuseError(f"{file.name} is no tiny autoencoder that is known here; those are {known}.")
    _, scale, shift = TINY[name]
    tensors, _ = read_safetensors(file)
    model = _built(name, file)
    model.decoder = None
    load_state(model.encoder, {f"layers.{key}": value for key, value in tensors.items()}, str(file))
    with torch.no_grad():
        last = model.encoder.layers[-1]
        last.weight.div_(scale)
        last.bias.div_(scale).add_(shift)
    return model.requires_grad_(False).eval()


def load_tiny_autoencoder(path: Path) -> nn.Module:
    """Both halves of a tiny autoencoder as one diffusers AutoencoderTiny, frozen; its latents are raw.

    Args:
        path: of the encoder, as for ``load_tiny_encoder``; the decoder (``taesd_decoder.safetensors``) lies beside it.

    Raises:
        AdaptDiffuseError: as there, or there is no decoder.
    """
    file = _the_file(path)
    model: Any = load_tiny_encoder(file)
    name = file.name.removesuffix(ENCODER)
    _, scale, shift = TINY[name]
    beside = file.with_name(f"{name}{DECODER}")
    tensors, _ = read_safetensors(beside)
    decoder = _built(name, beside).decoder
    # the published numbering begins with the clamp, which diffusers does not count
    state = {_one_less(key): value for key, value in tensors.items()}
    load_state(decoder, state, str(beside))
    model.decoder = Rescaled(decoder, scale, shift)
    return model.requires_grad_(False).eval()


class Rescaled(nn.Module):
    """A decoder of latents in the model's scale, for raw ones."""

    def __init__(self, decoder: nn.Module, scale: float, shift: float):
        super().__init__()
        self.decoder, self.scale, self.shift = decoder, scale, shift

    def forward(self, raw: Tensor) -> Tensor:
        return self.decoder((raw - self.shift) * self.scale)


def _built(name: str, file: Path) -> Any:
    """An AutoencoderTiny of the latent space of that name, with fresh weights."""
    with installed():
        from diffusers import AutoencoderTiny

    channels, scale, shift = TINY[name]
    return build(AutoencoderTiny, {"latent_channels": channels, "scaling_factor": scale, "shift_factor": shift}, file)


def _one_less(key: str) -> str:
    number, dot, rest = key.partition(".")
    return f"layers.{int(number) - 1}{dot}{rest}" if number.isdecimal() else key


def _the_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{ENCODER}"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise AdaptDiffuseError(f"{path} should hold the encoder of one tiny autoencoder, not {names}: name the file.")
    return found[0]
