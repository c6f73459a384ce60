"""Old prints: what wore them, and where."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse.degradation import Fading, FilmDamage, Marks, MissingPixels
from ..adapt_diffuse.hosts.comfy_progress import photo_by_photo
from ..adapt_diffuse.scratches import find_scratches
from .degradation import noise_input
from .wires import CATEGORY, DegradationIO, image_of, photo_of

MARKED = (1.0, 0.1, 0.5)  # the colour of a mask over a photo
STRENGTH = 0.75


class FilmDamageNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseFilmDamage",
            display_name="Film Damage (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the photo is an old print or slide: faded, its colours turned, scratched and dusty, "
            "and grainy.",
            search_aliases=["old photo", "scratches", "dust", "faded", "colour cast", "vintage", "restore photo"],
            inputs=[
                io.Float.Input(
                    "fade", default=0.3, min=0.0, max=1.0, step=0.01, round=0.0001,
                    tooltip="Contrast that is lost: 0 none, 0.3 a pale print, 1 hardly a picture. Too little: the "
                    "result stays pale. Too much: it is too hard, and grain is strengthened.",
                ),
                io.Float.Input(
                    "cast", display_name="colour cast", default=0.0, min=-1.0, max=1.0, step=0.05, round=0.0001,
                    tooltip="Which way the colours have turned: above 0 to red, as old colour prints do, below 0 to "
                    "blue. Too much of it turns the result the other way.",
                ),
                io.Float.Input(
                    "gamma", default=1.0, min=0.2, max=5.0, step=0.05, round=0.0001, advanced=True,
                    tooltip="How the middle tones have moved: above 1 they are darker than they were, below 1 lighter. "
                    "Too high a number makes the result too light, too low too dark.",
                ),
                io.Int.Input(
                    "scratches", default=5, min=0, max=10_000,
                    tooltip="Not used with a mask. Random scratches, to damage a good photo on purpose; to restore a "
                    "photo, connect the mask of its own.",
                ),
                io.Int.Input(
                    "dust", default=40, min=0, max=10_000,
                    tooltip="Not used with a mask. Random specks and hairs of dust. More of them hide more.",
                ),
                io.Float.Input(
                    "size", display_name="size (pixels)", default=2.0, min=0.5, max=100.0, step=0.5, round=0.001,
                    advanced=True,
                    tooltip="Not used with a mask. Of the random marks: a scratch is up to so wide, a speck up to four "
                    "times as large. Small ones are easy to fill; under large ones the picture is invented.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=False,
                    tooltip="Not used with a mask. Where the random marks are. Use the same node for damaging and for "
                    "restoring.",
                ),
                noise_input(),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="White (1) marks scratches and dust: from Find Scratches, or painted. It must have the "
                    "photo's size. What is left out is taken for a true part of the photo.",
                ),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="Fading, lost pixels and grain.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        fade: float,
        cast: float,
        gamma: float,
        scratches: int,
        dust: int,
        size: float,
        seed: int,
        noise_std: float,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        with torch.inference_mode(False):
            lost: Marks | MissingPixels = Marks(scratches, dust, size, seed)
            if mask is not None:
                lost = MissingPixels(1 - mask.clone().float().reshape(-1, 1, *mask.shape[-2:]))
            return io.NodeOutput(FilmDamage(lost, Fading.of(fade, cast, gamma), noise_std))


class FindScratches(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseFindScratches",
            display_name="Find Scratches",
            category=f"{CATEGORY}/degradation",
            description="A mask of scratches and dust to start from: thin or small things that stand out from what is "
            "around them. Shows it over the photo. Correct it in the mask editor where it is wrong.",
            search_aliases=["scratch mask", "dust mask", "auto mask", "old photo", "detect scratches", "inpaint"],
            has_intermediate_output=True,  # so that a cached one shows again what it found
            inputs=[
                io.Image.Input("image", tooltip="The scratched photo, or a batch of them."),
                io.Float.Input(
                    "sensitivity", default=0.5, min=0.0, max=1.0, step=0.01, round=0.0001,
                    tooltip="Too low: faint scratches are missed and stay in the photo. Too high: eyelashes, twigs and "
                    "letters are taken for scratches and painted anew.",
                ),
                io.Int.Input(
                    "width", display_name="largest width (pixels)", default=4, min=1, max=64,
                    tooltip="Of the widest scratch or speck. Too small: wide ones are missed. Too large: more of the "
                    "picture itself is thin enough to be taken for one.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask", tooltip="White on scratches and dust: for Film Damage or Missing Pixels."
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image: torch.Tensor, sensitivity: float, width: int) -> io.NodeOutput:
        photo = photo_of(image)
        mask = torch.cat([find_scratches(one, sensitivity, width) for one in photo_by_photo(photo.split(1))])
        colour = torch.tensor(MARKED, device=photo.device).reshape(1, 3, 1, 1)
        shown = photo + STRENGTH * mask * (colour - photo)
        return io.NodeOutput(image_of(mask)[..., 0], ui=ui.PreviewImage(image_of(shown.clamp(0, 1)), cls=cls))
