"""Restoring photos of which nobody knows what happened to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cost import Cost
from ..degradation import Degradation
from ..estimate import (
    Damage,
    DamageEstimator,
    Estimate,
    cautious,
    describe_estimate,
    doubted,
    estimate_damage,
    refine,
)
from ..images import read_photo
from ..restore import Restoration
from ..solvers import Solver
from ..start import StartSettings
from .batches import Job, Outcome, Recipe, outcomes, photo_for, sentence_of

LEFT = "nothing of it is left in the smaller photo, which is best left as it is"
GENTLER = "the estimate does not explain the photo well, so that it was restored more gently"


@dataclass(frozen=True)
class Guesswork:
    """How damage is found out.

    Attributes:
        estimator: see estimate.
        solver, start: those for a degradation.
        rounds: how often the estimate is refined with the restored photo, which is then restored anew.
        noise_std: of the photos on disk, where it is known; None is estimated like the rest.
    """

    estimator: DamageEstimator
    solver: Callable[[Degradation], Solver]
    start: Callable[[Degradation], StartSettings]
    rounds: int = 0
    noise_std: float | None = None


@dataclass(frozen=True)
class Guessed:
    """An outcome, the degradation that was assumed, and the same in words.

    Attributes:
        unchanged: nothing was found that could be restored; the outcome's image is the photo.
        estimated: its noise, too, was not told but found.
    """

    outcome: Outcome
    degradation: Degradation
    words: str = ""
    unchanged: bool = False
    estimated: bool = False


def guessed_outcomes(jobs: Sequence[Job], recipe: Recipe, guesswork: Guesswork) -> Iterator[Guessed]:
    """Restore each photo with its own estimated degradation; those of ``recipe`` and its solver are not used."""
    for job in jobs:
        try:
            yield _guessed(job, recipe, guesswork)
        except Exception as error:
            yield Guessed(Outcome(job, error=sentence_of(error)), recipe.degradation)


def _guessed(job: Job, recipe: Recipe, guesswork: Guesswork) -> Guessed:
    photo = photo_for(job, recipe)
    whole, estimate = estimate_of_file(job, photo, guesswork)
    if bool(estimate.damage.nothing):
        words = describe_estimate(whole)
        words = words if bool(whole.damage.nothing) else f"{words}; {LEFT}"
        return Guessed(Outcome(job, unchanged(photo)), estimate.degradation(), words, unchanged=True)
    for remaining in range(guesswork.rounds, -1, -1):
        assumed = cautious(estimate, photo)
        outcome = _restored(job, assumed, recipe, guesswork)
        if outcome.result is None or remaining == 0:
            break
        estimate = refine(without_border(outcome, photo), image_of(outcome, photo), estimate)
    words = describe_estimate(estimate if guesswork.rounds else whole)
    if outcome.result is not None:
        gentler = doubted(assumed, without_border(outcome, photo), image_of(outcome, photo))
        if gentler is not None:
            assumed, words = gentler, f"{words}; {GENTLER}"
            outcome = _restored(job, assumed, recipe, guesswork)
    return Guessed(outcome, assumed.degradation(), words, estimated=guesswork.noise_std is None)


def estimate_of_file(job: Job, photo: Tensor, guesswork: Guesswork) -> tuple[Estimate, Estimate]:
    """The estimate of the photo on disk, and what is left of it in ``photo``, which may have been made smaller.

    It is made at the photo's own size, because a smaller photo does not show the traces of what happened to it.
    """
    whole = read_photo(job.photo).to(photo.device)
    estimate = estimate_damage(whole, guesswork.estimator)
    if guesswork.noise_std is not None:
        estimate = estimate.told_noise(guesswork.noise_std)
    return estimate, estimate.scaled(max(photo.shape[2:]) / max(whole.shape[2:]))


def without_border(outcome: Outcome, photo: Tensor) -> Tensor:
    """``photo`` (1, 3, H, W) as it was restored: its border filled."""
    return photo if outcome.borders is None else outcome.borders.filled


def image_of(outcome: Outcome, photo: Tensor) -> Tensor:
    """What came out of a restoration that did not fail, (1, 3, H, W) as ``photo`` is, its border not put back."""
    assert outcome.result is not None
    return outcome.result.image[outcome.place : outcome.place + 1].to(photo)


def unchanged(photo: Tensor) -> Restoration:
    """The restoration of a photo (1, 3, H, W) to which nothing happened: itself, without a step."""
    none = torch.zeros(1, dtype=torch.float64)
    return Restoration(photo.cpu(), None, none, none.long(), none, Cost(), 0.0, None)


def _restored(job: Job, damage: Damage, recipe: Recipe, guesswork: Guesswork) -> Outcome:
    degradation = damage.degradation()
    solver, start = guesswork.solver(degradation), guesswork.start(degradation)
    (outcome,) = outcomes([job], replace(recipe, degradation=degradation, solver=solver, start=start))
    return outcome
