"""The severity encoder: its network and its checkpoint, on tiny random autoencoders of every kind."""

import copy
import math
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapt_diffuse.autoencoder import CLASSES, encode_raw
from adapt_diffuse.checkpoints import read_safetensors, write_safetensors
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.padding import pad_to_multiple
from adapt_diffuse.severity import load_severity_encoder, save_severity_encoder
from adapt_diffuse.severity.encoder import LogSigmaHead, PaperHead
from adapt_diffuse.severity.losses import paper_terms
from tests.models import config_of, drawn_batch, tiny_autoencoder, tiny_severity_encoder
from tests.reference import relative_error

HEADS = ("log-sigma", "paper")
every_kind = pytest.mark.parametrize("kind", CLASSES)


def same_weights(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


# The network


@every_kind
@pytest.mark.parametrize("head", HEADS)
def test_it_begins_as_the_autoencoders_own_encoder(kind, head):
    encoder, autoencoder = tiny_severity_encoder(kind, head)
    severity = encoder.predict(drawn_batch())
    scale, shift = encoder.space.scale, encoder.space.shift
    with torch.no_grad():
        expected = (encode_raw(autoencoder, drawn_batch() * 2 - 1) - shift) * scale
    assert relative_error(severity.z_hat, expected) < 1e-6
    assert severity.sigma_hat.shape == (2,)
    assert bool((severity.sigma_hat > 0).all())
    if head == "log-sigma":
        assert torch.allclose(severity.sigma_hat, torch.full((2,), 0.5))


@every_kind
@pytest.mark.parametrize("head", HEADS)
def test_sigma_hat_learns_from_encoder_and_head(kind, head):
    encoder, _ = tiny_severity_encoder(kind, head)
    encoder.requires_grad_(True)
    if head == "log-sigma":  # its last layer begins with zeros, which hide what lies before it
        torch.nn.init.constant_(encoder.head.log_sigma.weight, 0.1)
    _, sigma_hat = encoder(drawn_batch())
    sigma_hat.sum().backward()
    first = next(iter(encoder.encoder.parameters()))
    assert float(first.grad.abs().max()) > 0
    assert all(float(p.grad.abs().max()) > 0 for p in encoder.head.parameters())


def test_the_head_reads_the_mean_and_the_spread_of_the_features():
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        head = LogSigmaHead(5, 6).double()
    values = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in head.parameters()]
    torch.nn.utils.vector_to_parameters(torch.cat([value.flatten() for value in values]), head.parameters())
    project, at, mix, offset, log_sigma, bias = values
    features = torch.randn(3, 5, 4, 7, generator=generator, dtype=torch.float64)

    def silu(value):
        return value / (1 + (-value).exp())

    local = silu(torch.einsum("of,bfhw->bohw", project[:, :, 0, 0], features) + at[:, None, None])
    mean = local.mean((2, 3))
    spread = (local.square().mean((2, 3)) - mean**2).sqrt()
    hidden = silu(mean @ mix[:, :6].T + spread @ mix[:, 6:].T + offset)
    expected = (hidden @ log_sigma[0] + bias).exp()
    assert relative_error(head(features, features).detach(), expected) < 1e-12


@pytest.mark.parametrize("size", [(1, 1), (17, 97), (130, 75), (32, 48)])
@pytest.mark.parametrize("multiple", [1, 16])
def test_photos_of_any_size_are_padded_by_reflection(size, multiple):
    encoder, _ = tiny_severity_encoder()
    photo = drawn_batch(1, *size)
    severity = encoder.predict(photo, multiple)
    grid = math.lcm(4, multiple)
    assert severity.photo_size == size
    assert severity.z_hat.shape == (1, 4, *(-(-side // grid) * grid // 4 for side in size))
    z_hat, sigma_hat = encoder(pad_to_multiple(photo, grid))
    assert torch.equal(severity.z_hat, z_hat)
    assert torch.equal(severity.sigma_hat, sigma_hat)


@every_kind
def test_a_batch_equals_its_photos_one_by_one(kind):
    encoder, _ = tiny_severity_encoder(kind)
    together = encoder.predict(drawn_batch(3))
    for index in range(3):
        alone = encoder.predict(drawn_batch(3)[index : index + 1])
        assert relative_error(together.z_hat[index : index + 1], alone.z_hat) < 1e-5
        assert float(together.sigma_hat[index]) == pytest.approx(float(alone.sigma_hat), rel=1e-5)


def test_predictions_come_in_the_photos_precision_without_a_graph():
    encoder, _ = tiny_severity_encoder()
    encoder.requires_grad_(True)
    photo = drawn_batch().double().requires_grad_()
    severity = encoder.predict(photo)
    assert severity.z_hat.dtype == severity.sigma_hat.dtype == torch.float64
    assert not severity.z_hat.requires_grad
    assert not severity.sigma_hat.requires_grad


# Checkpoints

NOTES = {"family": {"name": "gaussian-blur"}, "training": {"steps": 3}, "validation": {"pearson_level": 0.9}}


@every_kind
@pytest.mark.parametrize("head", HEADS)
def test_a_checkpoint_gives_the_encoder_back(tmp_path, kind, head):
    encoder, autoencoder = tiny_severity_encoder(kind, head)
    path = tmp_path / "severity.safetensors"
    save_severity_encoder(path, encoder, config_of(autoencoder), NOTES)
    loaded = load_severity_encoder(path)
    assert same_weights(loaded.state_dict(), encoder.state_dict())
    assert (loaded.head_name, loaded.space, loaded.notes) == (head, encoder.space, NOTES)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    before, after = encoder.predict(drawn_batch()), loaded.predict(drawn_batch())
    assert torch.equal(before.z_hat, after.z_hat)
    assert torch.equal(before.sigma_hat, after.sigma_hat)
    loaded.space.check(lambda image: encode_raw(autoencoder, image * 2 - 1))


def test_a_checkpoint_does_not_name_the_machine(tmp_path):
    encoder, autoencoder = tiny_severity_encoder()
    autoencoder.save_pretrained(tmp_path / "vae")
    with torch.random.fork_rng():  # diffusers draws weights before it loads them
        loaded = type(autoencoder).from_pretrained(tmp_path / "vae")
    assert str(tmp_path) in str(loaded.config)
    save_severity_encoder(tmp_path / "severity.safetensors", encoder, config_of(loaded), NOTES)
    assert str(tmp_path).encode() not in (tmp_path / "severity.safetensors").read_bytes()


def test_a_half_precision_checkpoint_loads_as_float32(tmp_path):
    encoder, autoencoder = tiny_severity_encoder()
    before = encoder.predict(drawn_batch())
    path = tmp_path / "half.safetensors"
    save_severity_encoder(path, copy.deepcopy(encoder).half(), config_of(autoencoder), NOTES)
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    loaded = load_severity_encoder(path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert 0 < relative_error(loaded.predict(drawn_batch()).z_hat, before.z_hat) < 1e-2


@pytest.fixture
def checkpoint(tmp_path):
    encoder, autoencoder = tiny_severity_encoder()
    path = tmp_path / "severity.safetensors"
    save_severity_encoder(path, encoder, config_of(autoencoder), NOTES)
    return path


def refused(path):
    with pytest.raises(AdaptDiffuseError) as caught:
        load_severity_encoder(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_checkpoint_is_refused(tmp_path):
    assert refused(tmp_path / "none.safetensors") == f"There is no file {tmp_path / 'none.safetensors'}."
    assert refused(tmp_path).startswith("There is no file")


@pytest.mark.parametrize("keep", [0, 7, 0.3, 0.999])
def test_a_truncated_checkpoint_is_refused(checkpoint, keep):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert "is not a complete safetensors file" in refused(checkpoint)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "vae.safetensors"
    save_file(tiny_autoencoder("AutoencoderDC").state_dict(), path)
    assert "is not a severity encoder (its metadata says 'nothing')" in refused(path)
    path.write_bytes(pickle.dumps({"weights": 1}))
    assert "is not a complete safetensors file" in refused(path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("format", "adapt-diffuse-severity-encoder/9", "metadata says 'adapt-diffuse-severity-encoder/9'"),
        ("latent_space", "{", "damaged metadata"),
        ("latent_space", "[]", "damaged metadata"),
        ("latent_space", '{"fingerprint": []}', "damaged metadata"),
        ("autoencoder", None, "damaged metadata"),
        ("autoencoder", "[]", "damaged metadata"),
        ("autoencoder", '{"_class_name": "AutoencoderDC", "encoder_block_out_channels": 3}', "makes no AutoencoderDC"),
        ("head", None, "damaged metadata"),
        ("head", "guess", "damaged metadata (unknown head 'guess')"),
        ("training", "{", "damaged metadata"),
    ],
)
def test_damaged_metadata_is_refused(checkpoint, key, value, sentence):
    tensors, metadata = read_safetensors(checkpoint)
    metadata.pop(key)
    write_safetensors(checkpoint, tensors, metadata if value is None else {**metadata, key: value})
    assert sentence in refused(checkpoint)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(checkpoint, change):
    tensors, metadata = read_safetensors(checkpoint)
    name = next(iter(tensors))
    if change == "missing":
        tensors.pop(name)
    elif change == "extra":
        tensors["extra"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(1)
    write_safetensors(checkpoint, tensors, metadata)
    assert "do not fit the model" in refused(checkpoint)


def test_a_published_head_that_predicts_no_error_has_a_gradient():
    with torch.random.fork_rng():
        head = PaperHead(4)
    torch.nn.init.zeros_(head.std_conv.weight)
    torch.nn.init.zeros_(head.std_conv.bias)
    z_hat = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sigma_hat = head(z_hat, z_hat)
    assert sigma_hat.tolist() == pytest.approx([0, 0], abs=1e-5)
    paper_terms(z_hat, sigma_hat**2, torch.zeros_like(z_hat)).sigma.sum().backward()
    for gradient in (z_hat.grad, head.std_conv.weight.grad, head.std_conv.bias.grad):
        assert bool(torch.isfinite(gradient).all())
