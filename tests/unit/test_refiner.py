"""The refiner: its network and its checkpoint, on the latents of tiny random autoencoders."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file

from adapt_diffuse.autoencoder import encode_raw, latent_space_of
from adapt_diffuse.checkpoints import read_safetensors, write_safetensors
from adapt_diffuse.cost import CountedPrior
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.latent_space import LatentSpace
from adapt_diffuse.padding import pad_to_multiple
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.severity import SeverityRefiner, load_severity_encoder, save_severity_encoder
from adapt_diffuse.severity.checkpoint import count_parameters
from tests.models import drawn_batch, tiny_autoencoder
from tests.reference import relative_error

NOTES = {"family": {"name": "mixed"}, "training": {"steps": 3}, "validation": {"pearson_level": 0.9}}


def made(space, awake=True, seed=0, **options):
    """A refiner of ``space``, frozen; ``awake`` ones have weights instead of zeros in their last layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        refiner = SeverityRefiner(space, **{"width": 16, **options})
        if awake:
            torch.nn.init.normal_(refiner.leave.weight, std=0.05)
            torch.nn.init.normal_(refiner.head.log_sigma.weight, std=0.5)
    return refiner.requires_grad_(False).eval()


def blank(channels, factor):
    return LatentSpace(channels, factor, 1.0, 0.0, (0.0,) * (4 * channels))


@pytest.fixture(scope="module")
def autoencoder():
    return tiny_autoencoder("AutoencoderDC")


@pytest.fixture(scope="module")
def space(autoencoder):
    return latent_space_of(autoencoder)


@pytest.fixture(scope="module")
def encode(autoencoder, space):
    return lambda image: space.from_raw(encode_raw(autoencoder, image.float() * 2 - 1)).to(image)


# The network


@pytest.mark.parametrize("options", [{}, {"photo": False}, {"levels": 1}, {"levels": 4}])
def test_it_begins_as_the_frozen_encoding(space, encode, options):
    severity = made(space, awake=False, **options).predict(drawn_batch(), 1, encode)
    assert torch.equal(severity.z_hat, encode(drawn_batch()))
    assert torch.allclose(severity.sigma_hat, torch.full((2,), 0.5))


@pytest.mark.parametrize(("channels", "factor"), [(4, 8), (16, 8), (32, 32), (128, 16), (3, 4), (4, 1)])
def test_every_latent_space_fits_into_ten_megabytes(tmp_path, channels, factor):
    refiner = made(blank(channels, factor), width=96)
    assert 2e6 < count_parameters(refiner) < 4e6
    save_severity_encoder(tmp_path / "half.safetensors", refiner.half(), None, NOTES)
    assert (tmp_path / "half.safetensors").stat().st_size < 10e6


@pytest.mark.parametrize(("channels", "factor"), [(16, 8), (32, 32), (128, 16), (3, 1)])
@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (4, 6)])
def test_latents_of_every_shape_go_in_and_come_out(channels, factor, grid):
    photo = drawn_batch(2, grid[0] * factor, grid[1] * factor)
    latent = torch.randn(2, channels, *grid, generator=torch.Generator().manual_seed(0))
    z_hat, sigma_hat = made(blank(channels, factor))(latent, photo)
    assert z_hat.shape == latent.shape
    assert bool(torch.isfinite(z_hat).all())
    assert sigma_hat.shape == (2,)
    assert bool((sigma_hat > 0).all())


@pytest.mark.parametrize("photo", [True, False])
def test_every_weight_learns(space, encode, photo):
    refiner = made(space, photo=photo).requires_grad_(True)
    z_hat, sigma_hat = refiner(encode(drawn_batch()), drawn_batch())
    (z_hat.square().mean() + sigma_hat.sum()).backward()
    assert all(float(weight.grad.abs().max()) > 0 for weight in refiner.parameters())


def test_it_sees_what_the_encoding_does_not_show(space, encode):
    latent = encode(drawn_batch())
    other = drawn_batch().flip(3)
    for photo in (True, False):
        refiner = made(space, photo=photo)
        (first, sigma), (second, other_sigma) = refiner(latent, drawn_batch()), refiner(latent, other)
        assert torch.equal(first, second) != photo
        assert torch.equal(sigma, other_sigma) != photo


@pytest.mark.parametrize("size", [(1, 1), (17, 97), (130, 75), (32, 48)])
@pytest.mark.parametrize("multiple", [1, 16])
def test_photos_of_any_size_are_padded_by_reflection(space, encode, size, multiple):
    refiner, photo = made(space), drawn_batch(1, *size)
    severity = refiner.predict(photo, multiple, encode)
    grid = math.lcm(4, multiple)
    assert severity.photo_size == size
    assert severity.z_hat.shape == (1, 4, *(-(-side // grid) * grid // 4 for side in size))
    padded = pad_to_multiple(photo, grid)
    z_hat, sigma_hat = refiner(encode(padded), padded, tuple(-(-side // 4) for side in size))
    assert torch.equal(severity.z_hat, z_hat)
    assert torch.equal(severity.sigma_hat, sigma_hat)


def test_the_head_looks_at_the_photo_and_not_at_its_padding(space, encode):
    refiner, seen = made(space), []
    refiner.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    refiner.predict(drawn_batch(1, 37, 50), 64, encode)
    assert seen == [(10, 13)]
    features = torch.randn(1, 16, 10, 13, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(refiner.head(features, None), refiner.head(features[:, :, :9], None))


def test_a_batch_equals_its_photos_one_by_one(space, encode):
    refiner, photos = made(space), drawn_batch(3)
    together = refiner.predict(photos, 1, encode)
    for index in range(3):
        alone = refiner.predict(photos[index : index + 1], 1, encode)
        assert relative_error(together.z_hat[index : index + 1], alone.z_hat) < 1e-5
        assert float(together.sigma_hat[index]) == pytest.approx(float(alone.sigma_hat), rel=1e-5)


def test_predictions_come_in_the_photos_precision_without_a_graph(space, encode):
    refiner = made(space).requires_grad_(True)
    severity = refiner.predict(drawn_batch().double().requires_grad_(), 1, encode)
    assert severity.z_hat.dtype == severity.sigma_hat.dtype == torch.float64
    assert not severity.z_hat.requires_grad
    assert not severity.sigma_hat.requires_grad


def test_without_an_encoding_it_says_what_it_needs(space):
    with pytest.raises(AdaptDiffuseError, match="refines the VAE's own encoding: give it the VAE as well"):
        made(space).predict(drawn_batch())


def test_an_encoding_of_another_space_is_refused(space, encode):
    for wrong in (lambda image: encode(image)[:, :3], lambda image: encode(image)[:, :, 1:]):
        with pytest.raises(AdaptDiffuseError, match="load a severity encoder trained for this VAE"):
            made(space).predict(drawn_batch(), 1, wrong)


@pytest.mark.parametrize("options", [{"width": 0}, {"width": 24}, {"levels": 0}, {"levels": 5}])
def test_sizes_that_make_no_network_are_refused(space, options):
    with pytest.raises(AdaptDiffuseError, match="A refiner's width must be a multiple of 16 and its levels 1 to 4"):
        SeverityRefiner(space, **options)


# In the restoration


def test_a_restoration_counts_the_pass_of_the_autoencoder(prior, encoder):
    photo, degradation = drawn_batch(2, 30, 33), GaussianBlur(1.0, 0.05)
    refiner = made(prior.space).double()
    found = restore(photo.double(), degradation, prior, None, generators_for(0, 2), refiner)
    assert found.cost.encoder_passes == 2
    counted = CountedPrior(prior)
    expected = refiner.predict(photo.double(), prior.multiple, counted.encode)
    assert counted.cost.encoder_passes == 2
    assert torch.equal(found.severity.z_hat, expected.z_hat)
    assert torch.equal(found.severity.sigma_hat, expected.sigma_hat)
    copied = restore(photo.double(), degradation, prior, None, generators_for(0, 2), encoder)
    assert copied.cost.encoder_passes == 2


# Checkpoints


@pytest.mark.parametrize("options", [{}, {"photo": False, "width": 32, "levels": 2}])
def test_a_checkpoint_gives_the_refiner_back(tmp_path, space, encode, options):
    refiner, path = made(space, **options), tmp_path / "severity.safetensors"
    save_severity_encoder(path, refiner, None, NOTES)
    loaded = load_severity_encoder(path)
    assert isinstance(loaded, SeverityRefiner)
    assert (loaded.photo, loaded.width, loaded.levels) == (refiner.photo, refiner.width, refiner.levels)
    assert (loaded.space, loaded.notes) == (space, NOTES)
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    before, after = refiner.predict(drawn_batch(), 1, encode), loaded.predict(drawn_batch(), 1, encode)
    assert torch.equal(before.z_hat, after.z_hat)
    assert torch.equal(before.sigma_hat, after.sigma_hat)


def test_a_half_precision_checkpoint_loads_as_float32(tmp_path, space, encode):
    refiner, path = made(space), tmp_path / "half.safetensors"
    save_severity_encoder(path, copy.deepcopy(refiner).half(), None, NOTES)
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    loaded = load_severity_encoder(path)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    difference = relative_error(
        loaded.predict(drawn_batch(), 1, encode).z_hat, refiner.predict(drawn_batch(), 1, encode).z_hat
    )
    assert 0 < difference < 1e-2


@pytest.fixture
def checkpoint(tmp_path, space):
    save_severity_encoder(tmp_path / "severity.safetensors", made(space), None, NOTES)
    return tmp_path / "severity.safetensors"


def refused(path):
    with pytest.raises(AdaptDiffuseError) as caught:
        load_severity_encoder(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_a_truncated_checkpoint_is_refused(checkpoint, keep):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(keep * len(content))])
    assert "is not a complete safetensors file" in refused(checkpoint)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("architecture", "guess", "damaged metadata (unknown architecture 'guess')"),
        ("architecture", "encoder-copy", "damaged metadata"),
        ("refiner", None, "damaged metadata"),
        ("refiner", "[]", "damaged metadata"),
        ("refiner", "{", "damaged metadata"),
        ("refiner", '{"photo": true, "width": 16}', "does not say photo, width and levels"),
        ("refiner", '{"photo": true, "width": 16, "levels": 3, "other": 1}', "does not say photo, width and levels"),
        ("refiner", '{"photo": true, "width": "16", "levels": 3}', "does not say photo, width and levels"),
        ("refiner", '{"photo": false, "width": 16, "levels": 3}', "do not fit the model"),
        ("refiner", '{"photo": true, "width": 32, "levels": 3}', "do not fit the model"),
        ("refiner", '{"photo": true, "width": 17, "levels": 3}', "width must be a multiple of 16"),
        ("latent_space", "[]", "damaged metadata"),
    ],
)
def test_damaged_metadata_is_refused(checkpoint, key, value, sentence):
    tensors, metadata = read_safetensors(checkpoint)
    metadata.pop(key)
    write_safetensors(checkpoint, tensors, metadata if value is None else {**metadata, key: value})
    assert sentence in refused(checkpoint)
