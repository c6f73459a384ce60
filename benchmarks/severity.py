"""What decides the severity: the damage, or the photo?

    python -m benchmarks.severity --task gaussian-blur-varying --images TEST --draws 10 --out severity.json

Damages every photo ``--draws`` times as the task says and compares sigma_hat with the level of damage and with the
true error of z_hat: over all photos at once, and photo by photo (the content held fixed). ``--picture`` draws the
quantiles of the standardised errors of each latent channel against those of a normal distribution.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from adapt_diffuse.benchmark import TASKS, clean_latents, damage, severities
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.errors import run_script
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.severity import SeverityModel
from adapt_diffuse.severity.evaluation import correlations
from adapt_diffuse.severity.losses import error_variance
from adapt_diffuse.statistics import (
    calibration_table,
    expected_calibration_error,
    kolmogorov_smirnov,
    qq_points,
    standardised_errors,
)
from benchmarks.figures import COLOURS, DPI, GREY
from benchmarks.inputs import add_encoder, load_encoder, load_photos, load_prior, parser_of
from benchmarks.sweep_figures import panels


def draws(task: str, truth: Tensor, prior: DiffusersPrior, encoder: SeverityModel, count: int) -> dict[str, Tensor]:
    """(count, n) level, sigma_hat and true error; and the standardised errors (n, C, h, w) of the first draw."""
    z0 = clean_latents(truth, prior)
    columns: dict[str, list[Tensor]] = {"level": [], "sigma_hat": [], "true_error": []}
    standardised = []
    for draw in range(count):
        photos = damage(task, truth, seed=draw * len(truth))
        found = severities(photos, prior, encoder)
        z_hat, sigma_hat = found.z_hat, found.sigma_hat
        columns["level"].append(photos.level.double())
        columns["sigma_hat"].append(sigma_hat.double())
        columns["true_error"].append(error_variance(z_hat, z0).double().sqrt())
        if draw == 0:
            standardised.append(torch.from_numpy(standardised_errors(z_hat, z0, sigma_hat)).reshape(z0.shape))
    return {name: torch.stack(values) for name, values in columns.items()} | {"standardised": standardised[0]}


def within(a: Tensor, b: Tensor) -> dict[str, float]:
    """Mean over the photos of the correlations over each photo's draws (count, n)."""
    each = torch.tensor([correlations(x, y) for x, y in zip(a.T, b.T, strict=True)], dtype=torch.float64)
    return {"pearson": float(each[:, 0].mean()), "spearman": float(each[:, 1].mean())}


def over_all(a: Tensor, b: Tensor) -> dict[str, float]:
    pearson, spearman = correlations(a.flatten(), b.flatten())
    return {"pearson": pearson, "spearman": spearman}


def report(found: dict[str, Tensor]) -> dict[str, Any]:
    pairs = {"sigma_hat-level": ("sigma_hat", "level"), "true_error-level": ("true_error", "level")}
    pairs["sigma_hat-true_error"] = ("sigma_hat", "true_error")
    table = calibration_table(found["sigma_hat"].flatten().numpy(), found["true_error"].flatten().numpy())
    channels = found["standardised"].movedim(1, 0).flatten(1)
    return {
        "photos": found["level"].shape[1],
        "draws": found["level"].shape[0],
        "over_all": {name: over_all(found[a], found[b]) for name, (a, b) in pairs.items()},
        "within_a_photo": {name: within(found[a], found[b]) for name, (a, b) in pairs.items()},
        "calibration": [{"predicted": b.predicted, "true": b.true, "ratio": b.ratio} for b in table],
        "calibration_by_level": by_level(found),
        "expected_calibration_error": expected_calibration_error(table),
        "neighbour_correlation_of_channels": [
            neighbour_correlation(one) for one in found["standardised"].movedim(1, 0)
        ],
        "kolmogorov_smirnov_of_channels": [kolmogorov_smirnov(np.asarray(values)) for values in channels],
    }


def by_level(found: dict[str, Tensor]) -> list[dict[str, float]]:
    """Predicted over true error in deciles of the level of damage, which the encoder is not told."""
    level, sigma_hat, true_error = (found[name].flatten() for name in ("level", "sigma_hat", "true_error"))
    rows = []
    for part in level.argsort().tensor_split(10):
        (whole,) = calibration_table(sigma_hat[part].numpy(), true_error[part].numpy(), bins=1)
        rows.append({"level": float(level[part].mean()), "ratio": whole.ratio})
    return rows


def neighbour_correlation(errors: Tensor) -> float:
    """How much errors (n, h, w) are like those beside them and below them: 0 is white."""
    across = (errors[:, :, 1:] * errors[:, :, :-1]).mean(), (errors[:, 1:] * errors[:, :-1]).mean()
    return float(sum(across) / 2 / errors.square().mean())


def picture(task: str, standardised: Tensor) -> Figure:
    """Quantiles of standardised errors (n, C, h, w), a line for each channel; the diagonal is a normal distribution."""
    figure, (axis,) = panels(1)
    for channel, values in enumerate(standardised.movedim(1, 0)):
        axis.plot(
            *qq_points(values.flatten().numpy(), 399), color=COLOURS[channel % len(COLOURS)], label=f"channel {channel}"
        )
    ends = axis.get_xlim()
    axis.plot(ends, ends, color=GREY, linewidth=0.8, zorder=0)
    axis.set_xlabel("quantile of a normal distribution")
    axis.set_ylabel("quantile of (z_hat - z0) / sigma_hat")
    axis.set_title(f"{task}, {len(standardised)} photos", loc="left", fontsize=9)
    axis.legend(fontsize=7, frameon=False)
    return figure


def main() -> None:
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--task", choices=tuple(TASKS), required=True)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--picture", type=Path, help="PNG")
    args = parser.parse_args()
    truth, prior, encoder = load_photos(args), load_prior(args), load_encoder(args, TASKS[args.task][1])
    drawn = draws(args.task, truth, prior, encoder, args.draws)
    found = report(drawn)
    write_text(args.out, json.dumps({"task": args.task, **found}, indent=2))
    print(json.dumps(found, indent=2))
    if args.picture:
        picture(args.task, drawn["standardised"]).savefig(args.picture, dpi=DPI)


if __name__ == "__main__":
    run_script(main)
