"""Checkpoints of CompVis/latent-diffusion (Rombach et al. 2022) to a diffusers folder."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import write_text
from ..errors import AdaptDiffuseError
from .checkpoint import under
from .declared import Declared
from .first_stage import convert_first_stage, is_quantised
from .parts import Part
from .unet import convert_unet


@dataclass(frozen=True)
class ImportedModel:
    """A latent diffusion model by diffusers' names.

    Attributes:
        autoencoder, unet: the parts.
        scheduler: of scheduler_config.json.
        averaged: the denoiser's weights are the running average of its training (EMA).
    """

    autoencoder: Part
    unet: Part
    scheduler: dict[str, Any]
    averaged: bool


def convert_model(state: dict[str, Tensor], declared: Declared, averaged: bool, source: str | Path) -> ImportedModel:
    """The latent diffusion model in the weights of a checkpoint.

    Args:
        state: of the checkpoint, by CompVis' names.
        declared: what its config.yaml declares, or the defaults.
        averaged: take the denoiser's running average where the checkpoint has one.
        source: the file, for messages.

    Raises:
        AdaptDiffuseError: no unconditional latent diffusion model, or something of it is missing or unsupported.
    """
    if any(key.startswith("cond_stage_model.") for key in state):
        raise AdaptDiffuseError(f"{source} holds a conditional model; only unconditional ones work.")
    first_stage = under(state, "first_stage_model.")
    weights, from_average = denoiser_weights(state, averaged, source)
    if not (first_stage and weights):
        lost = "first_stage_model" if weights else "model.diffusion_model"
        raise AdaptDiffuseError(f"{source} is no latent diffusion model: it has no weights of a {lost}.")
    if not declared.known and _shifts_scale(weights):
        raise AdaptDiffuseError(
            f"The weights in {source} do not tell its number of attention heads: give its config.yaml with --config."
        )
    autoencoder = convert_first_stage(first_stage, _scale(state, first_stage, declared, source), source)
    unet = convert_unet(weights, declared.attention, declared.sample_size, source)
    latent = autoencoder.config.get("vq_embed_dim") or autoencoder.config["latent_channels"]
    if {unet.config["in_channels"], unet.config["out_channels"]} != {latent}:
        raise AdaptDiffuseError(f"{source} is conditional: its denoiser sees more than latents of {latent} channels.")
    return ImportedModel(autoencoder, unet, scheduler_of(state, declared.prediction, source), from_average)


def denoiser_weights(state: dict[str, Tensor], averaged: bool, source: str | Path) -> tuple[dict[str, Tensor], bool]:
    """The denoiser's weights by their names, and whether they are the running average.

    Raises:
        AdaptDiffuseError: an incomplete average.
    """
    weights = under(state, "model.diffusion_model.")
    if not averaged or not under(state, "model_ema.diffusion_model"):
        return weights, False
    # LitEma drops the dots of the names
    names = {key: f"model_ema.diffusion_model{key.replace('.', '')}" for key in weights}
    if lost := [name for name in names.values() if name not in state]:
        raise AdaptDiffuseError(
            f"The running average (EMA) in {source} lacks {lost[0]}; --no-ema takes the weights without it."
        )
    return {key: state[name] for key, name in names.items()}, True


def scheduler_of(state: dict[str, Tensor], prediction: str, source: str | Path) -> dict[str, Any]:
    """diffusers' scheduler_config.json of the betas in a checkpoint.

    Raises:
        AdaptDiffuseError: a checkpoint without them.
    """
    if "betas" not in state or state["betas"].ndim != 1:
        raise AdaptDiffuseError(f"{source} does not hold its noise schedule (betas).")
    betas = state["betas"].double()
    # the checkpoint's are float32: seven digits
    start, end = (float(f"{float(beta):.6g}") for beta in (betas[0], betas[-1]))
    config: dict[str, Any] = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": len(betas),
        "beta_start": start,
        "beta_end": end,
        "prediction_type": prediction,
        "clip_sample": False,
    }
    linear = torch.linspace(start, end, len(betas), dtype=torch.float64)
    root_linear = torch.linspace(start**0.5, end**0.5, len(betas), dtype=torch.float64) ** 2
    for name, expected in (("scaled_linear", root_linear), ("linear", linear)):
        if torch.allclose(betas, expected, rtol=1e-6, atol=0):
            return {**config, "beta_schedule": name}
    return {**config, "beta_schedule": "linear", "trained_betas": betas.tolist()}


def write_model(model: ImportedModel, folder: Path) -> None:
    """Write the diffusers folder, whole or not at all.

    Raises:
        AdaptDiffuseError: the folder holds something already, or cannot be written.
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise AdaptDiffuseError(f"{folder} is not empty: choose another --out.")
        shutil.rmtree(partial, ignore_errors=True)
        quantised = model.autoencoder.config["_class_name"] == "VQModel"
        model.autoencoder.write(partial / ("vqvae" if quantised else "vae"))
        model.unet.write(partial / "unet")
        write_text(partial / "scheduler" / "scheduler_config.json", json.dumps(model.scheduler, indent=2) + "\n")
        if folder.is_dir():
            folder.rmdir()
        os.replace(partial, folder)
    except OSError as error:
        raise AdaptDiffuseError(f"{folder} cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _shifts_scale(weights: dict[str, Tensor]) -> bool:
    """Whether time scales and shifts: the models without it that are published have heads of 32 channels."""
    time, width = weights.get("middle_block.0.emb_layers.1.weight"), weights.get("middle_block.0.in_layers.2.weight")
    return time is not None and width is not None and time.shape[0] == 2 * width.shape[0]


def _scale(state: dict[str, Tensor], first_stage: dict[str, Tensor], declared: Declared, source: str | Path) -> float:
    if "scale_factor" in state:
        scale = float(state["scale_factor"].double().mean())  # a scalar
    elif declared.scale is not None:
        scale = declared.scale
    elif is_quantised(first_stage):
        scale = 1.0
    else:
        raise AdaptDiffuseError(f"{source} does not hold its scale_factor: give its config.yaml with --config.")
    if not 0 < scale < math.inf:
        raise AdaptDiffuseError(f"The scale_factor of {source} must be a number above 0, not {scale:g}.")
    return scale
