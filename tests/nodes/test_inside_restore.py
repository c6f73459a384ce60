"""Restore Photo and Calibrate Severity inside a real ComfyUI, by a script that its own interpreter runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_restore.py")


@pytest.mark.parametrize("kind", ["gaussian-blur", "missing-pixels", "resample"])
def test_a_batch_equals_its_photos_one_by_one_and_the_command_line(report: dict[str, Any], kind: str) -> None:
    found = report[kind]
    sizes = {"gaussian-blur": (48, 64), "missing-pixels": (45, 61), "resample": (32, 32)}
    assert found["shape"] == [2, *sizes[kind], 3]
    assert found["alone"] < 1e-5
    assert found["command_line"] < 1e-5
    assert found["moved"] > 0.01
    assert found["sigma_hat"] == pytest.approx(found["expected_sigma_hat"], rel=1e-5)
    assert found["unchanged"]
    word = {"missing-pixels": "incomplete"}.get(kind, "blurred")
    first, second, seconds = found["report"].splitlines()
    assert first.startswith("photo 1 is ") and f" {word} (severity {found['sigma_hat'][0]:.2f}); 5 steps where" in first
    assert second.startswith("photo 2 is ") and f" {word} (severity {found['sigma_hat'][1]:.2f}); 5 steps" in second
    assert seconds.endswith(" s in all")


def test_photos_join_as_the_noise_falls_to_their_level(report: dict[str, Any]) -> None:
    found = report["mixed"]
    counts = found["under_way"]
    assert counts == sorted(counts) and set(counts) == {1, 2}
    for number, line in enumerate(found["reports"], 1):
        steps = counts.count(2) if number == 1 else len(counts)
        assert f"{steps} steps" in line and f"{steps} steps" in found["report"].splitlines()[number - 1]
    assert found["alone"] < 1e-5


def test_without_an_encoder_the_box_calibrates_as_the_package_does(report: dict[str, Any]) -> None:
    found = report["calibrated"]
    assert found["image"] < 1e-4
    assert found["sigma_hat"] == pytest.approx(found["expected_sigma_hat"], rel=1e-4)
    assert found["encoded"] == pytest.approx(found["sigma_hat"], rel=1e-5)
    assert found["z_hat"] < 1e-4
    assert found["told"] == "severity by calibration"
    own, other = found["scales"]
    assert other != own and 0.5 < other / own < 2


def test_without_an_encoder_the_one_that_fits_is_taken_and_named(report: dict[str, Any]) -> None:
    found = report["chosen"]
    assert found["same"] == 0
    connected, taken = found["told"]
    assert connected.endswith(" s in all")
    assert taken == "severity by severity-flowers-128-gaussian-blur"
    assert found["own"] == "severity by severity-flowers-128-mixed"
    assert (found["hole"], found["other space"]) == ("HostCalibration", "HostCalibration")


def test_frames_of_a_video_flicker_less_than_they_did(report: dict[str, Any]) -> None:
    found = report["video"]
    assert found["still, most"] < 1e-5  # rows of a batch round differently on some processors
    assert found["alone"] < 1e-5
    assert max(found["video"], found["default"]) < found["input"] < 0.06
    assert found["video"] < 0.75 * found["photos"]


def test_a_batch_that_the_memory_does_not_hold_is_restored_in_parts(report: dict[str, Any]) -> None:
    found = report["parts"]
    few, some, all_of_them = found["at_once"]
    assert 1 <= few < some < all_of_them == 100
    assert found["whole"] == [3, 3]  # photos, and frames of a video
    assert found["planned"] == [2, 1, 2, 1]
    assert found["halved"] == [3, 1, 1, 1, 3, 1, 1, 1]
    assert max(found["planned, off"], found["halved, off"]) < 1e-4


def test_the_last_touch_matches_colours_and_keeps_what_is_not_lost(report: dict[str, Any]) -> None:
    found = report["finish"]
    assert found["residual True"] < 0.3 * found["residual False"]
    for noise_std in (0.01, 0.05):
        kept, restored = found[f"keep {noise_std}"], found[f"restore {noise_std}"]
        assert kept[0] < 1e-6 < 0.01 < restored[0]
        assert kept[1] == pytest.approx(restored[1], abs=1e-6)  # the hole is the restoration's own
    assert found["auto 0.01"] == found["keep 0.01"]
    assert found["auto 0.05"] == found["restore 0.05"]


@pytest.mark.parametrize("kind", ["text", "text-flow"])
def test_a_model_with_a_prompt_restores_a_batch_as_its_photos_alone(report: dict[str, Any], kind: str) -> None:
    found = report[kind]
    assert found["shape"] == [2, 40, 48, 3]
    assert found["alone"] < 1e-5
    assert found["cfg_counts"] > 1e-4
    without, two = found["refused"]
    assert "wants a prompt" in without and "CLIP Text Encode" in without
    assert "one prompt for all" in two


def test_a_border_is_left_as_it_came(report: dict[str, Any]) -> None:
    found = report["bordered"]
    assert found["border"] < 1e-6 < 0.005 < min(found["inside"], found["other's edge"])
    assert found["other"] < 1e-4
    assert "its border is left as it came" in found["report"]
    assert "border" not in found["other's report"]


def test_cancel_ends_at_once_and_leaves_nothing_behind(report: dict[str, Any]) -> None:
    found = report["interrupted"]
    assert (found["raised"], found["calls"]) == ("InterruptProcessingException", 2)
    assert found["unchanged"] and found["again"] == 0


def test_more_fidelity_is_closer_to_the_photo(report: dict[str, Any]) -> None:
    found = report["fidelity"]
    low, tuned, high = found["residual"]
    assert low > tuned > high > 0.5
    assert found["eta"] == pytest.approx([3.0, 6.0])
    assert found["trust"] == pytest.approx([4.0, 0.25])
    assert found["gamma"] == pytest.approx(3200.0)
    assert found["refused"] == "The fidelity must be between 0 and 1, not 1.5."
