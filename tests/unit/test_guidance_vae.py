"""A second, smaller autoencoder that gives the gradients, outside the host."""

import pytest
import torch
from diffusers import AutoencoderTiny

from adapt_diffuse.degradation import GaussianBlur, measure
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.guidance import data_gradient
from adapt_diffuse.guidance_vae import DOUBTFUL, Agreement, Calls, compare
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.latent_space import test_pattern as pattern  # pytest would take its own name for a test
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.solvers import LDPS, ReSample
from adapt_diffuse.start import StartSettings
from tests.command_line import call
from tests.models import drawn_batch, tiny_autoencoder, tiny_unet
from tests.reference import ldm_alphas_cumprod, relative_error

BLUR = GaussianBlur(1.0, 0.05)


def prior_with(guidance=None, kind="AutoencoderKL", tile=0):
    autoencoder = tiny_autoencoder(kind).double()
    return DiffusersPrior(autoencoder, tiny_unet(4).double(), ldm_alphas_cumprod(), "epsilon", guidance, tile)


@pytest.fixture(scope="module")
def small():
    """As tiny autoencoders are: its latents are in the model's scale already."""
    autoencoder = tiny_autoencoder("AutoencoderTiny").double()
    autoencoder.register_to_config(scaling_factor=1.0)
    return autoencoder


def latent_and_photo():
    z = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return z, Measurement.of(measure(drawn_batch(1, 32, 48).double(), BLUR, generators_for(0, 1)), BLUR)


def test_gradients_are_the_small_ones_and_everything_else_the_full_ones(small):
    guided, full = prior_with(small), prior_with()
    z, measurement = latent_and_photo()
    assert torch.equal(guided.decode(z), full.decode(z))
    assert torch.equal(guided.encode(measurement.y), full.encode(measurement.y))
    image = (small.decode(z).sample + 1) / 2
    source = z.clone().requires_grad_()
    assert relative_error(guided.guide.decode(source).detach(), image) < 1e-12
    expected = small.encode(measurement.y * 2 - 1).latents
    assert relative_error(guided.guide.encode(measurement.y).detach(), expected) < 1e-12

    sigma = torch.tensor([0.5], dtype=torch.float64)
    found = data_gradient(guided, measurement, z, sigma, "decoder").gradient
    z0 = full.denoise(z, sigma).requires_grad_()
    residual = 2 * measurement.residual((small.decode(z0).sample + 1) / 2)
    assert relative_error(found, torch.autograd.grad(residual.norm(), z0)[0]) < 1e-9


@pytest.mark.parametrize("solver", [LDPS(2.0, "decoder"), ReSample(iterations=2, every=1)])
def test_what_comes_out_is_decoded_by_the_full_one(small, solver):
    guided, full = prior_with(small), prior_with()
    _, measurement = latent_and_photo()
    last = []
    found = restore(
        measurement.y, BLUR, guided, solver, generators_for(3, 1), start=StartSettings(steps=6),
        callback=lambda step, steps, x, z0, sigma: last.append(x),
    )  # fmt: skip
    assert torch.equal(found.image, full.decode(last[-1]).clamp(0, 1))
    plain = restore(measurement.y, BLUR, full, solver, generators_for(3, 1), start=StartSettings(steps=6))
    assert relative_error(found.image, plain.image) > 1e-3


def test_a_twin_agrees_and_a_stranger_does_not(small):
    assert prior_with().agreement is None
    twin = prior_with(tiny_autoencoder("AutoencoderKL").double()).agreement
    assert twin.latents < 1e-12 and twin.images < 1e-12
    assert "far" not in str(twin)
    stranger = prior_with(small).agreement
    assert stranger.latents > DOUBTFUL and stranger.images > 0.05
    assert "that is far: does it belong to this model?" in str(stranger)


def test_the_agreement_is_measured_on_what_both_make_of_one_pattern():
    latent = torch.full((1, 4, 16, 16), 2.0)
    full = Calls(lambda image: latent, lambda z: torch.full((1, 3, 64, 64), 0.5))
    near = Calls(lambda image: 1.5 * latent, lambda z: torch.full((1, 3, 64, 64), 0.5 if z is None else 0.25))
    assert compare(full, near) == Agreement(latents=0.5, images=0.25)
    seen = []
    compare(Calls(lambda image: seen.append(image) or latent, lambda z: image_like()), near)
    assert torch.equal(seen[0], pattern())


def image_like():
    return torch.zeros(1, 3, 64, 64)


@pytest.mark.parametrize(("kind", "what"), [("VQModel", "3 channels at 2 pixels"), ("AutoencoderTiny", "5 channels")])
def test_another_number_of_channels_or_factor_is_refused(kind, what):
    if kind == "VQModel":
        other = tiny_autoencoder(kind).double()
    else:
        with torch.random.fork_rng():
            other = AutoencoderTiny(
                encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
                num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), latent_channels=5,
            ).double()  # fmt: skip
    with pytest.raises(AdaptDiffuseError, match=f"not of this model's latent space: it makes {what}.*VAE 4 channels"):
        prior_with(other)


# The command line


def test_the_command_line_takes_one_and_says_how_far_it_is(files, photos, tmp_path, capsys):
    tiny_autoencoder("AutoencoderTiny").save_pretrained(tmp_path / "tiny")
    results = {}
    for name, more in {"full": [], "small": ["--guidance-vae", tmp_path / "tiny"], "tile": ["--tile", 64]}.items():
        arguments = ["--model", files / "other", "--severity-encoder", files / "other.safetensors", "--device", "cpu"]
        arguments += ["--degradation", "gaussian-blur:std=3"]
        assert call("restore", photos[0], "--out", tmp_path / name, *arguments, "--steps", 2, *more) == 0
        results[name] = (tmp_path / name / "photo-0.png").read_bytes()
        assert ("The guidance VAE decodes a test pattern" in capsys.readouterr().err) == (name == "small")
    assert results["small"] != results["full"]
    assert results["tile"] == results["full"]  # the photo is smaller than a tile


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tile", -1], "--tile must be 0 or more pixels, not -1"),
        (["--guidance-vae", "nowhere"], "There is no config.json in nowhere"),
    ],
)
def test_the_command_line_refuses_what_makes_no_sense(files, photos, tmp_path, capsys, arguments, sentence):
    given = ["--model", files / "other", "--severity-encoder", files / "other.safetensors", "--device", "cpu"]
    assert call("restore", photos[0], "--out", tmp_path / "out", *given, *arguments) == 2
    assert sentence in capsys.readouterr().err
