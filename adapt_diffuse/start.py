"""Where reverse diffusion starts: at the level of the severity encoder's error, or at pure noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .degradation import randn
from .errors import AdaptDiffuseError
from .prior import LatentPrior, over_image
from .schedule import Rounding, StartMode, align, descend, octaves, start_noise, start_sigma, thin
from .severity import Severity


@dataclass(frozen=True)
class StartSettings:
    """Where and how densely reverse diffusion runs.

    Attributes:
        noise_correction, mode, rounding: see ``schedule.start_sigma``.
        steps: number of steps; 0 leaves it to ``per_octave``. See ``schedule.descend``.
        levels: how many of the model's levels there are to walk below the start; 0 is all of them. See
            ``schedule.thin``.
        inversion: climb to the start by DDIM inversion instead of adding noise. Costs as many denoiser passes as
            there are steps.
        per_octave: steps in which the level halves, so that their number follows from the start; 0 walks every level
            of the model below the start, as the paper does. See ``schedule.octaves``.
    """

    noise_correction: float = 1.0
    mode: StartMode = "matched"
    rounding: Rounding = "continuous"
    steps: int = 0
    levels: int = 0
    inversion: bool = False
    per_octave: float = 0.0


@dataclass(frozen=True)
class Start:
    """The beginning of reverse diffusion.

    Attributes:
        x: (B, C, h, w), ``z0 + sigma eps``; in mode "paper" its noise is ``sqrt(c)`` times as large.
        sigma: (B,) its level.
        schedules: B falling schedules from ``sigma`` to 0.
    """

    x: Tensor
    sigma: Tensor
    schedules: list[Tensor]

    @property
    def steps(self) -> Tensor:
        """(B,) int64 number of steps."""
        return torch.tensor([len(schedule) - 1 for schedule in self.schedules])


def flash_start(
    severity: Severity, prior: LatentPrior, settings: StartSettings, generators: list[torch.Generator]
) -> Start:
    """The adaptive start (Fabian et al. 2024, section 3.2): the estimate at the level of its own error.

    ``x = z_hat + sqrt(c) sigma_hat eps``, c the noise correction. The estimate is taken for the clean latent: its own
    error is not drawn, so samples vary less than the posterior (benchmarks/README.md, where the truth is known).

    Mode "matched" draws noise of the level at which the schedule starts: where that was rounded to a level of the
    model, or held within its range, the noise is, too. Mode "paper" draws ``sqrt(c) sigma_hat`` at the level sigma_hat.

    Mode "published" is the released code's ``sqrt(1 - c sigma_hat^2) z_hat + sqrt(c) sigma_hat eps`` taken as
    variance-preserving latent, for comparison.

    Raises:
        AdaptDiffuseError: mode "published" with ``c sigma_hat^2 > 1``, where it does not exist.
    """
    sigma, schedules = flash_schedules(severity.sigma_hat, prior.sigmas, settings)
    z_hat = severity.z_hat
    if settings.inversion:
        return Start(ddim_inversion(z_hat, schedules, prior), sigma, schedules)
    eps = randn(z_hat.shape, z_hat, generators)
    if settings.mode == "matched":
        return Start(z_hat + over_image(sigma, z_hat) * eps, sigma, schedules)
    std = start_noise(severity.sigma_hat, settings.noise_correction)
    if settings.mode == "paper":
        # a severity beyond the schedule has no level with more noise
        std = std.clamp(max=float(thin(prior.sigmas, settings.levels)[-1]))
        return Start(z_hat + over_image(std, z_hat) * eps, sigma, schedules)
    if not bool((std <= 1).all()):
        raise AdaptDiffuseError(
            f"The published start does not exist for an error above 1, and this is {float(std.max()):.2f}: take the "
            "matched start."
        )
    z = over_image((1 - std**2).sqrt(), z_hat) * z_hat + over_image(std, z_hat) * eps
    return Start(z * over_image((1 + sigma**2).sqrt(), z), sigma, schedules)


def flash_schedules(sigma_hat: Tensor, sigmas: Tensor, settings: StartSettings) -> tuple[Tensor, list[Tensor]]:
    """The start levels (B,) of severities (B,) on a model's ascending ``sigmas``, and the schedule from each.

    However few levels there are to walk, the start is at the severity: its own level is the first.
    """
    within = sigmas[sigmas <= thin(sigmas, settings.levels)[-1]]
    starts = start_sigma(sigma_hat, within, settings.noise_correction, settings.mode, settings.rounding)
    return starts, schedules_from(starts, sigmas, settings)


def schedules_from(starts: Tensor, sigmas: Tensor, settings: StartSettings) -> list[Tensor]:
    """The falling schedule from each of the levels ``starts`` (B,), on a model's ascending ``sigmas``."""
    if settings.per_octave > 0 and not settings.steps:
        return [octaves(float(start), settings.per_octave) for start in starts]
    known = thin(sigmas, settings.levels)
    return [descend(float(start), known, settings.steps) for start in starts]


def noise_start(like: Tensor, prior: LatentPrior, settings: StartSettings, generators: list[torch.Generator]) -> Start:
    """Pure noise in the shape of ``like`` (B, C, h, w), at the model's highest level."""
    sigma = thin(prior.sigmas, settings.levels)[-1:].expand(len(like))
    schedules = schedules_from(sigma, prior.sigmas, settings)
    return Start(over_image(sigma, like) * randn(like.shape, like, generators), sigma, schedules)


@torch.no_grad()
def ddim_inversion(z0: Tensor, schedules: list[Tensor], prior: LatentPrior) -> Tensor:
    """From clean latents up each image's schedule by the deterministic recursion (Song et al. 2021, section 4.3).

    ``x' = x + (sigma' - sigma) (x - denoise(x, sigma')) / sigma'``. The released code (Fabian et al. 2024, appendix E)
    shows the network the latent scaled for the level below instead: the same for small steps, some percent apart where
    a step is large.

    Args:
        z0: (B, C, h, w).
        schedules: B falling schedules that end in 0.

    Returns:
        (B, C, h, w), each image at the first level of its schedule.
    """
    table, lengths = align([schedule.cpu().double() for schedule in schedules])
    x = z0.clone()
    for column in range(table.shape[1] - 2, -1, -1):
        active = torch.nonzero(table.shape[1] - 1 - column <= lengths).flatten()
        chosen = active.to(x.device)
        low, high = table[active, column + 1], table[active, column]
        here = x[chosen]
        slope = (here - prior.denoise(here, high)) / over_image(high, here)
        x[chosen] = here + over_image(high - low, here) * slope
    return x
