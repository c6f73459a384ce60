"""Models that diffuse pixels: diffusers folders without an autoencoder, and DPS on them."""

import copy
import json
import shutil

import pytest
import torch

from adapt_diffuse.autoencoder import (
    PixelAutoencoder,
    decode_raw,
    downsampling,
    encode_raw,
    latent_channels,
    model_autoencoder,
)
from adapt_diffuse.degradation import GaussianBlur, measure, randn
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.schedule import descend
from adapt_diffuse.solvers import DPS, solve
from tests.models import drawn_batch, save_model, save_pixel_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pixel_model(tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def pixels(folder):
    return DiffusersPrior.load(folder)


def test_a_latent_of_a_pixel_model_is_the_image_itself(pixels):
    image = drawn_batch(2, 16, 24)
    z = pixels.encode(image)
    assert torch.equal(z, 2 * image - 1)
    assert torch.allclose(pixels.decode(z), image, rtol=0, atol=1e-7)
    assert pixels.multiple == 2  # the UNet halves once
    assert (pixels.space.channels, pixels.space.factor, pixels.space.scale, pixels.space.shift) == (3, 1, 1, 0)


def test_the_pixel_autoencoder_is_one_like_the_others():
    autoencoder = copy.deepcopy(PixelAutoencoder()).double()
    image = drawn_batch(1, 5, 7).double() * 2 - 1
    assert (latent_channels(autoencoder), downsampling(autoencoder)) == (3, 1)
    assert torch.equal(decode_raw(autoencoder, encode_raw(autoencoder, image)), image)
    assert next(autoencoder.parameters()).dtype == torch.float64
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())


def test_dps_follows_the_photo_and_without_a_step_size_nothing_does(pixels):
    blur = GaussianBlur(1.0, 0.02)
    y = measure(drawn_batch(2, 16, 16), blur, generators_for(5, 2))
    measurement = Measurement.of(y, blur)
    x = pixels.encode(y)
    x = x + 0.5 * randn(x.shape, x, generators_for(0, 2))
    schedules = [descend(0.5, pixels.sigmas, 100)] * 2
    residuals = {}
    for eta in (0.0, 1.0):
        # published step sizes are for photos of 256 pixels: on a tiny one the bare form
        restored = solve(DPS(eta, normalise=False), pixels, measurement, x, schedules, generators_for(1, 2))
        residuals[eta] = measurement.residual_ratio(pixels.decode(restored))
    assert bool((residuals[0.0] > 5).all())
    assert bool(((residuals[1.0] > 0.7) & (residuals[1.0] < 1.2)).all())  # 1 is the noise


def test_dps_names_the_solver_to_take_on_latents(tmp_path):
    prior = DiffusersPrior.load(save_model(tmp_path / "latents"))
    with pytest.raises(AdaptDiffuseError, match="DPS is for models of pixels, .*: take LDPS"):
        restore(drawn_batch(1, 16, 16), GaussianBlur(1.0, 0.02), prior, DPS(), generators_for(0, 1))


@pytest.mark.parametrize(
    "index",
    [
        None,
        {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]},
        {"_class_name": "StableDiffusionPipeline", "vae": [None, None]},
        {"unet": ["diffusers", "UNet2DModel"]},
    ],
)
def test_a_missing_autoencoder_is_still_an_error_where_the_model_needs_one(folder, tmp_path, index):
    damaged = shutil.copytree(folder, tmp_path / "model")
    (damaged / "model_index.json").unlink()
    if index is not None:
        (damaged / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(AdaptDiffuseError, match="There is neither vae nor vqvae"):
        DiffusersPrior.load(damaged)


def test_an_autoencoder_on_disk_is_taken_whatever_the_index_says(tmp_path):
    folder = save_model(tmp_path / "model")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    assert type(model_autoencoder(folder)).__name__ == "AutoencoderDC"


def test_a_damaged_index_is_named(folder, tmp_path):
    damaged = shutil.copytree(folder, tmp_path / "model")
    (damaged / "model_index.json").write_text("{")
    with pytest.raises(AdaptDiffuseError, match="model_index.json cannot be read as JSON"):
        DiffusersPrior.load(damaged)
