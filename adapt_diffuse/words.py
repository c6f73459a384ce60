"""Figures as sentences for people."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .degradation import (
    BLURRING,
    LOSING,
    Degradation,
    Downscale,
    Fading,
    FilmDamage,
    Jpeg,
    LowResolution,
    Noise,
    noise_levels,
    steps_of,
)
from .restore import Restoration

# sigma_hat is in units of the latents' own spread, which is about 1
GRADES = ((0.15, "barely"), (0.3, "mildly"), (0.5, "clearly"), (0.8, "heavily"))
ROUNDING = 0.002  # noise below is mostly that of whole grey levels
OVERSTATED = 0.7  # a residual below: noise of the level that was given would leave more, though clamping takes some
# times the noise that the result is off the photo by: above, the damage is another one. On training photos it was below
# 1.7 by the right blurs, scales, masks and JPEG (2.1 where little was wrong), 2 to 13 by blurs twice too large or of a
# sharp photo
MISSED, FAINT = 1.8, 0.01
BORDER_KEPT = "its border is left as it came"
DAMAGED = "damaged"
KINDS = (
    (BLURRING, "blurred"),
    (LOSING, "incomplete"),
    ((Fading,), "faded"),
    ((FilmDamage,), "worn"),
    ((Downscale, LowResolution), "coarse"),
    ((Jpeg,), "compressed"),
    ((Noise,), "noisy"),
)


def grade(sigma_hat: float) -> str:
    """A word for a severity: barely, mildly, clearly, heavily or extremely."""
    return next((word for limit, word in GRADES if sigma_hat < limit), "extremely")


def damage_word(degradation: Degradation) -> str:
    """What a photo is after one kind of damage: blurred, incomplete, ...; "damaged" after several.

    One word for a batch: "damaged" where its photos differ.
    """
    found = {_word(steps[0]) if len(steps) == 1 else DAMAGED for steps in steps_of(degradation)}
    return found.pop() if len(found) == 1 else DAMAGED


def _word(step: Degradation) -> str:
    return next((word for kinds, word in KINDS if isinstance(step, kinds)), DAMAGED)


def describe_photo(sigma_hat: float, steps: int, levels: int, damage: str, photo: str = "this photo") -> str:
    """Half a sentence on a photo: how bad it is, and the steps of ``levels`` that its restoration takes."""
    severity = f"severity {sigma_hat:.2f}"
    count = "1 step" if steps == 1 else f"{steps} steps"
    return f"{photo} is {grade(sigma_hat)} {damage} ({severity}); {count} where pure noise takes {levels}"


def doubt(residual: float, unsaid: float, missed: float, noise_std: float, option: str) -> str:
    """What to change. Nothing is said where nothing is wrong.

    Args:
        residual: of the result; far below 1 the noise was overstated, and the photo hardly followed.
        unsaid: see ``noise_check.unsaid_noise``; noise that is taken for detail becomes patterns.
        missed: see ``noise_check.misfit``; so does damage that did not happen.
        noise_std: that was said.
        option: where it is said.
    """
    if unsaid > 0:
        return f". Its noise looks like {unsaid:.3f}, which is more than its degradation says: set {option} to that"
    if missed > MISSED * max(noise_std, FAINT):
        return f". That damage does not explain the photo: try less of it, another kind, or a larger {option}"
    left = residual * noise_std
    if residual >= OVERSTATED or left < ROUNDING:
        return ""
    return f". It has less noise than its degradation says: lower {option} to {left:.3f}"


def describe_restoration(
    result: Restoration,
    sigmas: Tensor,
    degradation: Degradation,
    index: int = 0,
    unsaid: float = 0.0,
    missed: float = 0.0,
    estimated: bool = False,
) -> str:
    """A sentence or two on a photo of a restoration, with the seconds of all photos.

    Args:
        unsaid, missed: as in ``doubt``.
        estimated: nobody said the noise, and more than was found was taken on purpose, so that nobody can lower it.
    """
    seconds, steps = f"{result.seconds:.1f} s", int(result.steps[index])
    if len(result.image) > 1:
        seconds += f" for {len(result.image)} photos"
    if result.severity is None:
        return f"restored from pure noise in {steps} steps, {seconds}"
    sigma_hat = float(result.severity.sigma_hat[index])
    told = describe_photo(sigma_hat, steps, len(sigmas), damage_word(degradation))
    residual = 1.0 if estimated else float(result.residual[index])
    noise_std = float(noise_levels(degradation, len(result.image))[index])
    return f"{told}, {seconds}{doubt(residual, unsaid, missed, noise_std, '--noise-std')}"


def describe_batch(
    sigma_hat: Tensor,
    steps: Tensor,
    levels: int,
    degradation: Degradation,
    residual: Tensor,
    unsaid: Sequence[float],
    missed: Sequence[float],
    seconds: float,
    estimated: bool = False,
) -> str:
    """A line on each photo of a batch, and the seconds of all of them.

    Args:
        residual, unsaid, missed: as in ``doubt``.
        estimated: as in ``describe_restoration``.
    """
    residual = residual.clamp_min(1) if estimated else residual
    said = noise_levels(degradation, len(sigma_hat))
    word, names = damage_word(degradation), [f"photo {number}" for number in range(1, len(sigma_hat) + 1)]
    if len(names) == 1:
        one = describe_photo(float(sigma_hat[0]), int(steps[0]), levels, word)
        return f"{one}, {seconds:.1f} s{doubt(float(residual[0]), unsaid[0], missed[0], float(said[0]), 'noise_std')}"
    doubts = map(doubt, residual.tolist(), unsaid, missed, said.tolist(), ["noise_std"] * len(names))
    rows = zip(sigma_hat.tolist(), steps.tolist(), names, doubts, strict=True)
    lines = [describe_photo(s, n, levels, word, name) + doubted for s, n, name, doubted in rows]
    return "\n".join([*lines, f"{seconds:.1f} s in all"])
