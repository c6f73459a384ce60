"""How bad it is, without a trained encoder."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_calibration import HostCalibration
from ..adapt_diffuse.severity.calibration_photos import SIDE, calibration_size, sample_views
from .wires import CATEGORY, DegradationIO, SeverityEncoderIO, photo_of


class CalibrateSeverity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseCalibrateSeverity",
            display_name="Calibrate Severity",
            category=f"{CATEGORY}/severity",
            description="Instead of a trained severity encoder: measures, on a few good photos, how far the VAE is off "
            "after this damage. Works with every VAE and every kind of damage, in seconds, without training.",
            search_aliases=["severity", "without training", "severity encoder", "any model", "flash", "restore photo"],
            has_intermediate_output=True,  # so that a cached one shows again what it found
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model; it knows the scale of the VAE's latents."),
                io.Vae.Input("vae", tooltip="The VAE of the diffusion model."),
                DegradationIO.Input(
                    "degradation",
                    tooltip="What happened to the photo. The calibration holds for this damage, with these numbers.",
                ),
                io.Image.Input(
                    "good_photos",
                    optional=True,
                    tooltip="Undamaged photos, three to sixteen, of the kind that is restored and about as large. "
                    "Without them, views of the pack's sample photo; the severity is then up to a quarter off.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The damaged photo. Needed only where the damage is a mask and no good photos are "
                    "connected: the sample photo takes its size.",
                ),
            ],
            outputs=[
                SeverityEncoderIO.Output(
                    display_name="severity_encoder", tooltip="For Encode Severity and Restore Photo, with the same VAE."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        degradation: Any,
        good_photos: torch.Tensor | None = None,
        image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        count = 1 if image is None else len(image)
        if good_photos is not None:
            photos = photo_of(good_photos)
        else:
            if image is None and has_own_size(degradation):
                raise AdaptDiffuseError(
                    "The damage has a mask, and the sample photo must take its size: connect the damaged photo to the "
                    "input 'image'."
                )
            photos = sample_photos(degradation, (SIDE, SIDE) if image is None else (image.shape[1], image.shape[2]))
        found = HostCalibration.measure(vae, model, photos, degradation, count)
        laws = zip(
            *(torch.as_tensor(one).reshape(-1).tolist() for one in (found.calibration.scale, found.calibration.power)),
            strict=True,
        )
        words = "\n".join(f"error = {scale:.2f} x probe ^ {power:.2f}" for scale, power in laws)
        return io.NodeOutput(found, ui=ui.PreviewText(f"{words}, measured on {len(photos)} photos"))


def has_own_size(degradation: Any) -> bool:
    """Whether the damage, as that by a mask, is only for photos of a size, which is not that of the sample photo."""
    larger = (2 * SIDE, 2 * SIDE)
    return calibration_size(degradation, *larger) == larger


def sample_photos(degradation: Any, photo_size: tuple[int, int]) -> torch.Tensor:
    """Views (n, 3, H, W) of the pack's sample photo for damaged photos of ``photo_size`` (height, width)."""
    return sample_views(*calibration_size(degradation, *degradation.image_size(*photo_size)))
