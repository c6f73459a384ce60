"""Where the reverse diffusion begins."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..adapt_diffuse.degradation import randn
from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_encoder import check_channels
from ..adapt_diffuse.hosts.comfy_levels import model_levels, to_host
from ..adapt_diffuse.prior import over_image
from ..adapt_diffuse.restore import generators_for
from ..adapt_diffuse.schedule import start_noise
from ..adapt_diffuse.start import StartSettings, flash_schedules
from .plot import as_image, schedule_plot
from .wires import CATEGORY, HostSeverity, SeverityIO

EXTRA_SEED = 6_000_023  # apart from the noise that the host adds, of the same seed as likely as not


def steps_input(tooltip: str) -> Any:
    return io.Int.Input("steps", default=0, min=0, max=1000, tooltip=tooltip)


def noise_correction_input(tooltip: str) -> Any:
    return io.Float.Input("noise_correction", default=1.0, min=0.05, max=4.0, step=0.05, round=0.001, tooltip=tooltip)


def rounding_input() -> Any:
    return io.Combo.Input(
        "rounding",
        options=["continuous", "schedule"],
        default="continuous",
        advanced=True,
        tooltip="continuous: begin exactly at the severity. schedule: begin at the model's nearest level, as the "
        "paper does.",
    )


def levels_input() -> Any:
    return io.Int.Input(
        "levels",
        default=0,
        min=0,
        max=1000,
        optional=True,
        advanced=True,
        tooltip="How many of the model's levels there are to walk, all in all; 0 is every one. ReSample's paper takes "
        "500 of 1000. Too few: detail gets coarse. Unlike steps, it is the same density for every photo.",
    )


def start_outputs(latent_tooltip: str) -> list[Any]:
    return [
        io.Latent.Output(display_name="latent", is_output_list=True, tooltip=latent_tooltip),
        io.Sigmas.Output(
            display_name="sigmas", is_output_list=True, tooltip="The noise levels, from the start down to 0."
        ),
        io.Int.Output(display_name="steps", is_output_list=True, tooltip="How many steps that is."),
    ]


def per_octave_input() -> Any:
    return io.Float.Input(
        "per_octave",
        display_name="steps per octave",
        default=0.0,
        min=0.0,
        max=100.0,
        step=0.5,
        round=0.01,
        optional=True,
        tooltip="Steps in which the noise halves, where steps is 0; their number follows from the severity. 2 is right "
        "for DiffPIR, LATINO and other solvers of few steps, 6 is finer and hardly better. 0 takes every level of the "
        "model, as LDPS, GML-DPS, PSLD and ReSample want it.",
    )


def schedules_of(model: Any, severity: HostSeverity, settings: StartSettings) -> list[Tensor]:
    """The falling noise-to-signal schedule of every photo.

    Raises:
        AdaptDiffuseError: an estimate that is none of this model's latents.
    """
    check_channels(severity.latent, model)
    return flash_schedules(severity.sigma_hat, model_levels(model.get_model_object("model_sampling")), settings)[1]


def check_unmasked(severity: HostSeverity) -> None:
    """Raise AdaptDiffuseError for a noise mask beside a latent with noise in it: the host keeps that, noise and all."""
    if severity.noise_mask is not None:
        raise AdaptDiffuseError(
            "Set Latent Noise Mask keeps the latent as it is, and this start has noise in it: take Start Time in "
            "matched mode, or leave the mask out."
        )


def runs_of(schedules: list[Tensor]) -> list[list[int] | None]:
    """Which photos go through the sampler together: all (None) where all start at one level, else each alone."""
    if len({float(schedule[0]) for schedule in schedules}) == 1:
        return [None]
    return [[index] for index in range(len(schedules))]


def start_output(
    sampling: Any, severity: HostSeverity, latents: list[Tensor], runs: list[list[int] | None], schedules: list[Tensor]
) -> io.NodeOutput:
    """LATENT, SIGMAS and steps of every run, and the picture of the schedule; ``schedules`` is one for each run."""
    counts = [len(schedule) - 1 for schedule in schedules]
    picture = schedule_plot(model_levels(sampling), [float(schedule[0]) for schedule in schedules], counts)
    return io.NodeOutput(
        [severity.start(latent, run) for latent, run in zip(latents, runs, strict=True)],
        [to_host(schedule, sampling) for schedule in schedules],
        counts,
        ui=ui.PreviewImage(as_image(picture)),
    )


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
            has_intermediate_output=True,  # so that a cached one shows again what it found
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model that will be sampled."),
                SeverityIO.Input("severity", tooltip="From Encode Severity or Set Severity."),
                steps_input(
                    "Number of steps from the start to the end. 0 leaves it to steps per octave, or takes every "
                    "level of the model below the start, as the paper does (up to about 130 of 1000). Fewer is faster; "
                    "below about 20, LDPS and its kin get coarse and want a larger step size."
                ),
                noise_correction_input(
                    "Noise added, as a multiple of the predicted error's variance; the paper uses 1.0 to 1.2, "
                    "and 0.5 is best with DiffPIR and LATINO. Less keeps more of the damage, more lets the model "
                    "change more of the photo."
                ),
                io.Combo.Input(
                    "mode",
                    options=["matched", "paper", "published"],
                    default="matched",
                    advanced=True,
                    tooltip="matched: the schedule begins at the noise level that the latent really has. paper: it "
                    "begins at the predicted error, also where noise_correction adds more noise than that. published: "
                    "the released code's start, for comparison; it does not exist for severities above 1.",
                ),
                rounding_input(),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    advanced=True,
                    tooltip="Of the extra noise in published mode, and in paper mode with a noise_correction above 1; "
                    "not used otherwise.",
                ),
                levels_input(),
                per_octave_input(),
            ],
            outputs=start_outputs(
                "What to restore, for SamplerCustomAdvanced, which adds the noise, and for the solver. "
                "Photos of a batch that start at different levels come one by one."
            ),
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
        levels: int = 0,
        per_octave: float = 0.0,
    ) -> io.NodeOutput:
        sampling = model.get_model_object("model_sampling")
        settings = StartSettings(noise_correction, mode, rounding, steps, levels, per_octave=per_octave)  # type: ignore[arg-type]
        schedules = schedules_of(model, severity, settings)
        starts = torch.stack([schedule[0] for schedule in schedules])
        samples = start_samples(model, severity, starts, noise_correction, mode, seed)
        runs = runs_of(schedules)
        latents = [samples if run is None else samples[run] for run in runs]
        return start_output(sampling, severity, latents, runs, schedules[: len(runs)])


def start_samples(
    model: Any, severity: HostSeverity, starts: Tensor, noise_correction: float, mode: str, seed: int
) -> Tensor:
    """The raw latents to which the host's sampler adds noise of standard deviation ``starts`` (B,).

    That is all the noise which the start latent has in matched mode. In paper mode it has the variance
    ``c sigma_hat^2``, in published mode ``(1 + sigma^2) c sigma_hat^2``: what is missing is added here.

    Raises:
        AdaptDiffuseError: less noise than the host adds, a published start that does not exist, or a noise mask.
    """
    if mode == "matched":
        return severity.latent
    if mode == "published" or noise_correction > 1:
        check_unmasked(severity)
    if noise_correction < 1:
        raise AdaptDiffuseError(f"The {mode} mode needs a noise_correction of 1 or more; matched mode takes less, too.")
    error = severity.sigma_hat.double()
    std = start_noise(error, noise_correction)
    scale, missing = torch.ones_like(error), std**2 - error**2
    if mode == "published":
        if not bool((std <= 1).all()):
            raise AdaptDiffuseError(
                f"The published start does not exist where the severity is above 1, and with the noise_correction it "
                f"is {float(std.max()):.2f} here: take matched mode."
            )
        root = (1 + starts**2).sqrt()
        scale, missing = root * (1 - std**2).sqrt(), (root * std) ** 2 - starts**2
    latent_format = model.get_model_object("latent_format")
    latent = latent_format.process_in(severity.latent)
    noise = randn(latent.shape, latent, generators_for(seed + EXTRA_SEED, len(latent)))
    start = over_image(scale, latent) * latent + over_image(missing.clamp_min(0).sqrt(), latent) * noise
    return latent_format.process_out(start)
