"""Guided solvers: SAMPLERs for the host's SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy import guided_sampler
from ..adapt_diffuse.measurement import Measurement
from ..adapt_diffuse.solvers import LDPS
from .wires import CATEGORY, DegradationIO, photo_of


class LDPSNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseLDPS",
            display_name="LDPS (guided solver)",
            category=f"{CATEGORY}/solvers",
            description="Latent-DPS: at every step, moves the picture so that its damaged version comes closer to the "
            "photo. For SamplerCustomAdvanced, with latent and sigmas from Start Time.",
            search_aliases=["guided sampler", "posterior sampling", "DPS", "deblur", "inpaint", "restore photo"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photo, the same that went into Encode Severity."),
                DegradationIO.Input("degradation", tooltip="What happened to it: the kind, the strength, the noise."),
                io.Vae.Input("vae", tooltip="The VAE of the diffusion model."),
                io.Float.Input(
                    "eta",
                    display_name="step size",
                    default=3.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.001,
                    tooltip="How strongly each step is pulled to the photo; the paper uses 1 to 3 for blur and 7 for "
                    "missing pixels, the bundled model likes 6 and 8. Too small: the model paints what it likes. Too "
                    "large: noise and coloured patterns, at last a broken picture. Fewer steps bear a larger one.",
                ),
                io.Combo.Input(
                    "through",
                    options=["decoder", "denoiser"],
                    default="decoder",
                    advanced=True,
                    tooltip="What the gradient passes. decoder: works with every model, quantised and offloaded ones "
                    "too, and takes half the time. denoiser: as published; needs a copy of the model in memory, and is "
                    "experimental on GPUs.",
                ),
                io.Boolean.Input(
                    "normalise",
                    default=True,
                    advanced=True,
                    tooltip="Makes the step size mean the same at every photo size and with every mask. Off is the "
                    "published form, whose pull gets weaker on larger photos.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Start Time's latent. Needed only for batches: it says which photo is being restored.",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        degradation: Any,
        vae: Any,
        eta: float,
        through: str,
        normalise: bool,
        latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        indices = (latent or {}).get("batch_index")
        with torch.inference_mode(False):
            measurement = Measurement.of(photo_of(image), degradation)
            if indices is not None:
                if max(indices) >= len(measurement.y):
                    raise AdaptDiffuseError(
                        f"The latent belongs to photo {max(indices) + 1} of a batch, but the solver's image has only "
                        f"{len(measurement.y)}: connect the photos that went into Encode Severity."
                    )
                measurement = measurement.select(torch.tensor(indices))
        solver = LDPS(eta, through, normalise)  # type: ignore[arg-type]
        return io.NodeOutput(guided_sampler(solver, measurement, vae, indices))
