"""Checkpoints of all layouts in a real ComfyUI, built at random and loaded by its own loaders."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

# eps, eps with a v-prediction patch, eps, v, flow, flow, flow, flow
LAYOUTS = ["sd15", "sd15-v", "sdxl", "vega-v", "sd3", "sd35", "flux", "schnell"]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    kinds = [f"{kind}-{layout}" for layout in LAYOUTS for kind in ("agreement", "gradient")]
    return report_of("inside_checkpoints.py", *kinds, *(f"ended-{name}" for name in ("sd15", "vega-v", "sd3", "flux")))


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    return report_of("inside_checkpoints.py", "agreement-sd15-full", "gradient-sd15-full")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_start_time_gives_the_host_the_latent_and_the_level_of_the_severity(
    report: dict[str, Any], layout: str
) -> None:
    found = report[f"agreement-{layout}"]
    assert found["level"] < 1e-6  # of the host's sigmas: sigma, or t = sigma / (1 + sigma)
    assert found["sigma"] < 1e-6
    assert found["start"] < 1e-5  # z_hat + sigma eps
    assert found["x"] < 1e-5  # what a stock sampler of the host begins with


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_prior_is_the_hosts_model_and_vae(report: dict[str, Any], layout: str) -> None:
    found = report[f"agreement-{layout}"]
    assert found["moved"] > 0.1
    assert found["z0"] < 1e-5
    assert found["decode"] < 1e-5
    assert found["encode"] < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_the_gradient_is_that_of_the_hosts_parts_outside_inference_mode(
    report: dict[str, Any], layout: str, through: str
) -> None:
    found = report[f"gradient-{layout}"][through]
    assert found["norm"] > 0.1
    assert found["repeated"] < 1e-6  # the host's own gradient: where it is not the same twice, ours cannot be it
    assert found["z0"] < 1e-5
    assert found["gradient"] < 1e-5
    assert found["unchanged"]


@pytest.mark.parametrize("layout", ["sd15", "vega-v", "sd3", "flux"])
def test_the_models_are_bit_identical_after_an_exception_and_an_interrupt(report: dict[str, Any], layout: str) -> None:
    found = report[f"ended-{layout}"]
    assert found["raised"] == 2 * ["KeyError", "InterruptProcessingException"]
    assert found["unchanged"]
    assert found["as_in_the_file"]


def test_sd15_at_full_width_and_depth(full: dict[str, Any]) -> None:
    agreement = full["agreement-sd15-full"]
    assert agreement["level"] < 1e-6
    assert max(agreement[key] for key in ("start", "x", "z0", "decode", "encode")) < 1e-5
    found = full["gradient-sd15-full"]["denoiser"]
    assert found["norm"] > 0.1
    assert max(found["z0"], found["gradient"]) < 2e-5
    assert found["unchanged"]
