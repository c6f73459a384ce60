"""Guided solvers of a dozen steps, which fit the estimate itself: SAMPLERs for the host's SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..adapt_diffuse.degradation.base import require_linear
from ..adapt_diffuse.solvers import DCDP, LATINO, MPGD, FlowDPS, LatentDAPS, LatentDiffPIR
from .solver_inputs import ALIASES, batch_input, decoder_inputs, sampler_of, sampler_output, step_size, wires_in
from .wires import CATEGORY

FEW = "For SamplerCustomAdvanced, with latent and sigmas from Start Time at 2 steps per octave."


def trust_input() -> Any:
    return io.Float.Input(
        "trust",
        display_name="trust in the model",
        default=1.0,
        min=0.0,
        max=1000.0,
        step=0.1,
        round=0.001,
        tooltip="How the model's imagination weighs against the photo. 1 weighs both by their noise. Too small: noise "
        "comes back as grain with LATINO; DiffPIR's fit ends where only noise is left. Too large: the damage stays, "
        "smoothed.",
    )


def churn_input(default: float, paper: str) -> Any:
    return io.Float.Input(
        "churn",
        display_name="fresh noise",
        default=default,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        tooltip=f"How much of the noise is drawn anew at every step; {paper}. 0 keeps the noise and wants only a dozen "
        "steps. More paints more freely and forgets fine detail between few steps.",
    )


def iterations_input(default: int, tooltip: str) -> Any:
    return io.Int.Input("iterations", default=default, min=1, max=1000, tooltip=tooltip)


def schema(name: str, display: str, description: str, aliases: list[str], inputs: list[Any]) -> io.Schema:
    return io.Schema(
        node_id=f"AdaptDiffuse{name}",
        display_name=display,
        category=f"{CATEGORY}/solvers",
        description=f"{description} {FEW}",
        search_aliases=[*aliases, "few steps", "fast", *ALIASES],
        inputs=[*wires_in(), *inputs, batch_input(), *decoder_inputs()],
        outputs=sampler_output(),
    )


class DiffPIRNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "DiffPIR",
            "DiffPIR (guided solver)",
            "Makes every estimate of the model the most probable picture near it, given the photo. Follows any kind of "
            "damage closely in a dozen steps; the best choice for lost pixels, JPEG and camera blur.",
            ["plug and play", "PnP", "HQS"],
            [
                trust_input(),
                churn_input(0.0, "the paper uses 0.3"),
                iterations_input(
                    2,
                    "Of each fit; every one costs two VAE decodings and a gradient. 1 is faster and follows the photo "
                    "less, above 5 hardly changes a thing.",
                ),
            ],
        )

    @classmethod
    def execute(cls, trust: float, churn: float, iterations: int, **wires: Any) -> io.NodeOutput:
        solver = LatentDiffPIR(trust, churn, iterations)
        return sampler_of(solver, **wires)


class LATINONode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LATINO",
            "LATINO (guided solver)",
            "Decodes, puts the photo's part right in pixels, and encodes again: no gradient at all, so it runs in the "
            "memory of a plain generation, with every model. The best choice for blur and downscaling; not for "
            "JPEG, camera blur and fading.",
            ["gradient free", "low memory", "LCM"],
            [
                trust_input(),
                churn_input(0.0, "the paper uses 1, with consistency models"),
                io.Boolean.Input(
                    "correct",
                    display_name="correct the VAE",
                    default=True,
                    advanced=True,
                    tooltip="Takes out what the VAE loses on the way to pixels and back, for one encoding more at "
                    "every step. Off is the published form, which gets softer with every step.",
                ),
            ],
        )

    @classmethod
    def execute(cls, trust: float, churn: float, correct: bool, **wires: Any) -> io.NodeOutput:
        require_linear(wires["degradation"], "LATINO")
        return sampler_of(LATINO(trust, churn, correct), **wires)


class MPGDNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MPGD",
            "MPGD (guided solver)",
            "Moves every estimate of the model by one gradient towards the photo: the simplest of the solvers of few "
            "steps, and one with a step size to choose.",
            ["manifold preserving"],
            [
                step_size(6.0, "the bundled model likes 12, and 48 for lost pixels"),
                churn_input(0.0, "the paper uses 0"),
            ],
        )

    @classmethod
    def execute(cls, eta: float, churn: float, **wires: Any) -> io.NodeOutput:
        return sampler_of(MPGD(eta, churn), **wires)


class FlowDPSNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "FlowDPS",
            "FlowDPS (guided solver)",
            "Gradients towards the photo, weaker as it goes on, and fresh noise, more as it goes on. Made for flow "
            "models (SD 3, Flux), runs on all.",
            ["flow matching", "SD3", "Flux"],
            [
                step_size(6.0, "the bundled model likes 32, and 64 for lost pixels"),
                iterations_input(
                    3, "Gradients per step; the paper uses 3. More follow the photo closer, and its noise too."
                ),
            ],
        )

    @classmethod
    def execute(cls, eta: float, iterations: int, **wires: Any) -> io.NodeOutput:
        return sampler_of(FlowDPS(eta, iterations), **wires)


class LatentDAPSNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LatentDAPS",
            "LatentDAPS (guided solver)",
            "Samples pictures that agree with the photo around every estimate, and draws all noise anew: the solver to "
            "see how different the possible restorations are. Slow.",
            ["DAPS", "annealing", "Langevin", "variations"],
            [
                io.Int.Input(
                    "ode_steps",
                    display_name="steps of an estimate",
                    default=2,
                    min=1,
                    max=100,
                    tooltip="Passes of the model for each estimate; the paper uses 5. 1 is faster and blurrier, more "
                    "cost as much as steps do.",
                ),
                iterations_input(
                    10,
                    "Of the sampling at every step, each a VAE decoding and a gradient. Too few miss the photo.",
                ),
                io.Float.Input(
                    "rate",
                    default=0.2,
                    min=0.001,
                    max=2.0,
                    step=0.05,
                    round=0.0001,
                    tooltip="Length of a sampling step. Too small: the photo is not reached. From 1 on it breaks.",
                ),
            ],
        )

    @classmethod
    def execute(cls, ode_steps: int, iterations: int, rate: float, **wires: Any) -> io.NodeOutput:
        return sampler_of(LatentDAPS(ode_steps, iterations, rate), **wires)


class DCDPNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "DCDP",
            "DCDP (guided solver)",
            "Fits every estimate to the photo as far as its noise allows, then lets the model clean what that brought "
            "in. Follows the photo closest.",
            ["purification"],
            [
                iterations_input(
                    5,
                    "Of each fit, each two VAE decodings and a gradient. Too few leave the damage, many fit artefacts "
                    "that the model must clean.",
                ),
                churn_input(1.0, "the paper uses 1"),
            ],
        )

    @classmethod
    def execute(cls, iterations: int, churn: float, **wires: Any) -> io.NodeOutput:
        return sampler_of(DCDP(iterations, churn), **wires)
