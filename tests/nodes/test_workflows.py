"""Every example workflow, as it is, over HTTP in a real ComfyUI."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.comfyui import ComfyServer, to_prompt
from tests.graph import SOLVERS, WORKFLOWS, pixels

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
# PSNR in dB that the restored photo must reach; blurred it has about 23, with lost pixels 11
EXPECTED = {
    "Restore a blurred photo": 26.0,
    "Restore a blurred photo (GML-DPS)": 26.4,
    "Fill in lost pixels (PSLD)": 26.2,
    "Follow the photo closely (ReSample)": 27.0,
    "Restore Photo (one box)": 26.0,
}
every_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


def test_there_is_one_for_every_solver_but_the_one_without_a_bundled_model() -> None:
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    shown = {solver for solver in SOLVERS if any(f'"type": "{solver}"' in text for text in texts)}
    assert shown == set(SOLVERS) - {"AdaptDiffuseDPS"}
    assert len({json.loads(text)["id"] for text in texts}) == len(texts) == len(EXPECTED)


def test_the_host_offers_them_among_its_templates(comfy: ComfyServer) -> None:
    assert sorted(comfy.get("/workflow_templates")[comfy.pack.name]) == sorted(path.stem for path in WORKFLOWS)


@every_workflow
def test_it_has_a_picture(workflow: Path) -> None:
    with Image.open(workflow.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 256


@every_workflow
def test_it_runs_as_it_is_and_restores_the_photo(comfy: ComfyServer, workflow: Path) -> None:
    prompt = to_prompt(json.loads(workflow.read_text(encoding="utf-8")), comfy.get("/object_info"))
    outputs = comfy.run(prompt)
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    restored = pixels(comfy, outputs[kinds["SaveImage"]]["images"][0])
    damaged = pixels(comfy, outputs[kinds["ImageCompare"]]["a_images"][0])
    assert restored.shape == damaged.shape == (128, 192, 3)
    (report,) = outputs[kinds["AdaptDiffuseMeasure"]]["text"]
    psnr = float(re.findall(r"PSNR ([\d.]+) dB", report)[0])
    assert psnr > EXPECTED[workflow.stem], report
    (told,) = outputs[kinds.get("AdaptDiffuseEncodeSeverity") or kinds["AdaptDiffuseRestorePhoto"]]["text"]
    assert 0.1 < float(re.findall(r"severity ([\d.]+)", told)[0]) < 1.5
