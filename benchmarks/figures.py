"""Figures from the rows that the benchmark command writes.

python -m benchmarks.figures RESULTS.json ... --out FOLDER

One panel for each task and number of photos, so that what a panel compares was measured on the same photos. A figure
whose numbers the results do not have is left out, and named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.severity.evaluation import correlations
from adapt_diffuse.statistics import Interval, calibration_table, expected_calibration_error, mean_interval

Row = dict[str, Any]

# Okabe and Ito's palette, in an order whose neighbours differ in lightness too; markers say the same without colour
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "#8c8c8c"
METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "haarpsi": "HaarPSI"}
# how a task's name begins -> what its level of damage is
LEVELS = {
    "gaussian-blur": "standard deviation of the blur (px)",
    "motion-blur": "length of the motion (px)",
    "camera-blur": "extent of the camera's shake (px)",
    "random-inpainting": "lost pixels (fraction)",
    "missing-pixels": "lost pixels (fraction)",
    "missing-box": "side of the lost box (fraction of the photo's)",
    "downscale": "factor of the downscaling",
    "jpeg": "100 - JPEG quality",
    "noise": "noise_std (photos on [0, 1])",
}
SCALE = "model's latent scale"
CONFIDENCE_NOTE = "95 % bootstrap interval over photos"
COLUMNS, PANEL_INCHES, DPI = 3, (3.6, 3.3), 150
LEVEL_BINS, PHOTOS_PER_BIN = 5, 8  # fewer photos than that say little about a mean


@dataclass(frozen=True)
class Panel:
    """Rows of one task, over one number of photos."""

    task: str
    photos: int
    rows: list[Row]

    @property
    def title(self) -> str:
        return f"{self.task}, {self.photos} photos"

    @property
    def level(self) -> str:
        return next((name for start, name in LEVELS.items() if self.task.startswith(start)), "level of damage")


def read_panels(paths: Sequence[Path]) -> list[Panel]:
    """The rows of result files by task and number of photos; of rows of the same method, the last.

    Raises:
        AdaptDiffuseError: a file that is missing or is not a list of rows with their photos.
    """
    groups: dict[tuple[str, int], dict[str, Row]] = {}
    for path in paths:
        try:
            for row in json.loads(path.read_text(encoding="utf-8")):
                groups.setdefault((row["task"], len(row["photos"])), {})[row["method"]] = row
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AdaptDiffuseError(f"{path} is no result of the benchmark command with its photos: {error}.") from None
    return [Panel(*key, list(rows.values())) for key, rows in groups.items()]


def numbers(row: Row, *keys: str) -> list[np.ndarray] | None:
    """A column of per-photo numbers for each key; None unless every photo has all of them, finite."""
    columns = [[photo.get(key) for photo in row["photos"]] for key in keys]
    if any(value is None or not np.isfinite(value) for column in columns for value in column):
        return None
    return [np.array(column, dtype=np.float64) for column in columns]


def methods(panels: Sequence[Panel]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method, the same in all figures; "damaged" and "ceiling" frame them and are grey."""
    names = dict.fromkeys(row["method"] for panel in panels for row in panel.rows)
    names = [name for name in names if name not in ("severity", "damaged", "ceiling")]
    return {name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def grid(panels: Sequence[Panel]) -> tuple[Figure, Iterator[tuple[Panel, Axes]]]:
    """A figure with axes for each panel."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows + 0.4), layout=engine)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[len(panels) :]:
        unused.remove()
    for each in axes[: len(panels)]:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(color="#e6e6e6", linewidth=0.6)
        each.set_axisbelow(True)
    return figure, zip(panels, axes, strict=False)


def add_title(axes: Axes, *lines: str) -> None:
    axes.set_title("\n".join(lines), loc="left", fontsize=9)


def add_legend(figure: Figure, note: str = "") -> None:
    """One legend below all panels."""
    entries = {}
    for axes in figure.axes:
        entries.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)})
    columns = 2 * figure.axes[0].get_gridspec().ncols
    place = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    figure.legend(entries.values(), entries.keys(), fontsize=8, title=note or None, title_fontsize=8, **place)


def severities(panels: Sequence[Panel]) -> list[tuple[Panel, list[np.ndarray]]]:
    """Of each panel that has them: sigma_hat, true error and level of its photos."""
    found = []
    for panel in panels:
        columns = (numbers(row, "sigma_hat", "true_error", "level") for row in panel.rows)
        if (first := next((each for each in columns if each is not None), None)) is not None:
            found.append((panel, first))
    return found


def severity_against_level(panels: Sequence[Panel]) -> Figure | None:
    """sigma_hat of every photo over the level of damage, where the level varies."""
    data = {panel.title: columns for panel, columns in severities(panels) if np.ptp(columns[2]) > 0}
    if not data:
        return None
    figure, cells = grid([panel for panel in panels if panel.title in data])
    for panel, axes in cells:
        sigma_hat, _, level = data[panel.title]
        pearson, spearman = correlations(torch.from_numpy(sigma_hat), torch.from_numpy(level))
        axes.scatter(level, sigma_hat, s=16, color=COLOURS[0], alpha=0.6, linewidths=0)
        axes.set_xlabel(panel.level)
        axes.set_ylabel(f"sigma_hat ({SCALE})")
        add_title(axes, panel.title, f"Pearson {pearson:.2f}, Spearman {spearman:.2f}")
    return figure


def calibration(panels: Sequence[Panel]) -> Figure | None:
    """True error over sigma_hat: photos, their deciles (larger bins of few photos), the line where both are equal."""
    data = {panel.title: columns for panel, columns in severities(panels)}
    if not data:
        return None
    figure, cells = grid([panel for panel in panels if panel.title in data])
    for panel, axes in cells:
        sigma_hat, true_error, _ = data[panel.title]
        table = calibration_table(sigma_hat, true_error, max(1, min(10, panel.photos // PHOTOS_PER_BIN)))
        both = np.concatenate([sigma_hat, true_error])
        margin = 0.05 * np.ptp(both) or 0.05
        limits = (both.min() - margin, both.max() + margin)
        axes.plot(limits, limits, "--", color="black", linewidth=0.8, label="calibrated")
        axes.scatter(sigma_hat, true_error, s=9, color=GREY, alpha=0.5, linewidths=0, label="photo")
        predicted, true = [row.predicted for row in table], [row.true for row in table]
        axes.plot(predicted, true, "o-", color=COLOURS[0], markersize=5, label="bin (root mean square)")
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.set_xlabel(f"sigma_hat ({SCALE})")
        axes.set_ylabel(f"true error ({SCALE})")
        add_title(axes, panel.title, f"expected calibration error {expected_calibration_error(table):.3f}")
    add_legend(figure)
    return figure


def interval(values: np.ndarray) -> Interval:
    return mean_interval(values, np.random.default_rng(0))


def quality_against_cost(panels: Sequence[Panel], metric: str) -> Figure | None:
    """Mean quality of each method over its denoiser calls; the damaged photos are left out, the ceiling is a line."""
    style = methods(panels)
    points: dict[str, list[tuple[str, float, Interval]]] = {}
    for panel in panels:
        for row in panel.rows:
            columns = numbers(row, metric) if row["method"] in style or row["method"] == "ceiling" else None
            if columns is not None and "denoiser_forwards" in row:
                point = (row["method"], row["denoiser_forwards"], interval(columns[0]))
                points.setdefault(panel.title, []).append(point)
    if not points:
        return None
    most = max(calls for found in points.values() for _, calls, _ in found)
    figure, cells = grid([panel for panel in panels if panel.title in points])
    for panel, axes in cells:
        for method, calls, quality in points[panel.title]:
            if method == "ceiling":
                axes.axhline(quality.mean, color=GREY, linestyle="--", linewidth=1, label="ceiling (the autoencoder)")
                continue
            colour, marker = style[method]
            bars = [[quality.mean - quality.low], [quality.high - quality.mean]]
            look = {"fmt": marker, "color": colour, "markersize": 6, "capsize": 2, "elinewidth": 1}
            axes.errorbar(calls, quality.mean, bars, label=method, **look)
        # a logarithm, with room for the methods that do not call the denoiser at all
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.3, max(10, 2 * most))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("denoiser calls per photo")
        axes.set_ylabel(METRICS[metric])
        add_title(axes, panel.title)
    add_legend(figure, CONFIDENCE_NOTE)
    return figure


def level_bins(level: np.ndarray) -> list[np.ndarray]:
    """Indices of the photos in equally full bins of rising level; none where the level does not vary."""
    count = min(LEVEL_BINS, len(level) // PHOTOS_PER_BIN)
    if count < 2 or np.ptp(level) == 0:
        return []
    return np.array_split(np.argsort(level, kind="stable"), count)


def robustness(panels: Sequence[Panel], metric: str) -> Figure | None:
    """Quality of each method as the damage grows: means over photos of similar level, with their intervals."""
    style = {**methods(panels), "damaged": (GREY, ""), "ceiling": (GREY, "")}
    dashes = {"damaged": ":", "ceiling": "--"}
    curves: dict[str, list[tuple[str, np.ndarray, list[Interval]]]] = {}
    for panel in panels:
        for row in panel.rows:
            columns = numbers(row, "level", metric) if row["method"] in style else None
            if columns is not None and (bins := level_bins(columns[0])):
                level = np.array([columns[0][each].mean() for each in bins])
                quality = [interval(columns[1][each]) for each in bins]
                curves.setdefault(panel.title, []).append((row["method"], level, quality))
    if not curves:
        return None
    figure, cells = grid([panel for panel in panels if panel.title in curves])
    for panel, axes in cells:
        for method, level, quality in curves[panel.title]:
            colour, marker = style[method]
            line = {"color": colour, "marker": marker, "linestyle": dashes.get(method, "-")}
            axes.plot(level, [each.mean for each in quality], markersize=5, label=method, **line)
            low, high = [each.low for each in quality], [each.high for each in quality]
            axes.fill_between(level, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel(panel.level)
        axes.set_ylabel(METRICS[metric])
        add_title(axes, panel.title)
    add_legend(figure, CONFIDENCE_NOTE)
    return figure


def draw(panels: Sequence[Panel], out: Path) -> tuple[list[Path], list[str]]:
    """Write all figures that the rows allow; their paths, and the names of those left out."""
    figures = {"severity-against-level": severity_against_level(panels), "calibration": calibration(panels)}
    for metric in METRICS:
        figures[f"quality-against-cost-{metric}"] = quality_against_cost(panels, metric)
        figures[f"robustness-{metric}"] = robustness(panels, metric)
    out.mkdir(parents=True, exist_ok=True)
    written = {name: out / f"{name}.png" for name, figure in figures.items() if figure is not None}
    for name, path in written.items():
        figures[name].savefig(path, dpi=DPI)
    return list(written.values()), [name for name in figures if name not in written]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of the benchmark command")
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    args = parser.parse_args(argv)
    try:
        written, left_out = draw(read_panels(args.results), args.out)
    except AdaptDiffuseError as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(path)
    if left_out:
        print(f"Left out, for want of numbers: {', '.join(left_out)}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
