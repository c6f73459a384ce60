"""The severity encoder: network, checkpoint, losses, scores and training, on tiny random autoencoders."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adapt_diffuse.autoencoder import CLASSES, LatentEncoder, encode_raw, latent_space_of
from adapt_diffuse.checkpoints import read_safetensors, write_safetensors
from adapt_diffuse.degradation.families import GaussianBlurFamily, MissingPixelsFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.padding import pad_to_multiple
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.severity import SeverityEncoder, load_severity_encoder, save_severity_encoder
from adapt_diffuse.severity.evaluation import correlations, evaluate
from adapt_diffuse.severity.losses import error_variance, nll_terms, paper_terms
from adapt_diffuse.severity.training import SeverityTraining, TrainingSettings, learning_rate
from tests.models import config_of, draw_photos, drawn_photo, tiny_autoencoder
from tests.reference import relative_error

HEADS = ("log-sigma", "paper")
every_kind = pytest.mark.parametrize("kind", CLASSES)


def photos(count=2, height=32, width=48):
    stack = [torch.from_numpy(drawn_photo(seed, height, width)) for seed in range(count)]
    return torch.stack(stack).permute(0, 3, 1, 2).float() / 255


def fresh_encoder(kind="AutoencoderDC", head="log-sigma", seed=0):
    autoencoder = tiny_autoencoder(kind, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = SeverityEncoder(LatentEncoder(copy.deepcopy(autoencoder)), latent_space_of(autoencoder), head)
    return encoder.requires_grad_(False).eval(), autoencoder


def same_weights(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


# The network


@every_kind
@pytest.mark.parametrize("head", HEADS)
def test_it_begins_as_the_autoencoders_own_encoder(kind, head):
    encoder, autoencoder = fresh_encoder(kind, head)
    severity = encoder.predict(photos())
    scale, shift = encoder.space.scale, encoder.space.shift
    with torch.no_grad():
        expected = (encode_raw(autoencoder, photos() * 2 - 1) - shift) * scale
    assert relative_error(severity.z_hat, expected) < 1e-6
    assert severity.sigma_hat.shape == (2,)
    assert bool((severity.sigma_hat > 0).all())
    if head == "log-sigma":
        assert torch.allclose(severity.sigma_hat, torch.full((2,), 0.5))


@every_kind
@pytest.mark.parametrize("head", HEADS)
def test_sigma_hat_learns_from_encoder_and_head(kind, head):
    encoder, _ = fresh_encoder(kind, head)
    encoder.requires_grad_(True)
    if head == "log-sigma":  # its last layer begins with zeros, which hide what lies before it
        torch.nn.init.constant_(encoder.head.log_sigma.weight, 0.1)
    _, sigma_hat = encoder(photos())
    sigma_hat.sum().backward()
    first = next(iter(encoder.encoder.parameters()))
    assert float(first.grad.abs().max()) > 0
    assert all(float(p.grad.abs().max()) > 0 for p in encoder.head.parameters())


@pytest.mark.parametrize("size", [(1, 1), (17, 97), (130, 75), (32, 48)])
@pytest.mark.parametrize("multiple", [1, 16])
def test_photos_of_any_size_are_padded_by_reflection(size, multiple):
    encoder, _ = fresh_encoder()
    photo = photos(1, *size)
    severity = encoder.predict(photo, multiple)
    grid = math.lcm(4, multiple)
    assert severity.photo_size == size
    assert severity.z_hat.shape == (1, 4, *(-(-side // grid) * grid // 4 for side in size))
    z_hat, sigma_hat = encoder(pad_to_multiple(photo, grid))
    assert torch.equal(severity.z_hat, z_hat)
    assert torch.equal(severity.sigma_hat, sigma_hat)


@every_kind
def test_a_batch_equals_its_photos_one_by_one(kind):
    encoder, _ = fresh_encoder(kind)
    together = encoder.predict(photos(3))
    for index in range(3):
        alone = encoder.predict(photos(3)[index : index + 1])
        assert relative_error(together.z_hat[index : index + 1], alone.z_hat) < 1e-5
        assert float(together.sigma_hat[index]) == pytest.approx(float(alone.sigma_hat), rel=1e-5)


def test_predictions_come_in_the_photos_precision_without_a_graph():
    encoder, _ = fresh_encoder()
    encoder.requires_grad_(True)
    photo = photos().double().requires_grad_()
    severity = encoder.predict(photo)
    assert severity.z_hat.dtype == severity.sigma_hat.dtype == torch.float64
    assert not severity.z_hat.requires_grad
    assert not severity.sigma_hat.requires_grad


# Losses


def latents(seed=0, count=3):
    return torch.randn(count, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_target_is_the_unbiased_variance_of_the_error():
    error = (latents(0) - latents(1)).flatten(1).numpy()
    assert np.allclose(error_variance(latents(0), latents(1)), error.var(axis=1, ddof=1), rtol=1e-14)
    assert error_variance(latents(0) + 3, latents(0)).abs().max() < 1e-14  # an offset is no spread


def test_the_paper_terms_are_the_papers():
    z_hat, z0, variance_hat = latents(0), latents(1), torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    terms = paper_terms(z_hat, variance_hat, z0)
    variance = error_variance(z_hat, z0)
    assert torch.allclose(terms.reconstruction, ((z_hat - z0) ** 2).mean((1, 2, 3)), rtol=1e-14)
    assert torch.allclose(terms.sigma, (variance - variance_hat) ** 2, rtol=1e-14)


def test_the_likelihood_is_lowest_at_the_true_sigma():
    z_hat, z0 = latents(0), latents(1)
    true = error_variance(z_hat, z0).sqrt()
    sigma = true.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nll_terms(z_hat, sigma, z0).sigma.sum(), sigma)
    assert float(slope.abs().max()) < 1e-12
    at_truth = nll_terms(z_hat, true, z0).sigma
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert bool((nll_terms(z_hat, factor * true, z0).sigma > at_truth).all())


def test_the_likelihood_is_gaussian():
    z_hat, z0, sigma = latents(0), latents(1), torch.tensor([0.7, 1.0, 2.0], dtype=torch.float64)
    error = z_hat - z0
    centred = (error - error.mean((1, 2, 3), keepdim=True)).flatten(1)
    d = centred.shape[1]
    density = torch.distributions.Normal(0.0, sigma[:, None]).log_prob(centred).sum(1)
    # the unbiased variance divides by d - 1, and the constant log(2 pi) / 2 is left out
    expected = -density / d - math.log(2 * math.pi) / 2 + error_variance(z_hat, z0) / sigma**2 / (2 * d)
    assert torch.allclose(nll_terms(z_hat, sigma, z0).sigma, expected, rtol=1e-12)


def test_the_sigma_term_of_the_likelihood_does_not_move_z_hat():
    z_hat = latents(0).requires_grad_()
    sigma = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(nll_terms(z_hat, sigma, latents(1)).sigma.sum(), z_hat, allow_unused=True)
    assert gradient is None
    (gradient,) = torch.autograd.grad(paper_terms(z_hat, sigma**2, latents(1)).sigma.sum(), z_hat)
    assert float(gradient.abs().max()) > 0  # v is not detached in the published loss


# Scores


def test_correlations_are_pearsons_and_spearmans():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(50, generator=generator, dtype=torch.float64)
    b = a**3 + 0.1 * torch.rand(50, generator=generator, dtype=torch.float64)
    pearson, spearman = correlations(a, b)
    ranks = [np.argsort(np.argsort(values.numpy())) for values in (a, b)]
    assert pearson == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-12)
    assert spearman == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-12)
    assert correlations(a, -(a**5))[1] == pytest.approx(-1, rel=1e-12)


@pytest.mark.parametrize("other", [[1.0, 1.0, 1.0], None])
def test_a_correlation_with_nothing_is_nan(other):
    a = torch.tensor([1.0, 2.0, 3.0]) if other else torch.tensor([1.0, 2.0])
    values = correlations(a, torch.tensor(other) if other else a)
    assert all(math.isnan(value) for value in values)


def test_scores_follow_from_their_definition():
    encoder, autoencoder = fresh_encoder()
    family = GaussianBlurFamily(2.0, 2.0, 0.0)
    scores = evaluate(encoder, autoencoder, family, photos(5), seed=0)
    from adapt_diffuse.degradation import GaussianBlur

    z_hat, sigma_hat = encoder(GaussianBlur(2.0)(photos(5)))
    with torch.no_grad():
        z0 = encoder.space.from_raw(encode_raw(autoencoder, photos(5) * 2 - 1))
    true = (z_hat - z0).flatten(1).std(1)
    assert scores.latent_rmse == pytest.approx(float((z_hat - z0).square().mean().sqrt()), rel=1e-5)
    assert scores.sigma_ratio == pytest.approx(float((sigma_hat / true).mean()), rel=1e-5)
    assert math.isnan(scores.pearson_level)  # all have the same level


def test_scores_follow_from_the_seed():
    encoder, autoencoder = fresh_encoder()
    first = evaluate(encoder, autoencoder, GaussianBlurFamily(), photos(4), seed=1)
    assert first.latent_rmse == evaluate(encoder, autoencoder, GaussianBlurFamily(), photos(4), seed=1).latent_rmse
    assert first.latent_rmse != evaluate(encoder, autoencoder, GaussianBlurFamily(), photos(4), seed=2).latent_rmse


# Checkpoints

NOTES = {"family": {"name": "gaussian-blur"}, "training": {"steps": 3}, "validation": {"pearson_level": 0.9}}


@every_kind
@pytest.mark.parametrize("head", HEADS)
def test_a_checkpoint_gives_the_encoder_back(tmp_path, kind, head):
    encoder, autoencoder = fresh_encoder(kind, head)
    path = tmp_path / "severity.safetensors"
    save_severity_encoder(path, encoder, config_of(autoencoder), NOTES)
    loaded = load_severity_encoder(path)
    assert same_weights(loaded.state_dict(), encoder.state_dict())
    assert (loaded.head_name, loaded.space, loaded.notes) == (head, encoder.space, NOTES)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    before, after = encoder.predict(photos()), loaded.predict(photos())
    assert torch.equal(before.z_hat, after.z_hat)
    assert torch.equal(before.sigma_hat, after.sigma_hat)
    loaded.space.check(lambda image: encode_raw(autoencoder, image * 2 - 1))


def test_a_checkpoint_does_not_name_the_machine(tmp_path):
    encoder, autoencoder = fresh_encoder()
    autoencoder.save_pretrained(tmp_path / "vae")
    with torch.random.fork_rng():  # diffusers draws weights before it loads them
        loaded = type(autoencoder).from_pretrained(tmp_path / "vae")
    assert str(tmp_path) in str(loaded.config)
    save_severity_encoder(tmp_path / "severity.safetensors", encoder, config_of(loaded), NOTES)
    assert str(tmp_path).encode() not in (tmp_path / "severity.safetensors").read_bytes()


def test_a_half_precision_checkpoint_loads_as_float32(tmp_path):
    encoder, autoencoder = fresh_encoder()
    before = encoder.predict(photos())
    path = tmp_path / "half.safetensors"
    save_severity_encoder(path, copy.deepcopy(encoder).half(), config_of(autoencoder), NOTES)
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    loaded = load_severity_encoder(path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert 0 < relative_error(loaded.predict(photos()).z_hat, before.z_hat) < 1e-2


@pytest.fixture
def checkpoint(tmp_path):
    encoder, autoencoder = fresh_encoder()
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


# Training

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
        return SeverityTraining(autoencoder, family, crops, crops.centres(), settings, out, torch.device("cpu"))

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
    judged = (training.autoencoder, training.family, training.validation)
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
    judged = (training.autoencoder, training.family, training.validation)
    before = evaluate(training.averaged, *judged, seed=9)
    after = evaluate(training.run(lambda progress: None), *judged, seed=9)
    assert abs(before.sigma_ratio - 1) > 0.5
    assert abs(after.sigma_ratio - 1) < 0.25


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
    with pytest.raises(AdaptDiffuseError, match="belongs to a training with other settings"):
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
