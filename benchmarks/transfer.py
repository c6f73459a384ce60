"""What a severity encoder is worth on damage that it was not trained for: encoders against tasks.

    python -m benchmarks.transfer --encoders weights/severity-*.safetensors --images TEST --limit 50 --out transfer.json

For every encoder and task: the correlation of sigma_hat with the true error of z_hat, sigma_hat over true error, and
the quality of ``ae`` and of the ``--method`` from that start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapt_diffuse.benchmark import TASKS, Damaged, MethodSettings, damage, run_method, severity_row
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.errors import AdaptDiffuseError, run_script
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.severity import SeverityModel, load_severity_encoder
from benchmarks.inputs import load_photos, load_prior, parser_of
from benchmarks.table import table


def measured(
    task: str, photos: Damaged, prior: DiffusersPrior, encoder: SeverityModel, method: str, batch: int
) -> dict[str, Any]:
    """One cell of the matrix."""
    severity = severity_row(task, photos, prior, encoder)
    cell = {
        "pearson_error": severity["pearson_error"],
        "sigma_ratio": severity["sigma_hat_mean"] / severity["true_error_mean"],
    }
    for name in ("ae", method):
        try:
            row, _ = run_method(name, task, photos, prior, encoder, 0, MethodSettings(), batch)
        except AdaptDiffuseError as error:  # a start so wrong that the solver diverges is a finding, too
            cell[name] = {"failed": str(error)}
            continue
        cell[name] = {key: row[key] for key in ("psnr", "haarpsi", "denoiser_forwards")}
    return cell


def quality(cell: dict[str, Any], method: str) -> str:
    return "failed" if "failed" in cell[method] else f"{cell[method]['psnr']:.2f} / {cell[method]['haarpsi']:.3f}"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--encoders", nargs="+", type=Path, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--method", default="default")
    args = parser.parse_args()
    truth, prior = load_photos(args), load_prior(args)
    cells, lines = [], []
    for path in args.encoders:
        encoder = load_severity_encoder(path)
        for task in args.tasks.split(","):
            cell = measured(task, damage(task, truth, 0), prior, encoder, args.method, args.batch)
            cells.append({"encoder": path.stem, "task": task, "images": len(truth), **cell})
            write_text(args.out, json.dumps(cells, indent=2))
            correlation = "-" if cell["pearson_error"] is None else f"{cell['pearson_error']:.2f}"
            figures = [correlation, f"{cell['sigma_ratio']:.2f}", quality(cell, "ae"), quality(cell, args.method)]
            lines.append([path.stem, task, *figures])
    header = ["encoder", "task", "pearson_error", "sigma_hat / true", "ae PSNR / HaarPSI", f"{args.method} the same"]
    print(table(header, lines))


if __name__ == "__main__":
    run_script(main)
