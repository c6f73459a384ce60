"""Gradients in little memory, and by a tiny autoencoder, in a real ComfyUI, by a script that its interpreter runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of
from tests.taesd import ABSENT, VARIABLE, find_taesd

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

SOLVERS = ["ldps", "gml-dps", "psld", "resample", "ldps-denoiser"]
OWN = [*(f"ran-out-{name}" for name in SOLVERS), "too-small", "cancelled", "plan"]
TINY = [*(f"guided-{name}" for name in SOLVERS), "real-taesd", "real-taef1", "agreements"]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_memory.py", *OWN)


@pytest.fixture(scope="module")
def tiny() -> Iterator[dict[str, Any]]:
    if (folder := find_taesd()) is None:
        pytest.skip(ABSENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, VARIABLE, str(folder))
        yield report_of("inside_memory.py", *TINY)


@pytest.mark.parametrize("name", SOLVERS)
def test_memory_that_runs_out_ends_in_tiles_and_is_remembered(report: dict[str, Any], name: str) -> None:
    found = report[f"ran-out-{name}"]
    # whole and checkpointed, for a decoder and, in some solvers, an encoder, with a gradient and without: never again
    assert 0 < found["too_large"] <= 7
    assert found["tiles_show"] > 1e-4
    assert found["unchanged"]
    if name != "resample":  # which decodes and encodes without a gradient as well, in a size of its own
        assert found["result"] < 1e-3


@pytest.mark.parametrize("name", SOLVERS)
def test_a_tile_size_is_obeyed_from_the_first_pass_on(report: dict[str, Any], name: str) -> None:
    assert report[f"ran-out-{name}"]["told_too_large"] == 0
    assert report[f"ran-out-{name}"]["largest_told"] == 256


def test_a_memory_too_small_for_the_smallest_tile_says_what_to_change(report: dict[str, Any]) -> None:
    assert report["too-small"] == (
        "The memory does not even hold the decoder on the smallest tile (128 pixels): restore a smaller photo, connect "
        "a tiny autoencoder as guidance_vae, or close other programs."
    )


def test_cancel_is_heard_in_the_middle_of_a_decoding(report: dict[str, Any]) -> None:
    found = report["cancelled"]
    assert found["raised"] == "InterruptProcessingException"
    assert found["calls"] == [64, 256, 256, 256]
    assert found["unchanged"]


def test_a_huge_photo_does_not_drive_the_models_out_of_memory(report: dict[str, Any]) -> None:
    found = report["plan"]
    assert found["small"] == 1  # what it takes
    assert 5 < found["huge"] < 8  # what is left beside the models
    assert found["knows"] == [True, False]
    assert found["free"] > 2**20


@pytest.mark.parametrize("name", ["taesd", "taef1"])
def test_a_real_autoencoder_in_tiles_keeps_a_quarter_and_gives_nearly_the_same(tiny: dict[str, Any], name: str) -> None:
    found = tiny[f"real-{name}"]
    assert found["is_the_hosts"] < 1e-4
    assert found["error"] < 0.1
    assert found["kept"] < 0.25
    assert 0 < found["image"] < 0.1
    assert 0 < found["gradient"] < 0.5  # near the seams, and a tile of 128 pixels is near a seam everywhere


@pytest.mark.parametrize("name", SOLVERS)
def test_a_guidance_vae_takes_the_vaes_place_in_the_gradients_alone(tiny: dict[str, Any], name: str) -> None:
    found = tiny[f"guided-{name}"]
    assert found["unchanged"]
    assert found["full_alone"] > 1e-3
    if name == "resample":
        assert found["copied"] == ["tiny", "full"]
        assert found["tiny_alone"] > 1e-3  # what has no gradient is the full one's
    else:
        assert found["copied"] == ["tiny"]
        assert found["tiny_alone"] < 1e-6


def test_how_far_a_guidance_vae_is_from_the_vae_is_told(tiny: dict[str, Any]) -> None:
    found = tiny["agreements"]
    assert found["taesd-taesd"][0] < 1e-6
    assert found["taesd-taesdxl"][0] > 1
    for stranger in ("taesd-taesdxl", "taesd3-taef1"):
        assert "does it belong to this model?" in found[stranger][2]
    assert found["refused"].startswith("The guidance VAE is not of this model's latent space: it makes 16 channels")
