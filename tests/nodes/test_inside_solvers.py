"""Every solver inside a real ComfyUI and outside, by a script that its own interpreter runs; LDPS: test_inside_host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

GUIDED = ["gml-dps-denoiser", "gml-dps-decoder", "psld-denoiser", "psld-decoder"]
SOLVERS = [*GUIDED, "resample", "diffpir", "latino", "mpgd", "flow-dps", "latent-daps", "dcdp"]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_solvers.py")


@pytest.mark.parametrize("name", SOLVERS)
def test_the_nodes_restore_what_the_package_restores(report: dict[str, Any], name: str) -> None:
    found = report[f"restored-{name}"]
    assert found["start"] == pytest.approx(found["expected_start"], rel=1e-5)
    assert found["start"] > 1.25  # timestep 300: ReSample has pixels to fit
    assert found["severity"] < 1e-5
    assert found["moved"] > 0.02
    assert found["result"] < 1e-5
    assert found["unchanged"]


@pytest.mark.parametrize("name", GUIDED)
def test_the_gradient_through_the_encoder_is_the_one_outside(report: dict[str, Any], name: str) -> None:
    found = report[f"gradient-{name}"]
    assert found["steps"] == 2
    assert found["without_the_term"] > 0.1
    assert found["own"] < 1e-5


def test_the_encoder_gives_the_mean_whatever_the_hosts_does(report: dict[str, Any]) -> None:
    found = report["encoder"]
    assert found["random"] and found["samples_still"]  # the premise, and the host's own is untouched
    assert found["same_twice"]
    assert found["mean"] < 1e-5
    assert found["slope"] > 0


@pytest.mark.parametrize("name", SOLVERS)
def test_an_ended_run_leaves_the_models_as_they_were(report: dict[str, Any], name: str) -> None:
    found = report[f"ended-{name}"]
    assert found["raised"] == [["KeyError", 2], ["InterruptProcessingException", 2]]
    assert found["unchanged"]
    assert found["finite"] and found["same_again"]


@pytest.mark.parametrize("name", SOLVERS)
def test_a_photo_of_a_batch_is_restored_as_it_would_be_alone(report: dict[str, Any], name: str) -> None:
    assert report[f"ended-{name}"]["alone"] < 1e-4


def test_a_step_size_of_zero_is_no_broken_gradient(report: dict[str, Any]) -> None:
    assert report["without-pull"] == {"finite": True, "same": False}


@pytest.mark.parametrize("where", ["latents", "pixels"])
def test_an_interrupt_ends_a_long_fit_at_once(report: dict[str, Any], where: str) -> None:
    assert report[f"cancelled-{where}"] == {"raised": "InterruptProcessingException", "calls": 5}


@pytest.mark.parametrize("through", ["denoiser", "decoder"])
@pytest.mark.parametrize("vae", ["own", "stock"])
def test_dps_on_pixels_is_the_one_outside_with_the_hosts_pixel_space_too(
    report: dict[str, Any], through: str, vae: str
) -> None:
    assert report[f"pixels-{through}"][vae] < 1e-5
