"""Run by ComfyUI's interpreter, ComfyUI importable: which photo a latent of a batch is of, as JSON on stdout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inside_tools import SEED, pack, tell  # first: it makes this process a ComfyUI

# isort: split

import comfy_extras.nodes_post_processing  # noqa: F401 - before nodes_latent: they import each other
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_latent import LatentBatch, LatentBatchSeedBehavior

import nodes as host_nodes
from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.hosts.comfy_model import HostModel, load_diffusers

LEVELS = (0.2, 0.5, 0.8)  # of grey photos


def grey() -> torch.Tensor:
    return torch.stack([torch.full((32, 32, 3), level) for level in LEVELS])


def started(host: HostModel, sigmas: list[float]) -> tuple[list[dict[str, Any]], list[torch.Tensor]]:
    latent = host.vae.encode(grey())
    severity = pack("nodes.wires").HostSeverity(latent, torch.tensor(sigmas), (32, 32))
    start = pack("nodes.start").StartTime
    return start.execute(host.model, severity, 2, 1.0, "matched", "continuous", 0).result[:2]


def means(host: HostModel, sigmas: torch.Tensor, solved: dict[str, Any], sampled: dict[str, Any]) -> list[float]:
    """Of the photos restored by a solver that got the latent ``solved`` and a sampler that got ``sampled``."""
    blur = pack("nodes.blur").GaussianBlurNode.execute(1.0, 0.05).result[0]
    solver = pack("nodes.quick_solvers").MPGDNode.execute(
        12.0, 0.0, image=grey(), degradation=blur, vae=host.vae, latent=solved
    )
    guider = BasicGuider.execute(host.model, host.conditioning).result[0]
    noise = RandomNoise.execute(SEED).result[0]
    out = SamplerCustomAdvanced.execute(noise, guider, solver.result[0], sigmas, sampled).result[0]
    return [float(image.mean()) for image in host.vae.decode(out["samples"])]


def repeated(together: bool) -> dict[str, Any]:
    """Every photo restored three times, in runs of their own or ``together``."""
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        latents, schedules = started(host, [0.3] * 3 if together else [0.15, 0.2, 0.3])
        repeats = [host_nodes.RepeatLatentBatch().repeat(latent, 3)[0] for latent in latents]
        found = [means(host, sigmas, many, many) for many, sigmas in zip(repeats, schedules, strict=True)]
        late = [] if together else [means(host, *run) for run in zip(schedules, latents, repeats, strict=True)]
        return {"means": found, "repeated_after": late, "noise": [list(map(int, r["batch_index"])) for r in repeats]}


def picked() -> dict[str, Any]:
    """The photos of latents that the host's nodes have made of Start Time's, and of those that do not know theirs."""
    photos = pack("nodes.wires").photo_indices
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        (whole,), alone = started(host, [0.3] * 3)[0], started(host, [0.15, 0.2, 0.3])[0]
        repeat, some = host_nodes.RepeatLatentBatch().repeat, host_nodes.LatentFromBatch().frombatch
        plain = {"samples": torch.zeros(3, 4, 8, 8)}
        severity = pack("nodes.severity").SetSeverity.execute(repeat(alone[1], 2)[0], 0.3).result[0]

        def seeds(latent: dict[str, Any], behavior: str) -> dict[str, Any]:
            return LatentBatchSeedBehavior.execute(latent, behavior).result[0]

        fixed = pack("nodes.severity").SetSeverity.execute(seeds(whole, "fixed"), 0.3).result[0]
        latents = {
            "whole": whole,
            "fixed": seeds(whole, "fixed"),
            "random": seeds(whole, "random"),
            "fixed alone": seeds(alone[1], "fixed"),
            "random alone": seeds(alone[1], "random"),
            "repeated, then fixed": seeds(repeat(whole, 2)[0], "fixed"),
            "one repeated, then fixed": seeds(repeat(alone[1], 3)[0], "fixed"),
            "fixed through a severity": fixed.start(fixed.latent, None),
            "fixed through a severity, one by one": fixed.start(fixed.latent[1:2], [1]),
            "stock fixed": seeds(
                plain | {"samples": torch.arange(3.0)[:, None, None, None] + plain["samples"]}, "fixed"
            ),
            "some": some(whole, 1, 2)[0],
            "some repeated": repeat(some(whole, 1, 1)[0], 2)[0],
            "some of the repeated": some(repeat(whole, 2)[0], 2, 2)[0],
            "joined": LatentBatch.execute(alone[0], alone[1]).result[0],
            "through a severity": severity.start(severity.latent, None),
            "stock": plain,
            "stock repeated": repeat(plain, 2)[0],
            "stock picked": some(plain, 1, 1)[0],
        }
        others = {"samples": plain["samples"][:2] + 1}
        two_pairs = LatentBatch.execute(others, {"samples": others["samples"] + 1}).result[0]
        found = {name: photos(latent, 3) for name, latent in latents.items()}
        hidden = refusal(photos, seeds(some(whole, 1, 2)[0], "fixed"), 3)
        refused = {"refused": refusal(photos, alone[2], 2), "hidden": hidden}
        found["stock, two batches joined"] = photos(two_pairs, 4)
        return {**found, "one photo": photos(repeat(alone[2], 2)[0], 1), **refused}


def refusal(photos: Callable[..., Any], latent: dict[str, Any], count: int) -> str:
    try:
        return f"no error but {photos(latent, count)}"
    except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
        return str(error)


REPORTS: dict[str, Callable[[], Any]] = {
    "repeated-alone": lambda: repeated(False),
    "repeated-together": lambda: repeated(True),
    "picked": picked,
}

if __name__ == "__main__":
    tell(REPORTS)
