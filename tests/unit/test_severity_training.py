"""Training a severity encoder, on tiny random autoencoders of every kind, interrupted in every way."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from adapt_diffuse.autoencoder import CLASSES, encode_raw
from adapt_diffuse.degradation.families import GaussianBlurFamily, MissingPixelsFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.severity import load_severity_encoder
from adapt_diffuse.severity.trainee import trainee_of
from adapt_diffuse.severity.training import SeverityTraining, TrainingSettings, learning_rate
from tests.models import draw_photos, tiny_autoencoder
from tests.severity_scores import evaluate

HEADS = ("log-sigma", "paper")
every_kind = pytest.mark.parametrize("kind", CLASSES)


def same_weights(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


SETTINGS = TrainingSettings(steps=30, batch=4, size=32, learning_rate=3e-3, validate_every=10, average=0.8)


class Interrupt(KeyboardInterrupt):
    """What Ctrl-C raises, from a place of the test's choice."""


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return PhotoCrops(draw_photos(tmp_path_factory.mktemp("photos"), 6, 40, 48), SETTINGS.size)


@pytest.fixture(scope="module")
def make(crops):
    """A training on the drawn photos."""

    def make(out, settings=SETTINGS, family=None, kind="AutoencoderDC", seed=0):
        autoencoder = tiny_autoencoder(kind, seed)
        family = family or GaussianBlurFamily(0.5, 2.0)
        trainee = trainee_of(autoencoder, settings, torch.device("cpu"))
        training = SeverityTraining(trainee, family, crops, crops.centres(), settings, out)
        training.autoencoder = autoencoder
        return training

    return make


@pytest.fixture(scope="module")
def uninterrupted(make, tmp_path_factory):
    """The weights of a run without a break."""
    out = tmp_path_factory.mktemp("whole") / "severity.safetensors"
    make(out).run(lambda progress: None)
    return load_file(out)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@every_kind
def test_thirty_steps_lower_the_error(make, tmp_path, kind):
    training = make(tmp_path / "severity.safetensors", kind=kind)
    judged = (training.trainee.encode, training.family, training.validation)
    before = evaluate(training.averaged, *judged, seed=9)
    first = {key: value.clone() for key, value in training.autoencoder.state_dict().items()}
    steps = []
    encoder = training.run(lambda progress: steps.append(progress))
    after = evaluate(encoder, *judged, seed=9)
    assert after.latent_rmse < before.latent_rmse
    assert [progress.step for progress in steps] == list(range(1, 31))
    assert [progress.step for progress in steps if progress.scores] == [10, 20, 30]
    assert same_weights(training.autoencoder.state_dict(), first)
    assert names(tmp_path) == ["severity.safetensors"]


def test_sigma_hat_becomes_calibrated(make, tmp_path):
    settings = TrainingSettings(steps=150, batch=4, size=32, learning_rate=3e-3, validate_every=150, average=0.8)
    training = make(tmp_path / "severity.safetensors", settings)
    judged = (training.trainee.encode, training.family, training.validation)
    before = evaluate(training.averaged, *judged, seed=9)
    after = evaluate(training.run(lambda progress: None), *judged, seed=9)
    assert abs(before.sigma_ratio - 1) > 0.5
    assert abs(after.sigma_ratio - 1) < 0.25


def test_what_is_saved_is_the_running_average_of_the_weights(make, tmp_path):
    out = tmp_path / "severity.safetensors"
    settings = TrainingSettings(steps=12, batch=2, size=32, learning_rate=3e-3, validate_every=12, average=0.4)
    training = make(out, settings)
    average = {key: value.clone() for key, value in training.encoder.state_dict().items()}

    def follow(progress):
        # young averages forget faster: (1 + n) / (10 + n) after n steps
        decay = min(0.4, progress.step / (9 + progress.step))
        for key, value in training.encoder.state_dict().items():
            average[key] = decay * average[key] + (1 - decay) * value

    training.run(follow)
    saved = load_file(out)
    assert not same_weights(saved, training.encoder.state_dict())
    for key, value in average.items():
        assert torch.allclose(saved[key], value, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_tells_how_it_was_made(make, tmp_path):
    out = tmp_path / "severity.safetensors"
    training = make(out, TrainingSettings(steps=2, batch=2, size=32, validate_every=1))
    training.run(lambda progress: None)
    loaded = load_severity_encoder(out)
    assert loaded.notes["family"] == {"name": "gaussian-blur", "std_min": 0.5, "std_max": 2.0, "noise_std": 0.05}
    assert (loaded.notes["training"]["step"], loaded.notes["training"]["photos"]) == (2, 6)
    assert loaded.notes["validation"]["latent_rmse"] == training.scores.latent_rmse
    loaded.space.check(lambda image: encode_raw(training.autoencoder, image * 2 - 1))
    with safe_open(out, framework="pt") as file:
        assert {"format", "latent_space", "family", "training", "validation"} <= set(file.metadata())


@pytest.mark.parametrize("stop", [3, 10, 13, 30])
def test_a_resumed_run_is_the_uninterrupted_one(make, tmp_path, uninterrupted, stop):
    out = tmp_path / "severity.safetensors"

    def interrupt(progress):
        if progress.step == stop:
            raise Interrupt

    with pytest.raises(Interrupt):
        make(out).run(interrupt)
    expected = ["severity.safetensors", "severity.state.pt"] if stop >= 10 else ["severity.state.pt"]
    assert names(tmp_path) == expected
    again = make(out)
    assert again.resume()
    assert again.step == stop
    again.run(lambda progress: None)
    assert same_weights(load_file(out), uninterrupted)
    assert names(tmp_path) == ["severity.safetensors"]


def test_an_interrupt_in_the_middle_of_an_update_goes_back_to_the_last_state(make, tmp_path, uninterrupted):
    out = tmp_path / "severity.safetensors"
    training = make(out)

    def interrupt(optimizer, args, kwargs):
        if training.step == 14:
            raise Interrupt

    training.optimizer.register_step_post_hook(interrupt)  # weights have moved, the average has not
    with pytest.raises(Interrupt):
        training.run(lambda progress: None)
    again = make(out)
    assert again.resume()
    assert again.step == 10
    again.run(lambda progress: None)
    assert same_weights(load_file(out), uninterrupted)


def test_an_interrupt_in_the_last_validation_loses_nothing(make, tmp_path, uninterrupted):
    out = tmp_path / "severity.safetensors"
    training = make(out)

    def interrupt(module, args, output):
        if training.step == SETTINGS.steps:
            raise Interrupt

    training.averaged.register_forward_hook(interrupt)
    with pytest.raises(Interrupt):
        training.run(lambda progress: None)
    assert not same_weights(load_file(out), uninterrupted)  # of step 20
    again = make(out)
    assert again.resume()
    again.run(lambda progress: None)
    assert same_weights(load_file(out), uninterrupted)


def test_more_steps_may_be_asked_of_a_resumed_run(make, tmp_path):
    out = tmp_path / "severity.safetensors"
    stop_at_three(make(out))
    longer = make(out, TrainingSettings(**{**vars(SETTINGS), "steps": 4}))
    assert longer.resume()
    longer.run(lambda progress: None)
    assert load_severity_encoder(out).notes["training"]["step"] == 4


def stop_at_three(training):
    def interrupt(progress):
        if progress.step == 3:
            raise Interrupt

    with pytest.raises(Interrupt):
        training.run(interrupt)


@pytest.mark.parametrize(
    "other",
    [
        {"settings": TrainingSettings(**{**vars(SETTINGS), "batch": 5})},
        {"settings": TrainingSettings(**{**vars(SETTINGS), "learning_rate": 1e-3})},
        {"settings": TrainingSettings(**{**vars(SETTINGS), "seed": 1})},
        {"settings": TrainingSettings(**{**vars(SETTINGS), "head": "paper"})},
        {"family": GaussianBlurFamily(0.5, 2.5)},
        {"family": MissingPixelsFamily()},
        {"kind": "AutoencoderKL"},
        {"seed": 1},
    ],
)
def test_a_state_of_another_training_is_refused_and_kept(make, tmp_path, other):
    out = tmp_path / "severity.safetensors"
    stop_at_three(make(out))
    state = out.with_suffix(".state.pt").read_bytes()
    with pytest.raises(AdaptDiffuseError, match="belongs to a training with other (settings|latent space)"):
        make(out, **other).resume()
    assert out.with_suffix(".state.pt").read_bytes() == state


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_damaged_state_is_refused(make, tmp_path, keep):
    out = tmp_path / "severity.safetensors"
    stop_at_three(make(out))
    path = out.with_suffix(".state.pt")
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(AdaptDiffuseError, match="cannot be resumed from .* delete it to start anew") as caught:
        make(out).resume()
    assert "\n" not in str(caught.value)


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_a_state_cannot_run_code(make, tmp_path):
    out = tmp_path / "severity.safetensors"
    torch.save(Payload(tmp_path / "ran"), out.with_suffix(".state.pt"))
    with pytest.raises(AdaptDiffuseError, match="cannot be resumed from"):
        make(out).resume()
    assert not (tmp_path / "ran").exists()


def test_without_a_state_there_is_nothing_to_resume(make, tmp_path):
    training = make(tmp_path / "severity.safetensors")
    assert not training.resume()
    assert training.step == 0


def test_a_seed_decides_the_training(make, tmp_path):
    weights = []
    for index, seed in enumerate([0, 0, 1]):
        settings = TrainingSettings(steps=2, batch=2, size=32, validate_every=2, seed=seed)
        out = tmp_path / f"{index}.safetensors"
        make(out, settings).run(lambda progress: None)
        weights.append(load_file(out))
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[0], weights[2])


@pytest.mark.parametrize("loss", ["nll", "paper"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("lambda_image", [0.0, 1.0])
def test_every_setting_trains(make, tmp_path, loss, head, lambda_image):
    settings = TrainingSettings(
        steps=2, batch=2, size=32, head=head, loss=loss, lambda_image=lambda_image, validate_every=2
    )
    training = make(tmp_path / "severity.safetensors", settings)
    before = {key: value.clone() for key, value in training.encoder.state_dict().items()}
    encoder = training.run(lambda progress: None)
    after = training.encoder.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in encoder.state_dict().values())
    assert sum(torch.equal(before[key], after[key]) for key in after) < len(after) / 4


def test_the_image_term_changes_the_training(make, tmp_path):
    weights = []
    for weight in (0.0, 1.0):
        settings = TrainingSettings(steps=2, batch=2, size=32, lambda_image=weight, validate_every=2)
        out = tmp_path / f"{weight}.safetensors"
        make(out, settings).run(lambda progress: None)
        weights.append(load_file(out))
    assert not same_weights(*weights)


def test_a_diverging_training_stops_with_a_sentence(make, tmp_path):
    settings = TrainingSettings(steps=9, batch=2, size=32, learning_rate=1e30, validate_every=100)
    with pytest.raises(AdaptDiffuseError, match="The training diverged at step .*: use a lower learning rate"):
        make(tmp_path / "severity.safetensors", settings).run(lambda progress: None)
    assert not (tmp_path / "severity.safetensors").exists()


def test_the_learning_rate_rises_for_fifty_steps_and_falls_along_a_cosine():
    settings = TrainingSettings(steps=1000, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[500] == pytest.approx(0.5)
    assert rates[-1] == 0.02
    assert all(a < b for a, b in zip(rates[:49], rates[1:50], strict=True))
    assert all(a >= b for a, b in zip(rates[50:-1], rates[51:], strict=True))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "must be at least 1"),
        ({"batch": 0}, "must be at least 1"),
        ({"validate_every": 0}, "must be at least 1"),
        ({"size": 7}, "the crop size at least 8"),
        ({"learning_rate": 0.0}, "The learning rate must be a number above 0, not 0."),
        ({"learning_rate": float("nan")}, "The learning rate must be a number above 0, not nan."),
        ({"lambda_sigma": -1.0}, "lambda-sigma and lambda-image must be numbers from 0 on."),
        ({"lambda_image": float("inf")}, "lambda-sigma and lambda-image must be numbers from 0 on."),
    ],
)
def test_settings_that_cannot_train_are_refused(values, sentence):
    with pytest.raises(AdaptDiffuseError, match=sentence):
        TrainingSettings(**values)


def test_a_crop_size_off_the_latent_grid_is_refused(make, tmp_path):
    with pytest.raises(AdaptDiffuseError, match="The crop size must be a multiple of 4, not 30."):
        make(tmp_path / "severity.safetensors", TrainingSettings(size=30))
