"""What happened to the photo, other than blur; and damage on purpose."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..adapt_diffuse.degradation import Downscale, Jpeg, MissingPixels, RandomMissingPixels, chain, measure
from ..adapt_diffuse.errors import AdaptDiffuseError
from ..adapt_diffuse.hosts.comfy_progress import photo_by_photo
from ..adapt_diffuse.restore import damage_generators
from .wires import CATEGORY, DegradationIO, image_of, photo_of

NOISE_TIP = (
    "Standard deviation of the noise in the photo, where black is 0 and white is 1. The paper uses 0.05; a clean "
    "phone photo has about 0.01. Too little: noise is kept as if it were detail. Too much: the photo is trusted less "
    "and detail is invented."
)
ANY = 2**16  # photos, more than any batch has


def noise_input(default: float = 0.05) -> io.Float.Input:
    return io.Float.Input("noise_std", default=default, min=0.0, max=1.0, step=0.005, round=0.0001, tooltip=NOISE_TIP)


class MissingPixelsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseMissingPixels",
            display_name="Missing Pixels (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that pixels of the photo are lost: those of a mask, or a random part.",
            search_aliases=["inpaint", "holes", "dead pixels", "scratches", "old photo", "restore photo", "dropout"],
            inputs=[
                io.Float.Input(
                    "drop",
                    display_name="lost part",
                    default=0.75,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    round=0.0001,
                    tooltip="Not used with a mask. Part of the pixels that is lost; the paper uses 0.70 to 0.80. Too "
                    "small leaves lost pixels in as if they were black; too large ignores good ones.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    tooltip="Not used with a mask. Which random pixels are lost. Use the same node for damaging and "
                    "for restoring.",
                ),
                noise_input(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White (1) marks lost pixels, as for inpainting. It must have the photo's size. Too tight: "
                    "the rim of the damage stays. Too wide: good pixels are painted anew. Without a mask, random "
                    "pixels are lost.",
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


class DownscaleNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseDownscale",
            display_name="Downscale (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the photo is a small version of the one that is wanted: made smaller, then noise. "
            "The restored photo is larger by the factor.",
            search_aliases=["upscale", "super resolution", "enlarge", "low resolution", "thumbnail", "restore photo"],
            inputs=[
                io.Int.Input(
                    "factor",
                    default=4,
                    min=1,
                    max=16,
                    tooltip="How many times smaller the photo is in each direction; 2 to 4 is usual. Too small: the "
                    "result stays soft at its size. Too large: detail is invented that the photo says nothing about.",
                ),
                io.Combo.Input(
                    "filter",
                    options=["bicubic", "area"],
                    default="bicubic",
                    tooltip="How it was made smaller. bicubic: as photo editors and websites do, with antialiasing. "
                    "area: the mean of each block, as cameras and thumbnails do. The wrong one leaves slight halos or "
                    "softness.",
                ),
                noise_input(),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="The factor and the noise level.")],
        )

    @classmethod
    def execute(cls, factor: int, filter: str, noise_std: float) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(Downscale(factor, filter, noise_std))  # type: ignore[arg-type]


class JpegNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseJPEG",
            display_name="JPEG (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the photo was saved as JPEG, with blocks and smeared colours. Nonlinear, so not "
            "every solver takes it.",
            search_aliases=["compression", "artifacts", "blocks", "deblock", "jpg", "jpeg artifacts", "restore photo"],
            inputs=[
                io.Float.Input(
                    "quality",
                    default=20.0,
                    min=1.0,
                    max=100.0,
                    step=1.0,
                    round=0.01,
                    tooltip="JPEG quality: 5 is ruined, 20 has visible blocks, 50 looks fair, 90 nearly perfect. Too "
                    "high: the blocks are kept as if they were detail. Too low: the photo is trusted less and detail "
                    "is invented.",
                ),
                noise_input(0.015),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="The quality and the noise level.")],
        )

    @classmethod
    def execute(cls, quality: float, noise_std: float) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(Jpeg(quality, noise_std))


class ChainDegradations(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseChainDegradations",
            display_name="Chain Degradations",
            category=f"{CATEGORY}/degradation",
            description="Two kinds of damage, one after the other: blurred by the camera, then saved as JPEG. Chain "
            "again for more.",
            search_aliases=["combine damage", "compose", "sequence", "and then", "restore photo"],
            inputs=[
                DegradationIO.Input(
                    "first", tooltip="What happened to the photo first. Its noise_std is not used: noise comes last."
                ),
                DegradationIO.Input(
                    "second",
                    tooltip="What happened to it then. Its noise_std is the chain's: set it to the noise that the "
                    "photo has now. Put Missing Pixels here, so that they count as lost.",
                ),
            ],
            outputs=[
                DegradationIO.Output(display_name="degradation", tooltip="Both, one after the other, then the noise.")
            ],
        )

    @classmethod
    def execute(cls, first: Any, second: Any) -> io.NodeOutput:
        return io.NodeOutput(chain(first, second))


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
    def execute(cls, image: torch.Tensor, degradation: Any, seed: int) -> io.NodeOutput:
        return io.NodeOutput(image_of(damaged(photo_of(image), degradation, seed)))


def damaged(photo: torch.Tensor, degradation: Any, seed: int) -> torch.Tensor:
    """``photo`` (B, 3, H, W) as the degradation leaves it, photo by photo until the user cancels."""
    generators = damage_generators(seed, len(photo))
    if has_numbers_for(degradation, len(photo) + 1) and not has_numbers_for(degradation, ANY):
        return measure(photo, degradation, generators)  # which tells that they are too many
    degradation.select(torch.arange(len(photo)))  # which tells that they are too few
    parts = [
        measure(one, degradation.select(torch.tensor([index])), generators[index : index + 1])
        for index, one in enumerate(photo_by_photo(photo.split(1)))
    ]
    return torch.cat(parts)


def has_numbers_for(degradation: Any, count: int) -> bool:
    """Whether a degradation, which has its numbers for all photos or for each, has them for so many."""
    try:
        degradation.select(torch.arange(count))
    except AdaptDiffuseError:
        return False
    return True
