"""Training the bundled models: some steps of each, and that what they leave is what the pack loads."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from tests.command_line import run_main
from tests.models import draw_photos, drawn_batch
from training import train_autoencoder, train_prior

SIZE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    draw_photos(folder, 3, 40, 48)
    return folder


@pytest.fixture(scope="module")
def autoencoder(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("autoencoder")
    run_main(train_autoencoder, "--images", photos, "--out", out, "--size", SIZE, "--batch", 2, "--minutes", 0.03)
    return out


def train_a_prior(photos, out, *more):
    arguments = ("--images", photos, "--out", out, "--size", SIZE, "--batch", 2, "--crops-per-photo", 2)
    run_main(train_prior, *arguments, "--minutes", 0.03, *more)


def test_a_model_of_latents_is_one_with_its_autoencoder(photos, autoencoder, tmp_path):
    train_a_prior(photos, tmp_path, "--autoencoder", autoencoder)
    assert not (tmp_path / "model_index.json").exists()
    shutil.copytree(autoencoder, tmp_path / "vae")
    prior = DiffusersPrior.load(tmp_path)
    assert (prior.space.channels, prior.space.factor) == (4, 4)
    x = torch.randn(1, 4, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(0))
    assert prior.denoise(x, prior.sigmas[300]).isfinite().all()


def test_latents_are_kept_for_the_same_crops_alone(photos, autoencoder, tmp_path):
    arguments = ("--autoencoder", autoencoder, "--minutes", 0.001)
    kept = tmp_path / "latents.safetensors"
    train_a_prior(photos, tmp_path, *arguments)
    first = load_file(kept)["latents"]
    assert len(first) >= 3 * 2
    written = kept.stat().st_mtime_ns
    train_a_prior(photos, tmp_path, *arguments)
    assert kept.stat().st_mtime_ns == written
    train_a_prior(photos, tmp_path, *arguments, "--scaled", 0.5)
    scaled = load_file(kept)["latents"]
    assert scaled.shape == first.shape and not scaled.equal(first)
    train_a_prior(photos, tmp_path, *arguments, "--scaled", 0.5, "--crops-per-photo", 6)
    assert len(load_file(kept)["latents"]) >= 3 * 6


def test_a_model_of_pixels_needs_no_autoencoder_and_learns(photos, tmp_path):
    train_a_prior(photos, tmp_path)
    prior = DiffusersPrior.load(tmp_path)
    assert (prior.space.channels, prior.space.factor) == (3, 1)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] > 0
    steps = state["step"]
    with pytest.MonkeyPatch.context() as patch:
        drawn = []
        random = train_prior.PhotoCrops.random
        patch.setattr(train_prior.PhotoCrops, "random", lambda *a: drawn.append(random(*a)) or drawn[-1])
        train_a_prior(photos, tmp_path, "--minutes", 0.06)  # goes on
        train_a_prior(photos, tmp_path / "anew", "--minutes", 0.001)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] > steps
    assert not drawn[0].equal(drawn[-1])  # with other crops than it began with
    with pytest.raises(AdaptDiffuseError, match="other settings"):
        train_a_prior(photos, tmp_path, "--prediction", "epsilon")


def test_a_tiny_autoencoder_shares_the_latents_of_the_full_one(photos, autoencoder, tmp_path):
    full = train_autoencoder.AutoencoderDC.from_pretrained(autoencoder)
    crops = drawn_batch(2, SIZE, SIZE) * 2 - 1
    arguments = ("--images", photos, "--like", autoencoder, "--size", SIZE, "--batch", 2)
    run_main(train_autoencoder, *arguments, "--out", tmp_path / "at-once", "--minutes", 0.001)
    run_main(train_autoencoder, *arguments, "--out", tmp_path / "later", "--minutes", 0.12)
    losses = []
    for name in ("at-once", "later"):
        tiny = train_autoencoder.AutoencoderDC.from_pretrained(tmp_path / name)
        assert tiny.config.scaling_factor == full.config.scaling_factor
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            losses.append(float(train_autoencoder.likeness_loss(tiny, full, crops)))
    assert losses[1] < 0.9 * losses[0]
    assert sum(p.numel() for p in tiny.parameters()) < 0.3 * sum(p.numel() for p in full.parameters())
