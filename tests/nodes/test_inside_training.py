"""Training a severity encoder inside a real ComfyUI, by a script that its own interpreter runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of
from tests.taesd import ABSENT, find_taesd

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)
has_taesd = pytest.mark.skipif(find_taesd() is None, reason=ABSENT)
SPACES = {"bundled": [4, 4, 0.6680493893859519, 0.0], "taesd": [4, 8, 0.18215, 0.0], "taef1": [16, 8, 0.3611, 0.1159]}
every_vae = pytest.mark.parametrize(
    "name", ["bundled", pytest.param("taesd", marks=has_taesd), pytest.param("taef1", marks=has_taesd)]
)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    names = ["bundled", "cancelled", "refusals", "with_model", "fingerprints"]
    return report_of("inside_training.py", *names, *(["taesd", "taef1", "spaces"] if find_taesd() else []))


@every_vae
def test_it_trains_saves_and_plots(report: dict[str, Any], name: str) -> None:
    found = report[name]
    assert found["files"] == ["mine.safetensors"]
    assert found["plot"] == [1, 256, 512, 3]
    assert found["plot_spread"] > 0.05
    assert (found["notes"]["step"], found["notes"]["architecture"], found["notes"]["photos"]) == (6, "refiner", 19)
    assert found["reloaded"] == 0


@every_vae
def test_it_knows_the_latent_space_of_the_vae(report: dict[str, Any], name: str) -> None:
    assert report[name]["space"] == pytest.approx(SPACES[name], rel=1e-6)


@every_vae
def test_what_was_trained_tells_the_severity_of_photos_of_any_size(report: dict[str, Any], name: str) -> None:
    found, (channels, factor, *_) = report[name], SPACES[name]
    assert found["latent"] == [2, channels, -(-70 // factor), -(-61 // factor)]
    assert 0 < found["from_frozen"] < 0.1  # six small steps from where it began
    assert all(0.4 < sigma < 0.6 for sigma in found["sigma_hat"])


@every_vae
def test_the_host_is_left_as_it_was(report: dict[str, Any], name: str) -> None:
    assert report[name]["unchanged"]
    assert report[name]["untouched"]
    assert report[name]["inference_mode"]


@every_vae
def test_the_bar_and_the_preview_follow(report: dict[str, Any], name: str) -> None:
    values = report[name]["values"]
    assert values[-1] == 6
    assert values == sorted(values)
    assert len(report[name]["previews"]) >= 2  # one per validation
    assert {tuple(size) for size in report[name]["previews"]} == {(512, 256)}


def test_cancel_keeps_the_training_and_the_next_run_is_the_uninterrupted_one(report: dict[str, Any]) -> None:
    found = report["cancelled"]
    assert found["files_after_cancel"] == [["mine.state.pt"], ["mine.safetensors", "mine.state.pt"]]
    assert found["went_on_at"] == 4
    assert found["files"] == ["mine.safetensors"]
    assert found["same"]


SENTENCES = {
    **{f"name {number}": "is no name for a file" for number in range(7)},
    "folder": "There is no folder '../photos' in ComfyUI's input folder",
    "relative path": "is not the whole path of a folder",
    "file as path": "is not the whole path of a folder",
    "no photos": "ComfyUI's input folder has no photos",
    "ranges": "drop_min and drop_max must rise",
    "option": "The family 'missing-pixels' does not have one of the options",
    "size": "The crop size must be a multiple of 4, not 66.",
    "unknown scale": "connect the diffusion model to the input 'model' too",
    "exists": "There is a severity encoder mine.safetensors already",
    "other settings": "belongs to a training with other settings",
    "overwrite unfinished": "no error",
    "kept": "True",
    "replaced": "True",
}


def test_all_refusals_are_asked_for(report: dict[str, Any]) -> None:
    assert report["refusals"].keys() == SENTENCES.keys()


@pytest.mark.parametrize("name", SENTENCES)
def test_what_cannot_be_is_refused_in_a_sentence(report: dict[str, Any], name: str) -> None:
    assert SENTENCES[name] in report["refusals"][name]
    assert "\n" not in report["refusals"][name]


def test_the_model_tells_the_scale_of_a_vae_that_does_not_know_it(report: dict[str, Any]) -> None:
    assert report["with_model"]["space"] == pytest.approx([0.18215, 0.0, 8], rel=1e-6)


@has_taesd
def test_a_vae_that_is_not_the_models_is_refused(report: dict[str, Any]) -> None:
    assert "latents of 16 channels, but the model has 4" in report["with_model"]["channels"]


@has_taesd
@pytest.mark.parametrize("name", ["taesd", "taesdxl", "taesd3", "taef1"])
def test_the_command_line_and_the_host_see_the_same_tiny_autoencoder(report: dict[str, Any], name: str) -> None:
    found = report["spaces"][name]
    assert found["difference"] < 1e-4
    assert found["numbers"][0] == pytest.approx(found["numbers"][1], rel=1e-6)


def test_photos_that_came_are_learnt_where_the_file_may_be_overwritten(report: dict[str, Any]) -> None:
    assert report["fingerprints"] == [False, True, False, False, False]
