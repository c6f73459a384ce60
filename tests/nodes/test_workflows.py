"""Every example workflow, as it is, over HTTP in a real ComfyUI."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.comfyui import BYPASSED, REPOSITORY, ComfyServer, to_prompt, widget_names
from tests.graph import DOWNLOADS, SOLVERS, WORKFLOWS, pixels

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
# PSNR in dB that the restored photo must reach; blurred it has about 23, with lost pixels 11
EXPECTED = {
    "Restore a blurred photo": 26.0,
    "Restore a blurred photo (GML-DPS)": 26.4,
    "Fill in lost pixels (PSLD)": 26.2,
    "Follow the photo closely (ReSample)": 27.0,
    "Restore Photo (one box)": 26.0,
    "Motion blur": 24.0,
    "Lens blur": 25.5,
    "Camera shake": 24.0,
    "Enlarge a small photo": 25.0,
    "JPEG artefacts": 25.0,
    "Several kinds of damage": 23.0,
    "Without a severity encoder (Calibrate)": 26.0,
    "Frames of a video": 26.0,
    "Severity by hand, and inversion": 24.0,
    "Old photo (fading, scratches, dust)": 22.0,
    "Unknown damage (estimate it)": 24.0,
    "Compare the quick solvers": 26.8,
}
FIRST, TORN, TRAINING = "1 Restore my photo", "Paint over damage", "Train a severity encoder"
FLOWER = REPOSITORY / "assets" / "flower.jpg"
SAMPLES = {"adapt-diffuse-soft-flower.jpg"}
FILES = {"ckpt_name", "vae_name", "image"}  # widgets whose values depend on the user's disk
every_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
measured = pytest.mark.parametrize(
    "workflow", [path for path in WORKFLOWS if path.stem in EXPECTED], ids=lambda path: path.stem
)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def named(name: str) -> Path:
    return next(path for path in WORKFLOWS if path.stem == name)


def test_there_is_one_for_every_solver() -> None:
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    assert {solver for solver in SOLVERS if any(f'"type": "{solver}"' in text for text in texts)} == set(SOLVERS)
    assert len({json.loads(text)["id"] for text in texts}) == len(texts)
    assert {path.stem for path in WORKFLOWS} == {*EXPECTED, *DOWNLOADS, FIRST, TORN, TRAINING}


def test_every_node_of_ours_is_in_one_of_them(comfy: ComfyServer) -> None:
    shown = {node["type"] for path in WORKFLOWS for node in read(path)["nodes"]}
    ours = {name for name in comfy.get("/object_info") if name.startswith("AdaptDiffuse")}
    assert ours - shown == set()


def test_the_host_offers_them_among_its_templates(comfy: ComfyServer) -> None:
    assert sorted(comfy.get("/workflow_templates")[comfy.pack.name]) == sorted(path.stem for path in WORKFLOWS)


@every_workflow
def test_its_links_and_values_are_those_that_the_nodes_take(comfy: ComfyServer, workflow: Path) -> None:
    info, graph = comfy.get("/object_info"), read(workflow)
    nodes = {node["id"]: node for node in graph["nodes"]}
    for number, source, slot, target, place, kind in graph["links"]:
        assert nodes[source]["outputs"][slot]["type"] == kind
        assert nodes[target]["inputs"][place]["type"] in (kind, "*")
        assert number in nodes[source]["outputs"][slot]["links"] and nodes[target]["inputs"][place]["link"] == number
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        known = info[node["type"]]["input"]
        inputs = {**known.get("required", {}), **known.get("optional", {})}
        unconnected = {socket["name"] for socket in node["inputs"] if socket["link"] is None}
        needed = {name for name, (kind, *_) in known.get("required", {}).items() if kind != "IMAGECOMPARE"}
        assert needed & unconnected <= set(widget_names(info[node["type"]])), node["type"]
        for name, value in zip(widget_names(info[node["type"]]), node.get("widgets_values", []), strict=False):
            kind, *options = inputs.get(name, [None])
            choices = kind if isinstance(kind, list) else options[0].get("options") if options else None
            if choices and name not in FILES:
                assert value in choices, (node["type"], name)


@every_workflow
def test_nothing_in_it_covers_anything_else(workflow: Path) -> None:
    nodes = read(workflow)["nodes"]
    boxes = [(node["pos"][0], node["pos"][1] - 30, *node["size"]) for node in nodes]  # the title is above
    for index, (x, y, width, height) in enumerate(boxes):
        for other, (left, top, wide, tall) in enumerate(boxes[:index]):
            apart = x >= left + wide or left >= x + width or y >= top + tall + 30 or top >= y + height + 30
            assert apart, (nodes[index]["type"], nodes[other]["type"])


@every_workflow
def test_it_explains_itself(workflow: Path) -> None:
    notes = [node["widgets_values"][0] for node in read(workflow)["nodes"] if node["type"] == "MarkdownNote"]
    assert len(notes) >= 2 and all(note.startswith("### ") for note in notes)


@every_workflow
def test_it_has_a_picture_of_what_it_really_makes(workflow: Path) -> None:
    """What it makes, or, of one that needs a download, the graph in the page: tests/thumbnail.py."""
    with Image.open(workflow.with_suffix(".jpg")) as shown:
        assert shown.format == "JPEG" and min(shown.size) >= 256
        inside = np.asarray(shown.convert("RGB"), dtype=np.float64)
    grey = np.median(np.ptp(inside, axis=2)) < 15  # as nodes and plots are; the photo is not
    assert grey == (workflow.stem in {*DOWNLOADS, TRAINING})


@every_workflow
def test_what_only_nodes_2_compare_is_seen_in_classic_nodes_too(workflow: Path) -> None:
    graph = read(workflow)
    shown = {"PreviewImage", "SaveImage"}
    sockets = {link[0]: (link[1], link[2]) for link in graph["links"]}
    seen = {sockets[node["inputs"][0]["link"]] for node in graph["nodes"] if node["type"] in shown}
    compared = [node for node in graph["nodes"] if node["type"] == "ImageCompare"]
    assert len(compared) == (workflow.stem != TRAINING)
    assert {sockets[socket["link"]] for node in compared for socket in node["inputs"] if socket["link"]} <= seen


@every_workflow
def test_its_note_on_your_own_photos_bypasses_all_that_is_only_for_the_try(comfy: ComfyServer, workflow: Path) -> None:
    graph = read(workflow)
    groups = [one for one in graph["groups"] if one["title"].startswith("Only for the try")]
    if workflow.stem in (FIRST, TORN, TRAINING):
        assert groups == []
        return
    ((left, top, width, height),) = (one["bounding"] for one in groups)
    for node in graph["nodes"]:
        if left <= node["pos"][0] < left + width and top <= node["pos"][1] < top + height:
            node["mode"] = BYPASSED
    notes = [node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    assert any("*Only for the try* and press **Ctrl+B**" in note for note in notes)
    prompt = to_prompt(graph, comfy.get("/object_info"))
    kinds = [node["class_type"] for node in prompt.values()]
    assert "ImageScale" not in kinds
    (photo,) = (key for key, node in prompt.items() if node["class_type"] == "LoadImage")
    assert [photo, 0] in [value for node in prompt.values() for value in node["inputs"].values()]
    needed = {key: comfy.get("/object_info")[node["class_type"]]["input"]["required"] for key, node in prompt.items()}
    missing = [(prompt[key]["class_type"], name) for key in needed for name in needed[key]]
    assert [(kind, name) for kind, name in missing if name not in inputs_of_kind(prompt, kind)] == []


def inputs_of_kind(prompt: dict[str, Any], kind: str) -> set[str]:
    """The inputs that every node of a kind has in the prompt."""
    return set.intersection(*(set(node["inputs"]) for node in prompt.values() if node["class_type"] == kind))


@measured
def test_it_runs_as_it_is_and_restores_the_photo(comfy: ComfyServer, workflow: Path) -> None:
    prompt = to_prompt(read(workflow), comfy.get("/object_info"))
    outputs = comfy.run(prompt, 1200)
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    restored = pixels(comfy, outputs[kinds["SaveImage"]]["images"][0])
    damaged = pixels(comfy, outputs[kinds["ImageCompare"]]["a_images"][0])
    assert restored.shape == (128, 192, 3) and damaged.shape[2] == 3
    judges = [key for key, node in prompt.items() if node["class_type"] == "AdaptDiffuseMeasure"]
    reports = [outputs[key]["text"][0] for key in judges]
    assert all(float(re.findall(r"PSNR ([\d.]+) dB", one)[0]) > EXPECTED[workflow.stem] for one in reports), reports
    if told := kinds.get("AdaptDiffuseEncodeSeverity") or kinds.get("AdaptDiffuseRestorePhoto"):
        assert 0.05 < float(re.findall(r"severity ([\d.]+)", outputs[told]["text"][0])[0]) < 1.5
        assert len(outputs[told]["images"]) == 1  # the bar


def test_the_first_restores_the_photo_that_it_is_given(comfy: ComfyServer) -> None:
    prompt = to_prompt(read(named(FIRST)), comfy.get("/object_info"))
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    assert "AdaptDiffuseApplyDegradation" not in kinds and prompt[kinds["LoadImage"]]["inputs"]["image"] in SAMPLES
    outputs = comfy.run(prompt, 1200)
    assert outputs[kinds["AdaptDiffuseEstimateDegradation"]]["text"][0].startswith("blurred")
    restored = pixels(comfy, outputs[kinds["SaveImage"]]["images"][0])
    with Image.open(REPOSITORY / "assets" / "flower-soft.jpg") as soft, Image.open(FLOWER) as flower:
        photo = np.asarray(soft, dtype=np.float64) / 255
        truth = np.asarray(flower.resize(soft.size, Image.Resampling.BOX), dtype=np.float64) / 255
    before, after = (10 * np.log10(1 / np.square(one - truth).mean()) for one in (photo, restored))
    assert restored.shape == photo.shape and after > before + 2 and after > 28.3


def test_what_is_painted_over_is_painted_anew_and_the_rest_stays(comfy: ComfyServer) -> None:
    prompt = to_prompt(read(named(TORN)), comfy.get("/object_info"))
    outputs = comfy.run(prompt, 1200)
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    restored = pixels(comfy, outputs[kinds["SaveImage"]]["images"][0])
    with Image.open(REPOSITORY / "assets" / "flower-torn.png") as torn:
        photo, lost = np.asarray(torn.convert("RGB")) / 255, np.asarray(torn)[..., 3] < 128
    with Image.open(FLOWER) as flower:
        truth = np.asarray(flower.resize((192, 128), Image.Resampling.BOX)) / 255
    far = np.asarray(Image.fromarray(np.uint8(255 * lost)).filter(ImageFilter.MaxFilter(17))) == 0
    assert np.abs(restored - photo)[far].max() < 2.1 / 255
    assert np.abs(restored - truth)[lost].mean() < 0.3 * np.abs(photo - truth)[lost].mean()


def test_the_training_runs_and_judges_the_photo_by_what_it_learnt(comfy: ComfyServer) -> None:
    prompt = to_prompt(read(named(TRAINING)), comfy.get("/object_info"))
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    prompt[kinds["AdaptDiffuseTrainSeverity"]]["inputs"].update(steps=2, batch=2, size=32)
    written = comfy.base / "models" / "severity_encoders" / "my first encoder.safetensors"
    written.unlink(missing_ok=True)  # of a saved workflow that has run before
    outputs = comfy.run(prompt, 1200)
    assert re.match(r"severity [\d.]+", outputs[kinds["AdaptDiffuseEncodeSeverity"]]["text"][0])
    written.unlink()
