"""Run by ComfyUI's interpreter, ComfyUI importable: every layout of checkpoints by the host's loaders, as JSON."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inside_tools import (  # first: it makes this process a ComfyUI
    SEED,
    After,
    Spy,
    distance,
    loaded_digest,
    pack,
    photo,
    sample,
    tell,
)

# isort: split
import comfy.model_management
import comfy.samplers
import torch
from checkpoints import LAYOUTS, Files, conditioning, load, save_checkpoint
from comfy_extras.nodes_custom_sampler import CFGGuider, RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.hosts.comfy_model import HostModel
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.solvers import LDPS

FOLDER = tempfile.TemporaryDirectory()
CFG, SIGMA = 2.0, 0.7
SMALL = [name for name in LAYOUTS if name != "sd15-full"]
# how the published autoencoders' latents become the model's: (raw - shift) * scale
SCALES = {
    "SD15": (0.18215, 0.0), "SDXL": (0.13025, 0.0), "Segmind_Vega": (0.13025, 0.0), "SD3": (1.5305, 0.0609),
    "Flux": (0.3611, 0.1159), "FluxSchnell": (0.3611, 0.1159),
}  # fmt: skip
FLOWS = ("SD3", "Flux", "FluxSchnell")


@functools.cache
def saved(name: str) -> Files:
    return save_checkpoint(name, Path(FOLDER.name), torch.float16 if name == "sd15-full" else torch.float32)


def loaded(name: str, patch: str = "") -> HostModel:
    """The layout by the host's loaders; ``patch`` "v_prediction" as by the node ModelSamplingDiscrete."""
    files = saved(name)
    model, vae = load(files)
    if patch:
        model = ModelSamplingDiscrete().patch(model, patch, False)[0]
    return HostModel(model, vae, conditioning(files.layout))


class Probe(LDPS):
    """A solver that keeps what it was given, and what the prior makes of it, and stays where it is."""

    def step(self, state: Any, sigma: Any, sigma_next: Any, prior: Any, measurement: Any) -> Any:
        z0 = prior.denoise(state.x, sigma)
        image = prior.decode(z0)
        self.seen.append((state.x.clone(), sigma.clone(), z0, image, prior.encode(image.clamp(0, 1))))
        return state.x.clone(), z0


def probe() -> Any:
    made = Probe(1.0, "decoder")
    object.__setattr__(made, "seen", [])
    return made


def started(host: HostModel, channels: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Start Time's LATENT and SIGMAS for a severity of ``SIGMA``, and the estimate in the model's scale."""
    z_hat = torch.randn(1, channels, 8, 6, generator=torch.Generator().manual_seed(1))
    severity = pack("nodes.wires").HostSeverity(host.model.model.process_latent_out(z_hat), torch.tensor([SIGMA]), None)
    start = pack("nodes.start").StartTime
    latents, schedules, _ = start.execute(host.model, severity, 2, 1.0, "matched", "continuous", 0).result
    return latents[0], schedules[0], z_hat


def host_sees(host: HostModel, latent: Any, sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The latent with which a stock sampler of the host begins, and the host's own posterior mean of it."""
    seen: list[torch.Tensor] = []

    def look(model: Any, x: Any, levels: Any, extra_args: Any = None, callback: Any = None, disable: Any = None) -> Any:
        seen.extend([x.clone(), model(x, levels[0] * x.new_ones(len(x)), **extra_args)])
        return seen[1]

    guider = CFGGuider.execute(host.model, host.conditioning[:1], host.conditioning[1:], CFG).result[0]
    noise = RandomNoise.execute(SEED).result[0]
    SamplerCustomAdvanced.execute(noise, guider, comfy.samplers.KSAMPLER(look), sigmas, latent)
    return seen[0], seen[1]


def agreement(name: str, patch: str = "") -> dict[str, float]:
    """Our prior against the host's own model, VAE and formulas."""
    layout = LAYOUTS[name]
    with torch.inference_mode():
        host = loaded(name, patch)
        latent, sigmas, z_hat = started(host, layout.channels)
        x_host, z0_host = host_sees(host, latent, sigmas)
        solver, measurement = probe(), Measurement.of(photo(), GaussianBlur(1.0, 0.05))
        sample(host, solver, measurement, z_hat, sigmas, cfg=CFG)
        x, sigma, z0, image, again = solver.seen[0]
        level = SIGMA / (1 + SIGMA) if layout.config in FLOWS else SIGMA
        noise = RandomNoise.execute(SEED).result[0].generate_noise(latent)
        scale, shift = SCALES[layout.config]
        raw = z0 / scale + shift
        own = host.vae.decode(raw).movedim(-1, 1)
        # 64 x 48 pixels, as the latent
        encoded = (host.vae.encode(image.clamp(0, 1).movedim(1, -1)) - shift) * scale
        return {
            "level": abs(float(sigmas[0]) / level - 1),
            "sigma": abs(float(sigma[0]) / SIGMA - 1),
            "start": distance(x, z_hat + SIGMA * noise),
            "x": distance(x * (1 - level) if layout.config in FLOWS else x, x_host),
            "z0": distance(z0, z0_host),
            "moved": distance(z0, x),
            "decode": distance(image.clamp(0, 1), own),
            "encode": distance(again, encoded),
        }


def independent(name: str, patch: str, through: str, seen: tuple[Any, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The posterior mean of x and the data term's gradient from the host's parts alone, outside inference mode."""
    layout, (x, sigma, _, _) = LAYOUTS[name], seen
    host = loaded(name, patch)
    comfy.model_management.load_models_gpu([host.model], force_full_load=True)
    base, flow = host.model.model, layout.config in FLOWS
    source = x.clone().requires_grad_()
    level = sigma.float() / (1 + sigma.float()) if flow else sigma.float()
    in_host = source * (1 - level) if flow else source
    comfy.model_management.in_training = True
    with torch.enable_grad(), copies_saved():
        means = []
        for text, more in host.conditioning:
            # the size of the photo that the host assumes for a latent of 8 x 6
            conds = base.extra_conds(cross_attn=text, noise=x, device=x.device, width=48, height=64, **more)
            arguments = {key: cond.process_cond(batch_size=1).cond for key, cond in conds.items()}
            means.append(base.apply_model(in_host, level, **arguments))
        z0 = means[1] + CFG * (means[0] - means[1])
        if through == "decoder":
            source = z0 = z0.detach().requires_grad_()
        scale, shift = SCALES[layout.config]
        image = (host.vae.first_stage_model.decode(z0 / scale + shift) + 1) / 2
        residual = photo() - GaussianBlur(1.0, 0.05)(image[:, :, :60, :45])
        (gradient,) = torch.autograd.grad((2 * residual).norm(), source)
    comfy.model_management.in_training = False
    return z0.detach(), gradient


def copies_saved() -> Any:
    """Every activation is copied for the backward pass: Flux goes on to write into some of them."""
    return torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.detach().clone(), lambda saved: saved)


def gradient(name: str, patch: str = "", throughs: tuple[str, ...] = ("denoiser", "decoder")) -> dict[str, Any]:
    """Gradients inside the host against independent ones; the shared models before and after."""
    found: dict[str, Any] = {}
    for through in throughs:
        with torch.inference_mode():
            host = loaded(name, patch)
            latent, sigmas, z_hat = started(host, LAYOUTS[name].channels)
            before = loaded_digest(host)
            spy = Spy(through, eta=1.0)
            sample(host, spy, Measurement.of(photo(), GaussianBlur(1.0, 0.05)), z_hat, sigmas[:2], cfg=CFG)
            unchanged = before == loaded_digest(host)
            del host
        z0, expected = independent(name, patch, through, spy.seen[0])
        _, again = independent(name, patch, through, spy.seen[0])
        found[through] = {
            "norm": float(expected.norm()),
            "gradient": distance(spy.seen[0][2], expected),
            "repeated": distance(again, expected),
            "z0": distance(spy.seen[0][3], z0),
            "unchanged": unchanged,
        }
    return found


def ended(name: str) -> dict[str, Any]:
    """The shared models after an exception and after an interrupt, in the middle of a run."""
    found: dict[str, Any] = {"raised": []}
    with torch.inference_mode():
        host = loaded(name)
        _, sigmas, z_hat = started(host, LAYOUTS[name].channels)
        measurement = Measurement.of(photo(), GaussianBlur(1.0, 0.05))
        before = loaded_digest(host)

        def fail(step: int) -> None:
            raise KeyError("on purpose")

        def stop(step: int) -> None:
            comfy.model_management.interrupt_current_processing()

        for through in ("denoiser", "decoder"):
            for after in (fail, stop):
                try:
                    sample(host, After(LDPS(1.0, through), after), measurement, z_hat, sigmas, cfg=CFG)
                except (KeyError, comfy.model_management.InterruptProcessingException) as error:
                    found["raised"].append(type(error).__name__)
        found["unchanged"] = before == loaded_digest(host)
        found["as_in_the_file"] = bits(host) == bits(loaded(name))
    return found


def bits(host: HostModel) -> str:
    """Of every weight, without the marks that loading leaves on layers."""
    found = hashlib.sha256()
    for part in (host.model.model, host.vae.first_stage_model):
        for key, value in sorted(part.state_dict().items()):
            found.update(key.encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()


REPORTS: dict[str, Callable[[], Any]] = {
    **{f"agreement-{name}": lambda name=name: agreement(name) for name in SMALL},  # type: ignore[misc]
    **{f"gradient-{name}": lambda name=name: gradient(name) for name in SMALL},  # type: ignore[misc]
    **{f"ended-{name}": lambda name=name: ended(name) for name in SMALL if name != "sdxl"},  # type: ignore[misc]
    "agreement-sd15-v": lambda: agreement("sd15", "v_prediction"),
    "gradient-sd15-v": lambda: gradient("sd15", "v_prediction"),
    "agreement-sd15-full": lambda: agreement("sd15-full", "v_prediction"),
    "gradient-sd15-full": lambda: gradient("sd15-full", throughs=("denoiser",)),
}

if __name__ == "__main__":
    tell(REPORTS)
