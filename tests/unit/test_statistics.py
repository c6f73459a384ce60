"""Intervals, calibration and normality of per-photo numbers, against answers that are known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.statistics import (
    calibration_table,
    difference_interval,
    expected_calibration_error,
    kolmogorov_smirnov,
    mean_interval,
    qq_points,
    standardised_errors,
)


def normal(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count)


# Intervals


def test_the_interval_of_a_mean_is_scipys():
    values = normal(40) ** 2
    ours = mean_interval(values, np.random.default_rng(1))
    other = np.random.default_rng(2)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=other).confidence_interval
    assert ours.mean == pytest.approx(values.mean(), rel=1e-14)
    # two independent bootstraps of 10 000 draws differ by about a fiftieth of the interval's width
    assert ours.low == pytest.approx(scipys.low, abs=0.04 * (scipys.high - scipys.low))
    assert ours.high == pytest.approx(scipys.high, abs=0.04 * (scipys.high - scipys.low))


def test_the_interval_of_two_values_is_known():
    """Means of two draws from {0, 1} are 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    assert tuple(vars(mean_interval([0, 1], np.random.default_rng(0))).values()) == (0.5, 0, 1)
    half = mean_interval([0, 1], np.random.default_rng(0), confidence=0.4)
    assert (half.low, half.high) == (0.5, 0.5)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(3, 2, 60), rng, draws=500) for _ in range(400)]
    held = np.mean([interval.low <= 3 <= interval.high for interval in intervals])
    assert 0.91 < held < 0.975


def test_a_pairing_takes_out_what_both_have_in_common():
    photos = 10 * normal(50)
    a, b = photos + 0.5 + 0.1 * normal(50, 1), photos
    paired = difference_interval(a, b, np.random.default_rng(0))
    assert paired == mean_interval(a - b, np.random.default_rng(0))
    assert 0.4 < paired.low < 0.5 < paired.high < 0.6
    swapped = difference_interval(b, a, np.random.default_rng(0))
    assert (swapped.low, swapped.mean, swapped.high) == pytest.approx((-paired.high, -paired.mean, -paired.low))


def test_a_constant_difference_is_certain():
    interval = difference_interval([1.5, 2.5, 9.5], [1, 2, 9], np.random.default_rng(0))
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_a_seed_gives_the_same_interval():
    first, again, other = (mean_interval(normal(20), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("values", [[], [1, math.nan], [1, math.inf], [[1, 2]]])
def test_what_has_no_mean_is_refused(values):
    for call in (
        lambda: mean_interval(values, np.random.default_rng(0)),
        lambda: difference_interval(values, values, np.random.default_rng(0)),
        lambda: calibration_table(values, values),
        lambda: kolmogorov_smirnov(values),
        lambda: qq_points(values),
    ):
        with pytest.raises(AdaptDiffuseError, match="finite numbers"):
            call()


def test_lists_of_other_photos_are_refused():
    with pytest.raises(AdaptDiffuseError, match="the first list has 2, the second list 3"):
        difference_interval([1, 2], [1, 2, 3], np.random.default_rng(0))
    with pytest.raises(AdaptDiffuseError, match="sigma_hat has 3, true_error 2"):
        calibration_table([1, 2, 3], [1, 2])


# Calibration


def test_deciles_are_equally_full_and_in_the_order_of_sigma_hat():
    sigma_hat = np.arange(1, 21, dtype=float)
    shuffled = np.random.default_rng(0).permutation(20)
    table = calibration_table(sigma_hat[shuffled], 2 * sigma_hat[shuffled])
    assert [row.count for row in table] == [2] * 10
    rms = [math.sqrt((low**2 + (low + 1) ** 2) / 2) for low in range(1, 21, 2)]
    assert [row.predicted for row in table] == pytest.approx(rms, rel=1e-14)
    assert [row.true for row in table] == pytest.approx([2 * value for value in rms], rel=1e-14)
    assert [row.ratio for row in table] == pytest.approx([0.5] * 10, rel=1e-14)
    assert expected_calibration_error(table) == pytest.approx(np.mean(rms), rel=1e-14)


def test_bins_of_unequal_count_weigh_by_their_photos():
    table = calibration_table([1, 1, 1, 2, 2], [1, 1, 1, 5, 5], bins=2)
    assert [(row.count, row.predicted, row.true) for row in table] == [(3, 1, 1), (2, 2, 5)]
    assert expected_calibration_error(table) == pytest.approx(2 / 5 * 3, rel=1e-14)


def test_true_errors_of_a_bin_average_as_variances():
    (row,) = calibration_table([5, 5], [1, 7], bins=1)
    assert row.true == pytest.approx(5, rel=1e-14)
    assert expected_calibration_error([row]) == pytest.approx(0, abs=1e-14)


def test_a_perfect_sigma_hat_is_calibrated():
    sigma = np.abs(normal(95)) + 0.1
    table = calibration_table(sigma, sigma)
    assert sorted(row.count for row in table) == [9] * 5 + [10] * 5
    assert [row.ratio for row in table] == [1] * 10
    assert expected_calibration_error(table) == 0


def test_few_photos_are_a_bin_each():
    table = calibration_table([3, 1, 2], [0, 1, 4])
    assert [(row.count, row.predicted, row.true) for row in table] == [(1, 1, 1), (1, 2, 4), (1, 3, 0)]
    assert [row.ratio for row in table] == [1, 0.5, math.inf]


# Normality


def test_errors_are_divided_by_the_sigma_of_their_photo():
    z0 = torch.zeros(2, 1, 1, 2)
    z_hat = torch.tensor([[1.0, 2.0], [3.0, -6.0]]).reshape(2, 1, 1, 2)
    assert standardised_errors(z_hat, z0, torch.tensor([0.5, 3.0])).tolist() == [2, 4, 1, -2]


def test_the_distance_from_normal_is_known():
    assert kolmogorov_smirnov([0.0]) == 0.5
    # the distribution function of one value jumps at it: from 0 to 1 where the normal one is 0.975
    assert kolmogorov_smirnov([1.959963984540054]) == pytest.approx(0.975, rel=1e-12)
    # N(0, 4) and N(0, 1) are farthest apart where their densities cross, at x^2 = 8/3 log 2
    x = math.sqrt(8 / 3 * math.log(2))
    apart = stats.norm.cdf(x) - stats.norm.cdf(x / 2)
    grid = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    assert kolmogorov_smirnov(2 * grid) == pytest.approx(apart, abs=1e-5)
    assert kolmogorov_smirnov(grid) == pytest.approx(0.5 / 100_000, rel=1e-6)


def test_quantiles_of_a_normal_lie_on_the_line():
    theory, observed = qq_points(3 + 2 * stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000))
    assert theory == pytest.approx(stats.norm.ppf(np.arange(1, 100) / 100), rel=1e-14)
    assert observed == pytest.approx(3 + 2 * theory, abs=1e-3)
    theory, observed = qq_points([1, 2, 3, 4, 5], count=3)
    assert observed.tolist() == [2, 3, 4]
    assert theory.tolist() == pytest.approx([-0.6744897501960817, 0, 0.6744897501960817], rel=1e-12)
