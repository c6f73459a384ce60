"""From latents back to a photo, and how good it is."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse import finish
from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_checks import MAX_PADDING, cropping_told
from ..adapt_diffuse.hosts.comfy_detail import detail_put_back
from ..adapt_diffuse.measurement import Measurement
from ..adapt_diffuse.metrics import psnr, ssim
from .solver_inputs import detail_input
from .wires import CATEGORY, PHOTO_SIZE, DegradationIO, image_of, photo_indices, photo_of, samples_of


class DecodeRestoration(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseDecodeRestoration",
            display_name="Decode Restoration",
            category=f"{CATEGORY}/decode",
            description="VAE Decode that gives back the photo's own size: padding is cut off. With the damaged photo "
            "and its degradation, it brings back detail that the VAE has lost and the photo still shows; it can also "
            "keep the pixels that were not lost, and match the colours.",
            search_aliases=["vae decode", "crop padding", "restore photo"],
            inputs=[
                io.Latent.Input("latent", tooltip="The sampler's output."),
                io.Vae.Input("vae", tooltip="The VAE of the diffusion model."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The damaged photo: for its detail, for the two switches, and for its size, where a node "
                    "on the way has lost it. VAE Encode crops, so that only the rest of the photo comes back.",
                ),
                DegradationIO.Input(
                    "degradation",
                    optional=True,
                    tooltip="What happened to it, with the noise: for its detail, and for the two switches.",
                ),
                io.Boolean.Input(
                    "keep_known",
                    display_name="keep known pixels",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Only for missing pixels: puts the photo's own pixels back where they were not lost, noise "
                    "included. Off lets the model clean them.",
                ),
                io.Boolean.Input(
                    "match_colours",
                    display_name="match colours",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Shifts each colour channel so that its mean is the photo's. For models that tint.",
                ),
                detail_input(),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The restored photo, as large as the damaged one.")],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Any],
        vae: Any,
        image: torch.Tensor | None = None,
        degradation: Any = None,
        keep_known: bool = False,
        match_colours: bool = False,
        detail: float = 1.0,
    ) -> io.NodeOutput:
        samples = samples_of(latent)
        if not bool(torch.isfinite(samples).all()):
            raise AdaptDiffuseError("The latent is NaN or infinite: the sampler diverged. Take a smaller step size.")
        decoded = vae.decode(samples)
        height, width = restored_size(latent, decoded, image, degradation)
        restored = decoded[:, :height, :width]
        if image is not None and degradation is not None:
            measurement = measurement_of(latent, image, degradation, len(restored))
            restored = finished(restored, measurement, keep_known, match_colours, detail)
        elif keep_known or match_colours:
            raise AdaptDiffuseError(
                "Keeping known pixels and matching colours need the image and the degradation inputs."
            )
        return io.NodeOutput(restored)


def measurement_of(latent: dict[str, Any], image: torch.Tensor, degradation: Any, count: int) -> Measurement:
    """What ``count`` restored photos were measured as: those of a batch that the latent is of."""
    measurement = Measurement.of(photo_of(image), degradation)
    indices = photo_indices(latent, len(image))
    if indices is not None:
        measurement = measurement.select(torch.tensor(indices))
    return measurement.for_latents(count)


def finished(
    restored: torch.Tensor, measurement: Measurement, keep_known: bool, match_colours: bool, detail: float
) -> torch.Tensor:
    """The restored IMAGE with the photo's own detail, and after the two switches."""
    photo = detailed(restored, measurement, match_colours, detail)
    if keep_known:
        photo = finish.paste_known(photo, measurement)
    return image_of(photo).clamp(0, 1)


def detailed(restored: torch.Tensor, measurement: Measurement, match_colours: bool, detail: float) -> torch.Tensor:
    """A restored IMAGE as (B, 3, H, W) on the photo's device, in its colours where wanted, and with its own detail."""
    photo = photo_of(restored).to(measurement.y)
    if match_colours:
        photo = finish.match_colours(photo, measurement)
    photo = detail_put_back(photo, measurement, detail)
    return finish.match_grey(photo, measurement) if match_colours else photo


def restored_size(
    latent: dict[str, Any], decoded: torch.Tensor, image: torch.Tensor | None, degradation: Any
) -> tuple[int, int]:
    """(height, width) of the photo in what was decoded, without the padding."""
    if image is None or (degradation is None and PHOTO_SIZE in latent):
        return known_size(latent, decoded)
    height, width = image.shape[1:3]
    if degradation is not None:
        height, width = degradation.image_size(height, width)
    extra = (decoded.shape[1] - height, decoded.shape[2] - width)
    if min(extra) < 0:
        stands_for = f"{decoded.shape[2]} x {decoded.shape[1]}"
        factor = decoded.shape[1] // samples_of(latent).shape[2]
        advice = cropping_told(extra, factor, stands_for) or "connect the photo that was encoded."
        raise AdaptDiffuseError(
            f"The photo is {width} x {height} but the latent decodes to only {stands_for}: {advice}"
        )
    return height, width


def known_size(latent: dict[str, Any], decoded: torch.Tensor) -> tuple[int, int]:
    """The photo's (height, width) as the latent knows it, or all of ``decoded`` where a node has resized the latent."""
    full = (decoded.shape[1], decoded.shape[2])
    size = latent.get(PHOTO_SIZE, full)
    cells = latent["samples"].shape[-2:]
    fits = (0 <= n - part < MAX_PADDING * n // cell for n, part, cell in zip(full, size, cells, strict=True))
    return size if all(fits) else full


class Measure(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseMeasure",
            display_name="Measure",
            category=f"{CATEGORY}/decode",
            description="How close a photo is to the true one, a row for each photo of the batch. Shown in the node.",
            search_aliases=["psnr", "ssim", "quality", "compare", "metric"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The restored photo, or a batch of them."),
                io.Image.Input("reference", tooltip="The true photo, of the same size: one for all, or one for each."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="psnr",
                    is_output_list=True,
                    tooltip="Peak signal-to-noise ratio in decibels: about 20 is poor, 30 good, 40 hard to tell apart.",
                ),
                io.Float.Output(
                    display_name="ssim",
                    is_output_list=True,
                    tooltip="Structural similarity: 1 is the same photo, below 0.7 structure is lost.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, reference: torch.Tensor) -> io.NodeOutput:
        photo = photo_of(image)
        truth = photo_of(reference).to(photo)
        if len(truth) == 1:
            truth = truth.expand(len(photo), -1, -1, -1)
        rows = list(zip(psnr(photo, truth).tolist(), ssim(photo, truth).tolist(), strict=True))
        text = "\n".join(f"PSNR {a:.2f} dB, SSIM {b:.3f}" for a, b in rows)
        return io.NodeOutput([a for a, _ in rows], [b for _, b in rows], ui=ui.PreviewText(text))
