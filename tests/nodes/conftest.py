"""One ComfyUI for the tests of nodes, with odd models and photos in its folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.comfyui import REPOSITORY, ComfyServer, find_comfyui
from tests.graph import KINDS, Graph
from tests.models import save_model, save_pixel_model


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    if isinstance(found := find_comfyui(), str):
        pytest.skip(found)
    server = ComfyServer(tmp_path_factory.mktemp("comfyui"))
    for kind in KINDS:
        prediction = "v_prediction" if kind in ("AutoencoderKL", "AutoencoderTiny") else "epsilon"
        save_model(server.base / "models" / "diffusers" / f"tiny {kind}", kind, prediction)
    save_pixel_model(server.base / "models" / "diffusers" / "tiny pixels")
    write_photos(server.base / "input")
    whole = (REPOSITORY / "weights" / "severity-flowers-128-gaussian-blur.safetensors").read_bytes()
    encoders = server.base / "models" / "severity_encoders"
    (encoders / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (encoders / "no encoder.safetensors").write_bytes(
        (REPOSITORY / "weights" / "flowers-128" / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    )
    with server:
        yield server


def write_photos(folder: Path) -> None:
    """Photos of odd sizes and modes, all of the flower."""
    flower = Image.open(REPOSITORY / "assets" / "flower.jpg").convert("RGB")
    small = flower.resize((64, 64), Image.Resampling.BOX)
    small.save(folder / "small.png")
    small.rotate(90).save(folder / "turned.png")
    flower.resize((61, 45), Image.Resampling.BOX).save(folder / "odd.png")
    small.convert("L").save(folder / "grey.png")
    scratched = np.asarray(small).copy()
    scratched[20:40, 20:44] = 255
    Image.fromarray(scratched).save(folder / "scratched.png")
    clear = np.full((64, 64, 1), 255, np.uint8)
    clear[20:40, 20:44] = 0
    Image.fromarray(np.concatenate([np.asarray(small), clear], 2), "RGBA").save(folder / "holes.png")


@pytest.fixture
def graph() -> Graph:
    return Graph()
