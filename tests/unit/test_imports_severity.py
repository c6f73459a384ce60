"""import-severity: checkpoints in flash-diffusion's layout, compared with a forward pass written in the tests."""

import pytest
import torch

from adapt_diffuse.autoencoder import encode_raw, load_autoencoder
from adapt_diffuse.severity import load_severity_encoder
from tests.command_line import call, names, one_sentence
from tests.compvis import Denoiser, FirstStage, Model, Weights, declared
from tests.models import drawn_batch, save_model
from tests.reference import relative_error

STAGE = FirstStage(multipliers=(1, 2, 2))
SCALES = {"model": 1.0, "scaled": 0.4}
HYPER = {
    "operator_config": {"type": "gaussian_blur", "kernel_size": 61, "scheduling": "linear", "max_std": 3.0},
    "noise_config": {"sigma_min": 0.05, "sigma_max": 0.05},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two models of the same first stage: one with its latents as they are, one that scales them."""
    root = tmp_path_factory.mktemp("models")
    model = Model.draw(STAGE, Denoiser(multipliers=(1, 2)))
    torch.save(model.state_dict(), root / "model.ckpt")
    for name, scale in SCALES.items():
        (root / f"{name}.yaml").write_text(declared(model, scale_factor=scale))
        options = ["--config", root / f"{name}.yaml", "--out", root / name]
        assert call("import-model", root / "model.ckpt", *options) == 0
    return root


@pytest.fixture(scope="module")
def trained():
    """The weights of a severity encoder of the published kind."""
    weights = Weights(generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        published(weights, torch.zeros(1, 3, 16, 16))
    return weights


def published(weights, x):
    """z_hat and variance of images on [-1, 1], as the published encoder computes them."""
    z = STAGE.encode(weights, x)
    return z, weights.conv("std_conv", z, STAGE.width, 1).square().flatten(1).mean(1)


def checkpoint(weights, layout):
    """The checkpoint of a whole training, or the light one that is published."""
    if layout == "light":
        return {"state_dict": weights.values, "hyper_parameters": {**HYPER, "model_config": {"target": "a.b"}}}
    state = {f"encoder.{name}": value for name, value in weights.values.items()}
    state |= {f"pretrained_autoencoder.{name}": torch.zeros_like(value) for name, value in weights.values.items()}
    hyper = {**HYPER, "sev_encoder_config_path": None, "lr": 1e-4}
    return {"epoch": 1, "global_step": 80000, "state_dict": state, "hyper_parameters": hyper}


@pytest.mark.parametrize("layout", ["light", "training"])
@pytest.mark.parametrize("name", SCALES)
@torch.no_grad()
def test_an_imported_encoder_computes_what_the_checkpoint_computes(root, trained, tmp_path, layout, name):
    torch.save(checkpoint(trained, layout), tmp_path / "severity.ckpt")
    out = tmp_path / "severity.safetensors"
    assert call("import-severity", tmp_path / "severity.ckpt", "--model", root / name, "--out", out) == 0
    encoder = load_severity_encoder(out)
    photos = drawn_batch(2, 32, 48).double()
    z, variance = published(trained, photos * 2 - 1)
    severity = encoder.double().predict(photos)
    assert relative_error(severity.z_hat, z * SCALES[name]) < 1e-9
    # the head's bias is rounded to float32 when it is scaled
    assert relative_error(severity.sigma_hat, variance.sqrt() * SCALES[name]) < (1e-9 if name == "model" else 1e-6)
    assert encoder.head_name == "paper"
    assert encoder.notes["family"] == {"name": "gaussian-blur", "std_min": 0.3, "std_max": 3.0, "noise_std": 0.05}
    assert encoder.notes["training"].get("step") == (80000 if layout == "training" else None)
    autoencoder = load_autoencoder(root / name / "vqvae")
    encoder.space.check(lambda image: encode_raw(autoencoder, image.float() * 2 - 1))


def test_an_imported_encoder_restores_with_its_model(root, trained, tmp_path):
    from tests.models import draw_photos

    torch.save(checkpoint(trained, "light"), tmp_path / "severity.ckpt")
    out = tmp_path / "severity.safetensors"
    assert call("import-severity", tmp_path / "severity.ckpt", "--model", root / "model", "--out", out) == 0
    (photo,) = draw_photos(tmp_path / "photos", 1, 20, 24)
    options = ["--model", root / "model", "--severity-encoder", out, "--device", "cpu", "--steps", 1]
    options += ["--degradation", "gaussian-blur:std=3"]
    assert call("restore", photo, "--out", tmp_path / "restored", *options) == 0
    assert names(tmp_path / "restored") == ["photo-0.png"]


@pytest.mark.parametrize(
    ("operator", "noise"),
    [({"type": "nonlinear_blur"}, None), ({"type": "inpainting", "scheduling": "linear"}, {}), (None, None)],
)
def test_families_that_are_not_ours_are_only_noted(root, trained, tmp_path, operator, noise):
    content = checkpoint(trained, "light")
    content["hyper_parameters"] = {"operator_config": operator, "noise_config": noise}
    torch.save(content, tmp_path / "severity.ckpt")
    out = tmp_path / "severity.safetensors"
    assert call("import-severity", tmp_path / "severity.ckpt", "--model", root / "model", "--out", out) == 0
    notes = load_severity_encoder(out).notes
    assert "family" not in notes
    assert (notes["training"]["operator_config"], notes["training"]["noise_config"]) == (operator, noise)


def refused(tmp_path, capsys, content, model, *parts):
    torch.save(content, tmp_path / "severity.ckpt")
    out = tmp_path / "out" / "severity.safetensors"
    assert call("import-severity", tmp_path / "severity.ckpt", "--model", model, "--out", out) == 2
    one_sentence(capsys, *parts)
    assert not out.parent.exists()


def test_other_checkpoints_are_refused(root, trained, tmp_path, capsys):
    head = ("std_conv.weight", "std_conv.bias")
    headless = {name: value for name, value in trained.values.items() if name not in head}
    refused(tmp_path, capsys, {"state_dict": headless}, root / "model", "has no std_conv")
    model = torch.load(root / "model.ckpt", weights_only=True)
    refused(tmp_path, capsys, model, root / "model", "holds no severity encoder of flash-diffusion")
    biasless = {name: value for name, value in trained.values.items() if name != "std_conv.bias"}
    refused(tmp_path, capsys, {"state_dict": biasless}, root / "model", "has no std_conv")
    refused(tmp_path, capsys, {"state_dict": {}}, root / "model", "holds no named weights")


def test_an_encoder_of_another_architecture_is_refused(root, trained, tmp_path, capsys):
    other = Weights()
    with torch.no_grad():
        FirstStage(multipliers=(1, 1, 2)).encode(other, torch.zeros(1, 3, 16, 16))
        other.conv("std_conv", torch.zeros(1, 3, 4, 4), 3, 1)
    refused(tmp_path, capsys, {"state_dict": other.values}, root / "model", "do not fit the model", "severity.ckpt")


def test_a_model_of_another_kind_is_refused(trained, tmp_path, capsys):
    model = save_model(tmp_path / "other", kind="AutoencoderKL")
    content = checkpoint(trained, "light")
    refused(tmp_path, capsys, content, model, "was trained for a VQModel, but", "has an AutoencoderKL")
    refused(tmp_path, capsys, content, tmp_path / "nowhere", "is it a diffusers model folder?")


def test_the_file_must_be_safetensors(root, tmp_path, capsys):
    assert call("import-severity", tmp_path / "a.ckpt", "--model", root / "model", "--out", tmp_path / "a.pt") == 2
    one_sentence(capsys, "--out should end in .safetensors, not 'a.pt'.")
