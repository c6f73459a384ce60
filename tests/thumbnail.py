"""Make the example workflows' thumbnails: each runs in a real ComfyUI; left half damaged, right half restored.

Those whose models are a download have none; of one that restores nothing, what it shows.

python -m tests.thumbnail [part of a workflow's name]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.comfyui import ComfyServer, to_prompt
from tests.graph import DOWNLOADS, WORKFLOWS

HEIGHT = 384


def main(part: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as comfy:
        for path in WORKFLOWS:
            if part in path.stem and path.stem not in DOWNLOADS:
                make(path, comfy)


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
    sheet = Image.new("RGB", (width + 4, HEIGHT), "white")
    for photo, left, right in ((damaged, 0, width // 2), (restored, width // 2, width)):
        large = photo.resize((width, HEIGHT), Image.Resampling.LANCZOS)
        sheet.paste(large.crop((left, 0, right, HEIGHT)), (left + (4 if left else 0), 0))
    sheet.save(path.with_suffix(".jpg"), quality=90)


def picture_of(comfy: ComfyServer, entries: list[dict[str, str]]) -> Image.Image:
    """The first image of a node's output."""
    return Image.open(comfy.file_of(entries[0])).convert("RGB")


if __name__ == "__main__":
    main(*sys.argv[1:])
