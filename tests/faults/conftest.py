"""A tiny model for the command line, and a ComfyUI for the nodes, shared by all tests of faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapt_diffuse.severity import save_severity_encoder
from tests.comfyui import ComfyServer, find_comfyui
from tests.models import config_of, draw_photos, save_model, tiny_severity_encoder
from tests.randomness import untouched_random_state


@pytest.fixture(autouse=True)
def _global_random_state_untouched() -> Iterator[None]:
    with untouched_random_state():
        yield


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models of different latent spaces, each with a severity encoder that nobody has trained."""
    root = tmp_path_factory.mktemp("models")
    for name, kind in (("model", "AutoencoderDC"), ("other", "AutoencoderKL")):
        save_model(root / name, kind)
        encoder, autoencoder = tiny_severity_encoder(kind)
        save_severity_encoder(root / f"{name}.safetensors", encoder, config_of(autoencoder), {})
    return root


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    if isinstance(found := find_comfyui(), str):
        pytest.skip(found)
    with ComfyServer(tmp_path_factory.mktemp("Grüße aus 東京")) as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three drawn photos of 32 x 24 pixels."""
    return draw_photos(tmp_path / "photos", 3, 24, 32)
