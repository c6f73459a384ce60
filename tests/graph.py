"""Graphs for a real ComfyUI, written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from tests.comfyui import REPOSITORY, ComfyServer

ENCODER = "severity-flowers-128-gaussian-blur (bundled)"
HOLES_ENCODER = "severity-flowers-128-missing-pixels (bundled)"
MODEL = "flowers-128 (bundled)"
KINDS = ("AutoencoderKL", "VQModel", "AutoencoderTiny", "AutoencoderDC")
WORKFLOWS = sorted((REPOSITORY / "example_workflows").glob("*.json"))
# example workflows whose models do not come with the pack
DOWNLOADS = {"Restore Photo with SD 1.5", "Restore Photo with SDXL", "Models of pixels (DPS)"}
SOLVERS: dict[str, dict[str, Any]] = {
    "AdaptDiffuseLDPS": {"eta": 2.0, "through": "decoder", "normalise": True},
    "AdaptDiffuseGMLDPS": {"eta": 2.0, "gamma": 0.1, "through": "decoder", "normalise": True},
    "AdaptDiffusePSLD": {"eta": 2.0, "gamma": 0.1, "through": "decoder", "normalise": True},
    "AdaptDiffuseReSample": {"gamma": 400.0, "proximal": 1.0, "every": 2, "iterations": 3, "eta_ddim": 1.0},
    "AdaptDiffuseDPS": {"eta": 1.0, "through": "decoder", "normalise": False},
}


class Graph:
    """An API prompt in the making: ``graph.add("Node", name=value)`` gives its outputs by number."""

    def __init__(self) -> None:
        self.prompt: dict[str, Any] = {}

    def add(self, kind: str, **inputs: Any) -> list[list[Any]]:
        key = str(len(self.prompt) + 1)
        self.prompt[key] = {"class_type": kind, "inputs": inputs}
        return [[key, number] for number in range(4)]

    @property
    def last(self) -> str:
        return str(len(self.prompt))

    def model(self, name: str = MODEL) -> list[list[Any]]:
        return self.add("AdaptDiffuseLoadDiffusers", model_name=name)

    def photo(self, name: str) -> list[Any]:
        return self.add("LoadImage", image=name)[0]

    def show(self, image: list[Any]) -> str:
        self.add("PreviewImage", images=image)
        return self.last

    def blur(self, std: float = 1.5, noise_std: float = 0.05) -> list[Any]:
        return self.add("AdaptDiffuseGaussianBlur", std=std, noise_std=noise_std)[0]

    def severity(self, image: list[Any], vae: list[Any], encoder: str = ENCODER) -> list[list[Any]]:
        loaded = self.add("AdaptDiffuseLoadSeverityEncoder", encoder_name=encoder)[0]
        return self.add("AdaptDiffuseEncodeSeverity", image=image, vae=vae, severity_encoder=loaded)

    def restore(
        self,
        photo: list[Any],
        degradation: list[Any],
        model: list[list[Any]],
        severity: list[Any],
        steps: int = 3,
        through: str = "decoder",
        solver: str = "AdaptDiffuseLDPS",
        **start: Any,
    ) -> list[Any]:
        """From a damaged photo and its severity to the restored image."""
        settings = {"noise_correction": 1.0, "mode": "matched", "rounding": "continuous", "seed": 0, **start}
        begin = self.add("AdaptDiffuseStartTime", model=model[0], severity=severity, steps=steps, **settings)
        numbers = {**SOLVERS[solver], **({"through": through} if "through" in SOLVERS[solver] else {})}
        sampler = self.add(solver, image=photo, degradation=degradation, vae=model[1], latent=begin[0], **numbers)
        guider = self.add("BasicGuider", model=model[0], conditioning=model[2])
        noise = self.add("RandomNoise", noise_seed=3)
        sampled = self.add(
            "SamplerCustomAdvanced", noise=noise[0], guider=guider[0], sampler=sampler[0], sigmas=begin[1],
            latent_image=begin[0],
        )  # fmt: skip
        return self.add("AdaptDiffuseDecodeRestoration", latent=sampled[0], vae=model[1])[0]


def pixels(comfy: ComfyServer, entry: dict[str, str]) -> np.ndarray:
    """The image of a node's output, (H, W, 3) on [0, 1]."""
    return np.asarray(Image.open(comfy.file_of(entry)).convert("RGB"), dtype=np.float64) / 255
