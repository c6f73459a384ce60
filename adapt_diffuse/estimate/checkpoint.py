"""The estimator on disk: one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..bundled import WEIGHTS
from ..checkpoints import load_state, read_safetensors, write_safetensors
from ..errors import AdaptDiffuseError
from .network import DamageEstimator

FORMAT = "adapt-diffuse-degradation-estimator/1"
BUNDLED = WEIGHTS / "degradation-estimator.safetensors"


def save_estimator(path: str | Path, estimator: DamageEstimator, notes: dict[str, Any]) -> None:
    """Write the estimator in float16, with ``notes`` (JSON values) on how it was trained and how good it is.

    Raises:
        AdaptDiffuseError: a weight beyond float16, or a disk that refuses.
    """
    tensors = {key: value.half() for key, value in estimator.state_dict().items()}
    for key, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise AdaptDiffuseError(f"{key} of the estimator overflows float16: train it with a lower learning rate.")
    network = json.dumps({"hidden": estimator.hidden})
    described = {key: json.dumps(value) for key, value in notes.items()}
    write_safetensors(path, tensors, {"format": FORMAT, "network": network, **described})


def load_estimator(path: str | Path = BUNDLED) -> DamageEstimator:
    """An estimator from its file, float32, frozen, in evaluation mode.

    Raises:
        AdaptDiffuseError: a file that is missing, truncated, or no estimator.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise AdaptDiffuseError(
            f"{path} is not an estimator of degradations (its metadata says '{metadata.get('format', 'nothing')}')."
        )
    try:
        network = json.loads(metadata["network"])
        hidden = int(network["hidden"])
    except (KeyError, ValueError, TypeError) as error:
        raise AdaptDiffuseError(f"{path} has damaged metadata ({error}). Fetch or make it again.") from None
    estimator = new_estimator(hidden)
    load_state(estimator, tensors, str(path))
    return estimator.requires_grad_(False).eval()


def new_estimator(hidden: int = 256, seed: int = 0) -> DamageEstimator:
    """An untrained estimator, its weights drawn from ``seed`` without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DamageEstimator(hidden)
