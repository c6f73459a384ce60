"""Run by ComfyUI's interpreter, ComfyUI importable: where the photo's own detail is put back, as JSON on stdout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from inside_tools import CountedBlur, distance, pack, photo, tell  # first: it makes this process a ComfyUI

# isort: split

import comfy.model_management
import torch

comfy_detail = pack("adapt_diffuse.hosts.comfy_detail")
CameraBlur, GaussianBlur = (getattr(pack("adapt_diffuse.degradation"), name) for name in ("CameraBlur", "GaussianBlur"))
Measurement, with_detail = pack("adapt_diffuse.measurement").Measurement, pack("adapt_diffuse.detail").with_detail
GPU = torch.device("cpu:0")  # for torch the CPU, for those who compare, another device


def measured(degradation: Any) -> Any:
    noise = 0.02 * torch.randn(photo().shape, generator=torch.Generator().manual_seed(0))
    return Measurement.of(degradation(photo()) + noise, degradation)


def cancelled() -> dict[str, Any]:
    """Cancel is pressed while a single photo's detail is put back."""
    with torch.inference_mode():
        blur = CountedBlur(1.5, 0.02)
        measurement, image = measured(blur), photo().flip(3).movedim(1, -1)
        try:
            pack("nodes.decode").detailed(image, measurement, False, 1.0)
            raised = "nothing"
        except comfy.model_management.InterruptProcessingException as error:
            raised = type(error).__name__
        finally:
            comfy.model_management.interrupt_current_processing(False)
        return {"raised": raised, "calls": blur.calls}


def run(degradation: Any, refused: int = 0, fast: tuple[str, ...] = ("cpu",)) -> dict[str, Any]:
    """What is asked of the GPU, whose memory runs out in the first ``refused`` calls."""
    calls: list[Any] = []
    freed: list[tuple[int, str]] = []

    def counted(image: torch.Tensor, measurement: Any, *others: Any) -> torch.Tensor:
        calls.append(measurement.degradation)
        if len(calls) <= refused:
            raise RuntimeError("cuFFT: out of memory")
        return with_detail(image, measurement, *others)

    with (
        torch.inference_mode(),
        patch.object(comfy_detail, "FAST", fast),
        patch.object(comfy_detail, "with_detail", counted),
        patch.object(comfy.model_management, "get_torch_device", lambda: GPU),
        patch.object(comfy.model_management, "free_memory", lambda size, device: freed.append((size, str(device)))),
    ):
        measurement = measured(degradation)
        expected = with_detail(photo().flip(3), measurement)
        found = comfy_detail.detail_put_back(photo().flip(3), measurement, 1.0)
    change = distance(expected, photo().flip(3))
    copied = calls[0] is not degradation
    return {"calls": len(calls), "copied": copied, "freed": freed, "off": distance(found, expected), "change": change}


REPORTS: dict[str, Callable[[], Any]] = {
    "cancelled": cancelled,
    "there": lambda: run(GaussianBlur(1.5, 0.02)),
    "there, bent": lambda: run(CameraBlur.seeded(5.0, 0, 1.5, 0.02)),
    "does not fit": lambda: run(GaussianBlur(1.5, 0.02), refused=1),
    "slow": lambda: run(GaussianBlur(1.5, 0.02), fast=("cuda",)),
}

if __name__ == "__main__":
    tell(REPORTS)
