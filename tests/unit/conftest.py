"""What holds for every unit test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.severity import SeverityEncoder
from tests.command_line import call
from tests.models import draw_photos, save_model, tiny_autoencoder, tiny_severity_encoder, tiny_unet
from tests.randomness import untouched_random_state
from tests.reference import ldm_alphas_cumprod

settings.register_profile("unit", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _global_random_state_untouched() -> Iterator[None]:
    with untouched_random_state():
        yield


@pytest.fixture(scope="session")
def prior() -> DiffusersPrior:
    """A tiny model in float64, so that equalities are sharp."""
    autoencoder = tiny_autoencoder("AutoencoderDC").double()
    return DiffusersPrior(autoencoder, tiny_unet(4).double(), ldm_alphas_cumprod(), "epsilon")


@pytest.fixture(scope="session")
def encoder() -> SeverityEncoder:
    """The prior's severity encoder; its head answers differently for each photo, as a trained one's does."""
    made, _ = tiny_severity_encoder()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(made.head.log_sigma.weight, std=0.8)
    return made.double()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, severity encoders trained by the command line itself, and drawn photos."""
    root = tmp_path_factory.mktemp("cli")
    save_model(root / "model")
    save_model(root / "other", kind="AutoencoderKL")
    draw_photos(root / "training", 4, 40, 40)
    for name in ("model", "other"):
        arguments = ["--images", root / "training", "--out", root / f"{name}.safetensors", "--model", root / name]
        assert call("train-severity", *arguments, "--steps", 2, "--batch", 2, "--size", 32, "--device", "cpu") == 0
    return root


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three drawn photos of 32 x 24 pixels."""
    return draw_photos(tmp_path / "photos", 3, 24, 32)
