"""What happened to a photo that nobody knows anything of."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io, ui

from ..adapt_diffuse.estimate import Damage, Estimate, cautious, describe_estimate, estimate_damage, load_estimator
from ..adapt_diffuse.estimate.damage import NO_JPEG
from ..adapt_diffuse.hosts.comfy_progress import photo_by_photo
from .wires import CATEGORY, DegradationIO, marked_careful, photo_of


class EstimateDegradation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseEstimateDegradation",
            display_name="Estimate Degradation",
            category=f"{CATEGORY}/degradation",
            description="Reads off a photo what happened to it: blur or motion, whether it was made smaller, JPEG "
            "quality and noise, and how sure that is. To check the estimate, put what was found on the restored photo "
            "with Apply Degradation: it must look like the damaged one.",
            search_aliases=["blind", "unknown damage", "how blurry", "noise level", "jpeg quality", "restore photo"],
            has_intermediate_output=True,  # so that a cached one shows again what it found
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The damaged photo at its own size, never resized: that would hide its traces. Each photo "
                    "of a batch gets an estimate of its own.",
                ),
                io.Boolean.Input(
                    "blur", default=True, optional=True,
                    tooltip="Off: there is no blur or motion, whatever the estimate says. A photo that is soft on "
                    "purpose would be made too sharp with it on; a blurred one stays blurred with it off.",
                ),
                io.Boolean.Input(
                    "low_resolution", default=True, optional=True,
                    tooltip="Off: the photo was never made smaller. Switch it off where the result has too much "
                    "invented detail; with it off an enlarged photo stays coarse.",
                ),
                io.Boolean.Input(
                    "jpeg", default=True, optional=True,
                    tooltip="Off: the photo was never compressed. JPEG makes the degradation nonlinear, which some "
                    "solvers (PSLD) refuse; with it off, blocks are taken for detail.",
                ),
            ],
            outputs=[
                DegradationIO.Output(
                    display_name="degradation",
                    tooltip="What is likelier there than not, in turn, to restore with. Its noise is more than was "
                    "found: it allows for what is unsure in the estimate, so that no blur is undone too sharply.",
                ),
                io.String.Output(
                    display_name="report", tooltip="The estimate in words, with one standard deviation of each number."
                ),
                DegradationIO.Output(
                    display_name="found",
                    tooltip="The same with the noise that was found and no more, for Apply Degradation: on the "
                    "restored photo it must look like the damaged one.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, image: torch.Tensor, blur: bool = True, low_resolution: bool = True, jpeg: bool = True
    ) -> io.NodeOutput:
        with torch.inference_mode(False):
            estimator, estimates, damages = load_estimator(), [], []
            for photo in photo_by_photo(photo_of(image).split(1)):
                found = estimate_damage(photo, estimator)
                estimates.append(replace(found, damage=without(found.damage, blur, low_resolution, jpeg)))
                damages.append(cautious(estimates[-1], photo))
            estimate = Estimate.joined(estimates)
            lines = [describe_estimate(estimate, index) for index in range(len(estimate))]
            numbered = [f"photo {number}: {line}" for number, line in enumerate(lines, 1)]
            report = "\n".join(numbered if len(lines) > 1 else lines)
            careful = marked_careful(Damage.joined(damages).degradation())
            return io.NodeOutput(careful, report, estimate.degradation(), ui=ui.PreviewText(report))


def without(damage: Damage, blur: bool, low_resolution: bool, jpeg: bool) -> Damage:
    """The damage without the kinds that are switched off."""
    none = torch.zeros_like(damage.std)
    if not blur:
        damage = replace(damage, std=none, length=none)
    if not low_resolution:
        damage = replace(damage, factor=none + 1)
    if not jpeg:
        damage = replace(damage, quality=none + NO_JPEG)
    return damage
