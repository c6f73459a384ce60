"""One box: from a damaged photo to the restored one."""

from __future__ import annotations

import time
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse import bundled, finish
from ..adapt_diffuse.borders import Borders
from ..adapt_diffuse.defaults import SOLVER_NAMES, start_settings
from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_calibration import HostCalibration
from ..adapt_diffuse.hosts.comfy_detail import detail_put_back
from ..adapt_diffuse.hosts.comfy_encoder import HostSeverityEncoder, in_scale_of, pattern_latent
from ..adapt_diffuse.hosts.comfy_levels import model_levels
from ..adapt_diffuse.hosts.comfy_progress import photo_by_photo
from ..adapt_diffuse.hosts.comfy_restore import (
    Sampled,
    dialled_solver,
    guider_of,
    pixel_multiple,
    sample_batch,
)
from ..adapt_diffuse.measurement import Measurement
from ..adapt_diffuse.noise_check import misfit, unsaid_noise
from ..adapt_diffuse.severity import Severity
from ..adapt_diffuse.severity.choice import choose
from ..adapt_diffuse.words import BORDER_KEPT, damage_word, describe_batch
from .calibrate import sample_photos
from .decode import detailed
from .load import own_encoders, states_of
from .plot import as_image, schedule_plot, severity_bar, stacked
from .solver_inputs import decoder_inputs, detail_input
from .wires import (
    CATEGORY,
    DegradationIO,
    HostSeverity,
    SeverityEncoderIO,
    SeverityIO,
    image_of,
    is_careful,
    photo_of,
    restorable_photo,
)


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
            has_intermediate_output=True,  # so that a cached one shows again what it found
            inputs=[
                io.Image.Input("image", tooltip="The damaged photo, of any size, or a batch of them."),
                io.Model.Input("model", tooltip="The diffusion model. It restores what it has learnt."),
                io.Vae.Input("vae", tooltip="The VAE of the diffusion model."),
                DegradationIO.Input("degradation", tooltip="What happened to it: the kind, the strength, the noise."),
                io.Combo.Input(
                    "solver",
                    options=[name for name in SOLVER_NAMES if name != "dps"],
                    default="default",
                    tooltip="default chooses by the damage: latino for blur and downscaling, diffpir for "
                    "everything else; both take a handful of steps. ldps, gml-dps and psld take many small ones; "
                    "resample follows the photo closely, and is slow. mpgd is the cheapest, dcdp fits the photo "
                    "closest; flow-dps and latent-daps draw new noise all the way: another picture for every seed. "
                    "All work with every model, quantised and offloaded ones too; latino and psld are not for JPEG, "
                    "camera blur and fading.",
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
                    "the one that fits is taken, of yours in models/severity_encoders or of the bundled ones; where "
                    "none does, every run calibrates on the pack's sample photo first. The report says which.",
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
                    tooltip="Steps of each photo, at most. 0 leaves them to the solver: ldps, gml-dps, psld and "
                    "resample take every level of the model below the severity, the others a handful. Fewer is faster; "
                    "too few, and detail gets coarse, for the first four below about 20.",
                ),
                *decoder_inputs(),
                *finishing_inputs(),
                io.Boolean.Input(
                    "video",
                    display_name="frames of a video",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="On, all photos of the batch take the same noise and start at the level of the worst, so "
                    "that a film does not flicker. Off, each starts at its own level and takes noise of its own: "
                    "faster, and right for photos that have nothing to do with each other.",
                ),
                detail_input(),
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
    def fingerprint_inputs(cls, **inputs: Any) -> str:
        """The user's encoders: a new one may fit better than the one that a cached run took."""
        return states_of(own_encoders())

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
        match_colours: bool = True,
        known_pixels: str = "auto",
        video: bool = False,
        detail: float = 1.0,
    ) -> io.NodeOutput:
        begin = time.monotonic()
        chosen = dialled_solver(solver, degradation, fidelity)
        with torch.inference_mode(False):
            photo = restorable_photo(image, degradation, vae)
            borders = Borders.of(photo, degradation)
            measurement = Measurement.of(photo if borders is None else borders.filled, degradation)
        guider = guider_of(model, positive, negative, cfg, len(measurement.y))
        encoder, told = encoder_for(measurement, model, vae, severity_encoder)
        severity = encoder.predict(measurement.start_image(), vae, encoder.space.factor * pixel_multiple(model))
        settings = start_settings(solver, steps, degradation)
        sampled = sample_batch(guider, vae, chosen, measurement, severity, settings, seed, guidance_vae, tile, video)
        plain = decoded(sampled, vae, measurement)
        residual = measurement.residual_ratio(photo_of(plain).to(measurement.y))
        restored = finished(plain, measurement, match_colours, known_pixels, detail)
        seconds = time.monotonic() - begin
        careful = is_careful(degradation)
        missed = [0.0] * len(residual) if careful else misfits(restored, measurement, detail)
        told_of = (sampled.levels, degradation, residual, unsaid_noises(measurement, video), missed)
        lines = describe_batch(severity.sigma_hat, sampled.steps, *told_of, seconds, careful)
        report = lines + told + ("" if borders is None else f"\n{BORDER_KEPT}")
        raw = model.get_model_object("latent_format").process_out(severity.z_hat)
        found = HostSeverity(raw, severity.sigma_hat, severity.photo_size)
        picture = restoration_picture(severity, sampled, degradation, model)
        shown = {**ui.PreviewText(report).as_dict(), **ui.PreviewImage(picture).as_dict()}
        if borders is not None:
            restored = image_of(borders.put_back(photo_of(restored)))
        return io.NodeOutput(restored, found, report, ui=shown)


def finishing_inputs() -> list[Any]:
    """The last touch on the restored photo."""
    return [
        io.Boolean.Input(
            "match_colours",
            display_name="match colours",
            default=True,
            optional=True,
            advanced=True,
            tooltip="Shifts each colour channel by what it lacks to agree with the photo on average: takes the tint "
            "away that some VAEs and models leave. Off keeps the model's colours.",
        ),
        io.Combo.Input(
            "known_pixels",
            display_name="known pixels",
            options=["auto", "keep", "restore"],
            default="auto",
            optional=True,
            advanced=True,
            tooltip="Where pixels are lost under a mask, what becomes of the others. keep: the photo's own are put "
            "back, with a soft edge, sharp and with all their noise. restore: they are the model's, cleaned, and "
            "softer by what the VAE loses. auto keeps them where the degradation says that the photo has hardly any "
            "noise.",
        ),
    ]


def encoder_for(measurement: Measurement, model: Any, vae: Any, encoder: Any) -> tuple[Any, str]:
    """The severity encoder that is connected, else the one that fits, else a calibration; and a line that says so."""
    if encoder is not None:
        encoder.check(vae)
        if not in_scale_of(model, encoder.space):
            raise AdaptDiffuseError(
                "The model scales its latents in another way than those that the severity encoder was made for: "
                "disconnect it."
            )
        return encoder, ""
    latent, degradation, photo = pattern_latent(vae), measurement.degradation, measurement.y
    for files in (own_encoders(), list(bundled.bundled_encoders().values())):
        path = choose(files, latent, degradation, photo)
        if path is not None and in_scale_of(model, (found := HostSeverityEncoder.load(path)).space):
            return found, f"\nseverity by {path.stem}"
    count, _, height, width = photo.shape
    views = sample_photos(degradation, (height, width))
    return HostCalibration.measure(vae, model, views, degradation, count), "\nseverity by calibration"


def finished(
    restored: torch.Tensor, measurement: Measurement, match_colours: bool, known_pixels: str, detail: float
) -> torch.Tensor:
    """The restored IMAGE in the photo's colours, with its own detail and its known pixels."""
    photo = detailed(restored, measurement, match_colours, detail)
    photo = finish.with_known(photo, measurement, known_pixels)  # type: ignore[arg-type]
    return image_of(photo).clamp(0, 1)


def unsaid_noises(measurement: Measurement, video: bool) -> list[float]:
    """``unsaid_noise`` of each photo, until the user cancels; the frames of a video share that of the middle one."""
    count = len(measurement.y)
    judged = [count // 2] if video else list(range(count))
    found = [unsaid_noise(measurement.select(torch.tensor([index])))[0] for index in photo_by_photo(judged)]
    return found * count if video else found


def misfits(restored: torch.Tensor, measurement: Measurement, detail: float) -> list[float]:
    """``misfit`` of each photo of the IMAGE, finished with ``detail``; more of it is put back where the host can."""
    photo = photo_of(restored).to(measurement.y)
    return misfit(photo if detail >= 1 else detail_put_back(photo, measurement, 1.0), measurement, 1.0)


def restoration_picture(severity: Severity, sampled: Sampled, degradation: Any, model: Any) -> torch.Tensor:
    """How bad the photos were, and where on the schedule they started, as an IMAGE."""
    sigmas = severity.sigma_hat.tolist()
    levels = model_levels(model.get_model_object("model_sampling"))
    return as_image(
        stacked(
            severity_bar(sigmas, damage_word(degradation)),
            schedule_plot(levels, sampled.starts.tolist(), sampled.steps.tolist()),
        )
    )


def decoded(sampled: Sampled, vae: Any, measurement: Measurement) -> torch.Tensor:
    """The restored IMAGE, without padding."""
    if not bool(torch.isfinite(sampled.latent).all()):
        raise AdaptDiffuseError("The restoration diverged: take a smaller fidelity, or more steps.")
    height, width = measurement.image_size
    return vae.decode(sampled.latent)[:, :height, :width]
