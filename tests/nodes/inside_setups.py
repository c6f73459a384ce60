"""Run by ComfyUI's interpreter, ComfyUI importable: patched, compiled, offloaded, quantised models, as JSON."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inside_tools import Spy, distance, loaded_digest, native, photo, sample, tell  # first: it makes this a ComfyUI

# isort: split
import comfy.model_management
import comfy.sd
import comfy.utils
import setups
import torch
from checkpoints import conditioning, save_checkpoint

from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.comfy_model import HostModel
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.solvers import LDPS

SIGMAS = torch.tensor([1.0, 0.5, 0.0])


@dataclass
class Beside(Spy):
    """A Spy that differentiates the host's own path as well: its shared model, with all that was done to it."""

    in_place: bool = False  # whether a patch writes into activations
    expected: list[torch.Tensor] = field(default_factory=list)

    def gradient(self, prior: Any, measurement: Any, x: Any, sigma: Any) -> Any:
        found = super().gradient(prior, measurement, x, sigma)
        host, source = prior._host, x.detach().clone().requires_grad_()
        copying = torch.autograd.graph.allow_mutation_on_saved_tensors if self.in_place else nullcontext
        with torch.enable_grad(), copying():
            z0 = host._call(*host.in_host(source, sigma), **host._arguments)
            norm = (2 * measurement.residual(prior.decode(z0))).norm()
            self.expected.append(torch.autograd.grad(norm, source)[0])
        return found


def run(host: HostModel, solver: Any) -> torch.Tensor:
    latent = torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(1))
    return sample(host, solver, Measurement.of(photo(), GaussianBlur(1.0, 0.05)), latent, SIGMAS, cfg=2.0)


def prepared(setup: Callable[[HostModel], Any] | None, in_inference_mode: bool = True) -> HostModel:
    host = native(in_inference_mode)
    if setup is not None:
        setup(host)
    return host


def right_or_refused(
    setup: Callable[[HostModel], Any] | None, reference: Callable | None = None, in_place: bool = False
) -> dict[str, Any]:
    """A run through the decoder, which must work; one through the denoiser, with its gradient or its sentence.

    Args:
        setup: what is done to the host's model.
        reference: what is done to the model whose own path gives the expected gradients; ``setup`` by default.
        in_place: whether the model's own path needs copies of what it writes into.
    """
    found: dict[str, Any] = {}
    with torch.inference_mode():
        host = prepared(setup)
        result = run(host, LDPS(1.0, "decoder"))
        before = loaded_digest(host)
        found["decoder"] = bool(torch.isfinite(result).all())
        spy = Spy("denoiser", eta=1.0)
        try:
            found["finite"] = bool(torch.isfinite(run(host, spy)).all())
        except AdaptDiffuseError as error:
            found["refused"] = str(error)
        found["again"] = bool(torch.equal(result, run(host, LDPS(1.0, "decoder"))))
        found["unchanged"] = before == loaded_digest(host)
        found["switched_back"] = not comfy.model_management.in_training
    if "refused" in found:
        return found
    # the same on ordinary tensors, where the host's own path can be differentiated
    beside = Beside("denoiser", eta=1.0, in_place=in_place)
    run(prepared(reference or setup, False), beside)
    found["gradient"] = max(distance(a[2], b) for a, b in zip(spy.seen, beside.expected, strict=True))
    found["norm"] = min(float(gradient.norm()) for gradient in beside.expected)
    found["plain"] = distance(beside.expected[0], plain_gradient())
    return found


@functools.cache
def plain_gradient() -> torch.Tensor:
    beside = Beside("denoiser", eta=1.0)
    run(native(False), beside)
    return beside.expected[0]


def quantised(kind: str) -> dict[str, Any]:
    """SD 3's layout with weights in 8 bits: cast by the loader ("cast"), or layers that are files of their own kind."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = save_checkpoint("sd3", Path(folder))
        if kind == "layers":
            weights = comfy.utils.load_torch_file(str(files.model))
            comfy.utils.save_torch_file(with_quantised_layers(weights), str(files.model))
        options = {"dtype": torch.float8_e4m3fn} if kind == "cast" else {}
        model = comfy.sd.load_diffusion_model(str(files.model), model_options=options)
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(files.vae)))
        host = HostModel(model, vae, conditioning(files.layout))
        measurement = Measurement.of(photo(), GaussianBlur(1.0, 0.05))
        latent, sigmas = torch.ones(1, 16, 8, 6), torch.tensor([0.4, 0.2, 0.0])
        found["kinds"] = sorted({str(parameter.dtype) for parameter in model.model.parameters()})
        found["decoder"] = bool(
            torch.isfinite(sample(host, LDPS(1.0, "decoder"), measurement, latent, sigmas, cfg=2.0)).all()
        )
        try:
            sample(host, LDPS(1.0, "denoiser"), measurement, latent, sigmas, cfg=2.0)
        except AdaptDiffuseError as error:
            found["refused"] = str(error)
    return found


def with_quantised_layers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The first layer of every multilayer perceptron in the host's own 8-bit format."""
    form = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    for key in [key for key in weights if key.endswith("x_block.mlp.fc1.weight")]:
        scale = weights[key].abs().max() / 448
        weights[key] = (weights[key] / scale).to(torch.float8_e4m3fn)
        weights[f"{key}_scale"] = scale
        weights[key.removesuffix("weight") + "comfy_quant"] = form.clone()
    return weights


def compilations() -> dict[str, Any]:
    """How often a compiled model is compiled: through the decoder it runs as it is, the copy never is."""
    calls: list[int] = []
    found = {}
    with torch.inference_mode():
        host = native(True)
        setups.compiled(host, calls)
        for name, through in (("decoder", "decoder"), ("denoiser", "denoiser"), ("after", "decoder")):
            run(host, LDPS(1.0, through))  # type: ignore[arg-type]
            found[name] = len(calls)
    return found


def no_numbers() -> dict[str, str]:
    """What is said of a model that overflows, by each way to its gradient."""
    found = {}
    with torch.inference_mode():
        host = native(True)
        host.model.set_model_unet_function_wrapper(
            lambda apply, given: apply(given["input"], given["timestep"], **given["c"]) * float("nan")
        )
        for through in ("decoder", "denoiser"):
            try:
                run(host, LDPS(1.0, through))  # type: ignore[arg-type]
                found[through] = "no error"
            except AdaptDiffuseError as error:
                found[through] = str(error)
    return found


SETUPS: dict[str, Callable[[HostModel], Any] | None] = {
    "plain": None,
    "lora": setups.lora,
    "weight-wrapper": setups.weight_wrapper,
    "bypass-lora": setups.bypass_lora,
    "low-vram": setups.low_vram,
    "low-vram-lora": setups.low_vram_lora,
    "compiled": setups.compiled,
    "compiled-block": setups.compiled_block,
    "kernel-without-backward": setups.kernel_without_backward,
    "attention-patch": setups.attention_patch,
    "cublas": setups.cublas,
    "function-wrapper": setups.function_wrapper,
    "cache-wrapper": setups.cache_wrapper,
    "controlnet": setups.controlnet,
    "patch-with-network": setups.patch_with_network,
    "gguf-weights": setups.gguf_weights,
    "gguf-patcher": setups.gguf_patcher,
    "multi-gpu": setups.multi_gpu,
}
REPORTS: dict[str, Callable[[], Any]] = {
    **{name: lambda setup=setup: right_or_refused(setup) for name, setup in SETUPS.items()},  # type: ignore[misc]
    # the expected gradient is that of the attention which has one
    "silent-attention": lambda: right_or_refused(setups.silent_attention, lambda host: None),
    # in bfloat16 the host's attention and the one that has a gradient round differently
    "compute-dtype": lambda: right_or_refused(
        setups.compute_dtype, setups.both(setups.compute_dtype, setups.attention_of_torch)
    ),
    "freeu": lambda: right_or_refused(setups.freeu, in_place=True),
    "compilations": compilations,
    "no numbers": no_numbers,
    "quantised-cast": lambda: quantised("cast"),
    "quantised-layers": lambda: quantised("layers"),
    # the expected gradient is that of the model in plain memory
    "dynamic": lambda: right_or_refused(setups.dynamic, lambda host: None),
    "dynamic-lora": lambda: right_or_refused(setups.both(setups.lora, setups.dynamic), setups.lora),
    "dynamic-compiled": lambda: right_or_refused(setups.both(setups.compiled_block, setups.dynamic), lambda host: None),
    "dynamic-bypass-lora": lambda: right_or_refused(setups.both(setups.bypass_lora, setups.dynamic)),
    "dynamic-without-a-file": lambda: right_or_refused(setups.dynamic_without_a_file),
    "dynamic-quantised": lambda: right_or_refused(setups.dynamic_quantised),
}

if __name__ == "__main__":
    tell(REPORTS)
