"""A calibration against a trained severity encoder: the severity, and what is restored with it.

    python -m benchmarks.calibrate --images TEST --limit 16 --restore 4 --out calibrate.json

Every photo is damaged and calibrated for with its own damage, as an artist does. "sample" is calibrated on the pack's
own photo, "photos" on those of --calibration-photos, "trained" is the bundled encoder of the damage.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt_diffuse.benchmark import NOISE_SEED, Damaged, damage
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.defaults import make_solver, start_settings
from adapt_diffuse.errors import run_script
from adapt_diffuse.finish import finished
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.metrics import haarpsi, psnr
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.severity import Severity, SeverityModel
from adapt_diffuse.severity.calibration import calibrate
from adapt_diffuse.severity.calibration_photos import folder_views, sample_views
from adapt_diffuse.severity.evaluation import correlations
from adapt_diffuse.severity.losses import error_variance
from benchmarks.inputs import add_encoder, load_encoder, load_photos, load_prior, parser_of

TASKS = {"gaussian-blur-varying": "gaussian-blur", "random-inpainting": "missing-pixels"}
Row = dict[str, Any]


def run_photo(
    task: str,
    one: Damaged,
    prior: DiffusersPrior,
    trained: SeverityModel,
    views: dict[str, Tensor],
    generators: list[torch.Generator] | None,
) -> dict[str, Row]:
    """The figures of one photo with each encoder, and, with ``generators``, those of its restoration."""
    with torch.no_grad():
        z0 = prior.encode(one.truth)
    encoders: dict[str, SeverityModel] = {"trained": trained}
    for name, good in views.items():
        encoders[name] = calibrate(good, one.degradation, prior.encode, prior.multiple)
    rows = {}
    for name, encoder in encoders.items():
        severity = encoder.predict(one.y, prior.multiple, prior.encode)
        rows[name] = severity_row(severity, z0)
        if generators is not None:
            solver = make_solver("default", one.degradation)
            copies = [torch.Generator().set_state(generator.get_state()) for generator in generators]
            result = restore(
                one.y, one.degradation, prior, solver, copies, encoder, start_settings("default", 0, one.degradation)
            )
            image = finished(result.image, Measurement.of(one.y, one.degradation))
            rows[name]["psnr"] = float(psnr(image, one.truth)[0])
            rows[name]["haarpsi"] = float(haarpsi(image, one.truth)[0])
            rows[name]["calls"] = int(result.steps[0])
    return rows


def severity_row(severity: Severity, z0: Tensor) -> Row:
    """What was predicted and what is true, in the model's latent scale."""
    return {
        "sigma_hat": float(severity.sigma_hat[0]),
        "error": float(error_variance(severity.z_hat, z0).sqrt()[0]),
        "latent_rmse": float((severity.z_hat - z0).square().mean().sqrt()),
    }


def summary(rows: list[Row]) -> Row:
    """Over the photos of a task: means, and how well sigma_hat follows the true error."""
    sigma, error = (torch.tensor([row[key] for row in rows], dtype=torch.float64) for key in ("sigma_hat", "error"))
    found: Row = {
        "photos": len(rows),
        "sigma_hat": float(sigma.mean()),
        "ratio": float((sigma / error).mean()),
        "log_error": float((sigma / error).log().square().mean().sqrt()),
        "pearson": correlations(sigma, error)[0],
        "latent_rmse": float(torch.tensor([row["latent_rmse"] for row in rows]).square().mean().sqrt()),
    }
    done = [row for row in rows if "psnr" in row]
    for key in ("psnr", "haarpsi", "calls"):
        found[key] = sum(row[key] for row in done) / len(done) if done else None
    return found


def table(results: dict[str, dict[str, Row]]) -> str:
    """The summaries as a Markdown table."""
    keys = ("ratio", "log_error", "pearson", "latent_rmse", "psnr", "haarpsi", "calls")
    lines = [f"| task | encoder | {' | '.join(keys)} |", f"| --- | --- |{' --- |' * len(keys)}"]
    for task, encoders in results.items():
        for name, row in encoders.items():
            shown = ["" if row[key] is None else f"{row[key]:.3f}" for key in keys]
            lines.append(f"| {task} | {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--restore", type=int, default=0, help="how many of the photos to restore, too")
    parser.add_argument("--calibration-photos", type=Path, help="folder of undamaged photos, for a second calibration")
    parser.add_argument("--tasks", default=",".join(TASKS), help="of " + ", ".join(TASKS))
    args = parser.parse_args()
    prior, truth = load_prior(args), load_photos(args)
    views = {"sample": sample_views(args.size, args.size)}
    if args.calibration_photos is not None:
        views["photos"] = folder_views(args.calibration_photos, args.size, args.size)
    results: dict[str, dict[str, Row]] = {}
    for task in args.tasks.split(","):
        photos = damage(task, truth, seed=0)
        rows: dict[str, list[Row]] = {}
        trained = load_encoder(args, TASKS[task])
        for index in range(len(truth)):
            one = photos.select(torch.tensor([index]))
            generators = generators_for(index + NOISE_SEED, 1) if index < args.restore else None
            for name, row in run_photo(task, one, prior, trained, views, generators).items():
                rows.setdefault(name, []).append(row)
            results[task] = {name: {**summary(found), "rows": found} for name, found in rows.items()}
            write_text(args.out, json.dumps(results, indent=2))
        print(table({task: results[task]}), flush=True)


if __name__ == "__main__":
    run_script(main)
