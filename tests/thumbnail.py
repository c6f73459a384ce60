"""Make the example workflows' thumbnails: each runs in a real ComfyUI; left half damaged, right half restored.

python -m tests.thumbnail [part of a workflow's name]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.comfyui import ComfyServer, to_prompt
from tests.graph import WORKFLOWS

HEIGHT = 384


def main(part: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as comfy:
        for path in WORKFLOWS:
            if part in path.stem:
                make(path, comfy)


def make(path: Path, comfy: ComfyServer) -> None:
    prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), comfy.get("/object_info"))
    kinds = {node["class_type"]: key for key, node in prompt.items()}
    outputs = comfy.run(prompt, 3000)
    told = ("EncodeSeverity", "RestorePhoto", "Measure")
    reports = [outputs[kinds[f"AdaptDiffuse{kind}"]]["text"][0] for kind in told if f"AdaptDiffuse{kind}" in kinds]
    print(f"{path.stem}: {', '.join(reports)}", flush=True)
    files = [outputs[kinds[kind]]["images"][0] for kind in ("PreviewImage", "SaveImage")]
    damaged, restored = (Image.open(comfy.file_of(entry)).convert("RGB") for entry in files)
    width = round(damaged.width * HEIGHT / damaged.height)
    sheet = Image.new("RGB", (width + 4, HEIGHT), "white")
    for photo, left, right in ((damaged, 0, width // 2), (restored, width // 2, width)):
        large = photo.resize((width, HEIGHT), Image.Resampling.LANCZOS)
        sheet.paste(large.crop((left, 0, right, HEIGHT)), (left + (4 if left else 0), 0))
    sheet.save(path.with_suffix(".jpg"), quality=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
