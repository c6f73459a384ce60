"""Restoration end to end on a tiny model with random weights: any size, any batch, every start."""

import copy
import math

import pytest
import torch

from adapt_diffuse.cost import Cost
from adapt_diffuse.degradation import GaussianBlur, MissingPixels, RandomMissingPixels, measure, randn
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.schedule import descend
from adapt_diffuse.solvers import LDPS
from adapt_diffuse.start import StartSettings
from tests.models import drawn_batch
from tests.randomness import untouched_random_state
from tests.reference import relative_error

SIZES = [(1, 1), (17, 97), (130, 75), (32, 48)]
FEW = StartSettings(steps=4)
SOLVER = LDPS(eta=1.0)


def photos(count=2, height=32, width=48):
    return drawn_batch(count, height, width).double()


class Stay:
    """A solver that goes nowhere: its result is the start latent."""

    through = "decoder"

    def __init__(self):
        self.sigmas = []

    def step(self, state, sigma, sigma_next, prior, measurement):
        self.sigmas.append(sigma.tolist())
        return state.x, state.x


# Sizes and batches


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("degradation", [GaussianBlur(1.5, 0.05), RandomMissingPixels(0.7, 0, 0.05)])
def test_photos_of_any_size_come_back_in_their_size(prior, encoder, size, degradation):
    damaged = measure(photos(1, *size), degradation, generators_for(0, 1))
    result = restore(damaged, degradation, prior, SOLVER, generators_for(0, 1), encoder, FEW)
    assert result.image.shape == damaged.shape
    assert result.image.dtype == damaged.dtype
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    assert math.isfinite(float(result.residual))


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("mode", ["matched", "paper"])
def test_a_batch_with_different_starts_equals_its_photos_one_by_one(prior, encoder, task, mode):
    truth = photos(3)
    if task == "blur":
        degradation = GaussianBlur(torch.tensor([0.5, 1.0, 3.0]), 0.05)
    else:
        mask = torch.rand(3, 1, 32, 48, generator=torch.Generator().manual_seed(1)) < 0.4
        degradation = MissingPixels(mask.float(), 0.05)
    damaged = measure(truth, degradation, generators_for(0, 3))
    start = StartSettings(noise_correction=1.2, mode=mode, steps=5)
    batch = restore(damaged, degradation, prior, SOLVER, generators_for(8, 3), encoder, start)
    assert len(set(batch.sigma_start.tolist())) == 3
    for index in range(3):
        chosen = torch.tensor([index])
        alone = restore(
            damaged[chosen], degradation.select(chosen), prior, SOLVER, generators_for(8 + index, 1), encoder, start
        )
        assert relative_error(batch.image[chosen], alone.image) < 1e-10
        assert float(batch.residual[index]) == pytest.approx(float(alone.residual), rel=1e-10)
        assert int(batch.steps[index]) == int(alone.steps)


def test_a_seed_decides_the_restoration(prior, encoder):
    blur = GaussianBlur(1.0, 0.05)
    first, again, other = (
        restore(photos(), blur, prior, SOLVER, generators_for(seed, 2), encoder, FEW).image for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_of_the_caller_is_changed(prior, encoder):
    damaged = photos()
    kept = damaged.clone()
    weights = {key: value.clone() for key, value in prior.unet.state_dict().items()}
    with untouched_random_state():
        restore(damaged, GaussianBlur(1.0, 0.05), prior, SOLVER, generators_for(0, 2), encoder, FEW)
    assert torch.equal(damaged, kept)
    assert all(torch.equal(value, weights[key]) for key, value in prior.unet.state_dict().items())


# The start


@pytest.mark.parametrize("correction", [1.0, 1.2])
@pytest.mark.parametrize("mode", ["matched", "paper"])
def test_the_start_latent_is_the_estimate_with_noise_of_its_own_size(prior, encoder, correction, mode):
    solver = Stay()
    start = StartSettings(noise_correction=correction, mode=mode, steps=2)
    damaged = photos()
    result = restore(damaged, GaussianBlur(1.0, 0.05), prior, solver, generators_for(5, 2), encoder, start)
    severity = encoder.predict(damaged, prior.multiple)
    eps = randn(severity.z_hat.shape, severity.z_hat, generators_for(5, 2))
    x = severity.z_hat + correction**0.5 * severity.sigma_hat.reshape(-1, 1, 1, 1) * eps
    with torch.no_grad():
        expected = prior.decode(x)[:, :, :32, :48].clamp(0, 1)
    assert relative_error(result.image, expected) < 1e-12
    level = severity.sigma_hat * (correction**0.5 if mode == "matched" else 1)
    assert torch.allclose(result.sigma_start, level, rtol=1e-14, atol=0)
    assert solver.sigmas[0] == pytest.approx(level.tolist(), rel=1e-14)


def test_the_start_can_be_rounded_to_the_schedule(prior, encoder):
    start = StartSettings(rounding="schedule", steps=2)
    result = restore(photos(), GaussianBlur(1.0, 0.05), prior, Stay(), generators_for(0, 2), encoder, start)
    assert bool(torch.isin(result.sigma_start, prior.sigmas).all())


def test_without_an_encoder_it_starts_from_pure_noise(prior):
    damaged = photos(2, 30, 33)
    result = restore(damaged, GaussianBlur(1.0, 0.05), prior, Stay(), generators_for(5, 2), start=FEW)
    shape = (2, 4, 8, 10)
    eps = randn(shape, damaged, generators_for(5, 2))
    with torch.no_grad():
        expected = prior.decode(prior.sigmas[-1] * eps)[:, :, :30, :33].clamp(0, 1)
    assert relative_error(result.image, expected) < 1e-12
    assert result.severity is None
    assert result.sigma_start.tolist() == [float(prior.sigmas[-1])] * 2


def test_pure_noise_knows_nothing_of_the_photo_but_its_size(prior):
    images = [
        restore(photo, GaussianBlur(1.0, 0.05), prior, LDPS(eta=0.0), generators_for(0, 2), start=FEW).image
        for photo in (photos(), 1 - photos())
    ]
    assert torch.equal(*images)


def test_without_a_solver_the_estimate_is_decoded(prior, encoder):
    damaged = photos(2, 30, 33)
    result = restore(damaged, GaussianBlur(1.0, 0.05), prior, None, generators_for(0, 2), encoder)
    with torch.no_grad():
        expected = prior.decode(encoder.predict(damaged, prior.multiple).z_hat)[:, :, :30, :33].clamp(0, 1)
    assert torch.equal(result.image, expected)
    assert result.sigma_start.tolist() == result.steps.tolist() == [0, 0]
    assert result.cost == Cost(decoder_forwards=2, encoder_passes=2)


# What is reported


@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_costs_and_steps_are_what_was_done(prior, encoder, through):
    solver = LDPS(eta=1.0, through=through)
    seen = []
    result = restore(
        photos(),
        GaussianBlur(1.0, 0.05),
        prior,
        solver,
        generators_for(0, 2),
        encoder,
        FEW,
        callback=lambda step, steps, x, z0, sigma: seen.append(len(x)),
    )
    total = sum(seen)
    assert int(result.steps.sum()) == total == 8
    assert result.cost == Cost(
        denoiser_forwards=total,
        denoiser_backwards=total if through == "denoiser" else 0,
        decoder_forwards=total + 2,  # each step's, and the result's
        decoder_backwards=total,
        encoder_passes=2,
    )
    assert result.seconds > 0
    assert result.peak_memory > 10


def test_every_level_below_the_start_is_walked_by_default(prior, encoder):
    result = restore(photos(), GaussianBlur(1.0, 0.05), prior, Stay(), generators_for(0, 2), encoder)
    expected = [len(descend(float(level), prior.sigmas)) - 1 for level in result.sigma_start]
    assert result.steps.tolist() == expected
    assert min(expected) > 10


def test_the_residual_is_the_images(prior, encoder):
    blur = GaussianBlur(1.0, 0.05)
    damaged = measure(photos(), blur, generators_for(0, 2))
    result = restore(damaged, blur, prior, SOLVER, generators_for(0, 2), encoder, FEW)
    norm = (damaged - blur(result.image)).flatten(1).norm(dim=1)
    assert torch.allclose(result.residual, norm / (0.05 * (3 * 32 * 48) ** 0.5), rtol=1e-12)


def test_the_data_term_draws_the_restoration_to_the_photo(prior, encoder):
    # a photo that the model can make, so that there is something to find
    with torch.no_grad():
        target = prior.decode(prior.encode(photos())).clamp(0, 1)
    blur = GaussianBlur(1.0, 0.02)
    damaged = measure(target, blur, generators_for(0, 2))
    start = StartSettings(steps=20)
    guided, unguided = (
        restore(damaged, blur, prior, LDPS(eta=eta), generators_for(0, 2), encoder, start) for eta in (6.0, 0.0)
    )
    assert bool((guided.residual < 0.8 * unguided.residual).all())


# What cannot be restored


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_photo_that_is_not_finite_is_refused(prior, encoder, value):
    damaged = photos()
    damaged[1, 0, 3, 4] = value
    with pytest.raises(AdaptDiffuseError, match="NaN or infinite"):
        restore(damaged, GaussianBlur(1.0, 0.05), prior, SOLVER, generators_for(0, 2), encoder, FEW)


def test_lost_pixels_may_hold_anything(prior, encoder):
    operator = RandomMissingPixels(0.5, 3, 0.05)
    damaged = measure(photos(), operator, generators_for(0, 2))
    lost = operator.observed(torch.ones_like(damaged)) == 0
    results = [
        restore(torch.where(lost, fill, damaged), operator, prior, SOLVER, generators_for(0, 2), encoder, FEW).image
        for fill in (0.0, 0.7, math.nan)
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_an_empty_batch_is_refused(prior, encoder):
    with pytest.raises(AdaptDiffuseError, match="has no pixels"):
        restore(photos()[:0], GaussianBlur(1.0, 0.05), prior, SOLVER, [], encoder)


def test_a_mask_of_another_size_is_refused(prior, encoder):
    with pytest.raises(AdaptDiffuseError, match="mask is 8 x 8 .* photo is 48 x 32"):
        restore(photos(), MissingPixels(torch.ones(1, 1, 8, 8)), prior, SOLVER, generators_for(0, 2), encoder)


def test_a_restoration_that_diverges_is_refused_and_not_black(prior, encoder):
    overflowing = copy.copy(prior)
    overflowing.decode = lambda z0: prior.decode(z0) / 0
    with pytest.raises(AdaptDiffuseError, match="restoration diverged"):
        restore(photos(), GaussianBlur(1.0, 0.05), overflowing, Stay(), generators_for(0, 2), encoder, FEW)


@pytest.mark.parametrize("eta", [math.nan, math.inf])
def test_a_step_size_that_is_no_number_is_noticed_at_the_first_step(prior, encoder, eta):
    with pytest.raises(AdaptDiffuseError, match="latent is not finite after a guided step"):
        restore(photos(), GaussianBlur(1.0, 0.05), prior, LDPS(eta), generators_for(0, 2), encoder, FEW)


def test_generators_follow_from_seed_and_place():
    def draws(generators):
        return [torch.rand(3, generator=generator).tolist() for generator in generators]

    assert draws(generators_for(5, 3))[1:] == draws(generators_for(6, 2))
    assert len({tuple(values) for values in draws(generators_for(2**63 - 1, 2))}) == 2  # no overflow


@pytest.mark.parametrize("start", [FEW, StartSettings(steps=4, inversion=True)])
def test_too_few_generators_are_refused(prior, encoder, start):
    for known in (encoder, None):
        with pytest.raises(AdaptDiffuseError, match="1 generators for 2 photos: give one per photo"):
            restore(photos(), GaussianBlur(1.0, 0.05), prior, SOLVER, generators_for(0, 1), known, start)
