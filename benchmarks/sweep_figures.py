"""Figures of the scripts beside the benchmark: other starts, and other worlds.

python -m benchmarks.sweep_figures --starts starts.json --robustness robustness.json --out FOLDER
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adapt_diffuse.errors import run_script
from adapt_diffuse.statistics import difference_interval
from benchmarks.figures import COLOURS, DPI, GREY, METRICS, PANEL_INCHES, Row, interval
from benchmarks.table import places, without

SHOWN = ("psnr", "haarpsi")
# how a start's name begins -> colour, marker, and what stands in the legend
FAMILIES = {
    "times": (COLOURS[4], "o", "sigma_hat times a factor"),
    "fixed": (COLOURS[3], "s", "one level for all photos"),
    "shuffled": (COLOURS[1], "D", "another photo's sigma_hat"),
    "oracle": (COLOURS[2], "^", "the true error"),
    "adaptive": (COLOURS[0], "P", "adaptive (sigma_hat)"),
}


def panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(1.25 * PANEL_INCHES[0] * count, 1.2 * PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(color="#e6e6e6", linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def values(row: Row, metric: str) -> list[float]:
    return [photo[metric] for photo in row["photos"]]


def starts(rows: Sequence[Row]) -> Figure:
    """Quality of every start over its cost, as the paired difference to the adaptive start."""
    adaptive = next(row for row in rows if row["start"] == "adaptive")
    figure, axes = panels(len(SHOWN))
    for each, metric in zip(axes, SHOWN, strict=True):
        each.axhline(0, color=GREY, linewidth=0.8)
        for family, (colour, marker, label) in FAMILIES.items():
            members = sorted((r for r in rows if r["start"].startswith(family)), key=lambda r: r["denoiser_forwards"])
            rng = np.random.default_rng(0)
            found = [difference_interval(values(row, metric), values(adaptive, metric), rng) for row in members]
            bars = [[f.mean - f.low for f in found], [f.high - f.mean for f in found]]
            calls = [row["denoiser_forwards"] for row in members]
            look = {"marker": marker, "color": colour, "capsize": 2, "elinewidth": 1, "linewidth": 0.8}
            each.errorbar(calls, [f.mean for f in found], bars, label=label, **look)
        each.set_xlabel("denoiser calls per photo")
        each.set_ylabel(f"{METRICS[metric]} minus the adaptive start's")
    axes[0].set_title(f"{adaptive['task']}, {adaptive['method']}, {adaptive['images']} photos", loc="left", fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def robustness(rows: Sequence[Row], metric: str = "psnr") -> Figure:
    """Quality of every method along each sweep."""
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    names = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = panels(len(sweeps))
    for each, sweep in zip(axes, sweeps, strict=True):
        for index, method in enumerate(names):
            line = [row for row in rows if row["sweep"] == sweep and row["method"] == method]
            quality = [interval(np.array(values(row, metric))) for row in line]
            colour = GREY if method == "damaged" else COLOURS[index % len(COLOURS)]
            at = [row["value"] for row in line]
            each.plot(at, [q.mean for q in quality], "o-", color=colour, markersize=4, label=method)
            each.fill_between(at, [q.low for q in quality], [q.high for q in quality], color=colour, alpha=0.15)
        each.set_xlabel(sweep)
        each.set_ylabel(METRICS[metric])
    axes[0].set_title(f"{rows[0]['images']} photos", loc="left", fontsize=9)
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=Path, help="file of benchmarks.starts")
    parser.add_argument("--robustness", type=Path, help="file of benchmarks.robustness")
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--drop", type=places, default=[], help="places of photos to leave out: 6,8")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, draw in (("starts", starts), ("robustness", robustness)):
        if source := getattr(args, name):
            target = args.out / f"{name}.png"
            rows = [without(row, args.drop) for row in json.loads(source.read_text(encoding="utf-8"))]
            draw(rows).savefig(target, dpi=DPI)
            print(target)


if __name__ == "__main__":
    run_script(main)
