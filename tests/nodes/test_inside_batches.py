"""Which photo of a batch is restored, after the host's nodes for batches, by a script that ComfyUI's Python runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

LEVELS = [0.2, 0.5, 0.8]  # of the grey photos


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_batches.py")


def test_every_repeat_of_a_photo_restores_that_photo(report: dict[str, Any]) -> None:
    found = report["repeated-alone"]
    for means, late, level in zip(found["means"], found["repeated_after"], LEVELS, strict=True):
        assert means == pytest.approx([level] * 3, abs=0.06)
        assert late == pytest.approx([level] * 3, abs=0.06)
        assert len(set(means)) == 3  # of noise of their own
    assert found["noise"] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_every_repeat_of_a_batch_restores_its_own_photo(report: dict[str, Any]) -> None:
    found = report["repeated-together"]
    assert found["means"][0] == pytest.approx(LEVELS * 3, abs=0.06)
    assert found["noise"] == [list(range(9))]


@pytest.mark.parametrize(
    ("latent", "photos"),
    [
        ("whole", [0, 1, 2]),
        ("some", [1, 2]),
        ("some repeated", [1, 1]),
        ("some of the repeated", [2, 0]),
        ("joined", [0, 1]),
        ("through a severity", [1, 1]),
        ("stock", None),
        ("stock repeated", [0, 1, 2, 0, 1, 2]),
        ("stock picked", [1]),
        ("stock, two batches joined", None),
        ("one photo", None),
        ("fixed", [0, 1, 2]),
        ("random", [0, 1, 2]),
        ("fixed alone", [1]),
        ("random alone", [1]),
        ("repeated, then fixed", [0, 1, 2, 0, 1, 2]),
        ("one repeated, then fixed", [1, 1, 1]),
        ("fixed through a severity", [0, 1, 2]),
        ("fixed through a severity, one by one", [1]),
        ("stock fixed", [0, 1, 2]),
    ],
)
def test_latents_are_of_the_photos_that_they_were_made_of(report: dict[str, Any], latent: str, photos: Any) -> None:
    assert report["picked"][latent] == photos


def test_a_photo_that_is_not_there_is_refused(report: dict[str, Any]) -> None:
    assert "belongs to photo 3 of a batch, but the image here has only 2" in report["picked"]["refused"]


def test_photos_that_one_seed_for_all_hides_are_refused(report: dict[str, Any]) -> None:
    assert report["picked"]["hidden"].startswith("Latent Batch Seed Behavior hides which photos these 2 latents are of")
