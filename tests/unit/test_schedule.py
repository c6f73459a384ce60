"""Noise levels, the start rule, latent spaces, padding and parameterisations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.latent_space import LatentSpace
from adapt_diffuse.padding import pad_to_multiple
from adapt_diffuse.prior import posterior_mean, timestep_of
from adapt_diffuse.schedule import align, descend, match_level, start_noise, start_sigma, vp_sigmas
from tests.reference import ldm_alphas_cumprod

SIGMAS = vp_sigmas(ldm_alphas_cumprod())
LOW, HIGH = float(SIGMAS[0]), float(SIGMAS[-1])
EXTREMES = torch.tensor([0.0, 5e-324, 1e-200, 1e200, torch.inf], dtype=torch.float64)
severities = st.floats(0, allow_infinity=True)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# The start


def test_levels_of_a_vp_schedule_keep_its_signal_to_noise_ratio():
    abar = ldm_alphas_cumprod()
    assert torch.allclose(SIGMAS**-2, abar / (1 - abar), rtol=1e-12, atol=0)
    assert bool((SIGMAS.diff() > 0).all())


def test_own_levels_match_themselves():
    assert torch.equal(match_level(SIGMAS, SIGMAS), torch.arange(1000))
    assert torch.equal(match_level(SIGMAS.float(), SIGMAS), torch.arange(1000))


def test_the_ratio_decides_and_not_the_level():
    # the middle between 1 / 0.5^2 and 1 / 1^2 is 1 / 0.632^2; the middle between 0.5 and 1 would be 0.75
    levels = tensor(0.5, 1.0)
    assert match_level(tensor(0.63, 0.635), levels).tolist() == [0, 1]


def test_a_tie_goes_to_the_lower_level():
    assert match_level(tensor(1.0, 2.0), tensor(0.5, 1.0, 1.0, 2.0, 2.0)).tolist() == [1, 3]


def test_extreme_severities_take_the_ends():
    assert match_level(EXTREMES, SIGMAS).tolist() == [0, 0, 0, 999, 999]
    for mode in ("matched", "paper"):
        for rounding in ("continuous", "schedule"):
            level = start_sigma(EXTREMES, SIGMAS, 1.2, mode, rounding)
            assert level.tolist() == [LOW, LOW, LOW, HIGH, HIGH]


@given(st.lists(severities, min_size=1, max_size=5), st.floats(1.0, 1.2), st.sampled_from(["matched", "paper"]))
def test_the_start_is_always_a_level_of_the_model(values, correction, mode):
    sigma_hat = tensor(*values)
    for rounding in ("continuous", "schedule"):
        level = start_sigma(sigma_hat, SIGMAS, correction, mode, rounding)
        assert (level.dtype, level.shape) == (torch.float64, sigma_hat.shape)
        assert bool(((level >= LOW) & (level <= HIGH)).all())
    assert bool(torch.isin(level, SIGMAS).all())


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_worse_photos_start_higher(values):
    sigma_hat = tensor(*sorted(values))
    assert bool((start_sigma(sigma_hat, SIGMAS).diff() >= 0).all())
    assert bool((match_level(sigma_hat, SIGMAS).diff() >= 0).all())


@given(st.floats(LOW, HIGH / 2), st.floats(1.0, 1.2))
def test_matched_starts_at_the_noise_the_latent_has_and_paper_at_the_severity(sigma_hat, correction):
    sigma_hat = tensor(sigma_hat)
    noise = start_noise(sigma_hat, correction)
    assert float(noise) == pytest.approx(math.sqrt(correction) * float(sigma_hat), rel=1e-14)
    assert torch.equal(start_sigma(sigma_hat, SIGMAS, correction, "matched"), noise)
    assert torch.equal(start_sigma(sigma_hat, SIGMAS, correction, "paper"), sigma_hat)
    for mode, level in (("matched", noise), ("paper", sigma_hat)):
        rounded = start_sigma(sigma_hat, SIGMAS, correction, mode, "schedule")
        assert torch.equal(rounded, SIGMAS[match_level(level, SIGMAS)])


@pytest.mark.parametrize("bad", [float("nan"), -0.1, -torch.inf])
def test_a_severity_that_is_no_standard_deviation_is_refused(bad):
    for use in (match_level, start_sigma):
        with pytest.raises(AdaptDiffuseError, match="must be zero or more"):
            use(tensor(1.0, bad), SIGMAS)


# The way down


@given(start=st.floats(LOW, HIGH), steps=st.integers(0, 1100))
def test_a_schedule_falls_strictly_from_the_start_to_zero(start, steps):
    schedule = descend(start, SIGMAS, steps)
    assert float(schedule[0]) == start
    assert float(schedule[-1]) == 0
    assert bool((schedule.diff() < 0).all())
    assert bool(torch.isin(schedule[1:-1], SIGMAS).all())


@pytest.mark.parametrize("start", [LOW, 0.1, 1.0, HIGH])
def test_the_number_of_steps_is_the_one_asked_for(start):
    levels = SIGMAS[::20]
    every = len(descend(start, levels)) - 1
    for steps in range(1, every + 4):
        schedule = descend(start, levels, steps)
        assert len(schedule) - 1 == min(steps, every)
        assert bool((schedule.diff() < 0).all())


@given(st.integers(1, 999))
def test_zero_steps_walk_every_level_below_the_start(index):
    on_level = descend(float(SIGMAS[index]), SIGMAS)
    assert torch.equal(on_level, torch.cat([SIGMAS[: index + 1].flip(0), tensor(0.0)]))
    between = descend(float(SIGMAS[index] + SIGMAS[index - 1]) / 2, SIGMAS)
    assert torch.equal(between[1:], torch.cat([SIGMAS[:index].flip(0), tensor(0.0)]))


def test_rounding_does_not_make_a_step_of_no_length():
    for start in (float(SIGMAS[500].float()), float(SIGMAS[500]) * (1 + 1e-9)):
        assert len(descend(start, SIGMAS)) - 1 == 501


def test_fewer_steps_are_evenly_spread_over_the_levels():
    indices = match_level(descend(HIGH, SIGMAS, 10)[:-1], SIGMAS)
    assert int(indices[-1]) in (99, 100)  # the step to zero is as long as the others
    assert set(indices.diff().tolist()) == {-99, -100}


@given(st.lists(st.tuples(st.floats(LOW, HIGH), st.integers(0, 40)), min_size=1, max_size=5))
def test_aligned_schedules_end_together(rows):
    schedules = [descend(start, SIGMAS[::40], steps) for start, steps in rows]
    table, lengths = align(schedules)
    assert table.shape == (len(rows), int(lengths.max()) + 1)
    for row, schedule, length in zip(table, schedules, lengths, strict=True):
        assert int(length) == len(schedule) - 1
        assert torch.equal(row[-len(schedule) :], schedule)
        assert bool((row[: -len(schedule)] == schedule[0]).all())


# Latent spaces


def encoder(seed, channels=4):
    """A toy autoencoder's encoder: images on [0, 1] to raw latents, 4 pixels per position."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(channels, 3, 4, 4, generator=generator) / 7
    return lambda image: torch.nn.functional.conv2d(image * 2 - 1, weights, stride=4)


SPACE = LatentSpace.measure(encoder(0), scale=0.5, shift=0.25, factor=4)


def test_a_latent_space_survives_json():
    assert LatentSpace.from_json(SPACE.to_json()) == SPACE
    assert (SPACE.channels, SPACE.factor, SPACE.scale, SPACE.shift) == (4, 4, 0.5, 0.25)
    assert len(SPACE.fingerprint) == 16


@given(st.floats(-9, 9))
def test_scales_are_inverse_to_each_other(value):
    raw = tensor(value).reshape(1, 1, 1, 1)
    assert float(SPACE.from_raw(raw)) == (value - 0.25) * 0.5
    assert float(SPACE.to_raw(SPACE.from_raw(raw))) == pytest.approx(value, abs=1e-14)


def test_the_same_autoencoder_is_recognised_in_any_precision():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        SPACE.check(lambda image, dtype=dtype: encoder(0)(image).to(dtype))
    SPACE.check(lambda image: encoder(0)(image)[:, :, None])  # a video autoencoder's time axis


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (encoder(1), "The severity encoder belongs to another latent space than this VAE's"),
        (encoder(0, channels=3), "a latent space of 4 channels, but this VAE makes 3"),
        (lambda image: encoder(0)(image) * 0.5, "another latent space"),
        (lambda image: encoder(0)(image) * torch.nan, "another latent space"),
        (lambda image: encoder(0)(1 - image), "another latent space"),
    ],
)
def test_another_autoencoder_is_refused_with_advice(other, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        SPACE.check(other)
    assert sentence in str(caught.value)
    assert "Load a severity encoder trained for this VAE" in str(caught.value)


# Padding


@given(height=st.integers(1, 30), width=st.integers(1, 30), multiple=st.integers(1, 24), seed=st.integers(0, 2**32 - 1))
def test_padding_is_numpys_reflection(height, width, multiple, seed):
    image = np.random.default_rng(seed).random((1, 2, height, width))
    padded = pad_to_multiple(torch.from_numpy(image), multiple)
    assert padded.shape[2] % multiple == 0
    assert padded.shape[3] % multiple == 0
    assert padded.shape[2] - height < multiple
    assert padded.shape[3] - width < multiple
    expected = image
    for axis in (2, 3):
        extra = [(0, 0)] * 4
        extra[axis] = (0, -image.shape[axis] % multiple)
        expected = np.pad(expected, extra, mode="reflect" if image.shape[axis] > 1 else "edge")
    assert np.array_equal(padded.numpy(), expected)


def test_a_photo_on_the_grid_is_not_padded():
    image = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pad_to_multiple(image, 8), image)


# Parameterisations


@given(sigma=st.floats(1e-3, 150), seed=st.integers(0, 2**32 - 1))
def test_every_prediction_of_a_perfect_network_gives_the_clean_latent(sigma, seed):
    generator = torch.Generator().manual_seed(seed)
    z0, eps = (torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    sigma = tensor(sigma, sigma / 2)
    s = sigma.reshape(-1, 1, 1, 1)
    x = z0 + s * eps
    abar = 1 / (1 + s**2)
    predictions = {"epsilon": eps, "sample": z0, "v_prediction": abar.sqrt() * eps - (1 - abar).sqrt() * z0}
    for name, output in predictions.items():
        assert float((posterior_mean(x, sigma, output, name) - z0).abs().max()) < 1e-11


def test_an_unknown_prediction_is_refused():
    with pytest.raises(AdaptDiffuseError, match="predicts 'flow'; epsilon, v_prediction and sample are supported"):
        posterior_mean(torch.zeros(1, 4, 2, 2), tensor(1.0), torch.zeros(1, 4, 2, 2), "flow")


def test_own_levels_have_whole_timesteps():
    assert torch.equal(timestep_of(SIGMAS, SIGMAS), torch.arange(1000, dtype=torch.float64))


@given(st.integers(0, 998), st.floats(0, 1))
def test_between_levels_the_timestep_is_linear_in_log_sigma(index, part):
    sigma = torch.exp((1 - part) * SIGMAS[index].log() + part * SIGMAS[index + 1].log())[None]
    assert float(timestep_of(sigma, SIGMAS)) == pytest.approx(index + part, abs=1e-9)


@given(st.floats(0, allow_infinity=True), st.floats(0, allow_infinity=True))
def test_timesteps_rise_with_sigma_and_stay_in_range(first, second):
    assume(first <= second)
    low, high = timestep_of(tensor(first, second), SIGMAS).tolist()
    assert 0 <= low <= high <= 999
