"""From latents back to a photo, and how good it is."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.metrics import psnr, ssim
from .wires import CATEGORY, PHOTO_SIZE, photo_of, samples_of

MAX_PADDING = 64  # pixels; autoencoders reduce by 32 at most


class DecodeRestoration(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseDecodeRestoration",
            display_name="Decode Restoration",
            category=f"{CATEGORY}/decode",
            description="VAE Decode that gives back the photo's own size: padding is cut off.",
            search_aliases=["vae decode", "crop padding", "restore photo"],
            inputs=[
                io.Latent.Input("latent", tooltip="The sampler's output."),
                io.Vae.Input("vae", tooltip="The VAE of the diffusion model."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The damaged photo, for its size. Needed only where the latent does not know it, as after "
                    "VAE Encode.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The restored photo, as large as the damaged one.")],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any], vae: Any, image: torch.Tensor | None = None) -> io.NodeOutput:
        samples = samples_of(latent)
        if not bool(torch.isfinite(samples).all()):
            raise AdaptDiffuseError("The latent is NaN or infinite: the sampler diverged. Take a smaller step size.")
        decoded = vae.decode(samples)
        if image is not None:
            height, width = image.shape[1:3]
            if height > decoded.shape[1] or width > decoded.shape[2]:
                raise AdaptDiffuseError(
                    f"The photo is {width} x {height} but the latent decodes to only {decoded.shape[2]} x "
                    f"{decoded.shape[1]}: connect the photo that was encoded."
                )
        else:
            height, width = known_size(latent, decoded)
        return io.NodeOutput(decoded[:, :height, :width])


def known_size(latent: dict[str, Any], decoded: torch.Tensor) -> tuple[int, int]:
    """The photo's (height, width) as the latent knows it, or all of ``decoded`` where a node has resized the latent."""
    full = (decoded.shape[1], decoded.shape[2])
    size = latent.get(PHOTO_SIZE, full)
    padding = [whole - part for whole, part in zip(full, size, strict=True)]
    return size if all(0 <= extra < MAX_PADDING for extra in padding) else full


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
        photo, truth = photo_of(image), photo_of(reference)
        if len(truth) == 1:
            truth = truth.expand(len(photo), -1, -1, -1)
        rows = list(zip(psnr(photo, truth).tolist(), ssim(photo, truth).tolist(), strict=True))
        text = "\n".join(f"PSNR {a:.2f} dB, SSIM {b:.3f}" for a, b in rows)
        return io.NodeOutput([a for a, _ in rows], [b for _, b in rows], ui=ui.PreviewText(text))
