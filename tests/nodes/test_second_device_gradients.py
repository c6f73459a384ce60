"""Gradients in a real ComfyUI on an emulated second device: each precision, loaded whole or piece by piece.

What they are on a real GPU is asked by ``tests/gpu``.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.comfyui import find_emulating_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

# how far a gradient is from the CPU's in float32; random weights are hard on bfloat16
FURTHEST = {
    ("sd15", "fp32"): 1e-5,
    ("sd15", "fp16"): 0.01,
    ("sd15", "bf16"): 0.05,
    ("flux", "fp32"): 1e-5,
    ("flux", "fp16"): 0.01,
    ("flux", "bf16"): 0.5,
}
DTYPES = {"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}
every = pytest.mark.parametrize(("layout", "precision"), FURTHEST)


@pytest.fixture(scope="module", autouse=True)
def there() -> None:
    if isinstance(found := find_emulating_comfyui(), str):
        pytest.skip(found)


@functools.cache
def report() -> dict[str, Any]:
    return report_of("inside_gradients.py")


@every
@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_a_model_that_is_there_gives_the_gradient_of_float32(layout: str, precision: str, through: str) -> None:
    whole = report()[f"{layout} {through} {precision} NORMAL_VRAM"]
    assert whole["device"] == "elsewhere" and whole["dtype"] == DTYPES[precision]
    assert whole["unchanged"] and not whole["in_part"]
    assert whole["gradient"] < FURTHEST[layout, precision] and whole["out"] < FURTHEST[layout, precision]


@every
def test_through_the_decoder_it_does_not_matter_how_the_model_is_loaded(layout: str, precision: str) -> None:
    whole, pieces = (report()[f"{layout} decoder {precision} {way}"] for way in ("NORMAL_VRAM", "NO_VRAM"))
    assert pieces["in_part"] and pieces["unchanged"]
    for name in ("gradient", "out"):
        assert pieces[f"{name}'s bits"] == whole[f"{name}'s bits"]


@pytest.mark.parametrize("moving", ["away", "there and back"])
@pytest.mark.parametrize("layout", ["sd15", "flux"])
def test_a_copy_that_the_host_moves_in_the_middle_gives_its_gradient(layout: str, moving: str) -> None:
    moved = report()[f"{layout} moved {moving}"]
    assert "refused" not in moved
    assert moved["device"] == "elsewhere" and moved["unchanged"]
    assert moved["gradient"] < 1e-5 and moved["out"] < 1e-5


@every
def test_through_the_denoiser_a_model_in_pieces_is_refused_in_a_sentence(layout: str, precision: str) -> None:
    pieces = report()[f"{layout} denoiser {precision} NO_VRAM"]
    assert pieces["unchanged"]
    assert pieces["refused"].endswith("Set the solver's 'through' to decoder, which works with every model.")
