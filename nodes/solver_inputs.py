"""What the nodes of guided solvers share: their inputs, and the SAMPLER that comes out."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..adapt_diffuse.hosts.comfy import guided_sampler
from ..adapt_diffuse.measurement import Measurement
from ..adapt_diffuse.solvers import Solver
from .wires import DegradationIO, photo_indices, restorable_photo

STEP_SIZE_TIP = (
    "Too small: the model paints what it likes. Too large: noise and coloured patterns, at last a broken picture. "
    "Fewer steps bear a larger one."
)
ALIASES = ["guided sampler", "posterior sampling", "deblur", "inpaint", "restore photo"]


def wires_in() -> list[Any]:
    """What every solver is connected to."""
    return [
        io.Image.Input("image", tooltip="The damaged photo, the same that went into Encode Severity."),
        DegradationIO.Input("degradation", tooltip="What happened to it: the kind, the strength, the noise."),
        io.Vae.Input("vae", tooltip="The VAE of the diffusion model."),
    ]


def step_size(default: float, paper: str) -> Any:
    return io.Float.Input(
        "eta",
        display_name="step size",
        default=default,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.001,
        tooltip=f"How strongly each step is pulled to the photo; {paper}. {STEP_SIZE_TIP}",
    )


def form_inputs() -> list[Any]:
    """How the gradient is taken; the same for every solver that takes one."""
    return [
        io.Combo.Input(
            "through",
            options=["decoder", "denoiser"],
            default="decoder",
            advanced=True,
            tooltip="What the gradient passes. decoder: works with every model, quantised and offloaded ones "
            "too, and takes two thirds of the time. denoiser: as published; needs a copy of the model in memory, and "
            "is experimental on GPUs.",
        ),
        io.Boolean.Input(
            "normalise",
            default=True,
            advanced=True,
            tooltip="Makes the step size mean the same at every photo size and with every mask. Off is the "
            "published form, whose pull gets weaker on larger photos.",
        ),
    ]


def batch_input() -> Any:
    return io.Latent.Input(
        "latent",
        optional=True,
        tooltip="Start Time's latent. Needed only for batches: it says which photo is being restored.",
    )


def decoder_inputs() -> list[Any]:
    """How the VAE's gradient fits the memory. The last inputs of a solver: saved workflows hold widgets by position."""
    return [
        io.Vae.Input(
            "guidance_vae",
            optional=True,
            tooltip="A tiny autoencoder of the same model family (taesd, taesdxl, taesd3, taef1: in the core node Load "
            "VAE). It takes the VAE's place while the picture is pulled to the photo: many times faster and in little "
            "memory, slightly less exact. The finished picture is still decoded by the VAE.",
        ),
        io.Int.Input(
            "tile",
            default=0,
            min=0,
            max=8192,
            step=64,
            optional=True,
            advanced=True,
            tooltip="Side of the tiles, in pixels, in which the VAE works on large photos. 0 finds out what the memory "
            "bears, and halves it when that was too much. Smaller needs less memory and is slower; below 256, colours "
            "may drift from tile to tile.",
        ),
    ]


def detail_input() -> Any:
    """How much of the photo's own detail is put back, of the nodes that give a photo."""
    return io.Float.Input(
        "detail",
        display_name="photo's own detail",
        default=1.0,
        min=0.0,
        max=10.0,
        step=0.1,
        round=0.01,
        optional=True,
        tooltip="Puts back the fine detail that the damaged photo still shows and the VAE has lost. 1 puts back what "
        "stands out from the photo's noise. 0 leaves the picture as the model made it: softer, and smoother than any "
        "photo. Above 2, grain and JPEG blocks come back with the detail.",
    )


def sampler_output() -> list[Any]:
    return [io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced.")]


def sampler_of(
    solver: Solver,
    image: torch.Tensor,
    degradation: Any,
    vae: Any,
    latent: dict[str, Any] | None = None,
    guidance_vae: Any = None,
    tile: int = 0,
) -> io.NodeOutput:
    """The SAMPLER that runs ``solver`` on the photos of ``image`` that ``latent`` belongs to (all, without one).

    The other arguments are what ``wires_in``, ``batch_input`` and ``decoder_inputs`` bring into a node.
    """
    with torch.inference_mode(False):
        measurement = Measurement.of(restorable_photo(image, degradation, vae), degradation)
        count, in_part = len(measurement.y), False
        photos = photo_indices(latent, count) if latent is not None else None
        if photos is not None:
            in_part = photos != [index % count for index in range(max(len(photos), count))]
            measurement = measurement.select(torch.tensor(photos))
    numbers = (latent or {}).get("batch_index")  # of the noise
    return io.NodeOutput(guided_sampler(solver, measurement, vae, numbers, guidance_vae, tile, in_part))
