"""Where the reverse diffusion begins."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..adapt_diffuse.degradation import randn
from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy import model_levels, to_host
from ..adapt_diffuse.restore import generators_for
from ..adapt_diffuse.schedule import descend, start_sigma
from .plot import schedule_plot
from .wires import CATEGORY, HostSeverity, SeverityIO, latent_of


class StartTime(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseStartTime",
            display_name="Start Time",
            category=f"{CATEGORY}/start",
            description="Begins the restoration at the noise level that fits the photo's severity, not at pure noise: "
            "good photos take a few steps, bad ones more. Connect latent and sigmas to SamplerCustomAdvanced. Shows "
            "the schedule and the start.",
            search_aliases=["flash", "adaptive steps", "sigmas", "scheduler", "img2img strength", "denoise"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model that will be sampled."),
                SeverityIO.Input("severity", tooltip="From Encode Severity or Set Severity."),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Number of steps from the start to the end. 0 takes every level of the model below the "
                    "start, as the paper does (up to about 130 of 1000). Fewer is faster; below about 20 detail gets "
                    "coarse and guided solvers want a larger step size.",
                ),
                io.Float.Input(
                    "noise_correction",
                    default=1.0,
                    min=0.5,
                    max=4.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Noise added, as a multiple of the predicted error's variance; the paper uses 1.0 to 1.2. "
                    "Less keeps more of the damage, more lets the model change more of the photo.",
                ),
                io.Combo.Input(
                    "mode",
                    options=["matched", "paper"],
                    default="matched",
                    advanced=True,
                    tooltip="matched: the schedule begins at the noise level that the latent really has. paper: it "
                    "begins at the predicted error, also where noise_correction adds more noise than that.",
                ),
                io.Combo.Input(
                    "rounding",
                    options=["continuous", "schedule"],
                    default="continuous",
                    advanced=True,
                    tooltip="continuous: begin exactly at the severity. schedule: begin at the model's nearest level, "
                    "as the paper does.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    advanced=True,
                    tooltip="Of the extra noise in paper mode with a noise_correction above 1; not used otherwise.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    is_output_list=True,
                    tooltip="What to restore, for SamplerCustomAdvanced, which adds the noise, and for the solver. "
                    "Photos of a batch that start at different levels come one by one.",
                ),
                io.Sigmas.Output(
                    display_name="sigmas", is_output_list=True, tooltip="The noise levels, from the start down to 0."
                ),
                io.Int.Output(display_name="steps", is_output_list=True, tooltip="How many steps that is."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        severity: HostSeverity,
        steps: int,
        noise_correction: float,
        mode: str,
        rounding: str,
        seed: int,
    ) -> io.NodeOutput:
        sampling = model.get_model_object("model_sampling")
        levels = model_levels(sampling)
        starts = start_sigma(severity.sigma_hat, levels, noise_correction, mode, rounding)  # type: ignore[arg-type]
        schedules = [descend(float(start), levels, steps) for start in starts]
        samples = severity.latent
        if mode == "paper":
            if noise_correction < 1:
                raise AdaptDiffuseError("Paper mode needs a noise_correction of 1 or more; matched mode takes less.")
            samples = with_missing_noise(model, severity, noise_correction, seed)
        if bool((starts == starts[0]).all()):
            latents, schedules = [latent_of(samples, severity.photo_size)], schedules[:1]
        else:
            latents = [latent_of(samples[i : i + 1], severity.photo_size, [i]) for i in range(len(samples))]
        counts = [len(schedule) - 1 for schedule in schedules]
        picture = ui.PreviewImage(schedule_plot(levels, [float(schedule[0]) for schedule in schedules], counts))
        return io.NodeOutput(latents, [to_host(schedule, sampling) for schedule in schedules], counts, ui=picture)


def with_missing_noise(model: Any, severity: HostSeverity, noise_correction: float, seed: int) -> Tensor:
    """The raw latents with the noise that the host's sampler, which adds sigma_hat of it, leaves out in paper mode.

    The start latent of the paper has noise of variance ``c sigma_hat^2``.
    """
    missing = max(noise_correction - 1, 0) ** 0.5 * severity.sigma_hat.reshape(-1, 1, 1, 1)
    latent_format = model.get_model_object("latent_format")
    latent = latent_format.process_in(severity.latent)
    noise = randn(latent.shape, latent, generators_for(seed, len(latent)))
    return latent_format.process_out(latent + missing.to(latent) * noise)
