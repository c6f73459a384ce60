"""Models, VAEs and conditions of a real ComfyUI that bring more along than a photo needs: right, or refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_conditions.py")


@pytest.mark.parametrize("kind", ["control", "reference", "mask"])
def test_a_picture_for_each_photo_of_a_batch_is_refused(report: dict[str, Any], kind: str) -> None:
    found = report["pictures"]
    assert found[f"{kind} 1"] == "no error"
    assert found[f"{kind} 2"].startswith("AdaptDiffuseError: The conditioning has a picture for each photo")


@pytest.mark.parametrize("part", ["first", "second", "inverted alone"])
def test_a_picture_for_each_photo_is_refused_where_the_host_would_take_the_first_for_all(
    report: dict[str, Any], part: str
) -> None:
    assert report["pictures of a part"][part].startswith(
        "AdaptDiffuseError: The conditioning has a picture for each photo"
    )


@pytest.mark.parametrize("part", ["whole", "whole, twice", "second, one mask", "inverted together"])
def test_a_whole_batch_takes_a_picture_for_each_photo_and_a_part_of_it_one(report: dict[str, Any], part: str) -> None:
    assert report["pictures of a part"][part] == "no error"


@pytest.mark.parametrize("what", ["range", "control", "patch", "guidance"])
def test_what_steers_some_steps_restores_a_batch_as_its_photos_alone(report: dict[str, Any], what: str) -> None:
    found = report[f"steered by {what}"]
    assert found["alone"] < 1e-5
    assert found["plain"] > 1e-2
    assert found["runs"] == [1, 1, 2]  # one by one; frames of a video, whose levels are the same, together


def test_what_steers_all_steps_alike_leaves_a_batch_together(report: dict[str, Any]) -> None:
    found = report["steered by none"]
    assert found["alone"] < 1e-5
    assert found["runs"] == [2, 2]


def test_guidance_with_momentum_restores_a_batch_as_its_photos_alone(report: dict[str, Any]) -> None:
    found = report["momentum"]
    assert found["alone"] < 1e-5
    assert found["plain"] > 1e-4
    assert found["remembers"] == [True, False]


def test_a_severity_encoder_of_another_scale_is_not_taken(report: dict[str, Any]) -> None:
    found = report["scales"]
    assert "severity by severity-flowers-128-gaussian-blur" in found["own"]
    assert "severity by calibration" in found["other"]
    assert "scales each channel of its latents by itself" in found["channels"]
    for kind in ("other", "channels"):
        assert "scales its latents in another way" in found[f"{kind} connected"]


@pytest.mark.parametrize("node", ["restore", "severity", "solver"])
def test_a_checkpoint_without_a_vae_is_told(report: dict[str, Any], node: str) -> None:
    assert report["empty VAE"][node] == (
        "AdaptDiffuseError: There is no VAE in the checkpoint: load one with Load VAE."
    )


def test_of_ten_thousand_levels_one_thousand_are_walked(report: dict[str, Any]) -> None:
    there, kept, walked, low, high = report["levels"]["flux"]
    assert there == 10000 and 950 <= kept <= 1000 and 100 <= walked <= 200
    assert low < 4e-3 and high > 500
    there, kept, walked, *_ = report["levels"]["sd3"]
    assert (there, kept) == (1000, 999) and 300 <= walked <= 350


def test_a_vae_with_a_device_of_its_own_asks_nothing_of_the_model_s(report: dict[str, Any]) -> None:
    found = report["memory"]
    assert found["loaded"] == [[False, True], [True]]
    assert found["spared"] == 0
    assert found["free"] == [5.0, True]


def test_the_reserve_of_the_host_is_counted_once_not_for_each_photo(report: dict[str, Any]) -> None:
    found = report["memory"]
    assert found["at once"] == math.floor(found["spare"])
