"""The rows of result files as Markdown tables.

    python -m benchmarks.table results.json --against ae
    python -m benchmarks.table first-half.json second-half.json
    python -m benchmarks.table results.json --also "with detail=results-detail.json" --against ae

Rows of the same task and method in several files are joined: the files are taken as parts of one set of photos. Those
of ``--also`` are of the same photos in another way, and have its name beside the method's. The second table holds
differences to the method ``--against``, photo by photo, with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapt_diffuse.errors import run_script
from adapt_diffuse.statistics import Interval, difference_interval, mean_interval
from benchmarks.cost import PASS_COST

Row = dict[str, Any]

COLUMNS = (
    ("task", "{}"),
    ("method", "{}"),
    ("images", "{}"),
    ("psnr", "{:.2f}"),
    ("ssim", "{:.3f}"),
    ("haarpsi", "{:.3f}"),
    ("denoiser_forwards", "{:.1f}"),
    ("denoiser_backwards", "{:.1f}"),
    ("decoder_forwards", "{:.1f}"),
    ("decoder_backwards", "{:.1f}"),
    ("residual", "{:.2f}"),
    ("sigma_hat_mean", "{:.3f}"),
)
SEVERITY = (
    "pearson_blur",
    "spearman_blur",
    "pearson_error",
    "spearman_error",
    "pearson_true",
    "spearman_true",
    "sigma_hat_mean",
    "true_error_mean",
)
COMPARED = (("psnr", "{:.2f}"), ("ssim", "{:.3f}"), ("haarpsi", "{:.3f}"))


def cell(row: Row, key: str, pattern: str) -> str:
    value = row.get(key)
    return "-" if value is None else pattern.format(value)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def joined(rows: list[Row]) -> list[Row]:
    """Rows of the same task and method as one: photos together, means weighted by their number."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["method"]), []).append(row)
    return [parts[0] if len(parts) == 1 else _join(parts) for parts in groups.values()]


def _join(parts: list[Row]) -> Row:
    images = [part["images"] for part in parts]
    whole: Row = {**parts[0], "images": sum(images), "photos": [photo for part in parts for photo in part["photos"]]}
    for key, value in parts[0].items():
        if isinstance(value, float):
            whole[key] = float(np.average([part[key] for part in parts], weights=images))
    return whole


def without(row: Row, dropped: Sequence[int]) -> Row:
    """A row without the photos at these places: its means are those of the others; residual, seconds and memory stay.

    The passes of single photos are not recorded, their steps are: passes are in proportion to these, but for the one
    that encodes a photo and the one that decodes it.
    """
    photos = [photo for place, photo in enumerate(row["photos"]) if place not in dropped]
    means = {key: float(np.mean([photo[key] for photo in photos])) for key, _ in COMPARED if key in row}
    if all("sigma_hat" in photo for photo in photos):
        means["sigma_hat_mean"] = float(np.mean([photo["sigma_hat"] for photo in photos]))
    fewer = {"images": len(photos), "photos": photos, **means}
    if steps := sum(photo.get("steps", 0) for photo in row["photos"]) / len(row["photos"]):
        ratio = sum(photo["steps"] for photo in photos) / len(photos) / steps
        once = {key: 1.0 if key in ("encoder_passes", "decoder_forwards") else 0.0 for key in PASS_COST if key in row}
        fewer |= {key: fixed + (row[key] - fixed) * ratio for key, fixed in once.items()}
    return {**row, **fewer}


def read(path: Path) -> list[Row]:
    return json.loads(path.read_text(encoding="utf-8"))


def measured(rows: list[Row]) -> list[Row]:
    """The rows of methods, without those of severities."""
    return [row for row in rows if row["method"] != "severity"]


def named(text: str) -> tuple[str, Path]:
    """The two sides of "with detail=results-detail.json"."""
    name, _, file = text.partition("=")
    if not file:
        raise argparse.ArgumentTypeError(f"'{text}' should be NAME=FILE.")
    return name, Path(file)


def places(text: str) -> list[int]:
    """The numbers in "6,8"."""
    return [int(part) for part in text.split(",") if part]


def interval(found: Interval, pattern: str) -> str:
    return " ".join([pattern.format(found.mean), f"[{pattern.format(found.low)}, {pattern.format(found.high)}]"])


def differences(rows: list[Row], against: str) -> list[list[str]]:
    """A line for each row that has the photos of the row ``against`` of its task."""
    lines = []
    for row in rows:
        other = next((r for r in rows if r["task"] == row["task"] and r["method"] == against), None)
        if other is None or other is row or other["images"] != row["images"]:
            continue
        line = [row["task"], row["method"], str(row["images"])]
        for key, pattern in COMPARED:
            ours, theirs = ([photo.get(key) for photo in r["photos"]] for r in (row, other))
            missing = None in ours or None in theirs
            rng = np.random.default_rng(0)
            line.append("-" if missing else interval(difference_interval(ours, theirs, rng), pattern))
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--against", help="method that the others are compared with")
    parser.add_argument("--drop", type=places, default=[], help="places of photos to leave out: 6,8")
    parser.add_argument("--also", type=named, action="append", default=[], metavar="NAME=FILE", help="other rows")
    args = parser.parse_args()
    rows = [row for path in args.files for row in read(path)]
    rows += [{**row, "method": f"{row['method']} {name}"} for name, path in args.also for row in measured(read(path))]
    methods = [without(row, args.drop) for row in joined(measured(rows))]
    severity = [row for row in rows if row["method"] == "severity"]
    header = [key for key, _ in COLUMNS]
    header[3] = "psnr [95 %]"
    lines = [[cell(row, key, pattern) for key, pattern in COLUMNS] for row in methods]
    for line, row in zip(lines, methods, strict=True):
        values = [photo["psnr"] for photo in row["photos"]]
        line[3] = interval(mean_interval(values, np.random.default_rng(0)), "{:.2f}")
    print(table(header, lines))
    if args.against:
        keys = [f"{key} minus {args.against}'s [95 %]" for key, _ in COMPARED]
        print("\n" + table(["task", "method", "images", *keys], differences(methods, args.against)))
    if severity:
        lines = [[r["task"], str(r["images"]), *(cell(r, k, "{:.3f}") for k in SEVERITY)] for r in severity]
        print("\n" + table(["task", "images", *SEVERITY], lines))


if __name__ == "__main__":
    run_script(main)
