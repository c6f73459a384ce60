"""Training the benchmark's SwinIR: two steps and more, interrupted in every way, and the file that they leave."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from adapt_diffuse.degradation import parse_degradation
from adapt_diffuse.degradation.families import DownscaleFamily, GaussianBlurFamily, MissingPixelsFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.image_models import ImageModel
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.severity.trainee import trainee_of
from adapt_diffuse.severity.training import SeverityTraining, TrainingSettings
from tests.command_line import names
from tests.models import draw_photos, drawn_batch, tiny_autoencoder
from tests.reference import relative_error
from training.train_swinir import Settings, Training, charbonnier, damaged, learning_rate

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings(steps=4, batch=2, size=16, width=8, depths=(2, 2), heads=2, validate_every=2, save_every=2)

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),
]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return PhotoCrops(draw_photos(tmp_path_factory.mktemp("photos"), 3, 24, 32), SETTINGS.size)


@pytest.fixture
def make(crops):
    def make(out, settings=SETTINGS, family=None):
        family = family or GaussianBlurFamily(0.5, 2.0)
        return Training(family, crops, crops.centres(), settings, out, torch.device("cpu"))

    return make


def restored(network, photos):
    with torch.no_grad():
        return network(photos).clamp(0, 1)


@pytest.mark.parametrize("family", [GaussianBlurFamily(), MissingPixelsFamily(), DownscaleFamily()])
def test_it_trains_and_its_file_is_the_network(make, tmp_path, family):
    training = make(tmp_path / "swinir.safetensors", family=family)
    before = {key: value.clone() for key, value in training.network.state_dict().items()}
    losses = []
    training.run(lambda step, loss: losses.append((step, loss)))
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert names(tmp_path) == ["swinir.safetensors"]
    moved = [name for name, value in training.network.named_parameters() if not torch.equal(value, before[name])]
    assert len(moved) == len(list(training.network.parameters()))
    photos = drawn_batch(2, 24, 32)
    made = ImageModel.load(tmp_path / "swinir.safetensors")(photos)
    assert relative_error(made, restored(training.averaged, photos)) < 1e-6
    with safe_open(tmp_path / "swinir.safetensors", framework="pt") as kept:
        notes = {key: json.loads(value) for key, value in kept.metadata().items()}
    assert (notes["training"]["step"], notes["training"]["photos"]) == (4, 3)
    assert notes["validation"]["psnr_restored"] == training.validate()[1]


def test_training_lowers_the_error(make, tmp_path):
    settings = Settings(steps=40, batch=4, size=16, width=8, depths=(2,), heads=2, learning_rate=3e-3, average=0.8)
    training = make(tmp_path / "swinir.safetensors", settings, MissingPixelsFamily(0.5, 0.6))
    _, before = training.validate()
    training.run(lambda step, loss: None)
    assert training.validate()[1] > before + 1


class Interrupt(KeyboardInterrupt):
    """What Ctrl-C raises."""


def stopped(training, step):
    def interrupt(now, _):
        if now == step:
            raise Interrupt

    with pytest.raises(Interrupt):
        training.run(interrupt)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_is_the_uninterrupted_one(make, tmp_path, stop):
    make(tmp_path / "whole.safetensors").run(lambda step, loss: None)
    out = tmp_path / "swinir.safetensors"
    stopped(make(out), stop)
    again = make(out)
    assert again.resume()
    assert again.step == stop
    again.run(lambda step, loss: None)
    whole, resumed = load_file(tmp_path / "whole.safetensors"), load_file(out)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not make(out).resume()


def test_an_interrupt_in_the_middle_of_an_update_goes_back_to_the_last_state(make, tmp_path):
    make(tmp_path / "whole.safetensors").run(lambda step, loss: None)
    out = tmp_path / "swinir.safetensors"
    training = make(out)

    def interrupt(optimizer, args, kwargs):
        if training.step == 3:
            raise Interrupt

    training.optimizer.register_step_post_hook(interrupt)  # weights have moved, the average has not
    with pytest.raises(Interrupt):
        training.run(lambda step, loss: None)
    again = make(out)
    assert again.resume()
    assert again.step == 2
    again.run(lambda step, loss: None)
    whole, resumed = load_file(tmp_path / "whole.safetensors"), load_file(out)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_state_of_another_training_is_refused(make, tmp_path):
    out = tmp_path / "swinir.safetensors"
    stopped(make(out), 2)
    for other in ({"settings": Settings(**{**vars(SETTINGS), "seed": 1})}, {"family": MissingPixelsFamily()}):
        with pytest.raises(AdaptDiffuseError, match="belongs to a training with other settings"):
            make(out, **other).resume()


def test_the_loss_and_the_rate_are_what_they_are_called():
    error = torch.tensor([3e-3, 0.0])
    assert float(charbonnier(error, torch.zeros(2), 4e-3)) == pytest.approx((5e-3 + 4e-3) / 2)
    settings = Settings(steps=1000, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in (0, 49, 500, 999)]
    assert rates == pytest.approx([0.02, 0.9941, 0.5, 0.02], abs=1e-3)


class Half:
    """Photos measured at half their size."""

    noise_std = 0.05

    def sample(self, shape, generators):
        return parse_degradation("downscale:factor=2", 0.05), torch.full(shape[:1], 2.0)


def test_a_smaller_measurement_is_shown_at_the_photos_size():
    photos = drawn_batch(2, 24, 36)
    seen = damaged(photos, Half(), torch.Generator().manual_seed(0))
    assert seen.shape == photos.shape
    assert 0.01 < float((seen - photos).abs().mean()) < 0.2


def test_it_sees_what_a_severity_encoder_sees(make, tmp_path, crops):
    """The same crops and the same damage in the same step, for the same family, batch, size and seed."""
    seen = []
    training = make(tmp_path / "swinir.safetensors")
    training.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    training.run(lambda step, loss: None)
    common = {"steps": 4, "batch": 2, "size": 16, "validate_every": 4}
    settings = TrainingSettings(**common)
    trainee = trainee_of(tiny_autoencoder("AutoencoderDC"), settings, torch.device("cpu"))
    out = tmp_path / "severity.safetensors"
    severity = SeverityTraining(trainee, training.family, crops, crops.centres(), settings, out)
    theirs = []
    severity.encoder.register_forward_pre_hook(lambda _, inputs: theirs.append(inputs[0].clone()))
    severity.run(lambda progress: None)
    assert len(seen) == len(theirs) == 4
    assert all(torch.equal(ours, photos) for ours, photos in zip(seen, theirs, strict=True))


def test_the_command_trains_on_a_folder(tmp_path):
    draw_photos(tmp_path / "photos", 3, 20, 20)
    options = ["--size", "16", "--width", "8", "--depths", "2", "--heads", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "training.train_swinir", "--images", tmp_path / "photos"]
    command += ["--out", tmp_path / "swinir.safetensors", "--steps", "2", "--batch", "2", *options]
    command += ["--family", "gaussian-blur:std_max=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert ImageModel.load(tmp_path / "swinir.safetensors").name == "SwinIR"
    command[command.index("gaussian-blur:std_max=1")] = "rust"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("train_swinir: Unknown degradation family 'rust'")
