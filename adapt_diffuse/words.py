"""Figures as sentences for people."""

from __future__ import annotations

from torch import Tensor

from .restore import Restoration

# sigma_hat is in units of the latents' own spread, which is about 1
GRADES = ((0.15, "barely"), (0.3, "mildly"), (0.5, "clearly"), (0.8, "heavily"))


def grade(sigma_hat: float) -> str:
    """A word for a severity: barely, mildly, clearly, heavily or almost beyond recognition."""
    return next((word for limit, word in GRADES if sigma_hat < limit), "almost beyond recognition")


def describe_restoration(result: Restoration, sigmas: Tensor) -> str:
    """One sentence on the first photo of a restoration."""
    seconds = f"{result.seconds:.1f} s"
    if result.severity is None:
        return f"restored from pure noise in {int(result.steps[0])} steps, {seconds}"
    sigma_hat = float(result.severity.sigma_hat[0])
    return (
        f"this photo is {grade(sigma_hat)} damaged (severity {sigma_hat:.2f}); {int(result.steps[0])} steps where "
        f"pure noise takes {len(sigmas)}, {seconds}"
    )
