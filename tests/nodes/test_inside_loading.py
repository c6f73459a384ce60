"""What the nodes read from the user's folders, and put there, by a script that ComfyUI's Python runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

FLOWER, SOFT = "adapt-diffuse-flower.jpg", "adapt-diffuse-soft-flower.jpg"
SPOT, TORN = "adapt-diffuse-lens-spot.png", "adapt-diffuse-torn-flower.png"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_loading.py")


def test_a_sample_photo_is_offered_once_and_a_later_versions_too(report: dict[str, Any]) -> None:
    first, deleted, later = report["samples"]
    assert first == ["the user's own", FLOWER, SOFT, TORN]
    assert deleted == [SOFT, TORN]
    assert later == [SPOT, SOFT, TORN]


@pytest.mark.parametrize("user", ["samples-without-user", "samples-unwritable"])
def test_sample_photos_come_without_a_place_to_remember_them(report: dict[str, Any], user: str) -> None:
    first, deleted, later = report[user]
    assert first == ["the user's own", FLOWER, SOFT, TORN]
    assert deleted == [FLOWER, SOFT, TORN]
    assert later == [FLOWER, SPOT, SOFT, TORN]


def test_only_unconditional_models_are_listed(report: dict[str, Any]) -> None:
    assert report["models"] == ["flowers-128 (bundled)", "faces"]


def test_a_folders_path_may_be_in_quotes(report: dict[str, Any]) -> None:
    relative = report["paths"].pop("relative")
    assert len(report["paths"]) == 4
    assert set(report["paths"].values()) == {"True"}
    assert relative == "'relative' is not the whole path of a folder: correct 'path' or empty it."


def test_a_calibration_on_a_mask_asks_for_the_photo(report: dict[str, Any]) -> None:
    assert report["mask"]["with"] == "no error"
    assert report["mask"]["without"].endswith("connect the damaged photo to the input 'image'.")


def test_an_encoder_that_another_node_names_is_loaded_anew_only_when_one_was_written(report: dict[str, Any]) -> None:
    assert report["fingerprints"] == [False, True]


@pytest.mark.parametrize(("node", "library"), [("model", "diffusers"), ("encoder", "diffusers"), ("jpeg", "kornia")])
def test_a_library_that_is_missing_is_named(report: dict[str, Any], node: str, library: str) -> None:
    said = report["missing libraries"][node]
    assert said.startswith(f"AdaptDiffuseError: The library {library} is not installed: run ")
    assert f" -m pip install {library}, " in said
