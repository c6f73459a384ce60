"""The rows of result files as a Markdown table.

python -m benchmarks.table benchmarks/results/*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COLUMNS = (
    ("task", "{}"),
    ("method", "{}"),
    ("images", "{}"),
    ("psnr", "{:.2f}"),
    ("ssim", "{:.3f}"),
    ("denoiser_forwards", "{:.0f}"),
    ("denoiser_backwards", "{:.0f}"),
    ("decoder_forwards", "{:.0f}"),
    ("decoder_backwards", "{:.0f}"),
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


def cell(row: dict[str, Any], key: str, pattern: str) -> str:
    value = row.get(key)
    return "-" if value is None else pattern.format(value)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    rows = [row for path in sys.argv[1:] for row in json.loads(Path(path).read_text(encoding="utf-8"))]
    methods = [row for row in rows if row["method"] != "severity"]
    severity = [row for row in rows if row["method"] == "severity"]
    print(table([key for key, _ in COLUMNS], [[cell(r, k, p) for k, p in COLUMNS] for r in methods]))
    if severity:
        print()
        rows_of_cells = [[r["task"], str(r["images"]), *(cell(r, k, "{:.3f}") for k in SEVERITY)] for r in severity]
        print(table(["task", "images", *SEVERITY], rows_of_cells))


if __name__ == "__main__":
    main()
