"""Where the reverse diffusion begins inside a real ComfyUI, by a script that its own interpreter runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

S2, C = 0.7**2, 1.2  # variance of the predicted error, noise correction
# what each mode's start latent is: its level, the factor of the estimate, the variance of the noise
MODES = {
    "matched": ((C * S2) ** 0.5, 1.0, C * S2),
    "paper": (0.7, 1.0, C * S2),
    "published": (0.7, ((1 + S2) * (1 - C * S2)) ** 0.5, (1 + S2) * C * S2),
}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_start.py")


@pytest.mark.parametrize("kind", ["modes", "modes-flow"])
@pytest.mark.parametrize("mode", list(MODES))
def test_the_start_latent_is_that_of_the_paper_in_every_mode(report: dict[str, Any], kind: str, mode: str) -> None:
    found = report[kind][mode]
    level, signal, variance = MODES[mode]
    assert found["steps"] == 10
    assert found["level"] == pytest.approx(level, rel=1e-5)
    # 65536 draws: three standard errors
    assert found["signal"] == pytest.approx(signal, abs=3 * (variance / 65536) ** 0.5)
    assert found["noise"] == pytest.approx(variance**0.5, rel=3 / (2 * 65536) ** 0.5)


def test_a_start_that_does_not_exist_is_refused_in_a_sentence(report: dict[str, Any]) -> None:
    assert "does not exist where the severity is above 1" in report["refused"]["published 1.2"]
    assert "paper mode needs a noise_correction of 1 or more" in report["refused"]["paper 0.9"]
    assert "published mode needs a noise_correction of 1 or more" in report["refused"]["published 0.9"]


def test_levels_thins_the_schedule_of_every_photo(report: dict[str, Any]) -> None:
    (whole,), (half,) = report["levels"]["0"], report["levels"]["500"]
    assert whole > 50
    assert half in (whole // 2, whole // 2 + 1)


def test_an_inverted_latent_is_what_the_sampler_sees_and_the_one_outside_the_host(report: dict[str, Any]) -> None:
    found = report["inverted"]
    assert found["steps"] == [5, 5]
    assert found["batch_index"] == [[0], [1]]
    assert found["levels"] == pytest.approx(found["expected_levels"], rel=1e-6)
    assert max(found["x"]) < 1e-5
    assert found["unchanged"]


def test_a_stock_sampler_without_noise_goes_back_to_where_the_inversion_began(report: dict[str, Any]) -> None:
    found = report["inverted"]
    assert found["away"] > 0.2
    assert found["back"] < 0.25 * found["away"]  # five steps up and down


@pytest.mark.parametrize("kind", ["closed", "closed-flow"])
def test_the_inversion_of_a_known_model_is_its_formula(report: dict[str, Any], kind: str) -> None:
    found = report[kind]
    assert found["runs"] == 1  # photos of one severity climb together
    assert found["level"] == pytest.approx(0.8, rel=1e-6)
    assert found["x"] < 1e-6


def test_an_interrupt_ends_the_climb_at_once(report: dict[str, Any]) -> None:
    assert report["interrupted"] == {"raised": "InterruptProcessingException", "calls": 2, "unchanged": True}
