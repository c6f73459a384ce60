"""Every kind of damage in a real ComfyUI: done to a photo, and undone again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.comfyui import ComfyServer
from tests.graph import ENCODER, Graph, pixels

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

# name -> the node and its inputs, and the size of what it makes of 64 x 64 pixels
DAMAGE: dict[str, tuple[str, dict[str, Any], int]] = {
    "motion": ("AdaptDiffuseMotionBlur", {"length": 5.0, "angle": 30.0, "noise_std": 0.02}, 64),
    "lens": ("AdaptDiffuseLensBlur", {"radius": 2.5, "noise_std": 0.02}, 64),
    "camera": ("AdaptDiffuseCameraBlur", {"extent": 5.0, "kernel_seed": 3, "gain": 1.0, "noise_std": 0.02}, 64),
    "downscale": ("AdaptDiffuseDownscale", {"factor": 2, "filter": "bicubic", "noise_std": 0.02}, 32),
    "jpeg": ("AdaptDiffuseJPEG", {"quality": 20.0, "noise_std": 0.02}, 64),
}


def restored(comfy: ComfyServer, graph: Graph, degradation: list[Any]) -> tuple[np.ndarray, np.ndarray, float]:
    """The damaged photo, the restored one, and its PSNR."""
    model, photo = graph.model(), graph.photo("small.png")
    damaged = graph.add("AdaptDiffuseApplyDegradation", image=photo, degradation=degradation, seed=0)[0]
    severity = graph.add(
        "AdaptDiffuseEncodeSeverity", image=damaged, vae=model[1], degradation=degradation,
        severity_encoder=graph.add("AdaptDiffuseLoadSeverityEncoder", encoder_name=ENCODER)[0],
    )[0]  # fmt: skip
    image = graph.restore(damaged, degradation, model, severity, steps=12)
    measured = graph.add("AdaptDiffuseMeasure", image=image, reference=photo)[0][0]
    before, after = graph.show(damaged), graph.show(image)
    outputs = comfy.run(graph.prompt)
    small, whole = (pixels(comfy, outputs[shown]["images"][0]) for shown in (before, after))
    return small, whole, float(outputs[measured]["text"][0].split()[1])


@pytest.mark.parametrize("name", DAMAGE)
def test_every_kind_of_damage_is_done_and_undone(comfy: ComfyServer, graph: Graph, name: str) -> None:
    kind, inputs, size = DAMAGE[name]
    damaged, image, psnr = restored(comfy, graph, graph.add(kind, **inputs)[0])
    assert damaged.shape == (size, size, 3)
    assert image.shape == (64, 64, 3)
    assert psnr > 22


def test_a_picture_is_the_kernel_of_a_blur(comfy: ComfyServer, graph: Graph) -> None:
    spot = np.zeros((9, 12, 3), np.uint8)
    spot[2:6, 4:8] = (90, 200, 30)
    Image.fromarray(spot).save(comfy.base / "input" / "spot.png")
    kernel = graph.add("LoadImage", image="spot.png")[0]
    damaged, image, psnr = restored(comfy, graph, graph.add("AdaptDiffuseKernelBlur", kernel=kernel, noise_std=0.02)[0])
    assert damaged.shape == image.shape == (64, 64, 3)
    assert psnr > 22


def test_a_chain_is_undone_at_once(comfy: ComfyServer, graph: Graph) -> None:
    jpeg = graph.add("AdaptDiffuseJPEG", quality=20.0, noise_std=0.02)[0]
    chained = graph.add("AdaptDiffuseChainDegradations", first=graph.blur(), second=jpeg)[0]
    _, image, psnr = restored(comfy, graph, chained)
    assert image.shape == (64, 64, 3)
    assert psnr > 21
