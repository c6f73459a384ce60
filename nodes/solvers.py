"""Guided solvers: SAMPLERs for the host's SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..adapt_diffuse.degradation.base import require_linear
from ..adapt_diffuse.solvers import DPS, GMLDPS, LDPS, PSLD, ReSample
from .solver_inputs import (
    ALIASES,
    batch_input,
    decoder_inputs,
    form_inputs,
    sampler_of,
    sampler_output,
    step_size,
    wires_in,
)
from .wires import CATEGORY


class LDPSNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseLDPS",
            display_name="LDPS (guided solver)",
            category=f"{CATEGORY}/solvers",
            description="Latent-DPS: at every step, moves the picture so that its damaged version comes closer to the "
            "photo. For SamplerCustomAdvanced, with latent and sigmas from Start Time.",
            search_aliases=["DPS", *ALIASES],
            inputs=[
                *wires_in(),
                step_size(
                    3.0,
                    "the paper uses 1 to 3 for blur and 7 for missing pixels, the bundled model likes 6 and 8",
                ),
                *form_inputs(),
                batch_input(),
                *decoder_inputs(),
            ],
            outputs=sampler_output(),
        )

    @classmethod
    def execute(cls, eta: float, through: str, normalise: bool, **wires: Any) -> io.NodeOutput:
        solver = LDPS(eta, through, normalise)  # type: ignore[arg-type]
        return sampler_of(solver, **wires)


class GMLDPSNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseGMLDPS",
            display_name="GML-DPS (guided solver)",
            category=f"{CATEGORY}/solvers",
            description="Latent-DPS that also keeps the latent one which the VAE would make itself: fewer decoding "
            "artefacts, for one VAE encoding more at every step.",
            search_aliases=["GML", "DPS", *ALIASES],
            inputs=[
                *wires_in(),
                step_size(
                    3.0, "the paper uses 2 and 3 for blur, 10 for missing pixels, the bundled model likes 6 and 8"
                ),
                io.Float.Input(
                    "gamma",
                    display_name="latent consistency",
                    default=0.05,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    round=0.0001,
                    tooltip="How strongly the latent is drawn to one that the VAE gives back unchanged; the paper uses "
                    "0.05. 0 is LDPS. Too large: the photo is forgotten and detail is smoothed away.",
                ),
                *form_inputs(),
                batch_input(),
                *decoder_inputs(),
            ],
            outputs=sampler_output(),
        )

    @classmethod
    def execute(cls, eta: float, gamma: float, through: str, normalise: bool, **wires: Any) -> io.NodeOutput:
        solver = GMLDPS(eta, gamma, through, normalise)  # type: ignore[arg-type]
        return sampler_of(solver, **wires)


class PSLDNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffusePSLD",
            display_name="PSLD (guided solver)",
            category=f"{CATEGORY}/solvers",
            description="Latent-DPS that also glues what the photo tells into the picture and asks the VAE to agree: "
            "fewer seams around lost pixels. For blur, lost pixels and downscaling; not for JPEG or camera blur.",
            search_aliases=["gluing", "DPS", *ALIASES],
            inputs=[
                *wires_in(),
                step_size(2.0, "the paper uses 2 for blur, 10 for missing pixels, the bundled model likes 6 and 8"),
                io.Float.Input(
                    "gamma",
                    display_name="gluing",
                    default=0.2,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    round=0.0001,
                    tooltip="How strongly the latent is drawn to that of the picture with the photo glued in; the "
                    "paper uses 0.1 and 0.2 for blur, 0.5 for missing pixels. 0 is LDPS. Too large: the photo's noise "
                    "and blur come back.",
                ),
                *form_inputs(),
                batch_input(),
                *decoder_inputs(),
            ],
            outputs=sampler_output(),
        )

    @classmethod
    def execute(cls, eta: float, gamma: float, through: str, normalise: bool, **wires: Any) -> io.NodeOutput:
        require_linear(wires["degradation"], "PSLD")  # refuse now, not after the first step
        solver = PSLD(eta, gamma, through, normalise)  # type: ignore[arg-type]
        return sampler_of(solver, **wires)


class ReSampleNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseReSample",
            display_name="ReSample (guided solver)",
            category=f"{CATEGORY}/solvers",
            description="Every few steps, fits the picture to the photo by itself, then adds the noise back. Follows "
            "the photo closely. A fit takes up to a hundred decodings: slower than the others at the same steps.",
            search_aliases=["resample", "hard data consistency", *ALIASES],
            inputs=[
                *wires_in(),
                io.Float.Input(
                    "gamma",
                    display_name="trust in the fit",
                    default=400.0,
                    min=0.0,
                    max=100000.0,
                    step=10.0,
                    round=0.1,
                    tooltip="How far a fit pulls the picture; the paper uses 200 for missing pixels, 400 to 2000 for "
                    "blur. Too small: fits are forgotten. Too large: their errors stay, and detail is lost.",
                ),
                io.Float.Input(
                    "proximal",
                    display_name="hold to the model",
                    default=1.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    round=0.001,
                    tooltip="How strongly a fit is held to what the model imagined. 1 weighs both by their noise; 0, "
                    "as the released code does, fits the photo alone. Too small: noise is fitted. Too large: the photo "
                    "is not followed.",
                ),
                io.Int.Input(
                    "every",
                    display_name="steps between fits",
                    default=10,
                    min=1,
                    max=1000,
                    tooltip="A fit at every so many steps; the paper uses 10. Too many: the picture drifts from the "
                    "photo between fits. Too few: slow, and the model has no time to clean what a fit brought in.",
                ),
                io.Int.Input(
                    "iterations",
                    default=100,
                    min=1,
                    max=10000,
                    tooltip="Of a fit, at most; it ends by itself when what is left is noise. The paper uses up to "
                    "100. Too few: the photo is not followed. More than it needs costs nothing.",
                ),
                io.Float.Input(
                    "eta_ddim",
                    display_name="noise between fits",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    advanced=True,
                    tooltip="Fresh noise of the steps between: 1 as the paper, 0 none. Less is smoother.",
                ),
                batch_input(),
                *decoder_inputs(),
            ],
            outputs=sampler_output(),
        )

    @classmethod
    def execute(
        cls, gamma: float, proximal: float, every: int, iterations: int, eta_ddim: float, **wires: Any
    ) -> io.NodeOutput:
        solver = ReSample(gamma, proximal, every, iterations, eta_ddim=eta_ddim)
        return sampler_of(solver, **wires)


class DPSNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptDiffuseDPS",
            display_name="DPS (guided solver, pixel space)",
            category=f"{CATEGORY}/solvers",
            description="DPS for models that diffuse the pixels themselves, without a VAE. For models with a VAE, take "
            "LDPS.",
            search_aliases=["pixel space", *ALIASES],
            inputs=[
                *wires_in(),
                step_size(1.0, "the paper uses 0.3 to 1"),
                *form_inputs(),
                batch_input(),
            ],
            outputs=sampler_output(),
        )

    @classmethod
    def execute(cls, eta: float, through: str, normalise: bool, **wires: Any) -> io.NodeOutput:
        return sampler_of(DPS(eta, through, normalise), **wires)  # type: ignore[arg-type]
