"""Measuring methods on tasks: the rows of the benchmark tables."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .cost import Cost, peak_memory
from .defaults import make_solver, start_settings
from .degradation import Degradation, measure
from .degradation.families import CameraBlurFamily, Family, GaussianBlurFamily, MissingPixelsFamily
from .errors import AdaptDiffuseError
from .finish import finished
from .guidance import Through
from .hosts.diffusers import DiffusersPrior
from .image_models import ImageModel
from .measurement import Measurement
from .metrics import haarpsi, psnr, ssim
from .padding import pad_to_multiple
from .restore import Restoration, generators_for, restore
from .severity import Severity, SeverityModel
from .severity.evaluation import correlations
from .severity.losses import error_variance
from .solvers import SOLVERS
from .solvers.base import Callback
from .start import StartSettings

# name -> (family at a noise level, name of the degradation whose step sizes and severity encoder are used)
TASKS: dict[str, tuple[Callable[[float], Family], str]] = {
    "gaussian-blur-varying": (lambda noise: GaussianBlurFamily(0.3, 3.0, noise), "gaussian-blur"),
    "gaussian-blur-fixed": (lambda noise: GaussianBlurFamily(3.0, 3.0, noise), "gaussian-blur"),
    "nonlinear-blur": (lambda noise: CameraBlurFamily(noise_std=noise), "camera-blur"),
    "random-inpainting": (lambda noise: MissingPixelsFamily(0.7, 0.8, noise), "missing-pixels"),
}
LATENT_SOLVERS = tuple(name for name in SOLVERS if name != "dps")
WITHOUT_DIFFUSION = ("damaged", "ceiling", "ae", "swinir")
METHODS = (*WITHOUT_DIFFUSION, "dps", *LATENT_SOLVERS, *(f"flash-{name}" for name in LATENT_SOLVERS), "default")
ENCODED_AT_ONCE = 16  # photos
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

    def select(self, indices: Tensor) -> Damaged:
        """The photos ``indices`` (k,)."""
        part = self.degradation.select(indices)
        return Damaged(self.truth[indices], self.y[indices], part, self.level[indices])


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


def own_start(solver: str, degradation: Degradation) -> StartSettings:
    """How the tool itself starts a solver."""
    return start_settings(solver, 0, degradation)


@dataclass(frozen=True)
class MethodSettings:
    """How a method runs: numbers instead of the tuned ones, the start, and the models that only one method needs.

    Attributes:
        start: of a solver's name and what it undoes.
        pixel_prior: a diffusion model of pixels, for "dps".
        image_model: a restoration network, for "swinir".
        through: what gradients pass; None is the denoiser, as published, and for "default" the decoder.
        detail: of the photo's own detail, what is put back in the end, see ``with_detail``; None is 1 for "default",
            which is what the tool does, and 0 for every other method.
    """

    eta: float | None = None
    gamma: float | None = None
    start: Callable[[str, Degradation], StartSettings] = own_start
    pixel_prior: DiffusersPrior | None = None
    image_model: ImageModel | None = None
    through: Through | None = None
    detail: float | None = None


def check_method(method: str, settings: MethodSettings, has_encoder: bool) -> None:
    """Raise AdaptDiffuseError for an unknown method, or one whose model is not there."""
    if method not in METHODS:
        raise AdaptDiffuseError(f"Unknown method '{method}'; there are {', '.join(METHODS)}.")
    if is_adaptive(method) and not has_encoder:
        raise AdaptDiffuseError(f"The method '{method}' needs a severity encoder: give one with --severity-encoder.")
    if method == "dps" and settings.pixel_prior is None:
        raise AdaptDiffuseError(
            "The method 'dps' needs a diffusion model of pixels: give its folder with --pixel-model."
        )
    if method == "swinir" and settings.image_model is None:
        raise AdaptDiffuseError("The method 'swinir' needs a restoration network: give its file with --image-model.")


def is_adaptive(method: str) -> bool:
    """Whether the method begins with the severity encoder's estimate."""
    return method.startswith("flash-") or method in ("default", "ae")


def run_method(
    method: str,
    task: str,
    photos: Damaged,
    prior: DiffusersPrior,
    encoder: SeverityModel | None,
    seed: int,
    settings: MethodSettings,
    batch: int = 10,
    callback: Callback | None = None,
) -> tuple[dict[str, Any], Tensor]:
    """Run one method on all photos.

    Returns:
        The row (means per photo, and under "photos" each photo's own), and the restored photos (n, 3, H, W).

    Raises:
        AdaptDiffuseError: an unknown method, or one whose model is not there.
    """
    check_method(method, settings, encoder is not None)
    flash = is_adaptive(method)
    solver, start = None, StartSettings()
    if method not in WITHOUT_DIFFUSION:
        name = method.removeprefix("flash-")
        through: Through = settings.through or ("decoder" if name == "default" else "denoiser")
        solver = make_solver(name, photos.degradation, flash, settings.eta, settings.gamma, through)
        start = settings.start(name, photos.degradation)
    detail = settings.detail if settings.detail is not None else float(method == "default")
    generators = generators_for(seed + NOISE_SEED, len(photos.truth))
    results = []
    for indices in torch.arange(len(photos.truth)).split(batch):
        part = photos.select(indices)
        if method in WITHOUT_DIFFUSION and method != "ae":
            result = _without_diffusion(method, part, prior, settings.image_model)
        else:
            chosen = [generators[int(index)] for index in indices]
            model = settings.pixel_prior if method == "dps" and settings.pixel_prior else prior
            use = encoder if flash else None
            result = restore(part.y, part.degradation, model, solver, chosen, use, start, callback)
        results.append(_touched_up(result, part, detail))
    return _row(task, method, results, photos), torch.cat([result.image for result in results])


def _touched_up(result: Restoration, photos: Damaged, detail: float) -> Restoration:
    """With the photos' own detail; the residual stays that of the solver."""
    if not detail:
        return result
    begin = time.monotonic()
    image = finished(result.image, Measurement.of(photos.y, photos.degradation), detail)
    return replace(result, image=image, seconds=result.seconds + time.monotonic() - begin)


def _without_diffusion(
    method: str, photos: Damaged, prior: DiffusersPrior, image_model: ImageModel | None
) -> Restoration:
    """The photo as it is ("damaged"), the true one through the autoencoder ("ceiling"), or a network's ("swinir")."""
    height, width = photos.truth.shape[2:]
    measurement = Measurement.of(photos.y, photos.degradation)
    begin = time.monotonic()
    cost = Cost()
    with torch.no_grad():
        if method == "ceiling":
            padded = pad_to_multiple(photos.truth, prior.multiple)
            image = prior.decode(prior.encode(padded))[:, :, :height, :width].clamp(0, 1)
            cost = Cost(decoder_forwards=len(image), encoder_passes=len(image))
        else:
            image = measurement.start_image().clamp(0, 1)
            if image_model is not None and method == "swinir":
                image = image_model(image).clamp(0, 1)
    nothing = torch.zeros(len(image))
    residual = measurement.residual_ratio(image)
    return Restoration(image, None, nothing, nothing.long(), residual, cost, time.monotonic() - begin, peak_memory())


def _row(task: str, method: str, results: Sequence[Restoration], photos: Damaged) -> dict[str, Any]:
    image = torch.cat([result.image for result in results])
    count = len(image)
    quality = {
        "psnr": psnr(image, photos.truth),
        "ssim": ssim(image, photos.truth),
        "haarpsi": haarpsi(image, photos.truth),
    }
    each = {**quality, "steps": torch.cat([result.steps for result in results]), "level": photos.level}
    severities = [result.severity.sigma_hat for result in results if result.severity is not None]
    if severities:
        each["sigma_hat"] = torch.cat(severities).double()
    cost = sum((result.cost for result in results), Cost())
    residual = float(torch.cat([result.residual for result in results]).double().mean())
    memory = [result.peak_memory for result in results if result.peak_memory is not None]
    return {
        "task": task,
        "method": method,
        "images": count,
        **{name: float(values.mean()) for name, values in quality.items()},
        **{field.name: getattr(cost, field.name) / count for field in fields(Cost)},
        "seconds": sum(result.seconds for result in results) / count,
        "peak_memory_mib": max(memory, default=None),
        "sigma_hat_mean": float(each["sigma_hat"].mean()) if severities else None,
        "residual": residual if math.isfinite(residual) else None,  # without noise there is none, and JSON has no inf
        "photos": photo_rows(each),
    }


def photo_rows(each: dict[str, Tensor]) -> list[dict[str, float]]:
    """Columns of numbers, one per photo, as a row for each photo."""
    columns = [values.tolist() for values in each.values()]
    return [dict(zip(each, row, strict=True)) for row in zip(*columns, strict=True)]


def severities(photos: Damaged, prior: DiffusersPrior, encoder: SeverityModel) -> Severity:
    """What the encoder says of all photos, in batches."""
    found = [encoder.predict(part, prior.multiple, prior.encode) for part in photos.y.split(ENCODED_AT_ONCE)]
    z_hat = torch.cat([severity.z_hat for severity in found])
    return Severity(z_hat, torch.cat([severity.sigma_hat for severity in found]), found[0].photo_size)


@torch.no_grad()
def clean_latents(truth: Tensor, prior: DiffusersPrior) -> Tensor:
    """The latents (n, C, h, w) of the true photos (n, 3, H, W), in batches."""
    parts = truth.split(ENCODED_AT_ONCE)
    return torch.cat([prior.encode(pad_to_multiple(part, prior.multiple)) for part in parts])


def severity_row(task: str, photos: Damaged, prior: DiffusersPrior, encoder: SeverityModel) -> dict[str, Any]:
    """How sigma_hat follows the level of damage and the true latent error, over the photos of a task.

    Beside them how the true error itself follows the level ("..._true"): the photo's content matters too. A
    correlation is None where the level is the same for all photos.
    """
    severity = severities(photos, prior, encoder)
    sigma_hat = severity.sigma_hat.double()
    true = error_variance(severity.z_hat, clean_latents(photos.truth, prior)).sqrt().cpu().double()
    pairs = {"blur": (sigma_hat, photos.level), "error": (sigma_hat, true), "true": (true, photos.level)}
    scores = {}
    for name, (a, b) in pairs.items():
        scores[f"pearson_{name}"], scores[f"spearman_{name}"] = correlations(a, b)
    known = {key: None if math.isnan(value) else value for key, value in scores.items()}
    means = {"sigma_hat_mean": float(sigma_hat.mean()), "true_error_mean": float(true.mean())}
    each = photo_rows({"sigma_hat": sigma_hat, "true_error": true, "level": photos.level})
    return {"task": task, "method": "severity", "images": len(sigma_hat), **known, **means, "photos": each}
