"""Training a refiner: it learns from an encoding alone, replays batches, resumes exactly, and on several processes."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapt_diffuse.autoencoder import encode_raw, latent_space_of
from adapt_diffuse.degradation.families import GaussianBlurFamily, MissingPixelsFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.photo_crops import PhotoCrops, held_out
from adapt_diffuse.severity import SeverityRefiner, load_severity_encoder
from adapt_diffuse.severity.ranks import Ranks
from adapt_diffuse.severity.replay import KEPT, Batch, BatchSource, Replay
from adapt_diffuse.severity.trainee import refiner_of, trainee_of
from adapt_diffuse.severity.training import SeverityTraining, TrainingSettings
from tests.comfyui import REPOSITORY
from tests.models import draw_photos, tiny_autoencoder
from tests.severity_scores import evaluate

CPU = torch.device("cpu")
OPTIONS = {"batch": 4, "size": 32, "learning_rate": 5e-3, "average": 0.8, "architecture": "refiner", "width": 16}
SETTINGS = TrainingSettings(steps=12, validate_every=4, reuse=3, **OPTIONS)
FAMILY = MissingPixelsFamily(0.3, 0.6)


def same_weights(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_photos(tmp_path_factory.mktemp("photos"), 6, 40, 48)


@pytest.fixture(scope="module")
def crops(photos):
    return PhotoCrops(photos, 32)


@pytest.fixture(scope="module")
def autoencoder():
    return tiny_autoencoder("AutoencoderDC")


@pytest.fixture(scope="module")
def encode(autoencoder):
    space = latent_space_of(autoencoder)

    def encode(image):
        assert not torch.is_grad_enabled(), "nothing but the encoding is asked of the autoencoder"
        return space.from_raw(encode_raw(autoencoder, image * 2 - 1))

    return encode


@pytest.fixture
def make(crops, autoencoder, encode):
    """A training that has an ``encode`` and a latent space, and no autoencoder."""

    def make(out, settings=SETTINGS, train=crops, family=FAMILY):
        trainee = refiner_of(encode, latent_space_of(autoencoder), settings, CPU)
        return SeverityTraining(trainee, family, train, crops.centres(), settings, out)

    return make


class Interrupt(KeyboardInterrupt):
    """What Ctrl-C raises, from a place of the test's choice."""


def stop_at(training, step):
    def interrupt(progress):
        if progress.step == step:
            raise Interrupt

    with pytest.raises(Interrupt):
        training.run(interrupt)


# Learning


def test_it_soon_beats_the_frozen_encoding_and_knows_its_error(make, tmp_path):
    training = make(tmp_path / "severity.safetensors", TrainingSettings(steps=150, validate_every=150, **OPTIONS))
    judged = (training.trainee.encode, FAMILY, training.validation)
    frozen = evaluate(training.averaged, *judged, seed=9)
    encoder = training.run(lambda progress: None)
    learnt = evaluate(encoder, *judged, seed=9)
    assert frozen.latent_rmse > 0.7  # nothing is learnt yet: z_hat is the encoding of the damaged photo
    assert learnt.latent_rmse < 0.75 * frozen.latent_rmse
    assert abs(learnt.sigma_ratio - 1) < 0.15 < abs(frozen.sigma_ratio - 1)


def test_a_checkpoint_tells_how_it_was_made(make, tmp_path, encode):
    out = tmp_path / "severity.safetensors"
    training = make(out)
    training.run(lambda progress: None)
    loaded = load_severity_encoder(out)
    assert isinstance(loaded, SeverityRefiner)
    assert loaded.notes["training"]["architecture"] == "refiner"
    assert loaded.notes["training"]["reuse"] == 3
    assert loaded.notes["validation"]["latent_rmse"] == training.scores.latent_rmse
    again = evaluate(loaded, encode, FAMILY, training.validation, seed=1)
    assert again.latent_rmse == pytest.approx(training.scores.latent_rmse, rel=1e-5)
    assert again.sigma_ratio == pytest.approx(training.scores.sigma_ratio, rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_every_progress_tells_the_error_and_validations_all_photos(make, tmp_path):
    told = []
    make(tmp_path / "severity.safetensors").run(told.append)
    assert [now.step for now in told if now.errors] == [4, 8, 12]
    assert all((now.scores is None) == (now.errors is None) for now in told)
    errors = told[-1].errors
    assert errors.sigma_hat.shape == errors.true_error.shape == (6,)
    assert told[-1].scores.sigma_ratio == pytest.approx(float((errors.sigma_hat / errors.true_error).mean()))


@pytest.mark.parametrize("changes", [{"photo": False}, {"loss": "paper"}, {"lambda_image": 1.0}, {"reuse": 1}])
def test_every_setting_trains(autoencoder, crops, tmp_path, changes):
    settings = TrainingSettings(**{**vars(SETTINGS), "steps": 3, "validate_every": 3, **changes})
    trainee = trainee_of(autoencoder, settings, CPU)
    out = tmp_path / "severity.safetensors"
    before = {key: value.clone() for key, value in trainee.encoder.state_dict().items()}
    SeverityTraining(trainee, FAMILY, crops, crops.centres(), settings, out).run(lambda progress: None)
    after = trainee.encoder.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert sum(torch.equal(before[key], after[key]) for key in after) < len(after) / 4
    assert load_severity_encoder(out).photo == settings.photo


def test_an_image_term_without_a_decoder_is_refused(make, tmp_path):
    with pytest.raises(AdaptDiffuseError, match="The image-space term needs a decoder"):
        make(tmp_path / "severity.safetensors", TrainingSettings(**{**vars(SETTINGS), "lambda_image": 1.0}))


def test_a_batch_must_be_used():
    with pytest.raises(AdaptDiffuseError, match=r"A batch must be used at least once, not 0 times \(reuse\)."):
        TrainingSettings(reuse=0)


# Resuming


@pytest.mark.parametrize("stop", [1, 5, 8, 12])
def test_a_resumed_run_is_the_uninterrupted_one(make, tmp_path, stop):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "severity.safetensors"
    make(whole).run(lambda progress: None)
    stop_at(make(out), stop)
    again = make(out)
    assert again.resume()
    assert again.step == stop
    again.run(lambda progress: None)
    assert same_weights(load_file(out), load_file(whole))


@pytest.mark.parametrize("architecture", ["refiner", "encoder-copy"])
@pytest.mark.parametrize("change", ["another photo", "a photo less", "a photo that was edited"])
def test_a_training_on_other_photos_is_not_gone_on_with(autoencoder, photos, tmp_path, architecture, change):
    def make(paths):
        crops, settings = PhotoCrops(paths, 32), TrainingSettings(**{**vars(SETTINGS), "architecture": architecture})
        trainee = trainee_of(autoencoder, settings, CPU)
        return SeverityTraining(trainee, FAMILY, crops, crops.centres()[:1], settings, tmp_path / "out.safetensors")

    folder = tmp_path / "photos"
    folder.mkdir()
    own = [folder / path.name for path in photos]
    for target, path in zip(own, photos, strict=True):
        target.write_bytes(path.read_bytes())
    stop_at(make(own), 1)
    assert make(own).resume()
    if change == "a photo that was edited":
        own[0].write_bytes(draw_photos(tmp_path / "other", 1, 50, 50, seed=9)[0].read_bytes())
    elif change == "another photo":
        own[0] = own[0].rename(folder / "other.png")
    else:
        own = own[1:]
    with pytest.raises(AdaptDiffuseError, match="belongs to a training with other photos; use its photos, write to"):
        make(own).resume()


def test_moved_photos_are_the_same_photos(photos, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in photos:
        (moved / path.name).write_bytes(path.read_bytes())
    assert PhotoCrops(sorted(moved.iterdir()), 32).digest == PhotoCrops(photos, 32).digest


def test_every_twentieth_photo_is_held_out(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(41)]
    train, validation = held_out(paths)
    assert validation == [paths[0], paths[20], paths[40]]
    assert sorted([*train, *validation]) == sorted(paths)
    assert held_out(paths[:1]) == (paths[:1], paths[:1])


# Batches


def numbered(number):
    values = torch.full((3, 1), float(number)) + torch.arange(3)[:, None] / 10
    return Batch(values, values + 100, values + 200, None)


class Counted:
    """Makes numbered batches and knows which ones were asked for."""

    def __init__(self):
        self.made = []

    def __call__(self, number):
        self.made.append(number)
        return numbered(number)


def test_a_training_begins_with_the_weights_of_another_latent_space(autoencoder, encode, crops, tmp_path):
    trainee = trainee_of(autoencoder, SETTINGS, CPU)
    space = trainee.encoder.space
    with torch.random.fork_rng():
        first = SeverityRefiner(replace(space, channels=space.channels + 3), width=16)
        alien = torch.nn.Linear(3, 3)
    training = SeverityTraining(trainee, FAMILY, crops, crops.centres(), SETTINGS, tmp_path / "a.safetensors")
    before = {name: value.clone() for name, value in training.encoder.state_dict().items()}
    training.begin_with(first)
    for name, value in training.encoder.state_dict().items():
        theirs = first.state_dict()[name]
        assert torch.equal(value, theirs if theirs.shape == value.shape else before[name]), name
    assert same_weights(training.averaged.state_dict(), training.encoder.state_dict())
    assert torch.equal(
        training.encoder.state_dict()["down.0.0.first.weight"], first.state_dict()["down.0.0.first.weight"]
    )

    with pytest.raises(AdaptDiffuseError, match="another architecture"):
        training.begin_with(alien)


def test_without_reuse_each_step_has_its_own_batch():
    make = Counted()
    replay = Replay(make, 1, seed=0)
    assert [float(replay(step).damaged[0]) for step in range(3)] == [0, 1, 2]
    assert make.made == [0, 1, 2]


def test_a_batch_is_made_once_and_learnt_from_reuse_times():
    make = Counted()
    replay = Replay(make, 4, seed=0)
    count = 2 * KEPT + 8
    drawn = [float(value) for step in range(count * 4) for value in replay(step).damaged[:, 0]]
    assert make.made == list(range(count))
    assert len(drawn) == 4 * 3 * count
    oldest = [min(drawn[3 * step : 3 * step + 3]) for step in range(4 * count)]
    assert all(value >= max(0, step // 4 - KEPT + 1) for step, value in enumerate(oldest))
    middle = [
        drawn.count(float(numbered(number).damaged[row, 0])) for number in range(KEPT, KEPT + 8) for row in range(3)
    ]
    assert np.mean(middle) == pytest.approx(4, abs=1)


def test_the_columns_of_a_batch_stay_together():
    batch = Replay(numbered, 4, seed=0)(50)
    assert torch.equal(batch.z0, batch.damaged + 100)
    assert torch.equal(batch.encoding, batch.damaged + 200)
    assert batch.photos is None


def test_a_step_draws_the_same_whatever_came_before():
    through = Replay(numbered, 3, seed=5)
    last = 3 * (KEPT + 8) - 1
    for step in range(last + 1):
        expected = through(step)
    make = Counted()
    assert torch.equal(Replay(make, 3, seed=5)(last).damaged, expected.damaged)
    assert make.made == list(range(8, KEPT + 8))
    assert not torch.equal(Replay(numbered, 3, seed=6)(last).damaged, expected.damaged)


def test_processes_share_no_batch():
    made = [Counted(), Counted()]
    for rank in (0, 1):
        replay = Replay(made[rank], 2, seed=0, rank=rank, ranks=2)
        for step in range(6):
            replay(step)
    assert (made[0].made, made[1].made) == ([0, 2, 4], [1, 3, 5])


def test_a_batch_is_encoded_without_gradient_and_follows_from_its_number(crops, encode):
    source = BatchSource(crops, GaussianBlurFamily(), encode, True, True, 4, 7, CPU)
    first, again, other = source(3), source(3), source(4)
    assert torch.equal(first.encoding, again.encoding)
    assert not torch.equal(first.encoding, other.encoding)
    with torch.no_grad():
        assert torch.equal(first.z0, encode(first.photos))
        assert torch.equal(first.encoding, encode(first.damaged))
    assert not first.z0.requires_grad


# Several processes

PROGRAM = """
import sys, torch
from adapt_diffuse.severity.ranks import launched_ranks
ranks, device = launched_ranks("cpu")
assert (ranks.count, device) == (2, "cpu"), (ranks, device)
values = [torch.full((2, 3), 1.0 + ranks.index), torch.tensor(10.0 * ranks.index)]
ranks.average(values)
assert torch.equal(values[0], torch.full((2, 3), 1.5)) and float(values[1]) == 5, values
from pathlib import Path
from adapt_diffuse.checkpoints import write_safetensors
from adapt_diffuse.degradation.families import MissingPixelsFamily
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.severity.trainee import trainee_of
from adapt_diffuse.severity.training import SeverityTraining, TrainingSettings
from tests.models import tiny_autoencoder
folder = Path(sys.argv[1])
crops = PhotoCrops(sorted((folder / "photos").iterdir()), 32)
settings = TrainingSettings(
    steps=4, batch=2, size=32, validate_every=2, architecture=sys.argv[2], width=16, learning_rate=1e-2
)
trainee = trainee_of(tiny_autoencoder("AutoencoderDC"), settings, torch.device("cpu"))
training = SeverityTraining(
    trainee, MissingPixelsFamily(), crops, crops.centres(), settings, folder / "severity.safetensors", ranks
)
told = []
averaged = training.run(told.append)
assert (training.scores is None) == (ranks.index == 1)
write_safetensors(folder / f"rank{ranks.index}.safetensors", averaged.state_dict(), {})
(folder / f"error{ranks.index}").write_text(repr(told[0].reconstruction))
"""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["refiner", "encoder-copy"])
def test_two_processes_learn_different_crops_and_end_with_the_same_weights(tmp_path, architecture):
    pytest.importorskip("accelerate")
    draw_photos(tmp_path / "photos", 4, 40, 40)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "program.py"), str(tmp_path), architecture]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(  # noqa: S603
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    assert same_weights(first, second)
    assert same_weights(load_file(tmp_path / "severity.safetensors"), first)
    assert (tmp_path / "error0").read_text() != (tmp_path / "error1").read_text()
    assert not (tmp_path / "severity.state.pt").exists()


def test_a_process_alone_averages_nothing():
    values = [torch.ones(2)]
    Ranks().average(values)
    assert torch.equal(values[0], torch.ones(2))


def test_a_state_of_more_processes_is_refused(make, crops, tmp_path):
    out = tmp_path / "severity.safetensors"
    stop_at(make(out), 1)
    training = make(out)
    training.ranks = Ranks(0, 2)
    with pytest.raises(AdaptDiffuseError, match="belongs to a training with other number of processes"):
        training.resume()
