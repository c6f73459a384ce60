"""Workflows that somebody has saved go on working: nodes as they were released, graphs of every earlier version."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.comfyui import ComfyServer, to_prompt
from tests.graph import WORKFLOWS as EXAMPLES
from tests.graph import pixels
from tests.release_nodes import version
from tests.released import SCRIPT, WORKFLOWS, Nodes, breaks, read_snapshot, snapshot_of, unrecorded

SAVED = sorted(WORKFLOWS.glob("*/*.json"))
FEW = {"steps": 2, "iterations": 2}  # what is run here is whether, not how well


@pytest.fixture(scope="module")
def today(comfy: ComfyServer) -> Nodes:
    return snapshot_of(comfy.get("/object_info"))


@pytest.mark.comfyui
@pytest.mark.slow
def test_no_released_node_has_changed(comfy: ComfyServer, today: Nodes) -> None:
    assert breaks(read_snapshot(), today, comfy.get("/node_replacements")) == []


@pytest.mark.comfyui
@pytest.mark.slow
def test_every_node_and_input_is_in_the_snapshot(today: Nodes) -> None:
    assert unrecorded(read_snapshot(), today) == [], f"new, but not recorded: {SCRIPT}"


@pytest.mark.comfyui
@pytest.mark.slow
def test_every_seed_says_what_follows_a_run(today: Nodes) -> None:
    """Where it does not say, the web page draws another seed after each."""
    inputs = [(name, entry) for name, node in today.items() for entry in node["inputs"] if "seed" in entry["name"]]
    assert len(inputs) >= 7
    for name, entry in inputs:
        assert "control_after_generate" in entry or entry["type"] != "INT", f"{name}, {entry['name']}"


def test_every_example_of_this_version_is_kept() -> None:
    kept = {path.name for path in (WORKFLOWS / version()).glob("*.json")}
    assert {path.name for path in EXAMPLES} <= kept, SCRIPT


@pytest.mark.comfyui
@pytest.mark.slow
@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}, {path.stem}")
def test_a_saved_workflow_loads_and_runs(comfy: ComfyServer, path: Path) -> None:
    if any(path.name == example.name and path.read_bytes() == example.read_bytes() for example in EXAMPLES):
        pytest.skip("it is an example still, and runs as one in test_workflows.py")
    info = comfy.get("/object_info")
    workflow = json.loads(path.read_text(encoding="utf-8"))
    if needs_a_checkpoint(workflow):
        pytest.skip("this workflow needs a checkpoint of the user's own")
    prompt = to_prompt(workflow, info)
    for node in prompt.values():
        inputs = node["inputs"]
        inputs.update({name: value for name, value in FEW.items() if isinstance(inputs.get(name), int)})
    outputs = comfy.run(prompt)
    assert outputs
    for key in (key for key, node in prompt.items() if node["class_type"] == "SaveImage"):
        shown = outputs[key]["images"]
        assert shown and all(np.std(pixels(comfy, entry)) > 0.02 for entry in shown)


def needs_a_checkpoint(workflow: dict[str, Any]) -> bool:
    loaders = ("CheckpointLoaderSimple", "UNETLoader", "VAELoader", "AdaptDiffuseDPS")  # pixel models are the user's
    return any(node["type"] in loaders for node in workflow["nodes"])


# ---- the judge itself


def node(*inputs: dict[str, Any], outputs: tuple[str, ...] = ("image",)) -> dict[str, Any]:
    return {
        "inputs": [{"optional": False, **entry} for entry in inputs],
        "outputs": [{"name": name, "type": "IMAGE", "list": False} for name in outputs],
    }


PHOTO = {"name": "image", "type": "IMAGE"}
SIZE = {"name": "size", "type": "INT", "default": 4, "min": 1, "max": 9}
KIND = {"name": "kind", "type": "COMBO", "default": "a", "options": ["a", "b"]}
RELEASED = {"Old": node(PHOTO, SIZE, KIND)}


def after(**change: Any) -> Nodes:
    """``RELEASED`` with the settings of ``size`` changed."""
    changed = copy.deepcopy(RELEASED)
    changed["Old"]["inputs"][1].update(change)
    return changed


@pytest.mark.parametrize(
    "today",
    [
        RELEASED,
        {"Old": node(PHOTO, SIZE, KIND, {"name": "mask", "type": "MASK", "optional": True})},
        {"Old": node(PHOTO, SIZE, KIND, {"name": "tile", "type": "INT", "default": 0, "optional": True})},
        {"Old": node(PHOTO, SIZE, KIND, outputs=("image", "report"))},
        {"Old": node(PHOTO, {**SIZE, "min": 0, "max": 99}, {**KIND, "options": ["z", "a", "b"]})},
        after(optional=True),
        {**RELEASED, "New": node(PHOTO)},
    ],
)
def test_appended_and_wider_is_no_break(today: Nodes) -> None:
    assert breaks(RELEASED, today, {}) == []


@pytest.mark.parametrize(
    ("today", "told"),
    [
        ({}, "gone"),
        ({"Old": node(PHOTO, KIND, SIZE)}, "began with"),
        ({"Old": node(SIZE, KIND)}, "began with"),
        ({"Old": node(PHOTO, {"name": "new", "type": "INT", "default": 1}, SIZE, KIND)}, "began with"),
        ({"Old": node(PHOTO, {**SIZE, "name": "length"}, KIND)}, "began with"),
        (after(type="FLOAT"), "type of size"),
        (after(default=5), "default of size"),
        (after(min=2), "down to 1"),
        (after(max=8), "up to 9"),
        (after(control_after_generate=True), "size got a control_after_generate"),
        (after(forceInput=True), "forceInput of size"),
        ({"Old": node(PHOTO, SIZE, {**KIND, "options": ["a", "c"]})}, "no longer offers b"),
        ({"Old": node(PHOTO, SIZE, KIND, {"name": "mask", "type": "MASK"})}, "mask is not optional"),
        ({"Old": node(PHOTO, SIZE, KIND, {"name": "tile", "type": "INT", "optional": True})}, "tile has no default"),
        ({"Old": node(PHOTO, SIZE, KIND, outputs=("mask",))}, "outputs began with"),
        ({"Old": node(PHOTO, SIZE, KIND, outputs=())}, "outputs began with"),
    ],
)
def test_any_other_change_is_told(today: Nodes, told: str) -> None:
    (sentence,) = breaks(RELEASED, today, {})
    assert sentence.startswith("Old: ") and told in sentence


REPLACEMENT = {
    "new_node_id": "New", "old_node_id": "Old", "old_widget_ids": ["size", "kind"],
    "input_mapping": [{"new_id": "photo", "old_id": "image"}, {"new_id": "mode", "set_value": "a"}],
    "output_mapping": [{"new_idx": 0, "old_idx": 0}],
}  # fmt: skip
SUCCESSOR = {"New": node({"name": "photo", "type": "IMAGE"}, {**KIND, "name": "mode"})}


def test_a_node_may_be_replaced() -> None:
    assert breaks(RELEASED, SUCCESSOR, {"Old": [REPLACEMENT]}) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"new_node_id": "Nowhere"}, "does not exist"),
        ({"old_widget_ids": ["kind", "size"]}, "old_widget_ids"),
        ({"input_mapping": [{"new_id": "photo", "old_id": "image"}]}, "does not set mode"),
        ({"input_mapping": [{"new_id": "photo", "old_id": "no"}, {"new_id": "mode", "set_value": "a"}]}, "never had"),
        ({"output_mapping": None}, "drops the outputs image"),
    ],
)
def test_a_replacement_that_loses_something_is_told(change: dict[str, Any], told: str) -> None:
    (sentence,) = breaks(RELEASED, SUCCESSOR, {"Old": [{**REPLACEMENT, **change}]})
    assert told in sentence


def test_what_is_new_is_named() -> None:
    today = {"Old": node(PHOTO, SIZE, KIND, {"name": "tile", "type": "INT", "optional": True}), "New": node(PHOTO)}
    assert unrecorded(RELEASED, today) == ["New", "Old.tile"]
    assert unrecorded(RELEASED, RELEASED) == []
