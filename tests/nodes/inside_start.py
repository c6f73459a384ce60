"""Run by ComfyUI's interpreter, ComfyUI importable: where Start Time and Invert to Start begin, as JSON on stdout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inside_tools import as_flow, distance, loaded_digest, native, pack, tell  # first: it makes this a ComfyUI

# isort: split

import comfy.model_management
import comfy.model_sampling
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, DisableNoise, KSamplerSelect, SamplerCustomAdvanced

from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.hosts.comfy_model import HostModel, load_diffusers
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.restore import generators_for
from adapt_diffuse.severity import Severity
from adapt_diffuse.start import StartSettings, flash_start


def seen_by_the_sampler(host: HostModel, samples: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor) -> Any:
    """What the host makes of a LATENT before its sampler runs, as ``z0 + sigma eps``, and that sigma."""
    sampling = host.model.get_model_object("model_sampling")
    x = sampling.noise_scaling(sigma, noise.clone(), host.model.model.process_latent_in(samples))
    level = float(sigma)
    if isinstance(sampling, comfy.model_sampling.CONST):
        return x / (1 - level), level / (1 - level)
    return x, level


def modes(prepare: Callable[[HostModel], None]) -> dict[str, dict[str, float]]:
    """The signal and the noise in the latent with which the host's sampler begins, and the level it takes it for."""
    found = {}
    with torch.inference_mode():
        host = native(True)
        prepare(host)
        z_hat = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(1))
        severity = pack("nodes.wires").HostSeverity(
            host.model.model.process_latent_out(z_hat), torch.tensor([0.7]), None
        )
        noise = torch.randn(z_hat.shape, generator=torch.Generator().manual_seed(0))  # the seed of Start Time, too
        for mode in ("matched", "paper", "published"):
            latents, schedules, steps = (
                pack("nodes.start").StartTime.execute(host.model, severity, 10, 1.2, mode, "continuous", 0).result
            )
            x, level = seen_by_the_sampler(host, latents[0]["samples"], schedules[0][0], noise)
            signal = float((x * z_hat).sum() / z_hat.square().sum())
            spread = float((x - signal * z_hat).std())
            found[mode] = {"level": level, "signal": signal, "noise": spread, "steps": steps[0]}
    return found


def refused() -> dict[str, str]:
    """The sentences for starts that do not exist."""
    found = {}
    with torch.inference_mode():
        host = native(True)
        latent = torch.ones(2, 4, 8, 8)
        for mode, correction, sigma in (("published", 1.2, 0.95), ("paper", 0.9, 0.5), ("published", 0.9, 0.5)):
            severity = pack("nodes.wires").HostSeverity(latent, torch.tensor([0.1, sigma]), None)
            try:
                pack("nodes.start").StartTime.execute(host.model, severity, 3, correction, mode, "continuous", 0)
                found[f"{mode} {correction}"] = "no error"
            except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
                found[f"{mode} {correction}"] = str(error)
    return found


def levels() -> dict[str, list[int]]:
    """The number of steps with all of the model's levels and with half of them."""
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        severity = pack("nodes.wires").HostSeverity(torch.ones(1, 4, 8, 8), torch.tensor([0.6]), None)
        start = pack("nodes.start").StartTime
        found = {}
        for count in (0, 500):
            steps = start.execute(host.model, severity, 0, 1.0, "matched", "continuous", 0, count).result[2]
            found[str(count)] = steps
        return found


def inverted() -> dict[str, Any]:
    """The bundled model's inversion inside the host, against the pure package's outside."""
    z_hat = torch.randn(2, 4, 16, 12, generator=torch.Generator().manual_seed(1))
    sigma_hat = torch.tensor([0.5, 0.3])
    settings = StartSettings(steps=5, inversion=True, noise_correction=1.2)
    expected = flash_start(
        Severity(z_hat, sigma_hat, (64, 48)), DiffusersPrior.load(bundled_model()), settings, generators_for(0, 2)
    )
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        before = loaded_digest(host)
        severity = pack("nodes.wires").HostSeverity(host.model.model.process_latent_out(z_hat), sigma_hat, (64, 48))
        latents, schedules, steps = (
            pack("nodes.invert")
            .InvertToStart.execute(host.model, host.conditioning, severity, 5, 1.2, "continuous")
            .result
        )
        none = torch.zeros(1, 4, 16, 12)
        starts = [
            seen_by_the_sampler(host, latent["samples"], sigmas[0], none)
            for latent, sigmas in zip(latents, schedules, strict=True)
        ]
        guider = BasicGuider.execute(host.model, host.conditioning).result[0]
        euler = KSamplerSelect.execute("euler").result[0]
        disabled = DisableNoise.execute().result[0]
        back = SamplerCustomAdvanced.execute(disabled, guider, euler, schedules[0], latents[0]).result[0]["samples"]
        return {
            "x": [distance(x, expected.x[i : i + 1]) for i, (x, _) in enumerate(starts)],
            "levels": [level for _, level in starts],
            "expected_levels": expected.sigma.tolist(),
            "steps": steps,
            "batch_index": [latent["batch_index"] for latent in latents],
            "away": distance(latents[0]["samples"], host.model.model.process_latent_out(z_hat[:1])),
            "back": distance(host.model.model.process_latent_in(back), z_hat[:1]),
            "unchanged": before == loaded_digest(host),
        }


def closed_form(prepare: Callable[[HostModel], None]) -> dict[str, float]:
    """A model that always imagines the same picture: the inversion is a product then. With CFG and a batch."""
    with torch.inference_mode():
        host = native(True)
        prepare(host)
        z_hat = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
        picture = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(2))
        host.model.set_model_sampler_post_cfg_function(lambda args: picture.clone())
        severity = pack("nodes.wires").HostSeverity(
            host.model.model.process_latent_out(z_hat), torch.tensor([0.8, 0.8]), None
        )
        latents, schedules, _ = (
            pack("nodes.invert")
            .InvertToStart.execute(
                host.model, host.conditioning[:1], severity, 4, 1.0, "continuous", host.conditioning[1:], 3.0
            )
            .result
        )
        x, level = seen_by_the_sampler(host, latents[0]["samples"], schedules[0][0], torch.zeros_like(z_hat))
        rising = schedules[0].flip(0).double()
        if isinstance(host.model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
            rising = rising / (1 - rising)
        growth = (2 - rising[:-1] / rising[1:]).prod()
        expected = picture + growth * (z_hat - picture)
        return {"x": distance(x, expected), "level": level, "runs": len(latents)}


def interrupted() -> dict[str, Any]:
    """An interrupt on the way up."""
    calls = []

    def stop(args: dict[str, Any]) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            comfy.model_management.interrupt_current_processing()
        return args["denoised"]

    with torch.inference_mode():
        host = native(True)
        before = loaded_digest(host)
        host.model.set_model_sampler_post_cfg_function(stop)
        severity = pack("nodes.wires").HostSeverity(torch.ones(1, 4, 8, 6), torch.tensor([0.8]), None)
        try:
            pack("nodes.invert").InvertToStart.execute(
                host.model, host.conditioning[:1], severity, 6, 1.0, "continuous"
            )
            raised = "nothing"
        except comfy.model_management.InterruptProcessingException as error:
            raised = type(error).__name__
        return {
            "raised": raised,
            "calls": len(calls),
            "unchanged": before == loaded_digest(host),
        }


REPORTS: dict[str, Callable[[], Any]] = {
    "modes": lambda: modes(lambda host: None),
    "modes-flow": lambda: modes(as_flow),
    "refused": refused,
    "levels": levels,
    "inverted": inverted,
    "closed": lambda: closed_form(lambda host: None),
    "closed-flow": lambda: closed_form(as_flow),
    "interrupted": interrupted,
}

if __name__ == "__main__":
    tell(REPORTS)
