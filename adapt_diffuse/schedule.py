"""Noise levels, and where reverse diffusion starts.

Everything is in noise-to-signal sigma, ``x = z0 + sigma * eps``: matching the signal-to-noise ratio of a predicted
error of standard deviation sigma_hat means starting at sigma = sigma_hat (Fabian et al. 2024, section 3.2).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .errors import AdaptDiffuseError

StartMode = Literal["matched", "paper", "published"]
Rounding = Literal["continuous", "schedule"]
CLEAN = 0.1  # a latent of unit spread with this much noise is clean after one more step


def vp_sigmas(alphas_cumprod: Tensor) -> Tensor:
    """Levels ``sqrt((1 - abar) / abar)`` of a variance-preserving schedule, ascending as abar falls."""
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def match_level(sigma_hat: Tensor, sigmas: Tensor) -> Tensor:
    """The paper's discrete rule: the level whose signal-to-noise ratio is nearest to that of the predicted error.

    ``argmin_i |1 / sigma_hat^2 - 1 / sigmas_i^2|``, one index per image. The first level wins a tie; zero maps to
    the lowest level, infinity to the highest.

    Args:
        sigma_hat: (B,), >= 0.
        sigmas: (n,) ascending levels, > 0.

    Returns:
        (B,) int64 indices into ``sigmas``.

    Raises:
        AdaptDiffuseError: a NaN or a negative severity.
    """
    check_severity(sigma_hat)
    levels = sigmas.double()
    error = sigma_hat.double().clamp(levels[0], levels[-1])
    return (error[:, None] ** -2 - levels[None] ** -2).abs().argmin(1)


def start_sigma(
    sigma_hat: Tensor,
    sigmas: Tensor,
    noise_correction: float = 1.0,
    mode: StartMode = "matched",
    rounding: Rounding = "continuous",
) -> Tensor:
    """The level of the first step, one per image.

    Args:
        sigma_hat: (B,) predicted standard deviation of the latent error, in the model's latent scale.
        sigmas: (n,) ascending levels of the model.
        noise_correction: c, 1.0 to 1.2 in the paper. The start latent has noise of standard deviation
            ``sqrt(c) * sigma_hat`` (``start_noise``).
        mode: "matched" starts the schedule at the level of the noise that is added, "paper" and "published" at
            sigma_hat. The estimate's own error is in the start latent too, and in no mode part of its level: the model
            takes it for signal, and the measurement has to correct it.
        rounding: "continuous" takes the level as it is, "schedule" the model's level of the discrete rule.

    Returns:
        (B,) float64 levels, clamped to the range of ``sigmas``.
    """
    check_severity(sigma_hat)
    level = sigma_hat.double() * (noise_correction**0.5 if mode == "matched" else 1.0)
    levels = sigmas.double()
    if rounding == "schedule":
        return levels[match_level(level, levels)]
    return level.clamp(levels[0], levels[-1])


def start_noise(sigma_hat: Tensor, noise_correction: float = 1.0) -> Tensor:
    """Standard deviation (B,) of the noise in the start latent: ``x_start = z_hat + sqrt(c) sigma_hat eps``."""
    return sigma_hat.double() * noise_correction**0.5


def descend(start: float, sigmas: Tensor, steps: int = 0) -> Tensor:
    """The schedule from ``start`` down to 0.

    Args:
        start: first entry, as it is.
        sigmas: (n,) ascending levels of the model.
        steps: number of steps; 0 walks every level of the model below ``start``, as the paper does. Fewer steps take
            evenly spaced ones of those levels.

    Returns:
        (n + 1,) float64, strictly falling, ending in 0; n is ``steps``, or what there is where that is 0 or more than
        the levels below ``start`` and the step to 0.
    """
    levels = sigmas.double()
    # a level within rounding of the start is the start
    below = levels[levels < start * (1 - 1e-6)].flip(0)
    if steps > 0 and steps - 1 < len(below):
        below = below[torch.linspace(0, len(below), steps + 1)[1:-1].round().long() - 1]
    ends = torch.zeros(1, dtype=torch.float64, device=levels.device)
    return torch.cat([ends + start, below, ends])


def octaves(start: float, per_octave: float, lowest: float = CLEAN) -> Tensor:
    """The schedule from ``start`` to ``lowest`` in equal ratios, and from there to 0.

    Args:
        start: first entry, as it is.
        per_octave: about how many steps halve the level; their number follows from the start.

    Returns:
        (n,) float64, strictly falling, ending in 0; from ``lowest`` or less it is a single step.
    """
    halvings = max(0.0, math.log2(start / lowest))
    count = math.ceil(per_octave * halvings - 1e-9)
    levels = start * (lowest / start) ** (torch.arange(count + 1, dtype=torch.float64) / max(count, 1))
    return torch.cat([levels, levels.new_zeros(1)])


def thin(sigmas: Tensor, count: int) -> Tensor:
    """Every so many of the ascending ``sigmas`` (n,), about ``count`` of them, as DDIM does; 0 keeps all."""
    stride = max(1, round(len(sigmas) / count)) if count > 0 else 1
    return sigmas[stride - 1 :: stride]


def align(schedules: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Schedules of different lengths as one table in which all end together.

    Returns:
        ``table`` (B, n + 1), each row padded at its front with its own start, and ``lengths`` (B,): the number of
        steps of each row. Row b takes part from column ``n - lengths[b]`` on.
    """
    lengths = torch.tensor([len(schedule) - 1 for schedule in schedules])
    longest = int(lengths.max())
    rows = [torch.cat([s[:1].expand(longest + 1 - len(s)), s]) for s in schedules]
    return torch.stack(rows), lengths


def check_severity(sigma_hat: Tensor) -> None:
    """Raise AdaptDiffuseError unless every entry is a standard deviation."""
    if not bool((sigma_hat >= 0).all()):
        raise AdaptDiffuseError(f"The severity sigma_hat must be zero or more, not {sigma_hat.flatten().tolist()}.")
