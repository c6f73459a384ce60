"""What happened to the photo."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..adapt_diffuse.degradation import GaussianBlur, MissingPixels, RandomMissingPixels, measure
from ..adapt_diffuse.restore import damage_generators
from .wires import CATEGORY, DegradationIO, image_of, photo_of

NOISE_TIP = (
    "Standard deviation of the noise in the photo, where black is 0 and white is 1. The paper uses 0.05; a clean "
    "phone photo has about 0.01. Too little: noise is kept as if it were detail. Too much: the photo is trusted less "
    "and detail is invented."
)


def noise_input() -> io.Float.Input:
    return io.Float.Input("noise_std", default=0.05, min=0.0, max=1.0, step=0.005, round=0.0001, tooltip=NOISE_TIP)


class GaussianBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseGaussianBlur",
            display_name="Gaussian Blur (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the photo is out of focus: a Gaussian blur, then noise.",
            search_aliases=["deblur", "unblur", "sharpen", "out of focus", "restore photo", "deconvolution"],
            inputs=[
                io.Float.Input(
                    "std",
                    display_name="blur (pixels)",
                    default=2.0,
                    min=0.0,
                    max=50.0,
                    step=0.1,
                    round=0.001,
                    tooltip="Standard deviation of the blur in pixels of the photo; the paper uses 0.3 to 3.0. Too "
                    "small: the result stays soft. Too large: halos and ringing along edges.",
                ),
                noise_input(),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="The blur and the noise level.")],
        )

    @classmethod
    def execute(cls, std: float, noise_std: float) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(GaussianBlur(std, noise_std))


class MissingPixelsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseMissingPixels",
            display_name="Missing Pixels (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that pixels of the photo are lost: those of a mask, or a random part.",
            search_aliases=["inpaint", "holes", "dead pixels", "scratches", "restore photo", "dropout"],
            inputs=[
                io.Float.Input(
                    "drop",
                    display_name="lost part",
                    default=0.75,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    round=0.0001,
                    tooltip="Part of the pixels that is lost, where no mask is connected; the paper uses 0.70 to 0.80. "
                    "Too small leaves lost pixels in as if they were black; too large ignores good ones.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    tooltip="Which random pixels are lost. Use the same node for damaging and for restoring.",
                ),
                noise_input(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White (1) marks lost pixels, as for inpainting. It must have the photo's size. Without a "
                    "mask, random pixels are lost.",
                ),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="Lost pixels and the noise level.")],
        )

    @classmethod
    def execute(cls, drop: float, seed: int, noise_std: float, mask: torch.Tensor | None = None) -> io.NodeOutput:
        with torch.inference_mode(False):
            if mask is None:
                return io.NodeOutput(RandomMissingPixels(drop, seed, noise_std))
            lost = mask.clone().float().reshape(-1, 1, *mask.shape[-2:])
            return io.NodeOutput(MissingPixels(1 - lost, noise_std))


class ApplyDegradation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseApplyDegradation",
            display_name="Apply Degradation",
            category=f"{CATEGORY}/degradation",
            description="Damages a good photo as the degradation says: to try a restoration where the truth is known, "
            "or to compare a guess with a photo that is damaged already.",
            search_aliases=["simulate damage", "degrade", "add blur", "add noise", "measurement"],
            inputs=[
                io.Image.Input("image", tooltip="The photo to damage, or a batch of them."),
                DegradationIO.Input("degradation", tooltip="What happens to it."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    tooltip="Of the noise. The same seed gives the same damaged photo.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The damaged photo. Noise may leave the range of 0 to 1; it is kept."
                )
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, degradation: object, seed: int) -> io.NodeOutput:
        photo = photo_of(image)
        return io.NodeOutput(image_of(measure(photo, degradation, damage_generators(seed, len(photo)))))  # type: ignore[arg-type]
