"""Gradients in a real ComfyUI on a GPU: three precisions, four ways of loading a model. ``pytest tests/gpu``."""

from __future__ import annotations

import functools
import subprocess
from typing import Any

import pytest
import torch

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

LAYOUTS = ["sd15", "sd3", "flux"]
# the model's precision, and how far its gradient may be from the one in float32
PRECISIONS = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.3}
DTYPES = {"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}
WHOLE = "whole"
LOADING = {
    WHOLE: ["--highvram", "--disable-dynamic-vram"],
    "offloaded": ["--novram", "--disable-dynamic-vram"],
    "normal": ["--disable-dynamic-vram"],
    "dynamic": ["--enable-dynamic-vram"],
}


@functools.cache
def gpu_is_there() -> bool:
    """Whether ComfyUI's own torch has a GPU."""
    assert not isinstance(found, str)
    asked = "import torch; print(torch.cuda.is_available())"
    answer = subprocess.run([str(found[1]), "-c", asked], capture_output=True, text=True)  # noqa: S603
    return answer.stdout.strip() == "True"


@functools.cache
def report(precision: str, loading: str) -> dict[str, Any]:
    if not gpu_is_there():
        pytest.skip("ComfyUI's torch finds no GPU on this machine.")
    return report_of("../gpu/inside_gpu.py", f"--{precision}-unet", *LOADING[loading])


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    first, second = (torch.tensor(found["gradient"], dtype=torch.float64) for found in (a, b))
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("loading", list(LOADING))
@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_denoisers_gradient_is_that_of_the_whole_model_or_refused(
    layout: str, precision: str, loading: str
) -> None:
    found = report(precision, loading)[f"{layout}-denoiser"]
    assert found["device"] == "cuda"
    assert found["dynamic"] == (loading == "dynamic")
    assert found["unchanged"]
    if loading == "offloaded":
        assert found["in_part"]
    if "refused" in found:
        assert loading != WHOLE
        assert found["refused"].endswith("Set the solver's 'through' to decoder, which works with every model.")
    else:
        assert found["finite"]
        assert distance(found, report(precision, WHOLE)[f"{layout}-denoiser"]) < 1e-3


@pytest.mark.parametrize("loading", list(LOADING))
@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_decoders_gradient_is_never_refused(layout: str, precision: str, loading: str) -> None:
    found = report(precision, loading)[f"{layout}-decoder"]
    assert found["finite"] and found["unchanged"]
    assert distance(found, report(precision, WHOLE)[f"{layout}-decoder"]) < 1e-3


@pytest.mark.parametrize("through", ["denoiser", "decoder"])
@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_gives_the_gradient_of_float32(layout: str, precision: str, through: str) -> None:
    found = report(precision, WHOLE)[f"{layout}-{through}"]
    assert found["dtype"] == DTYPES[precision]
    assert distance(found, report("fp32", WHOLE)[f"{layout}-{through}"]) < PRECISIONS[precision]
