"""Intervals, calibration and normality of per-photo numbers, against answers that are known, and their figures."""

import json
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
from benchmarks import figures


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


# Figures


def result_rows(count=24, task="gaussian-blur-varying"):
    """Rows as the benchmark writes them: quality falls with the level, sigma_hat is the true error but for a factor."""
    level = np.linspace(0.3, 3, count)
    noise = normal(count)
    severity = {"sigma_hat": 0.1 * level, "true_error": 0.2 * level, "level": level}
    rows = [{"task": task, "method": "severity", "photos": by_photo(severity)}]
    for method, calls, gain in (("damaged", 0, -5), ("ceiling", 0, 5), ("ae", 0, 0), ("flash-ldps", 90, 1)):
        quality = 25 + gain - level + noise
        columns = {"psnr": quality, "ssim": quality / 40, "haarpsi": quality / 50, **severity}
        photos = by_photo({**columns, "denoiser_forwards": np.full(count, calls)})
        rows.append({"task": task, "method": method, "denoiser_forwards": calls, "photos": photos})
    return rows


def by_photo(columns):
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


def panels_of(tmp_path, *files):
    paths = [tmp_path / f"{index}.json" for index in range(len(files))]
    for path, rows in zip(paths, files, strict=True):
        path.write_text(json.dumps(rows), encoding="utf-8")
    return figures.read_panels(paths)


def test_every_figure_is_written_with_labelled_axes(tmp_path):
    panels = panels_of(tmp_path, result_rows(), result_rows(16, "random-inpainting"))
    written, left_out = figures.draw(panels, tmp_path / "figures")
    assert len(written) == 8
    assert not left_out
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    for figure in (
        figures.severity_against_level(panels),
        figures.calibration(panels),
        figures.quality_against_cost(panels, "psnr"),
        figures.robustness(panels, "psnr"),
    ):
        assert len(figure.axes) == 2
        assert all(axes.get_xlabel() and axes.get_ylabel() and axes.get_title("left") for axes in figure.axes)


def test_photos_are_where_their_numbers_are(tmp_path):
    panels = panels_of(tmp_path, result_rows())
    level = np.linspace(0.3, 3, 24)
    (axes,) = figures.severity_against_level(panels).axes
    assert np.allclose(axes.collections[0].get_offsets(), np.stack([level, 0.1 * level], 1))
    assert axes.get_title("left").endswith("Pearson 1.00, Spearman 1.00")
    assert axes.get_xlabel() == "standard deviation of the blur (px)"
    (axes,) = figures.calibration(panels).axes
    curve = next(line for line in axes.lines if line.get_label().startswith("bin"))
    thirds = [float(np.sqrt(np.square(part).mean())) for part in np.split(level, 3)]
    assert np.allclose(curve.get_xydata(), [[0.1 * each, 0.2 * each] for each in thirds])
    assert axes.get_title("left").endswith(f"error {0.1 * np.mean(thirds):.3f}")


def test_methods_are_where_their_cost_and_mean_are(tmp_path):
    rows = result_rows()
    means = {row["method"]: np.mean([photo["psnr"] for photo in row["photos"]]) for row in rows[1:]}
    panels = panels_of(tmp_path, rows)
    (axes,) = figures.quality_against_cost(panels, "psnr").axes
    points = {each.get_label(): each.lines[0].get_xydata()[0] for each in axes.containers}
    assert points.keys() == {"ae", "flash-ldps"}
    assert points["ae"] == pytest.approx((0, means["ae"]))
    assert points["flash-ldps"] == pytest.approx((90, means["flash-ldps"]))
    ceiling = next(line for line in axes.lines if line.get_label().startswith("ceiling"))
    assert set(ceiling.get_ydata()) == {means["ceiling"]}


def test_robustness_is_the_mean_of_photos_of_similar_level(tmp_path):
    (axes,) = figures.robustness(panels_of(tmp_path, result_rows()), "psnr").axes
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert list(curves) == ["damaged", "ceiling", "ae", "flash-ldps"]
    level = np.linspace(0.3, 3, 24)
    expected = [part.mean() for part in np.split(level, 3)], [p.mean() for p in np.split(25 - level + normal(24), 3)]
    assert np.allclose(curves["ae"], np.transpose(expected))


def test_a_panel_compares_the_same_photos_alone(tmp_path):
    panels = panels_of(tmp_path, result_rows(24), result_rows(16), result_rows(24))
    assert [panel.title for panel in panels] == [f"gaussian-blur-varying, {count} photos" for count in (24, 16)]
    assert [len(panel.rows) for panel in panels] == [5, 5]


def test_what_the_results_do_not_hold_is_left_out_and_named(tmp_path, capsys):
    rows = result_rows()
    for row in rows:
        for photo in row["photos"]:
            photo["level"] = 3.0
            photo.pop("haarpsi", None)
    (tmp_path / "results.json").write_text(json.dumps(rows), encoding="utf-8")
    assert figures.main([str(tmp_path / "results.json"), "--out", str(tmp_path)]) == 0
    names = {"calibration.png", "quality-against-cost-psnr.png", "quality-against-cost-ssim.png"}
    assert {path.name for path in tmp_path.glob("*.png")} == names
    told = capsys.readouterr().err
    assert all(name in told for name in ("severity-against-level", "robustness-psnr", "quality-against-cost-haarpsi"))


@pytest.mark.parametrize("text", [None, "{", "[1]", '[{"task": "a", "method": "ae"}]'])
def test_what_is_no_result_is_refused_in_a_sentence(tmp_path, capsys, text):
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert figures.main([str(path), "--out", str(tmp_path)]) == 2
    assert "is no result of the benchmark command" in capsys.readouterr().err
