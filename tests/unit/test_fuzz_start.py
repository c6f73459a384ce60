"""Any severity on any schedule: a sentence, or a start with finite latents and a falling schedule."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.prior import over_image
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import align, descend, start_sigma, thin
from adapt_diffuse.severity import Severity
from adapt_diffuse.start import Start, StartSettings, flash_start

bounded = settings(derandomize=True, max_examples=80)
severities = st.one_of(st.floats(0, 3), st.floats(0, 300), st.floats(0, allow_infinity=True))
corrections = st.one_of(st.floats(1, 1.2), st.floats(0.01, 4))
modes = st.sampled_from(["matched", "paper", "published"])
roundings = st.sampled_from(["continuous", "schedule"])
counts = st.one_of(st.integers(0, 12), st.integers(0, 5000))


@st.composite
def schedules_of_models(draw):
    """Rising levels of a model, from very few to many, from very low to very high."""
    rises = draw(st.lists(st.floats(1e-6, 3), min_size=2, max_size=40))
    return torch.tensor(list(itertools.accumulate(rises)), dtype=torch.float64) + draw(st.sampled_from([0, 1e-4, 0.03]))


class GaussianPrior:
    """Latents are standard normal, so that E[z0 | x] = x / (1 + sigma^2)."""

    multiple = 1

    def __init__(self, sigmas):
        self.sigmas = sigmas

    def denoise(self, x, sigma):
        return x / (1 + over_image(sigma, x) ** 2)


def begun(sigma_hat, sigmas, asked, photos=slice(0, 2)) -> Start:
    """The starts of the chosen two photos, whose seeds are 3 and 4."""
    z_hat = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    severity = Severity(z_hat[photos], torch.tensor(sigma_hat, dtype=torch.float64)[photos], (16, 24))
    return flash_start(severity, GaussianPrior(sigmas), asked, generators_for(3, 2)[photos])


@bounded
@given(
    sigma_hat=st.lists(severities, min_size=2, max_size=2),
    sigmas=schedules_of_models(),
    correction=corrections,
    mode=modes,
    rounding=roundings,
    steps=counts,
    levels=counts,
    inversion=st.booleans(),
)
def test_any_severity_has_a_start(sigma_hat, sigmas, correction, mode, rounding, steps, levels, inversion):
    asked = StartSettings(correction, mode, rounding, steps, levels, inversion)
    try:
        start = begun(sigma_hat, sigmas, asked)
    except AdaptDiffuseError as error:
        assert mode == "published" and "published start does not exist" in str(error)
        assert max(sigma_hat) * correction**0.5 > 1
        return
    known = thin(sigmas, levels)
    assert start.x.shape == (2, 4, 2, 3) and bool(torch.isfinite(start.x).all())
    assert bool((start.sigma >= sigmas[0]).all()) and bool((start.sigma <= known[-1]).all())
    for schedule, sigma, count in zip(start.schedules, start.sigma, start.steps, strict=True):
        assert float(schedule[0]) == float(sigma) and float(schedule[-1]) == 0
        assert bool((schedule.diff() < 0).all())
        assert 1 <= int(count) == len(schedule) - 1 <= len(known) + 1
        assert steps == 0 or int(count) <= steps
    for index in (0, 1):
        alone = begun(sigma_hat, sigmas, asked, slice(index, index + 1))
        assert torch.allclose(alone.x[0], start.x[index], rtol=1e-12, atol=1e-12)
        assert torch.equal(alone.schedules[0], start.schedules[index])


@bounded
@given(sigma_hat=st.one_of(st.floats(max_value=0, exclude_max=True), st.just(math.nan)), mode=modes, rounding=roundings)
def test_what_is_no_standard_deviation_is_a_sentence(sigma_hat, mode, rounding):
    sigmas = torch.tensor([0.1, 1.0], dtype=torch.float64)
    with pytest.raises(AdaptDiffuseError, match="zero or more") as caught:
        start_sigma(torch.tensor([0.3, sigma_hat], dtype=torch.float64), sigmas, 1.0, mode, rounding)
    assert "\n" not in str(caught.value)


@bounded
@given(sigmas=schedules_of_models(), severity=st.floats(0, 1000))
def test_a_severity_beyond_the_schedule_has_the_noise_of_its_end(sigmas, severity):
    highest = float(sigmas[-1])
    beyond = begun([highest + severity, math.inf], sigmas, StartSettings())
    at_the_end = begun([highest, highest], sigmas, StartSettings())
    assert beyond.sigma.tolist() == [highest, highest]
    assert torch.equal(beyond.x, at_the_end.x)


@bounded
@given(sigmas=schedules_of_models(), starts=st.lists(st.floats(0, 1), min_size=1, max_size=4), steps=counts)
def test_schedules_of_any_starts_end_together(sigmas, starts, steps):
    levels = [float(sigmas[0] + share * (sigmas[-1] - sigmas[0])) for share in starts]
    table, lengths = align([descend(level, sigmas, steps) for level in levels])
    assert bool((table[:, -1] == 0).all()) and bool((table.diff(dim=1) <= 0).all())
    assert int(lengths.max()) == table.shape[1] - 1
