"""The solvers with the published tiny autoencoders, loaded by a real ComfyUI's own VAE loader."""

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
if (folder := find_taesd()) is None:
    pytest.skip(ABSENT, allow_module_level=True)

VAES = ["taesd", "taesdxl", "taesd3", "taef1"]
SOLVERS = ["ldps", "gml-dps", "psld", "resample"]


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, VARIABLE, str(folder))
        yield report_of("inside_tiny_vaes.py")


@pytest.mark.parametrize("vae", VAES)
def test_our_copy_encodes_and_decodes_as_the_host_does(report: dict[str, Any], vae: str) -> None:
    found = report[f"agreement-{vae}"]
    assert found["encode"] < 1e-5
    assert found["decode"] < 1e-5
    assert found["photo"] < 0.15


@pytest.mark.parametrize("vae", VAES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_draws_the_photo_nearer_through_the_decoder_alone(
    report: dict[str, Any], vae: str, solver: str
) -> None:
    residual = report[f"solved-{vae}"]["residual"]
    assert residual[solver] < 0.75 * residual["none"]


@pytest.mark.parametrize("vae", VAES)
def test_the_models_are_bit_identical_afterwards(report: dict[str, Any], vae: str) -> None:
    assert report[f"solved-{vae}"]["unchanged"]
