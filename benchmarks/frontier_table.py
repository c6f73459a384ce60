"""The rows of ``benchmarks.frontier`` as a table, and as a picture of quality against cost.

    python -m benchmarks.frontier_table F.json ... --drop 6,8 --picture F.png

Of a point in several files the later one's row is shown. The last columns are the differences to ``flash-ldps`` at
every level, paired by photo, with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from adapt_diffuse.errors import run_script
from adapt_diffuse.statistics import difference_interval
from benchmarks.cost import denoiser_forwards
from benchmarks.figures import COLOURS, DPI, GREY, METRICS
from benchmarks.frontier import CASES, REFERENCE
from benchmarks.sweep_figures import panels
from benchmarks.table import places, table, without

SCORES = ("psnr", "haarpsi")
MARKERS = {"": "o", "from noise": "x", "tiny decoder": "^"}
HEADER = ["task", "method", "steps per octave", "calls", "cost", "PSNR dB", "HaarPSI", *(
    f"{METRICS[score]} minus {REFERENCE.split()[0]}'s at all levels" for score in SCORES
)]  # fmt: skip


def shown(files: list[Path], dropped: list[int]) -> list[dict[str, Any]]:
    """The rows of files in the order of ``CASES``, without the photos at some places."""
    found = {row["case"]: row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    return [with_cost(without(found[case.name], dropped)) for case in CASES if case.name in found]


def with_cost(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "cost": denoiser_forwards(row)}


def reference_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row that the others are compared with; the first where it was left out."""
    return next((row for row in rows if row["case"] == REFERENCE), rows[0])


def compare(rows: list[dict[str, Any]]) -> None:
    """Give every row its differences to the reference, photo by photo: mean, and the ends of the interval."""
    reference = reference_of(rows)
    for row in rows:
        for score in SCORES:
            ours, theirs = ([photo[score] for photo in one["photos"]] for one in (row, reference))
            found = difference_interval(ours, theirs, np.random.default_rng(0))
            row[f"{score}_difference"] = [found.mean, found.low, found.high]


def times(rows: list[dict[str, Any]]) -> list[str]:
    """Each row's seconds over the reference's, as 1/n."""
    reference = reference_of(rows)
    return ["" if row is reference else f"1/{reference['seconds'] / row['seconds']:.0f}" for row in rows]


def line(row: dict[str, Any], task: str) -> list[str]:
    """A row of the page's table; bold where the interval leaves out zero."""
    method, density, *tiny = row["case"].split(" ")
    steps = "" if method == "ae" else "all levels" if density == "0" else density
    gains = []
    for score, digits in zip(SCORES, (2, 3), strict=True):
        mean, low, high = row[f"{score}_difference"]
        text = f"{mean:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        gains.append("" if row["case"] == REFERENCE else f"**{text}**" if low > 0 or high < 0 else text)
    name = method if method.startswith("flash-") or method == "ae" else f"{method} from noise"
    name += ", tiny decoder" if tiny else ""
    cells = [f"{row['denoiser_forwards']:.1f}", f"{row['cost']:.1f}", f"{row['psnr']:.2f}", f"{row['haarpsi']:.3f}"]
    return [task, name, steps, *cells, *gains]


def series(row: dict[str, Any]) -> tuple[str, bool]:
    """The line of the picture that a row is a point of: its method, and whether with the tiny autoencoder."""
    return row["method"], row["case"].endswith(" tiny")


def picture(rows: list[dict[str, Any]]) -> Figure:
    """Quality over cost, a line for every method; crosses from pure noise, triangles with the tiny autoencoder."""
    figure, axes = panels(len(SCORES))
    names = list(dict.fromkeys(case.method.removeprefix("flash-") for case in CASES))  # of one colour in all pictures
    for axis, score in zip(axes, SCORES, strict=True):
        for method, tiny in dict.fromkeys(map(series, rows)):
            name = method.removeprefix("flash-")
            points = sorted((row["cost"], row[score]) for row in rows if series(row) == (method, tiny))
            kind = "from noise" if name == method != "ae" else "tiny decoder" if tiny else ""
            number = names.index(name) - 1  # the first is no solver
            colour = GREY if name == "ae" else COLOURS[number % len(COLOURS)]
            marker = MARKERS[kind] if number < len(COLOURS) else "s"
            axis.plot(*zip(*points, strict=True), label=f"{name} {kind}".strip(), color=colour, marker=marker)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_xlabel("cost in denoiser forwards per photo")
        axis.set_ylabel(METRICS[score])
    axes[0].set_title(f"{rows[0]['task']}, {rows[0]['images']} photos", loc="left", fontsize=9)
    axes[-1].legend(fontsize=7, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--drop", type=places, default=[], help="places of photos to leave out: 6,8")
    parser.add_argument(
        "--time", action="store_true", help="a column of seconds over the reference's; files of one run"
    )
    parser.add_argument("--picture", type=Path, help="PNG: quality against cost")
    args = parser.parse_args()
    rows = shown(args.files, args.drop)
    compare(rows)
    lines = [line(row, rows[0]["task"] if row is rows[0] else "") for row in rows]
    if args.time:
        lines = [[*cells, part] for cells, part in zip(lines, times(rows), strict=True)]
    print(table([*HEADER, "seconds"] if args.time else HEADER, lines))
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        picture(rows).savefig(args.picture, dpi=DPI)


if __name__ == "__main__":
    run_script(main)
