"""What the tool chooses by itself: the solver, and each solver's tuned step size."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import AdaptDiffuseError
from .solvers import LDPS, Solver

SOLVER_NAMES = ("default", "ldps")


@dataclass(frozen=True)
class Tuned:
    """A solver's step size from pure noise and from the adaptive start (Flash), tuned on training photos."""

    from_noise: float
    flash: float


# benchmarks/README.md has the command and the figures behind each number
TUNED: dict[tuple[str, str], Tuned] = {
    ("ldps", "gaussian-blur"): Tuned(from_noise=3.0, flash=6.0),
    ("ldps", "missing-pixels"): Tuned(from_noise=7.0, flash=8.0),
    ("ldps", "mask"): Tuned(from_noise=7.0, flash=8.0),
}


def make_solver(name: str, degradation: str, flash: bool = True, eta: float | None = None) -> Solver:
    """The solver ``name`` with the step size tuned for a degradation.

    "ldps" is Latent-DPS as published, with gradients through the denoiser. "default" is the tool's own choice:
    Latent-DPS with the posterior mean held fixed, which restores as well at about half the cost.

    Args:
        degradation: name in the registry of degradations.
        flash: started from the severity encoder's estimate; False from pure noise.
        eta: a step size that overrides the tuned one.

    Raises:
        AdaptDiffuseError: an unknown solver.
    """
    if name not in SOLVER_NAMES:
        raise AdaptDiffuseError(f"Unknown solver '{name}'; there are {', '.join(SOLVER_NAMES)}.")
    tuned = TUNED.get(("ldps", degradation), TUNED["ldps", "gaussian-blur"])
    step_size = eta if eta is not None else (tuned.flash if flash else tuned.from_noise)
    return LDPS(step_size, through="decoder" if name == "default" else "denoiser")
