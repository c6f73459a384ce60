"""Progress bars and Cancel of nodes that look at photos one by one, by a script that ComfyUI's Python runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_progress.py")


@pytest.mark.parametrize(
    ("node", "steps"),
    [("scratches", 4), ("estimated", 4), ("degraded", 4), ("encoded", 4), ("calibrated", 8), ("read", 4)],
)
def test_the_bar_moves_with_the_photos_and_cancel_ends_it(report: dict[str, Any], node: str, steps: int) -> None:
    bar = report[node]["bar"]  # of which the host leaves out what comes too fast
    assert (bar[0], bar[-1]) == (1, steps)
    assert report[node]["cancelled bar"] == [1]
    assert report[node]["cancelled"] == "cancelled"


def test_photos_one_by_one_give_what_the_batch_gives(report: dict[str, Any]) -> None:
    assert report["scratches"]["marked"] > 0.01
    assert report["scratches"]["made"] == 0
    assert report["estimated"]["blurred"] > 0
    assert report["estimated"]["made"] < 1e-6
    assert report["estimated"]["marked"] == [True, False]  # restore_with, found
    assert report["degraded"]["made"] < 1e-6
    assert report["encoded"]["made"] < 1e-5
    assert report["calibrated"]["made"] < 1e-5
    assert report["read"]["made"] == 4


def test_a_degradation_of_another_number_of_photos_is_refused_as_before(report: dict[str, Any]) -> None:
    assert report["degraded"]["too many"] == "The blur has 5 kernels for 4 photos: give one, or one per photo."
    assert report["degraded"]["too few"].startswith("The degradation has numbers for 5 photos, and there are 6")
