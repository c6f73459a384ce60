"""What a guided solver is, and the loop that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..degradation import randn
from ..degradation.base import check_generators, in_float
from ..errors import AdaptDiffuseError
from ..guidance import Through, data_gradient, size_factor
from ..measurement import Measurement
from ..prior import LatentPrior, over_image
from ..schedule import align

# fresh standard normal noise in the shape of the latents under way
Draw = Callable[[], Tensor]


@dataclass(frozen=True)
class State:
    """Where a run is.

    Attributes:
        x: (B, C, h, w), ``z0 + sigma eps``.
        draw: fresh standard normal noise in the shape of ``x``.
        left: how many steps follow this one.
    """

    x: Tensor
    draw: Draw
    left: int = 0


class Solver(Protocol):
    """One step of reverse diffusion, kept true to the measurement."""

    @property
    def through(self) -> Through:
        """What the solver differentiates through: "denoiser" (and decoder), or the "decoder" alone."""
        ...

    def step(
        self, state: State, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement
    ) -> tuple[Tensor, Tensor]:
        """From ``sigma`` (B,) to ``sigma_next`` (B,).

        Returns:
            The next x (B, C, h, w), and the z0 of this step (for previews): the posterior mean, or what it became where
            a solver fits it to the photo.
        """
        ...


class GuidedSolver:
    """What DPS and its kin share: an ancestral step, minus the gradient of the data term and of a penalty.

    ``x' -= k grad (eta |y' - A'(D(z0))| + penalty)``, ``k = sqrt((1 + sigma^2)(1 + sigma_next^2))``; k makes a step
    size that of the papers' variance-preserving form.

    Attributes:
        eta: step size of the data term.
        through: "denoiser" as published; "decoder" holds the posterior mean fixed, at about half the cost.
        normalise: scale the update by ``sqrt(m / (3 * 256 * 256))``, so that a step size means the same at every size
            and mask; False is the published form.
    """

    eta: float
    through: Through
    normalise: bool

    def penalty(self, z0: Tensor, image: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor | None:
        """What the step descends besides the data term, (B,), of z0 (B, C, h, w) and its image on [0, 1]."""
        return None

    def step(
        self, state: State, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement
    ) -> tuple[Tensor, Tensor]:
        def penalty(z0: Tensor, image: Tensor) -> Tensor | None:
            return self.penalty(z0, image, prior, measurement)

        guidance = data_gradient(prior, measurement, state.x, sigma, self.through, self.eta, penalty)
        k = ((1 + sigma**2) * (1 + sigma_next**2)).sqrt()
        if self.normalise:
            k = k * size_factor(measurement).to(k)
        moved = ddim_step(state.x, guidance.z0, sigma, sigma_next, state.draw())
        return moved - over_image(k, moved) * guidance.gradient, guidance.z0


def ddim_step(x: Tensor, z0: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Tensor, eta: float = 1.0) -> Tensor:
    """The generalised step of Song et al. 2021 (DDIM, eq. 12) in sigma coordinates.

    ``eta`` 0 is deterministic, 1 the ancestral step: DDPM's own on the model's own levels (Ho et al. 2020, eq. 7).
    """
    s, s_next = (over_image(level, in_float(x)) for level in (sigma, sigma_next))  # whose fourth powers are large
    up = eta * (s_next**2 * (s**2 - s_next**2)).clamp_min(0).sqrt() / s
    down = (s_next**2 - up**2).clamp_min(0).sqrt()
    return (z0 + down * (x - z0) / s + up * noise).to(x)


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
    turn comes. Every image draws its noise from its own generator, so a batch equals its images one by one, but
    for rounding errors, which ``Jpeg`` makes larger.

    Args:
        x: (B, C, h, w), each image at the first level of its schedule.
        schedules: B falling schedules, each ending in 0.
        generators: B CPU generators.
        callback: called as ``callback(step, steps, x, z0, sigma)`` after each step, with the images under way; an
            exception that it raises ends the run.

    Returns:
        The clean latents (B, C, h, w).

    Raises:
        AdaptDiffuseError: latents that are not finite, or generators for another number of images.
    """
    check_generators(generators, len(x))
    # on the CPU: not every GPU has float64, and a level is read without waiting for one
    table, lengths = align([schedule.cpu().double() for schedule in schedules])
    steps = table.shape[1] - 1
    joins = steps - lengths
    x = x.clone()
    active, watch = torch.zeros(0), Watch()
    for step in range(steps):
        indices = torch.nonzero(joins <= step).flatten()
        if len(indices) != len(active):
            active, chosen = indices, indices.to(x.device)
            part = measurement if len(active) == len(x) else measurement.select(active)
            draw = noise_source(x[chosen], [generators[int(index)] for index in active])
        sigma, sigma_next = table[active, step], table[active, step + 1]
        moved, z0 = solver.step(State(x[chosen], draw, steps - 1 - step), sigma, sigma_next, prior, part)
        x[chosen] = moved.to(x)
        watch.look(moved)
        if callback is not None:
            callback(step, steps, moved, z0, sigma)
    watch.finish()
    return x


class Watch:
    """Notices latents that are not finite, one step late, so that to look makes a GPU wait for the last step alone."""

    def __init__(self) -> None:
        self._finite: Tensor | None = None

    def look(self, x: Tensor) -> None:
        """Raise AdaptDiffuseError where the latents of the last look were not finite."""
        finite = torch.isfinite(x).all()
        self.finish()
        self._finite = finite

    def finish(self) -> None:
        """As ``look``, with nothing new."""
        if self._finite is not None and not bool(self._finite):
            raise AdaptDiffuseError(
                "The latent is not finite after a guided step: the model or the decoder overflows on this photo, or "
                "the step size is too large. Use float32, or a smaller step size."
            )


def noise_source(like: Tensor, generators: Sequence[torch.Generator]) -> Draw:
    """Draws of standard normal noise in the shape of ``like`` (B, C, h, w), image i from generator i."""
    return lambda: randn(like.shape, like, generators)
