"""What happened to the photo: blur."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..adapt_diffuse.degradation import CameraBlur, GaussianBlur, KernelBlur, LensBlur, MotionBlur
from ..adapt_diffuse.degradation.kernel import luminance
from .degradation import noise_input
from .wires import CATEGORY, DegradationIO, photo_of


class GaussianBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseGaussianBlur",
            display_name="Gaussian Blur (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the photo is evenly soft, or slightly out of focus: a Gaussian blur, then noise. "
            "Where lights have become round spots, take Lens Blur.",
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


class LensBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseLensBlur",
            display_name="Lens Blur (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the photo is out of focus, so that every bright point has become a round spot: a "
            "blur by a disk, then noise.",
            search_aliases=["defocus", "bokeh", "out of focus", "deblur", "unblur", "disk", "restore photo"],
            inputs=[
                io.Float.Input(
                    "radius",
                    display_name="radius (pixels)",
                    default=4.0,
                    min=0.0,
                    max=50.0,
                    step=0.1,
                    round=0.001,
                    tooltip="Half the width of the round spot that a bright point has become, in pixels of the photo; "
                    "1 to 8 is usual, and up to 0.5 nothing is blurred. The paper has no lens blur. Too small: the "
                    "result stays soft. Too large: rings and double edges.",
                ),
                noise_input(),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="The blur and the noise level.")],
        )

    @classmethod
    def execute(cls, radius: float, noise_std: float) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(LensBlur(radius, noise_std))


class KernelBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseKernelBlur",
            display_name="Kernel Blur (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the photo is blurred in a way that a picture shows: what a single bright point has "
            "become, cut out of a photo or from another tool. Then noise.",
            search_aliases=["PSF", "point spread function", "deconvolution", "blur kernel", "deblur", "restore photo"],
            inputs=[
                io.Image.Input(
                    "kernel",
                    tooltip="The point spread function: what one bright point has become, in pixels of the photo, on "
                    "wholly black; at most 101 x 101 beside the black. Too small, or its rim cut off: the result stays "
                    "soft. Too large, or grey around it: halos and ringing. Its brightness and place do not matter; "
                    "colours count by their luminance. One for all photos, or one for each.",
                ),
                noise_input(),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="The blur and the noise level.")],
        )

    @classmethod
    def execute(cls, kernel: torch.Tensor, noise_std: float) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(KernelBlur(luminance(photo_of(kernel)), noise_std))


class MotionBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseMotionBlur",
            display_name="Motion Blur (degradation)",
            category=f"{CATEGORY}/degradation",
            description="Says that the camera, or everything in the picture, moved along a straight line: a motion "
            "blur, then noise.",
            search_aliases=["deblur", "unblur", "shaken", "moving camera", "restore photo", "deconvolution"],
            inputs=[
                io.Float.Input(
                    "length",
                    display_name="length (pixels)",
                    default=9.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    round=0.001,
                    tooltip="How far the picture moved, in pixels of the photo: the length of the streak that a bright "
                    "point leaves. The paper has no motion blur; 2 to 20 is usual. Too small: the result stays "
                    "smeared. Too large: echoes of edges on both sides.",
                ),
                io.Float.Input(
                    "angle",
                    display_name="angle (degrees)",
                    default=0.0,
                    min=-180.0,
                    max=180.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Direction of the streaks: 0 runs from left to right, 45 from lower left to upper right, "
                    "90 up and down. A few degrees off already leaves stripes, the more so the longer the blur.",
                ),
                noise_input(),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="The blur and the noise level.")],
        )

    @classmethod
    def execute(cls, length: float, angle: float, noise_std: float) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(MotionBlur(length, angle, noise_std))


class CameraBlurNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseCameraBlur",
            display_name="Camera Blur (degradation)",
            category=f"{CATEGORY}/degradation",
            description="A shaken camera as its sensor sees it: light is smeared along a random path, the brightest "
            "parts are cut off, then noise. Nonlinear, so not every solver takes it.",
            search_aliases=["nonlinear blur", "camera shake", "deblur", "overexposed", "highlights", "restore photo"],
            inputs=[
                io.Float.Input(
                    "extent",
                    display_name="extent (pixels)",
                    default=9.0,
                    min=0.0,
                    max=100.0,
                    step=0.5,
                    round=0.001,
                    tooltip="How far the path of the shake reaches across, in pixels of the photo; 2 to 20 is usual. "
                    "Too small: the result stays smeared. Too large: echoes of edges.",
                ),
                io.Int.Input(
                    "kernel_seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    tooltip="Which random path the camera took. Use the same node for damaging and for restoring: "
                    "another path undoes another blur.",
                ),
                io.Float.Input(
                    "gain",
                    display_name="exposure",
                    default=1.0,
                    min=0.1,
                    max=8.0,
                    step=0.05,
                    round=0.001,
                    advanced=True,
                    tooltip="How much lighter the damaged photo is than the good one. 1 keeps the brightness; above 1 "
                    "highlights saturate, and the restored photo is darker; far above 1 little is left to restore.",
                ),
                noise_input(),
            ],
            outputs=[DegradationIO.Output(display_name="degradation", tooltip="The blur and the noise level.")],
        )

    @classmethod
    def execute(cls, extent: float, kernel_seed: int, gain: float, noise_std: float) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(CameraBlur.seeded(extent, kernel_seed, gain, noise_std))
