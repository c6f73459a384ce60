"""Run by ComfyUI's interpreter, ComfyUI importable: every solver with the real tiny autoencoders, as JSON.

The folder of the autoencoders is named in the environment, see ``tests/taesd.py``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inside_tools import REPOSITORY, distance, loaded_digest, sample, tell  # first: it makes this process a ComfyUI

# isort: split
import comfy.latent_formats
import folder_paths
import numpy as np
import torch
from checkpoints import conditioning, load, save_checkpoint
from PIL import Image

import nodes
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.hosts.comfy_model import HostModel
from adapt_diffuse.hosts.comfy_vae import VaeCopy
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.solvers import GMLDPS, LDPS, PSLD, ReSample

folder_paths.add_model_folder_path("vae_approx", os.environ["ADAPT_DIFFUSE_TAESD"])
SIZE = 64
# the random model to which each autoencoder's latents belong
MODELS = {"taesd": "sd15", "taesdxl": "sdxl", "taesd3": "sd3", "taef1": "flux"}
ETA = {"taesdxl": 1.5}  # four steps of 3, which suit the others, are too long for it


def solvers(vae: str) -> dict[str, Any]:
    eta = ETA.get(vae, 3.0)
    return {
        "none": LDPS(0.0, "decoder"),
        "ldps": LDPS(eta, "decoder"),
        "gml-dps": GMLDPS(eta, 0.1, "decoder"),
        "psld": PSLD(eta, 0.1, "decoder"),
        "resample": ReSample(400.0, every=2, iterations=8),
    }


def damaged() -> torch.Tensor:
    """The flower, blurred, (1, 3, 64, 64)."""
    flower = Image.open(REPOSITORY / "assets" / "flower.jpg").convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
    image = torch.from_numpy(np.asarray(flower).copy()).permute(2, 0, 1)[None].float() / 255
    return GaussianBlur(1.5, 0.0)(image)


def tiny_vae(name: str) -> Any:
    return nodes.VAELoader().load_vae(name)[0]


def residual(host: HostModel, latent: torch.Tensor, y: torch.Tensor) -> float:
    image = host.vae.decode(host.model.model.process_latent_out(latent)).movedim(-1, 1)
    return float((y - GaussianBlur(1.5, 0.0)(image)).square().mean().sqrt())


def solved(name: str) -> dict[str, Any]:
    """The photo's residual after every solver, and after the same run without a data term."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = save_checkpoint(MODELS[name], Path(folder))
        host = HostModel(load(files)[0], tiny_vae(name), conditioning(files.layout))
        y = damaged()
        measurement = Measurement.of(y, GaussianBlur(1.5, 0.02))
        latent = host.model.model.process_latent_in(host.vae.encode(y.movedim(1, -1)))
        levels = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0])
        flow = hasattr(host.model.get_model_object("model_sampling"), "shift")
        sigmas = levels / (1 + levels) if flow else levels
        before = loaded_digest(host)
        found = {
            solver: residual(host, sample(host, made, measurement, latent, sigmas, cfg=2.0), y)
            for solver, made in solvers(name).items()
        }
        return {"residual": found, "unchanged": before == loaded_digest(host)}


def agreement(name: str) -> dict[str, float]:
    """Our differentiable copy of the autoencoder against the host's own encode and decode."""
    formats = {"taesd": "SD15", "taesdxl": "SDXL", "taesd3": "SD3", "taef1": "Flux"}
    latent_format = getattr(comfy.latent_formats, formats[name])()
    with torch.inference_mode():
        vae, y = tiny_vae(name), damaged()
        raw = vae.encode(y.movedim(1, -1))
        image = vae.decode(raw).movedim(-1, 1)
        with torch.inference_mode(False), torch.no_grad():
            own = VaeCopy(vae, latent_format)
            latent = own.encode(damaged())
            decoded = own.decode(latent)
        return {
            "encode": distance(latent, latent_format.process_in(raw)),
            "decode": distance(decoded.clamp(0, 1), image),
            "photo": distance(image, y),
        }


REPORTS: dict[str, Callable[[], Any]] = {
    **{f"solved-{name}": lambda name=name: solved(name) for name in MODELS},  # type: ignore[misc]
    **{f"agreement-{name}": lambda name=name: agreement(name) for name in MODELS},  # type: ignore[misc]
}

if __name__ == "__main__":
    tell(REPORTS)
