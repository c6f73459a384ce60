"""Where the reverse diffusion begins, without a drop of chance."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..adapt_diffuse.hosts.comfy_conditions import check_shared
from ..adapt_diffuse.hosts.comfy_inversion import invert
from ..adapt_diffuse.start import StartSettings
from .start import (
    check_unmasked,
    levels_input,
    noise_correction_input,
    per_octave_input,
    rounding_input,
    runs_of,
    schedules_of,
    start_output,
    start_outputs,
    steps_input,
)
from .wires import CATEGORY, HostSeverity, SeverityIO


class InvertToStart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseInvertToStart",
            display_name="Invert to Start (DDIM)",
            category=f"{CATEGORY}/start",
            description="Start Time without random noise: lets the model itself climb from the estimate to the start "
            "(DDIM inversion), so that more of the photo's layout stays. Takes as many model calls as the way down. "
            "Use it with DisableNoise.",
            search_aliases=["ddim inversion", "unsampler", "noise inversion", "flash", "reverse"],
            has_intermediate_output=True,  # so that a cached one shows again what it found
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model, the same that will be sampled."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="The prompt for the way up: usually that of the way down, or an empty one.",
                ),
                SeverityIO.Input("severity", tooltip="From Encode Severity or Set Severity."),
                steps_input(
                    "Number of steps from the estimate up to the start, and down again. 0 takes every level of the "
                    "model below the start. Fewer is faster; below about 20 the climb misses the photo."
                ),
                noise_correction_input(
                    "How high to climb, as a multiple of the predicted error's variance; the paper uses 1.0 to 1.2. "
                    "Less keeps more of the damage, more lets the model change more of the photo."
                ),
                rounding_input(),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What the way up should avoid. Without it, cfg is not used."
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="How strongly the prompt counts on the way up. 1 follows the photo best; above about 3 "
                    "the climb leaves it.",
                ),
                levels_input(),
                per_octave_input(),
            ],
            outputs=start_outputs(
                "The start, for SamplerCustomAdvanced with DisableNoise: noise on top would be too much. Photos of a "
                "batch that start at different levels come one by one."
            ),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        severity: HostSeverity,
        steps: int,
        noise_correction: float,
        rounding: str,
        negative: Any = None,
        cfg: float = 1.0,
        levels: int = 0,
        per_octave: float = 0.0,
    ) -> io.NodeOutput:
        sampling = model.get_model_object("model_sampling")
        settings = StartSettings(noise_correction, "matched", rounding, steps, levels, per_octave=per_octave)  # type: ignore[arg-type]
        check_unmasked(severity)
        schedules = schedules_of(model, severity, settings)
        runs = runs_of(schedules)
        for text, options in [*positive, *(negative or [])] if len(runs) > 1 else []:
            check_shared(text, options)
        schedules = schedules[: len(runs)]
        parts = [severity.latent if run is None else severity.latent[run] for run in runs]
        latents = [
            invert(model, positive, negative, cfg, part, schedule)
            for part, schedule in zip(parts, schedules, strict=True)
        ]
        return start_output(sampling, severity, latents, runs, schedules)
