"""What a guided solver is, and the loop that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..degradation import randn
from ..guidance import Through
from ..measurement import Measurement
from ..prior import LatentPrior, over_image
from ..schedule import align


class Solver(Protocol):
    """One step of reverse diffusion, kept true to the measurement."""

    @property
    def through(self) -> Through:
        """What the solver differentiates through: "denoiser" (and decoder), or the "decoder" alone."""
        ...

    def step(
        self, x: Tensor, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From ``x`` (B, C, h, w) at ``sigma`` (B,) to ``sigma_next`` (B,), with standard normal ``noise``.

        Returns:
            The next x, and the posterior mean z0 of this step (for previews).
        """
        ...


def ancestral_step(x: Tensor, z0: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Tensor) -> Tensor:
    """The ancestral step in sigma coordinates; DDPM's own on the model's own levels (Ho et al. 2020, eq. 7)."""
    s, s_next = over_image(sigma, x), over_image(sigma_next, x)
    up = (s_next**2 * (s**2 - s_next**2)).clamp_min(0).sqrt() / s
    down = s_next**2 / s
    return z0 + down * (x - z0) / s + up * noise


Callback = Callable[[int, int, Tensor, Tensor, Tensor], None]


@torch.no_grad()
def solve(
    solver: Solver,
    prior: LatentPrior,
    measurement: Measurement,
    x: Tensor,
    schedules: list[Tensor],
    generators: Sequence[torch.Generator],
    callback: Callback | None = None,
) -> Tensor:
    """Run ``solver`` from ``x`` down each image's schedule.

    Images whose schedules have different lengths end together: the hardest start first, the others join when their
    turn comes. Every image draws its noise from its own generator, so a batch equals its images one by one.

    Args:
        x: (B, C, h, w), each image at the first level of its schedule.
        schedules: B falling schedules, each ending in 0.
        generators: B CPU generators.
        callback: called as ``callback(step, steps, x, z0, sigma)`` after each step, with the images under way; an
            exception that it raises ends the run.

    Returns:
        The clean latents (B, C, h, w).
    """
    # on the CPU: not every GPU has float64, and reading a level never waits for one
    table, lengths = align([schedule.cpu().double() for schedule in schedules])
    steps = table.shape[1] - 1
    joins = steps - lengths
    x = x.clone()
    active, part = None, measurement
    for step in range(steps):
        indices = torch.nonzero(joins <= step).flatten()
        if active is None or len(indices) != len(active):
            active = indices
            part = measurement if len(active) == len(x) else measurement.select(active)
        chosen = active.to(x.device)
        sigma, sigma_next = table[active, step], table[active, step + 1]
        noise = randn(x[chosen].shape, x, [generators[int(index)] for index in active])
        moved, z0 = solver.step(x[chosen], sigma, sigma_next, prior, part, noise)
        x[chosen] = moved
        if callback is not None:
            callback(step, steps, moved, z0, sigma)
    return x
