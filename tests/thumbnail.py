"""Make the example workflow's thumbnail: run it in a real ComfyUI, put the damaged and the restored photo side by side.

python -m tests.thumbnail
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from PIL import Image

from tests.comfyui import REPOSITORY, ComfyServer, to_prompt

HEIGHT = 384


def main() -> None:
    path = REPOSITORY / "example_workflows" / "Restore a blurred photo.json"
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as comfy:
        prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), comfy.get("/object_info"))
        kinds = {node["class_type"]: key for key, node in prompt.items()}
        outputs = comfy.run(prompt)
        print(outputs[kinds["AdaptDiffuseEncodeSeverity"]]["text"], outputs[kinds["AdaptDiffuseMeasure"]]["text"])
        files = [outputs[kinds[kind]]["images"][0] for kind in ("PreviewImage", "SaveImage")]
        damaged, restored = (Image.open(comfy.file_of(entry)).convert("RGB") for entry in files)
        width = round(damaged.width * HEIGHT / damaged.height)
        sheet = Image.new("RGB", (width + 4, HEIGHT), "white")
        # left half damaged, right half restored, of one photo
        for photo, left, right in ((damaged, 0, width // 2), (restored, width // 2, width)):
            large = photo.resize((width, HEIGHT), Image.Resampling.LANCZOS)
            sheet.paste(large.crop((left, 0, right, HEIGHT)), (left + (4 if left else 0), 0))
        sheet.save(path.with_suffix(".jpg"), quality=90)


if __name__ == "__main__":
    main()
