"""One box: from a damaged photo to the restored one."""

from __future__ import annotations

import time
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse.defaults import SOLVER_NAMES
from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_calibration import HostCalibration
from ..adapt_diffuse.hosts.comfy_restore import (
    Sampled,
    dialled_solver,
    guider_of,
    pixel_multiple,
    sample_batch,
    settings_for,
)
from ..adapt_diffuse.measurement import Measurement
from ..adapt_diffuse.severity import Severity
from ..adapt_diffuse.words import describe_batch
from .calibrate import sample_photos
from .solver_inputs import decoder_inputs
from .wires import CATEGORY, DegradationIO, HostSeverity, SeverityEncoderIO, SeverityIO, photo_of


class RestorePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseRestorePhoto",
            display_name="Restore Photo",
            category=f"{CATEGORY}/restore",
            description="The whole way in one box: how bad the photo is, where to begin, and a restoration that "
            "stays true to the photo. A batch runs in one pass, every photo from its own severity. Says what it found.",
            search_aliases=[
                "restore photo",
                "old photo",
                "deblur",
                "denoise",
                "repair",
                "upscale",
                "jpeg artifacts",
                "scratches",
                "inpaint",
            ],  # fmt: skip
            inputs=[
                io.Image.Input("image", tooltip="The damaged photo, of any size, or a batch of them."),
                io.Model.Input("model", tooltip="The diffusion model. It restores what it has learnt."),
                io.Vae.Input("vae", tooltip="The VAE of the diffusion model."),
                DegradationIO.Input("degradation", tooltip="What happened to it: the kind, the strength, the noise."),
                io.Combo.Input(
                    "solver",
                    options=[name for name in SOLVER_NAMES if name != "dps"],
                    default="default",
                    tooltip="All work with every model, quantised and offloaded ones too. default is ldps. gml-dps and "
                    "psld leave fewer artefacts of the VAE and take longer; psld is not for JPEG and camera blur. "
                    "resample follows the photo closely, and is slow.",
                ),
                io.Float.Input(
                    "fidelity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    tooltip="0.5 is as tuned. Towards 0 the model paints more by itself: cleaner, but it may drift "
                    "from the photo. Towards 1 the photo counts more: its noise may come back as patterns.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=True,
                    tooltip="Another seed, another of the possible restorations. Photo 2 of a batch takes the next.",
                ),
                SeverityEncoderIO.Input(
                    "severity_encoder",
                    optional=True,
                    tooltip="Trained for this VAE and this kind of damage, or from Calibrate Severity. Without one, "
                    "every run calibrates on the pack's sample photo first.",
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="What is in the photo; models with a text encoder need it, an empty text will do.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What should not be there. Without it, cfg is not used."
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
                    tooltip="How strongly the prompt counts; only with negative connected. 1 follows the photo best. "
                    "Too large: the prompt wins over the photo.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="Steps of each photo, at most. 0 takes every level of the model below the severity. "
                    "Fewer is faster; below about 20 detail gets coarse.",
                ),
                *decoder_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The restored photo, of its own size."),
                SeverityIO.Output(display_name="severity", tooltip="How bad each photo was, for Start Time."),
                io.String.Output(
                    display_name="report", tooltip="What was found and done, in words; shown in the node."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        model: Any,
        vae: Any,
        degradation: Any,
        solver: str,
        fidelity: float,
        seed: int,
        severity_encoder: Any = None,
        positive: Any = None,
        negative: Any = None,
        cfg: float = 1.0,
        steps: int = 0,
        guidance_vae: Any = None,
        tile: int = 0,
    ) -> io.NodeOutput:
        begin = time.monotonic()
        chosen = dialled_solver(solver, degradation, fidelity)
        with torch.inference_mode(False):
            measurement = Measurement.of(photo_of(image), degradation)
        guider = guider_of(model, positive, negative, cfg, len(measurement.y))
        severity = severity_of(measurement, model, vae, severity_encoder)
        settings = settings_for(solver, steps)
        sampled = sample_batch(guider, vae, chosen, measurement, severity, settings, seed, guidance_vae, tile)
        restored = decoded(sampled, vae, measurement)
        report = describe_batch(
            severity.sigma_hat, sampled.steps, sampled.levels, degradation, time.monotonic() - begin
        )
        raw = model.get_model_object("latent_format").process_out(severity.z_hat)
        found = HostSeverity(raw, severity.sigma_hat, severity.photo_size)
        return io.NodeOutput(restored, found, report, ui=ui.PreviewText(report))


def severity_of(measurement: Measurement, model: Any, vae: Any, encoder: Any) -> Severity:
    """The severity of the photos, by a calibration where there is no ``encoder``."""
    if encoder is None:
        count, _, height, width = measurement.y.shape
        photos = sample_photos(measurement.degradation, (height, width))
        encoder = HostCalibration.measure(vae, model, photos, measurement.degradation, count)
    else:
        encoder.check(vae)
    return encoder.predict(measurement.start_image(), vae, encoder.space.factor * pixel_multiple(model))


def decoded(sampled: Sampled, vae: Any, measurement: Measurement) -> torch.Tensor:
    """The restored IMAGE, without padding."""
    if not bool(torch.isfinite(sampled.latent).all()):
        raise AdaptDiffuseError("The restoration diverged: take a smaller fidelity, or more steps.")
    height, width = measurement.image_size
    return vae.decode(sampled.latent)[:, :height, :width]
