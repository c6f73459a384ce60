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
from .refiner import SeverityRefiner

FORMAT = "adapt-diffuse-severity-encoder/1"
COPY, REFINER = "encoder-copy", "refiner"  # architectures
REFINER_OPTIONS = {"photo": bool, "width": int, "levels": int}
AnySeverityEncoder = SeverityEncoder | SeverityRefiner


def save_severity_encoder(
    path: str | Path, encoder: AnySeverityEncoder, autoencoder_config: dict[str, Any] | None, notes: dict[str, Any]
) -> None:
    """Write ``encoder`` with everything that loading and judging it needs.

    Args:
        autoencoder_config: the diffusers config whose encoder was copied; a refiner has none.
        notes: JSON values worth keeping: "family", "training", "validation".
    """
    if isinstance(encoder, SeverityRefiner):
        config = {name: getattr(encoder, name) for name in REFINER_OPTIONS}
        own = {"architecture": REFINER, "refiner": json.dumps(config)}
    else:
        config = _plain(autoencoder_config or {})
        own = {"architecture": COPY, "head": encoder.head_name, "autoencoder": json.dumps(config)}
    described = {key: json.dumps(value) for key, value in notes.items()}
    metadata = {"format": FORMAT, **own, "latent_space": encoder.space.to_json(), **described}
    write_safetensors(path, encoder.state_dict(), metadata)


def load_severity_encoder(path: str | Path) -> AnySeverityEncoder:
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
        space = LatentSpace.from_json(metadata["latent_space"])
        notes = read_notes(metadata)
        encoder = _build(metadata, space, path)
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise  # a library is missing: the file is not to blame
        raise AdaptDiffuseError(f"{path} has damaged metadata ({error}). Fetch or make it again.") from None
    load_state(encoder, tensors, str(path))
    encoder.requires_grad_(False).eval()
    encoder.notes = notes
    return encoder


def _build(metadata: dict[str, str], space: LatentSpace, path: str | Path) -> AnySeverityEncoder:
    """The network that the metadata describes, with fresh weights. Raises KeyError, ValueError, AdaptDiffuseError."""
    architecture = metadata.get("architecture", COPY)
    if architecture not in (COPY, REFINER):
        raise ValueError(f"unknown architecture '{architecture}'")
    config = json.loads(metadata["refiner" if architecture == REFINER else "autoencoder"])
    if not isinstance(config, dict):
        raise ValueError("the configuration is no JSON object")
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn from the global generator
        if architecture == REFINER:
            if config.keys() != REFINER_OPTIONS.keys() or any(
                type(config[name]) is not kind for name, kind in REFINER_OPTIONS.items()
            ):
                raise ValueError("the refiner's configuration does not say photo, width and levels")
            return SeverityRefiner(space, **config)
        head = metadata["head"]
        if head not in get_args(HeadName):
            raise ValueError(f"unknown head '{head}'")
        copied = LatentEncoder(autoencoder_from_config(config, path))
        return SeverityEncoder(copied, space, "paper" if head == "paper" else "log-sigma")


def read_notes(metadata: dict[str, str]) -> dict[str, Any]:
    """The JSON values of the metadata: "family", "training", "validation"."""
    return {key: json.loads(metadata[key]) for key in ("family", "training", "validation") if key in metadata}


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    # diffusers adds private keys (_name_or_path, _use_default_values) that name the trainer's machine
    kept = {key: value for key, value in config.items() if not key.startswith("_") or key == "_class_name"}
    return json.loads(json.dumps(kept, default=str))
