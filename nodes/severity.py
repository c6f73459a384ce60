"""How bad it is."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_calibration import HostCalibration
from ..adapt_diffuse.hosts.comfy_encoder import HostSeverityEncoder
from ..adapt_diffuse.words import DAMAGED, damage_word
from .plot import as_image, severity_bar
from .wires import (
    CATEGORY,
    PHOTO_SIZE,
    DegradationIO,
    HostSeverity,
    PhotoIndex,
    SeverityEncoderIO,
    SeverityIO,
    latent_of,
    made_of,
    restorable_photo,
    samples_of,
)


class EncodeSeverity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseEncodeSeverity",
            display_name="Encode Severity",
            category=f"{CATEGORY}/severity",
            description="A first estimate of the good photo, and how far it is off: the severity. The worse the photo, "
            "the longer the restoration. Shows the severity in the node.",
            search_aliases=["estimate damage", "how blurry", "severity", "flash", "restore photo"],
            has_intermediate_output=True,  # so that a cached one shows again what it found
            inputs=[
                io.Image.Input("image", tooltip="The damaged photo, or a batch of them."),
                io.Vae.Input("vae", tooltip="The VAE of the diffusion model; it must be the encoder's."),
                SeverityEncoderIO.Input(
                    "severity_encoder",
                    tooltip="Trained for this VAE and this kind of damage, or from Calibrate Severity.",
                ),
                DegradationIO.Input(
                    "degradation",
                    optional=True,
                    tooltip="What happened to the photo. Needed for lost pixels (blanks them, whatever the hole looks "
                    "like), Downscale (the estimate gets the size of the large photo) and Film Damage (brings its "
                    "colours back); does no harm with any other.",
                ),
            ],
            outputs=[
                SeverityIO.Output(display_name="severity", tooltip="For Start Time."),
                io.Latent.Output(
                    display_name="latent", tooltip="The estimate alone: decode it to see where the restoration starts."
                ),
                io.Float.Output(
                    display_name="sigma_hat",
                    is_output_list=True,
                    tooltip="Expected error of the estimate, one number for each photo. Near 0: nothing to do. About "
                    "1: as strong as the photo's own content.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        vae: Any,
        severity_encoder: HostSeverityEncoder | HostCalibration,
        degradation: Any = None,
    ) -> io.NodeOutput:
        photo = restorable_photo(image, degradation, vae)
        if degradation is None and isinstance(severity_encoder, HostCalibration):
            degradation = severity_encoder.degradation
        if degradation is not None:
            photo = degradation.start_image(degradation.observed(photo))
        severity_encoder.check(vae)
        found = severity_encoder.predict(photo, vae)
        raw = severity_encoder.space.to_raw(found.z_hat)
        values = [float(value) for value in found.sigma_hat]
        severity = HostSeverity(raw, found.sigma_hat, found.photo_size)
        text = "severity " + ", ".join(f"{value:.3f}" for value in values)
        damage = DAMAGED if degradation is None else damage_word(degradation)
        picture = ui.PreviewImage(as_image(severity_bar(values, damage)))
        shown = {**ui.PreviewText(text).as_dict(), **picture.as_dict()}
        return io.NodeOutput(severity, latent_of(raw, found.photo_size), values, ui=shown)


class SetSeverity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseSetSeverity",
            display_name="Set Severity",
            category=f"{CATEGORY}/severity",
            description="A severity by hand: to overrule the encoder, or to work without one.",
            search_aliases=["severity", "manual", "override", "denoise strength", "img2img"],
            inputs=[
                io.Latent.Input(
                    "latent",
                    tooltip="An estimate of the good photo: Encode Severity's, or VAE Encode's of the damaged photo.",
                ),
                io.Float.Input(
                    "sigma_hat",
                    display_name="severity",
                    default=0.5,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    round=0.0001,
                    tooltip="How far the estimate is off, in the model's latent scale. Usual: 0.2 (slightly soft) to "
                    "1.5 (badly damaged). Too small: damage stays. Too large: the photo's content changes.",
                ),
            ],
            outputs=[SeverityIO.Output(display_name="severity", tooltip="For Start Time.")],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any], sigma_hat: float) -> io.NodeOutput:
        if not sigma_hat >= 0:
            raise AdaptDiffuseError(f"The severity must be zero or more, not {sigma_hat}.")
        samples = samples_of(latent)
        if not bool(torch.isfinite(samples).all()):
            raise AdaptDiffuseError("The latent has values that are NaN or infinite: an earlier node broke it.")
        sigmas = torch.full((len(samples),), float(sigma_hat))
        size, indices, mask = (latent.get(name) for name in (PHOTO_SIZE, "batch_index", "noise_mask"))
        if (photos := made_of(latent, len(samples))) is not None:
            numbers = indices or range(len(samples))
            indices = [PhotoIndex(int(number), photo) for number, photo in zip(numbers, photos, strict=True)]
        return io.NodeOutput(HostSeverity(samples, sigmas, size, indices=indices, noise_mask=mask))
