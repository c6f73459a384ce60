"""Restoring photos of which nobody knows what happened to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..degradation import Degradation
from ..errors import AdaptDiffuseError
from ..estimate import DamageEstimator, describe_estimate, estimate_damage, refine
from ..solvers import Solver
from ..start import StartSettings
from .batches import Job, Outcome, Recipe, outcomes, photo_for


@dataclass(frozen=True)
class Guesswork:
    """How damage is found out.

    Attributes:
        estimator: see estimate.
        solver, start: those for a degradation.
        rounds: how often the estimate is refined with the restored photo, which is then restored anew.
    """

    estimator: DamageEstimator
    solver: Callable[[Degradation], Solver]
    start: Callable[[Degradation], StartSettings]
    rounds: int = 0


@dataclass(frozen=True)
class Guessed:
    """An outcome, the degradation that was assumed, and the same in words."""

    outcome: Outcome
    degradation: Degradation
    words: str = ""


def guessed_outcomes(jobs: Sequence[Job], recipe: Recipe, guesswork: Guesswork) -> Iterator[Guessed]:
    """Restore each photo with its own estimated degradation; those of ``recipe`` and its solver are not used."""
    for job in jobs:
        try:
            yield _guessed(job, recipe, guesswork)
        except AdaptDiffuseError as error:
            yield Guessed(Outcome(job, error=error), recipe.degradation)


def _guessed(job: Job, recipe: Recipe, guesswork: Guesswork) -> Guessed:
    photo = photo_for(job, recipe)
    estimate = estimate_damage(photo, guesswork.estimator)
    for remaining in range(guesswork.rounds, -1, -1):
        degradation = estimate.degradation()
        solver, start = guesswork.solver(degradation), guesswork.start(degradation)
        assumed = replace(recipe, degradation=degradation, solver=solver, start=start)
        (outcome,) = outcomes([job], assumed)
        if outcome.result is None or remaining == 0:
            break
        image = outcome.result.image[outcome.place : outcome.place + 1]
        estimate = refine(photo, image.to(photo), estimate)
    return Guessed(outcome, degradation, describe_estimate(estimate))
