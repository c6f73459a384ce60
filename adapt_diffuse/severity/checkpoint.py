"""Severity encoders on disk: one safetensors file that says what it was trained for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from ..autoencoder import LatentEncoder, autoencoder_from_config
from ..checkpoints import load_state, read_safetensors, write_safetensors
from ..errors import AdaptDiffuseError
from ..latent_space import LatentSpace
from .encoder import HeadName, SeverityEncoder

FORMAT = "adapt-diffuse-severity-encoder/1"
ARCHITECTURE = "encoder-copy"


def save_severity_encoder(
    path: str | Path, encoder: SeverityEncoder, autoencoder_config: dict[str, Any], notes: dict[str, Any]
) -> None:
    """Write ``encoder`` with everything that loading and judging it needs.

    Args:
        autoencoder_config: the diffusers config whose encoder was copied.
        notes: JSON values worth keeping: "family", "training", "validation".
    """
    metadata = {
        "format": FORMAT,
        "architecture": ARCHITECTURE,
        "head": encoder.head_name,
        "latent_space": encoder.space.to_json(),
        "autoencoder": json.dumps(_plain(autoencoder_config)),
        **{key: json.dumps(value) for key, value in notes.items()},
    }
    write_safetensors(path, encoder.state_dict(), metadata)


def load_severity_encoder(path: str | Path) -> SeverityEncoder:
    """A severity encoder from its file, float32, frozen, in evaluation mode. Its ``notes`` hold the metadata.

    Raises:
        AdaptDiffuseError: a file that is missing, truncated, or no severity encoder.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise AdaptDiffuseError(
            f"{path} is not a severity encoder (its metadata says '{metadata.get('format', 'nothing')}'). "
            "Train one with: python -m adapt_diffuse train-severity"
        )
    try:
        config = json.loads(metadata["autoencoder"])
        space = LatentSpace.from_json(metadata["latent_space"])
        head = metadata["head"]
        notes = read_notes(metadata)
        if head not in get_args(HeadName):
            raise ValueError(f"unknown head '{head}'")
        if not isinstance(config, dict):
            raise ValueError("the autoencoder's configuration is no JSON object")
    except (KeyError, ValueError, TypeError) as error:
        raise AdaptDiffuseError(f"{path} has damaged metadata ({error}). Fetch or make it again.") from None
    copied = LatentEncoder(autoencoder_from_config(config, path))
    with torch.random.fork_rng(devices=[]):  # the head's fresh weights are drawn from the global generator
        encoder = SeverityEncoder(copied, space, "paper" if head == "paper" else "log-sigma")
    load_state(encoder, tensors, str(path))
    encoder.requires_grad_(False).eval()
    encoder.notes = notes
    return encoder


def read_notes(metadata: dict[str, str]) -> dict[str, Any]:
    """The JSON values of the metadata: "family", "training", "validation"."""
    return {key: json.loads(metadata[key]) for key in ("family", "training", "validation") if key in metadata}


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    # diffusers adds private keys (_name_or_path, _use_default_values) that name the trainer's machine
    kept = {key: value for key, value in config.items() if not key.startswith("_") or key == "_class_name"}
    return json.loads(json.dumps(kept, default=str))
