"""Measuring methods on tasks: the rows of the benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .cost import Cost
from .defaults import LEVELS, make_solver
from .degradation import Degradation, measure
from .degradation.families import Family, GaussianBlurFamily, MissingPixelsFamily
from .errors import AdaptDiffuseError
from .hosts.diffusers import DiffusersPrior
from .measurement import Measurement
from .metrics import psnr, ssim
from .padding import pad_to_multiple
from .restore import Restoration, generators_for, restore
from .severity import SeverityEncoder
from .severity.evaluation import correlations
from .severity.losses import error_variance
from .solvers.base import Callback
from .start import StartSettings

# name -> (family at a noise level, name of the degradation whose step sizes and severity encoder are used)
TASKS: dict[str, tuple[Callable[[float], Family], str]] = {
    "gaussian-blur-varying": (lambda noise: GaussianBlurFamily(0.3, 3.0, noise), "gaussian-blur"),
    "gaussian-blur-fixed": (lambda noise: GaussianBlurFamily(3.0, 3.0, noise), "gaussian-blur"),
    "random-inpainting": (lambda noise: MissingPixelsFamily(0.7, 0.8, noise), "missing-pixels"),
}
LATENT_SOLVERS = ("ldps", "gml-dps", "psld", "resample")
METHODS = ("damaged", "ceiling", "ae", "dps", *LATENT_SOLVERS, *(f"flash-{name}" for name in LATENT_SOLVERS), "default")
NOISE_SEED = 1_000_003  # keeps the solver's noise apart from the degradation's


@dataclass(frozen=True)
class Damaged:
    """The photos of a task: the true ones, what was done to them, and what is left.

    Attributes:
        truth, y: (n, 3, H, W) on [0, 1].
        degradation: one operator for all n.
        level: (n,) the blur's std or the fraction of lost pixels.
    """

    truth: Tensor
    y: Tensor
    degradation: Degradation
    level: Tensor


def damage(task: str, truth: Tensor, seed: int, noise_std: float = 0.05) -> Damaged:
    """Damage ``truth`` (n, 3, H, W) as ``task`` says; photo i depends on ``seed + i`` alone.

    Raises:
        AdaptDiffuseError: an unknown task.
    """
    if task not in TASKS:
        raise AdaptDiffuseError(f"Unknown task '{task}'; there are {', '.join(TASKS)}.")
    generators = generators_for(seed, len(truth))
    n, channels, height, width = truth.shape
    degradation, level = TASKS[task][0](noise_std).sample((n, channels, height, width), generators)
    return Damaged(truth, measure(truth, degradation, generators), degradation, level)


@dataclass(frozen=True)
class MethodSettings:
    """How a method runs: numbers instead of the tuned ones, and the start."""

    eta: float | None = None
    gamma: float | None = None
    start: StartSettings = StartSettings()


def run_method(
    method: str,
    task: str,
    photos: Damaged,
    prior: DiffusersPrior,
    encoder: SeverityEncoder | None,
    seed: int,
    settings: MethodSettings,
    batch: int = 10,
    callback: Callback | None = None,
) -> tuple[dict[str, Any], Tensor]:
    """Run one method on all photos.

    Returns:
        The row (means per photo), and the restored photos (n, 3, H, W).

    Raises:
        AdaptDiffuseError: an unknown method, or one that needs a severity encoder where there is none.
    """
    if method not in METHODS:
        raise AdaptDiffuseError(f"Unknown method '{method}'; there are {', '.join(METHODS)}.")
    flash = method.startswith("flash-") or method in ("default", "ae")
    if flash and encoder is None:
        raise AdaptDiffuseError(f"The method '{method}' needs a severity encoder: give one with --severity-encoder.")
    solver, start = None, settings.start
    if method not in ("damaged", "ceiling", "ae"):
        name = method.removeprefix("flash-")
        solver = make_solver(name, TASKS[task][1], flash, settings.eta, settings.gamma)
        start = replace(start, levels=start.levels or LEVELS.get(name, 0))
    generators = generators_for(seed + NOISE_SEED, len(photos.truth))
    results = []
    for indices in torch.arange(len(photos.truth)).split(batch):
        part = photos.degradation.select(indices)
        if method in ("damaged", "ceiling"):
            results.append(_untouched(method, photos.truth[indices], photos.y[indices], part, prior))
            continue
        chosen = [generators[int(index)] for index in indices]
        use = encoder if flash else None
        results.append(restore(photos.y[indices], part, prior, solver, chosen, use, start, callback))
    return _row(task, method, results, photos.truth), torch.cat([result.image for result in results])


def _untouched(method: str, truth: Tensor, y: Tensor, degradation: Degradation, prior: DiffusersPrior) -> Restoration:
    """The photo as it is ("damaged"), or the true one through the autoencoder ("ceiling")."""
    height, width = truth.shape[2:]
    with torch.no_grad():
        if method == "damaged":
            image = y.clamp(0, 1)
        else:
            padded = pad_to_multiple(truth, prior.multiple)
            image = prior.decode(prior.encode(padded))[:, :, :height, :width].clamp(0, 1)
    cost = Cost() if method == "damaged" else Cost(decoder_forwards=len(truth), encoder_passes=len(truth))
    nothing = torch.zeros(len(truth))
    residual = Measurement.of(y, degradation).residual_ratio(image)
    return Restoration(image, None, nothing, nothing.long(), residual, cost, 0.0, 0.0)


def _row(task: str, method: str, results: Sequence[Restoration], truth: Tensor) -> dict[str, Any]:
    image = torch.cat([result.image for result in results])
    count = len(image)
    quality = {"psnr": psnr(image, truth), "ssim": ssim(image, truth)}
    each = {**quality, "steps": torch.cat([result.steps for result in results])}
    cost = sum((result.cost for result in results), Cost())
    residual = float(torch.cat([result.residual for result in results]).double().mean())
    severities = [result.severity.sigma_hat for result in results if result.severity is not None]
    return {
        "task": task,
        "method": method,
        "images": count,
        **{name: float(values.mean()) for name, values in quality.items()},
        **{field.name: getattr(cost, field.name) / count for field in fields(Cost)},
        "seconds": sum(result.seconds for result in results) / count,
        "sigma_hat_mean": float(torch.cat(severities).double().mean()) if severities else None,
        "residual": residual if math.isfinite(residual) else None,  # without noise there is none, and JSON has no inf
        "photos": photo_rows(each),
    }


def photo_rows(each: dict[str, Tensor]) -> list[dict[str, float]]:
    """Columns of numbers, one per photo, as a row for each photo."""
    columns = [values.tolist() for values in each.values()]
    return [dict(zip(each, row, strict=True)) for row in zip(*columns, strict=True)]


@torch.no_grad()
def severity_row(task: str, photos: Damaged, prior: DiffusersPrior, encoder: SeverityEncoder) -> dict[str, Any]:
    """How sigma_hat follows the level of damage and the true latent error, over the photos of a task.

    How the true error itself follows the level ("..._true") is the most that a calibrated sigma_hat can reach: the
    photo's content matters too. A correlation is None where the level is the same for all photos.
    """
    sigma, error = [], []
    for indices in torch.arange(len(photos.truth)).split(16):
        severity = encoder.predict(photos.y[indices], prior.multiple)
        sigma.append(severity.sigma_hat.double())
        z0 = prior.encode(pad_to_multiple(photos.truth[indices], prior.multiple))
        error.append(error_variance(severity.z_hat, z0).double().sqrt())
    sigma_hat, true = torch.cat(sigma).cpu(), torch.cat(error).cpu()
    pairs = {"blur": (sigma_hat, photos.level), "error": (sigma_hat, true), "true": (true, photos.level)}
    scores = {}
    for name, (a, b) in pairs.items():
        scores[f"pearson_{name}"], scores[f"spearman_{name}"] = correlations(a, b)
    known = {key: None if math.isnan(value) else value for key, value in scores.items()}
    means = {"sigma_hat_mean": float(sigma_hat.mean()), "true_error_mean": float(true.mean())}
    each = photo_rows({"sigma_hat": sigma_hat, "true_error": true, "level": photos.level})
    return {"task": task, "method": "severity", "images": len(sigma_hat), **known, **means, "photos": each}
