"""Tiny autoencoders (TAESD and its relatives) as their authors publish them: one file is the encoder, one the decoder.

They map images to latents in the model's own scale, where a full autoencoder's latents are raw. Here they are made to
give raw ones too, so that what is trained with them fits the full autoencoder of the same latent space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .autoencoder import build
from .checkpoints import load_state, read_safetensors
from .errors import AdaptDiffuseError

# name: channels, scale and shift of the model's latents, as in the configurations of the full autoencoders
TINY: dict[str, tuple[int, float, float]] = {
    "taesd": (4, 0.18215, 0.0),
    "taesdxl": (4, 0.13025, 0.0),
    "taesd3": (16, 1.5305, 0.0609),
    "taef1": (16, 0.3611, 0.1159),
}
ENCODER = "_encoder.safetensors"


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
    channels, scale, shift = TINY[name]
    tensors, _ = read_safetensors(file)
    from diffusers import AutoencoderTiny

    config = {"latent_channels": channels, "scaling_factor": scale, "shift_factor": shift}
    model: Any = build(AutoencoderTiny, config, file)
    model.decoder = None
    load_state(model.encoder, {f"layers.{key}": value for key, value in tensors.items()}, str(file))
    with torch.no_grad():
        last = model.encoder.layers[-1]
        last.weight.div_(scale)
        last.bias.div_(scale).add_(shift)
    return model.requires_grad_(False).eval()


def _the_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{ENCODER}"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise AdaptDiffuseError(f"{path} should hold the encoder of one tiny autoencoder, not {names}: name the file.")
    return found[0]
