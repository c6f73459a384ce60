"""The method end to end: severity, start, guided reverse diffusion, decode."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from .cost import Cost, CountedPrior, peak_memory
from .degradation import Degradation
from .errors import AdaptDiffuseError
from .measurement import Measurement
from .padding import pad_to_multiple
from .prior import LatentPrior
from .severity import Severity, SeverityModel
from .solvers.base import Callback, Solver, solve
from .start import StartSettings, flash_start, noise_start

DAMAGE_SEED = 3_000_017


@dataclass(frozen=True)
class Restoration:
    """What came out.

    Attributes:
        image: (B, 3, H, W) on [0, 1]; the photo's size, or the one that it had before it was made smaller.
        severity: what the encoder said; None for a start from pure noise.
        sigma_start: (B,) level of the first step; 0 where no diffusion ran.
        steps: (B,) number of solver steps of each photo.
        residual: (B,) ``|y - A(x)| / (noise_std sqrt(m))`` of the image as the solver left it.
        cost: passes, summed over the batch.
        seconds: wall-clock time of the batch.
        peak_memory: MiB, the most that the process has held so far; None where the system does not tell.
    """

    image: Tensor
    severity: Severity | None
    sigma_start: Tensor
    steps: Tensor
    residual: Tensor
    cost: Cost
    seconds: float
    peak_memory: float | None


def generators_for(seed: int, count: int) -> list[torch.Generator]:
    """One generator per image; image i of a batch with ``seed`` draws what it would alone with ``seed + i``."""
    return [torch.Generator().manual_seed((seed + index) % 2**63) for index in range(count)]


def damage_generators(seed: int, count: int) -> list[torch.Generator]:
    """As ``generators_for``, for the noise of a degradation: apart from the solver's noise of the same seed."""
    return generators_for(seed + DAMAGE_SEED, count)


def restore(
    photo: Tensor,
    degradation: Degradation,
    prior: LatentPrior,
    solver: Solver | None,
    generators: list[torch.Generator],
    encoder: SeverityModel | None = None,
    start: StartSettings = StartSettings(),  # noqa: B008 (frozen)
    callback: Callback | None = None,
) -> Restoration:
    """Restore a batch of photos of one size.

    Args:
        photo: (B, 3, H, W) on [0, 1], any H and W >= 1.
        degradation: what happened to it, with the noise level.
        solver: the guided solver; None decodes the encoder's estimate as it is (the row "AE").
        generators: one CPU generator per photo.
        encoder: the severity encoder; None starts from pure noise at the prior's highest level.

    Raises:
        AdaptDiffuseError: photos that cannot be restored, with the reason.
    """
    begin = time.monotonic()
    counted = CountedPrior(prior)
    measurement = Measurement.of(photo, degradation)
    severity = None
    if encoder is not None:
        severity = encoder.predict(measurement.start_image(), prior.multiple, counted.encode)
        # a copy of the encoder costs what a pass of the autoencoder's own does
        counted.cost.encoder_passes = max(counted.cost.encoder_passes, len(photo))
        z0 = severity.z_hat
    else:
        with torch.no_grad():
            latent = prior.encode(pad_to_multiple(measurement.start_image()[:1], prior.multiple))
        z0 = latent.new_zeros(len(photo), *latent.shape[1:])
    sigma, steps = torch.zeros(len(photo)), torch.zeros(len(photo), dtype=torch.int64)
    if solver is not None:
        if severity is not None:
            begun = flash_start(severity, counted, start, generators)
        else:
            begun = noise_start(z0, counted, start, generators)
        sigma, steps = begun.sigma, begun.steps
        z0 = solve(solver, counted, measurement, begun.x, begun.schedules, generators, callback)
    with torch.no_grad():
        height, width = measurement.image_size
        image = counted.decode(z0)[:, :, :height, :width]
        if not bool(torch.isfinite(image).all()):
            raise AdaptDiffuseError("The restoration diverged: use a smaller step size (eta), or more steps.")
        image = image.clamp(0, 1)
        residual = measurement.residual_ratio(image)
    seconds = time.monotonic() - begin
    return Restoration(image, severity, sigma, steps, residual, counted.cost, seconds, peak_memory())
