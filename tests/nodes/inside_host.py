"""Run by ComfyUI's interpreter, ComfyUI importable: numbers about gradients inside the host, as JSON on stdout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inside_tools import (  # first: it makes this process a ComfyUI
    SEED,
    Padded,
    Spy,
    as_flow,
    digest,
    distance,
    loaded_digest,
    native,
    pack,
    photo,
    sample,
    tell,
)  # fmt: skip

# isort: split
import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sample
import comfy_extras.nodes_custom_sampler
import torch

from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.degradation import GaussianBlur, RandomMissingPixels
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.guidance import data_gradient
from adapt_diffuse.hosts.comfy_copy import static_clone
from adapt_diffuse.hosts.comfy_model import HostModel, load_diffusers
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import descend
from adapt_diffuse.solvers import LDPS, solve


def bundled(through: str) -> dict[str, float]:
    """The bundled model inside the host against the pure package outside."""
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        y = photo()
        latent = torch.randn(1, 4, 15, 12, generator=torch.Generator().manual_seed(1))
        measurement = Measurement.of(y, GaussianBlur(1.5, 0.05))
        levels = host.model.get_model_object("model_sampling").sigmas
        sigmas = descend(0.45, levels, 4)
        solver = Spy(through)
        before = loaded_digest(host)
        inside = sample(host, solver, measurement, latent, sigmas)
        after = loaded_digest(host)
        freed = solver.decoder() is None

    prior = DiffusersPrior.load(bundled_model())
    measurement = Measurement.of(photo(), GaussianBlur(1.5, 0.05))
    gradients, means = [], []
    for x, sigma, gradient, z0 in solver.seen:
        outside = data_gradient(Padded(prior), measurement, x, sigma, through)
        gradients.append(distance(gradient, outside.gradient))
        means.append(distance(z0, outside.z0))
    generators = generators_for(SEED, 1)
    x = latent + 0.45 * torch.randn(latent.shape, generator=generators[0])
    expected = solve(LDPS(2.0, through), Padded(prior), measurement, x, [sigmas.float().double()], generators)
    return {
        "steps": len(solver.seen),
        "gradient": max(gradients),
        "gradient_norm": min(float(gradient.norm()) for _, _, gradient, _ in solver.seen),
        "posterior_mean": max(means),
        "result": distance(inside, expected),
        "unchanged": before == after,
        "freed": freed,
    }


def interrupted(through: str) -> dict[str, Any]:
    """The shared models, and the next run, after an exception and after the user's interrupt."""
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        measurement = Measurement.of(photo(), RandomMissingPixels(0.5, 0, 0.05))
        latent = torch.randn(1, 4, 15, 12, generator=torch.Generator().manual_seed(1))
        sigmas = descend(0.45, host.model.get_model_object("model_sampling").sigmas, 4)
        first = sample(host, Spy(through), measurement, latent, sigmas)
        before = loaded_digest(host)

        def fail(step: int) -> None:
            if step == 2:
                raise KeyError("on purpose")

        def stop(step: int) -> None:
            if step == 2:
                comfy.model_management.interrupt_current_processing()

        raised = []
        for after in (fail, stop):
            solver = Spy(through, after=after)
            try:
                sample(host, solver, measurement, latent, sigmas)
            except (KeyError, comfy.model_management.InterruptProcessingException) as error:
                raised.append([type(error).__name__, len(solver.seen)])
            assert torch.is_inference_mode_enabled()
        again = sample(host, Spy(through), measurement, latent, sigmas)
        kept = solver.decoder() is not None
        state = torch.random.get_rng_state()
        comfy.sample.prepare_noise(latent, SEED)  # what the host itself does to the global state
        return {
            "raised": raised,
            "unchanged": before == loaded_digest(host),
            "freed": not kept,
            "same_again": bool(torch.equal(first, again)),
            "random_state_untouched": bool(torch.equal(state, torch.random.get_rng_state())),
        }


def host_own(through: str, prepare: Callable[[HostModel], None] = lambda host: None) -> dict[str, float]:
    """A model of the host's own, with CFG: inside inference mode against the same run with ordinary tensors."""
    runs = []
    for mode in (True, False):
        host = native(mode)
        with torch.inference_mode(mode):
            prepare(host)
            sampling = host.model.get_model_object("model_sampling")
            measurement = Measurement.of(photo(2), GaussianBlur(1.0, 0.05))
            latent = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
            flow = isinstance(sampling, comfy.model_sampling.CONST)
            sigmas = torch.tensor([0.5, 0.3, 0.1, 0.0] if flow else [1.0, 0.5, 0.2, 0.0])
            solver = Spy(through, eta=1.0)
            weights = next(host.model.model.diffusion_model.parameters())
            before = loaded_digest(host)
            result = sample(host, solver, measurement, latent, sigmas, cfg=3.0)
            assert weights.is_inference() == mode, "the test's premise: weights are inference tensors, or not"
            after = loaded_digest(host)
        runs.append((solver.seen, result, before == after))
    (seen, result, unchanged), (other, expected, _) = runs
    return {
        "gradient": max(distance(a[2], b[2]) for a, b in zip(seen, other, strict=True)),
        "gradient_norm": min(float(a[2].norm()) for a in seen),
        "result": distance(result, expected),
        "finite": bool(torch.isfinite(result).all()),
        "first_level": float(seen[0][1][0]),
        "first_latent": distance(seen[0][0], latent + seen[0][1][0] * comfy.sample.prepare_noise(latent, SEED)),
        "unchanged": unchanged,
    }


def patched() -> dict[str, float]:
    """A LoRA's change of the weights: what the host's model and our copy of it make of the same latent."""
    key = "diffusion_model.output_blocks.0.0.in_layers.2.weight"
    means = {}
    with torch.inference_mode():
        for strength in (0.0, 1.0):
            for through in ("denoiser", "decoder"):
                host = native(True)
                change = torch.full_like(host.model.model.state_dict()[key], 0.1)
                host.model.add_patches({key: ("diff", (change,))}, strength)
                measurement = Measurement.of(photo(), GaussianBlur(1.0, 0.05))
                latent = torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(1))
                solver = Spy(through)
                sample(host, solver, measurement, latent, torch.tensor([1.0, 0.5, 0.0]), cfg=2.0)
                means[through, strength] = solver.seen[0][3]
    return {
        "copy_from_host": distance(means["denoiser", 1.0], means["decoder", 1.0]),
        "patch_does_something": distance(means["denoiser", 1.0], means["denoiser", 0.0]),
    }


def refusals() -> dict[str, str]:
    """What cannot be right, and the sentence for it."""
    found: dict[str, str] = {}

    def refused(
        name: str,
        host: HostModel,
        latent: torch.Tensor,
        sigmas: list[float],
        through: str = "denoiser",
        guider: Any = None,
        photos: int = 1,
    ) -> None:
        measurement = Measurement.of(photo(photos), GaussianBlur(1.0, 0.05))
        try:
            sample(host, LDPS(1.0, through), measurement, latent, torch.tensor(sigmas), cfg=2.0, guider=guider)
            found[name] = "no error"
        except AdaptDiffuseError as error:
            found[name] = str(error)

    latent, fall = torch.ones(1, 4, 8, 6), [0.5, 0.2, 0.0]
    with torch.inference_mode():
        refused("rising", native(True), latent, [0.2, 0.5, 0.0])
        refused("nan", native(True), latent, [float("nan"), 0.0])
        refused("size", native(True), torch.ones(1, 4, 4, 4), fall)
        refused("cut", native(True), torch.ones(1, 4, 7, 5), fall)
        refused("batch", native(True), torch.ones(3, 4, 8, 6), fall, photos=2)
        hooked = native(True)
        hooked.model.model_options["multigpu_clones"] = {}
        refused("multigpu", hooked, latent, fall)
        partial = native(True)
        partial.model.add_callback(
            comfy.patcher_extension.CallbacksMP.ON_LOAD,
            lambda patcher, *settings: setattr(patcher.model, "model_lowvram", True),
        )
        refused("partial", partial, latent, fall)
        hooks = native(True)
        hooks.conditioning[0][1]["hooks"] = comfy.hooks.create_hook_lora({}, 1.0, 0.0)
        refused("hooks", hooks, latent, fall)
        packed = native(True)
        packed.model.__class__ = type("GGUFModelPatcher", (comfy.model_patcher.ModelPatcher,), {})
        refused("gguf", packed, latent, fall)
        second = native(True)
        other = native(True)
        dual = comfy_extras.nodes_custom_sampler.Guider_DualModel(second.model, other.model)
        dual.set_conds(second.conditioning[:1], second.conditioning[1:])
        dual.set_cfg(2.0)
        refused("second model", second, latent, fall, guider=dual)
        quantised = native(True)
        linear = quantised.model.model.diffusion_model.time_embed[0]
        linear.weight = torch.nn.Parameter(linear.weight.data.to(torch.float8_e4m3fn), False)
        refused("quantised", quantised, latent, fall)
        detached = native(True)
        detached.model.set_model_sampler_post_cfg_function(lambda args: args["denoised"].detach())
        refused("detached", detached, latent, fall)
        zero = native(True)
        for parameter in zero.vae.first_stage_model.decoder.conv_out.parameters():
            parameter.zero_()
        refused("zero", zero, latent, fall, "decoder")
    return found


def reloaded() -> dict[str, bool]:
    """The copy for hosts with dynamic VRAM: read from disk once more, ordinary tensors, the same weights."""
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        with torch.inference_mode(False):
            again = static_clone(host.model)
        return {
            "another_model": again.model is not host.model.model,
            "normal_tensors": not any(p.is_inference() for p in again.model.parameters()),
            "same_weights": digest(again.model.diffusion_model) == digest(host.model.model.diffusion_model),
        }


def batch(through: str) -> list[float]:
    """How far each photo of a batch is from the same photo restored alone."""
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        whole = Measurement.of(photo(3), GaussianBlur(torch.tensor([1.0, 1.5, 2.0]), 0.05))
        latent = torch.randn(3, 4, 15, 12, generator=torch.Generator().manual_seed(1))
        sigmas = descend(0.45, host.model.get_model_object("model_sampling").sigmas, 3)
        together = sample(host, Spy(through), whole, latent, sigmas, indices=[0, 1, 2])
        found = []
        for i in range(3):
            part = whole.select(torch.tensor([i]))
            alone = sample(host, Spy(through), part, latent[i : i + 1], sigmas, indices=[i])
            found.append(distance(together[i : i + 1], alone))
        return found


def variations() -> dict[str, Any]:
    """One photo and three latents of it, as Repeat Latent Batch makes them: each alone, and through a solver's node."""
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        measurement = Measurement.of(photo(1), GaussianBlur(1.5, 0.05))
        latent = torch.randn(1, 4, 15, 12, generator=torch.Generator().manual_seed(1)).expand(3, -1, -1, -1)
        sigmas = descend(0.45, host.model.get_model_object("model_sampling").sigmas, 3)
        together = sample(host, Spy("decoder"), measurement, latent, sigmas, indices=[0, 1, 2])
        alone = [sample(host, Spy("decoder"), measurement, latent[:1], sigmas, indices=[i]) for i in range(3)]
        repeated = {"samples": host.model.model.process_latent_out(latent), "batch_index": [0, 1, 2]}
        node = pack("nodes.quick_solvers").MPGDNode
        wires = {"image": measurement.y.movedim(1, -1), "degradation": measurement.degradation, "vae": host.vae}
        sampler = node.execute(1.0, 0.0, **wires, latent=repeated).result[0]
        noise = comfy_extras.nodes_custom_sampler.RandomNoise.execute(SEED).result[0]
        guider = comfy_extras.nodes_custom_sampler.BasicGuider.execute(host.model, host.conditioning).result[0]
        run = comfy_extras.nodes_custom_sampler.SamplerCustomAdvanced
        made = run.execute(noise, guider, sampler, sigmas.float(), repeated).result[0]
        decoded = pack("nodes.decode").DecodeRestoration.execute(
            made, host.vae, wires["image"], wires["degradation"], match_colours=True
        )
    return {
        "alone": [distance(one, together[i : i + 1]) for i, one in enumerate(alone)],
        "apart": min(distance(together[:1], together[i : i + 1]) for i in (1, 2)),
        "decoded": list(decoded.result[0].shape),
    }


REPORTS: dict[str, Callable[[], Any]] = {
    "bundled-denoiser": lambda: bundled("denoiser"),
    "bundled-decoder": lambda: bundled("decoder"),
    "interrupted-denoiser": lambda: interrupted("denoiser"),
    "interrupted-decoder": lambda: interrupted("decoder"),
    "native-denoiser": lambda: host_own("denoiser"),
    "native-decoder": lambda: host_own("decoder"),
    "flow-denoiser": lambda: host_own("denoiser", as_flow),
    "flow-decoder": lambda: host_own("decoder", as_flow),
    "batch-denoiser": lambda: batch("denoiser"),
    "batch-decoder": lambda: batch("decoder"),
    "variations": variations,
    "patched": patched,
    "refusals": refusals,
    "reloaded": reloaded,
}

if __name__ == "__main__":
    tell(REPORTS)
