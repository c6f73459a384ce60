"""Where the host puts the photo's own detail back, by a script that ComfyUI's Python runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

PIXELS = 60 * 45


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_detail.py")


def test_cancel_ends_it_in_the_middle_of_a_photo(report: dict[str, Any]) -> None:
    assert report["cancelled"] == {"raised": "InterruptProcessingException", "calls": 5}


@pytest.mark.parametrize("name", ["there", "there, bent", "does not fit", "slow"])
def test_it_is_the_same_wherever_it_is_put_back(report: dict[str, Any], name: str) -> None:
    assert report[name]["off"] < 1e-6
    assert report[name]["change"] > 0.01


@pytest.mark.parametrize("name", ["there", "there, bent"])
def test_the_gpu_does_it_in_memory_that_was_freed_for_it(report: dict[str, Any], name: str) -> None:
    assert report[name]["calls"] == 1
    assert report[name]["freed"] == [[4 * 40 * 3 * PIXELS, "cpu:0"]]


def test_the_wires_own_operator_keeps_nothing_on_the_gpu(report: dict[str, Any]) -> None:
    assert report["there"]["copied"] and report["there, bent"]["copied"]
    assert not report["slow"]["copied"]


def test_a_gpu_that_does_not_hold_it_leaves_it_to_the_cpu(report: dict[str, Any]) -> None:
    assert report["does not fit"]["calls"] == 2


def test_other_devices_are_not_asked(report: dict[str, Any]) -> None:
    assert (report["slow"]["calls"], report["slow"]["freed"]) == (1, [])
