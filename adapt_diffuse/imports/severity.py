"""Severity encoders of z-fabian/flash-diffusion (Fabian et al. 2024) to this package's.

Theirs is the autoencoder's encoder and a 1 x 1 convolution on z_hat, whose squares' mean is the variance: the "paper"
head. For AutoencoderKL theirs reads the variance from the second half of the moments instead; none is published.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..autoencoder import LatentEncoder, autoencoder_folder, latent_space_of, load_autoencoder
from ..checkpoints import load_state
from ..errors import AdaptDiffuseError
from ..severity import SeverityEncoder
from .checkpoint import state_dict_of, under
from .first_stage import convert_encoder_names


def convert_severity_encoder(
    checkpoint: dict[str, Any], model: Path, source: str | Path
) -> tuple[SeverityEncoder, dict[str, Any], dict[str, Any]]:
    """A severity encoder with the "paper" head from the checkpoint of a training.

    Args:
        checkpoint: as a Lightning checkpoint, or the light one that the project makes of it.
        model: diffusers folder of the latent diffusion model that it was trained for.
        source: the file, for messages.

    Returns:
        The encoder, frozen; the config of the model's autoencoder; notes for the file that keeps it.

    Raises:
        AdaptDiffuseError: no severity encoder, or one for another autoencoder than the model's.
    """
    state = _own_names(state_dict_of(checkpoint, source))
    if not {"std_conv.weight", "std_conv.bias"} <= state.keys():
        raise AdaptDiffuseError(
            f"{source} holds no severity encoder of flash-diffusion: it has no std_conv (those for AutoencoderKL, "
            "which have none, are not supported)."
        )
    autoencoder: Any = load_autoencoder(autoencoder_folder(model))
    config = {**autoencoder.config, "_class_name": type(autoencoder).__name__}
    if config["_class_name"] != "VQModel":
        raise AdaptDiffuseError(f"{source} was trained for a VQModel, but {model} has an {config['_class_name']}.")
    space = latent_space_of(autoencoder)
    with torch.random.fork_rng(devices=[]):  # the head's fresh weights are drawn from the global generator
        encoder = SeverityEncoder(LatentEncoder(autoencoder), space, "paper")
    encoder.requires_grad_(False).eval()
    own = ("encoder.", "quant_conv.")
    tensors = convert_encoder_names({key: value for key, value in state.items() if key.startswith(own)})
    tensors = {f"encoder.{key}": value for key, value in tensors.items()}
    tensors["head.std_conv.weight"] = state["std_conv.weight"]
    # their head reads raw latents and gives a raw variance; ours does both in the model's scale
    tensors["head.std_conv.bias"] = state["std_conv.bias"] * space.scale
    load_state(encoder, tensors, str(source))
    return encoder, config, notes_of(checkpoint)


def _own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights without the prefix that they have in the checkpoint of a whole training."""
    return under(state, "encoder.") if "encoder.quant_conv.weight" in state else state


def notes_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The notes of a severity encoder: the family where it is one of ours, and what the checkpoint says of itself."""
    hyper = checkpoint.get("hyper_parameters")
    hyper = hyper if isinstance(hyper, dict) else {}
    operator, noise = (_plain(hyper.get(key)) for key in ("operator_config", "noise_config"))
    notes: dict[str, Any] = {
        "training": {"imported_from": "flash-diffusion", "operator_config": operator, "noise_config": noise}
    }
    if isinstance(step := checkpoint.get("global_step"), int):
        notes["training"]["step"] = step
    noise_std = noise.get("sigma_max", 0.0) if isinstance(noise, dict) else 0.0
    if isinstance(operator, dict) and (operator.get("type"), operator.get("scheduling")) == ("gaussian_blur", "linear"):
        # their std rises from 0.3
        notes["family"] = {
            "name": "gaussian-blur",
            "std_min": 0.3,
            "std_max": operator.get("max_std"),
            "noise_std": noise_std,
        }
    return notes


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
