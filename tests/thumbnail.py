"""Make the example workflows' thumbnails: each runs in a real ComfyUI; left half damaged, right half restored.

Of those whose models are a download, the graph in the page; of one that restores nothing, what it shows.

python -m tests.thumbnail [part of a workflow's name]
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser.page import load, opened
from tests.comfyui import ComfyServer, to_prompt
from tests.graph import DOWNLOADS, WORKFLOWS

WIDTH, HEIGHT = 580, 384
GAP = 4
LEFT, TOP, WIDE = 110, 90, 1850  # where the page has nothing but the graph
FRAME = """
const boxes = [...app.graph.groups, ...app.graph.nodes].map(one => [...one.boundingRect]);
const left = Math.min(...boxes.map(b => b[0])) - 20, top = Math.min(...boxes.map(b => b[1])) - 20;
const wide = Math.max(...boxes.map(b => b[0] + b[2])) + 20 - left;
const tall = Math.max(...boxes.map(b => b[1] + b[3])) + 20 - top;
const [x, y, width, height] = arguments, canvas = app.canvas.canvas.getBoundingClientRect();
const scale = Math.min(width / wide, height / tall);
app.canvas.ds.scale = scale;
app.canvas.ds.offset = [(x - canvas.x + (width - wide * scale) / 2) / scale - left,
    (y - canvas.y + (height - tall * scale) / 2) / scale - top];
app.canvas.setDirty(true, true);"""


def main(part: str = "") -> None:
    chosen = [path for path in WORKFLOWS if part in path.stem]
    # the host serves no JavaScript of packs in folders with a space in their name
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder), "adapt-diffuse") as comfy:
        for path in chosen:
            if path.stem not in DOWNLOADS:
                make(path, comfy)
        if graphs := [path for path in chosen if path.stem in DOWNLOADS]:
            comfy.post("/settings", {"Comfy.TutorialCompleted": True})
            for path in graphs:
                name_checkpoints(path, comfy)
            with opened(comfy.url, Path(folder) / "profile") as page:
                for path in graphs:
                    draw(path, page)


def make(path: Path, comfy: ComfyServer) -> None:
    prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), comfy.get("/object_info"))
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    outputs = comfy.run(prompt, 3000)
    reports = [text for output in outputs.values() for text in output.get("text", [])]
    print(f"{path.stem}: {', '.join(reports)}", flush=True)
    if "ImageCompare" not in kinds:
        shown = picture_of(comfy, outputs[kinds["SaveImage"]]["images"])
        shown.save(path.with_suffix(".jpg"), quality=90)
        return
    damaged = picture_of(comfy, outputs[kinds["ImageCompare"]]["a_images"])
    restored = picture_of(comfy, outputs[kinds["SaveImage"]]["images"])
    width = round(restored.width * HEIGHT / restored.height)
    sheet = Image.new("RGB", (width + GAP, HEIGHT), "white")
    for photo, left, right in ((damaged, 0, width // 2), (restored, width // 2, width)):
        large = photo.resize((width, HEIGHT), Image.Resampling.LANCZOS)
        sheet.paste(large.crop((left, 0, right, HEIGHT)), (left + (GAP if left else 0), 0))
    sheet.save(path.with_suffix(".jpg"), quality=90)


def name_checkpoints(path: Path, comfy: ComfyServer) -> None:
    """Empty files with the names of the checkpoints, without which the page shows their loader as an error."""
    folder = comfy.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            (folder / node["widgets_values"][0]).touch()


def draw(path: Path, page: Any) -> None:
    """The graph as the page shows it."""
    load(page, json.loads(path.read_text(encoding="utf-8")), nodes_2=True)
    tall = WIDE * HEIGHT // WIDTH
    page.execute_script(FRAME, LEFT, TOP, WIDE, tall)
    time.sleep(5)  # it draws, and loads the photo
    shown = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB")
    graph = shown.crop((LEFT, TOP, LEFT + WIDE, TOP + tall)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    graph.save(path.with_suffix(".jpg"), quality=90)


def picture_of(comfy: ComfyServer, entries: list[dict[str, str]]) -> Image.Image:
    """The first image of a node's output."""
    return Image.open(comfy.file_of(entries[0])).convert("RGB")


if __name__ == "__main__":
    main(*sys.argv[1:])
