"""Gradients, gentleness and refusals inside a real ComfyUI, by a script that its own interpreter runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_host.py")


@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_the_gradient_inside_the_host_is_the_one_outside(report: dict[str, Any], through: str) -> None:
    found = report[f"bundled-{through}"]
    assert found["steps"] == 4
    assert found["gradient_norm"] > 0.1
    assert found["gradient"] < 1e-5
    assert found["posterior_mean"] < 1e-5


@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_a_seed_restores_the_same_latent_inside_and_outside_the_host(report: dict[str, Any], through: str) -> None:
    assert report[f"bundled-{through}"]["result"] < 1e-5


@pytest.mark.parametrize("kind", ["native", "flow"])
@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_inference_mode_changes_nothing_for_the_hosts_own_models(
    report: dict[str, Any], kind: str, through: str
) -> None:
    found = report[f"{kind}-{through}"]
    assert found["gradient_norm"] > 0.1
    assert found["gradient"] == 0
    assert found["result"] == 0
    assert found["finite"]


def test_a_flow_models_level_becomes_a_noise_to_signal_ratio(report: dict[str, Any]) -> None:
    assert report["flow-denoiser"]["first_level"] == pytest.approx(1.0, rel=1e-6)  # t = 0.5 is sigma = 1


def test_a_lora_is_in_the_copy_that_gradients_pass(report: dict[str, Any]) -> None:
    assert report["patched"]["patch_does_something"] > 1e-3
    assert report["patched"]["copy_from_host"] < 1e-6


@pytest.mark.parametrize("kind", ["native", "flow"])
def test_the_solver_begins_at_the_latent_plus_noise_of_its_level(report: dict[str, Any], kind: str) -> None:
    assert report[f"{kind}-denoiser"]["first_latent"] < 1e-5


@pytest.mark.parametrize("kind", ["bundled", "native", "flow", "interrupted"])
@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_the_shared_models_are_bit_identical_after_a_run(report: dict[str, Any], kind: str, through: str) -> None:
    assert report[f"{kind}-{through}"]["unchanged"]


@pytest.mark.parametrize("kind", ["bundled", "interrupted"])
@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_our_copies_are_gone_after_a_run(report: dict[str, Any], kind: str, through: str) -> None:
    assert report[f"{kind}-{through}"]["freed"]


@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_an_error_and_an_interrupt_come_through_and_the_next_run_is_as_the_first(
    report: dict[str, Any], through: str
) -> None:
    found = report[f"interrupted-{through}"]
    assert found["raised"] == [["KeyError", 2], ["InterruptProcessingException", 2]]
    assert found["same_again"]
    assert found["random_state_untouched"]


@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_a_batch_of_three_equals_three_batches_of_one(report: dict[str, Any], through: str) -> None:
    assert len(report[f"batch-{through}"]) == 3
    assert max(report[f"batch-{through}"]) < 1e-5


def test_one_photo_can_have_many_restorations_at_once(report: dict[str, Any]) -> None:
    found = report["variations"]
    assert max(found["alone"]) < 1e-5 < 0.01 < found["apart"]
    assert found["decoded"] == [3, 60, 45, 3]


def test_the_model_can_be_read_once_more_into_plain_memory(report: dict[str, Any]) -> None:
    assert report["reloaded"] == {"another_model": True, "normal_tensors": True, "same_weights": True}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rising", "SIGMAS must be finite and fall"),
        ("nan", "SIGMAS must be finite and fall"),
        ("size", "stands for 32 x 32 pixels but the solver's image has 45 x 60"),
        ("cut", "crop the photo to 40 x 56 before everything else"),
        ("batch", "a batch of 2 but the latent one of 3"),
        ("multigpu", "several GPUs"),
        ("partial", "loaded in part"),
        ("gguf", "quantised (GGUF)"),
        ("second model", "guider uses a second model"),
        ("hooks", "changes the model's weights on the way"),
        ("quantised", "are quantised"),
        ("detached", "gradient is lost inside the model"),
        ("zero", "zero everywhere"),
    ],
)
def test_what_cannot_be_right_is_refused_in_a_sentence(report: dict[str, Any], name: str, words: str) -> None:
    assert words in report["refusals"][name]
    assert "\n" not in report["refusals"][name]
