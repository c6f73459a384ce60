"""What the tool chooses by itself: the solver, each solver's numbers, and how many levels it walks."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import AdaptDiffuseError
from .guidance import Through
from .solvers import DPS, GMLDPS, LDPS, PSLD, ReSample, Solver

SOLVER_NAMES = ("default", "ldps", "gml-dps", "psld", "resample", "dps")
# of the model's 1000; solvers that are not named walk all of them
LEVELS = {"resample": 500}


@dataclass(frozen=True)
class Tuned:
    """A solver's numbers for one kind of degradation.

    Attributes:
        from_noise, flash: the step size (gamma_r of ReSample) from pure noise, and from the adaptive start.
        gamma: weight of the solver's own term.
    """

    from_noise: float
    flash: float
    gamma: float = 0.0


# benchmarks/README.md has the command and the figures behind each number
TUNED: dict[tuple[str, str], Tuned] = {
    ("ldps", "blur"): Tuned(from_noise=4.0, flash=6.0),
    ("ldps", "missing"): Tuned(from_noise=8.0, flash=8.0),
    ("gml-dps", "blur"): Tuned(from_noise=3.0, flash=6.0, gamma=0.05),
    ("gml-dps", "missing"): Tuned(from_noise=10.0, flash=8.0, gamma=0.05),
    ("psld", "blur"): Tuned(from_noise=2.0, flash=6.0, gamma=0.2),
    ("psld", "missing"): Tuned(from_noise=10.0, flash=8.0, gamma=0.5),
    ("resample", "blur"): Tuned(from_noise=400.0, flash=400.0),
    ("resample", "missing"): Tuned(from_noise=200.0, flash=200.0),
    ("dps", "blur"): Tuned(from_noise=1.0, flash=1.0),
    ("dps", "missing"): Tuned(from_noise=1.0, flash=1.0),
}


def kind_of(degradation: str) -> str:
    """Which row of numbers holds: "missing" where pixels are lost, "blur" for every other degradation."""
    return "missing" if degradation in ("missing-pixels", "missing-box", "mask") else "blur"


def make_solver(
    name: str,
    degradation: str,
    flash: bool = True,
    eta: float | None = None,
    gamma: float | None = None,
    through: Through = "decoder",
) -> Solver:
    """The solver ``name`` with the numbers tuned for a degradation.

    "default" is the tool's own choice: Latent-DPS.

    Args:
        degradation: name in the registry of degradations.
        flash: started from the severity encoder's estimate; False from pure noise.
        eta, gamma: numbers that override the tuned ones. ReSample has no eta, Latent-DPS and DPS have no gamma.
        through: what is differentiated. "decoder" holds the posterior mean fixed: it restores as well at about half
            the cost, and works with every model. "denoiser" is the published form. ReSample knows only the first.

    Raises:
        AdaptDiffuseError: an unknown solver, or a number that it does not have.
    """
    if name not in SOLVER_NAMES:
        raise AdaptDiffuseError(f"Unknown solver '{name}'; there are {', '.join(SOLVER_NAMES)}.")
    numbers = TUNED["ldps" if name == "default" else name, kind_of(degradation)]
    tuned = numbers.flash if flash else numbers.from_noise
    if name == "resample":
        if eta is not None:
            raise AdaptDiffuseError("The solver resample has no eta: its strength is gamma.")
        return ReSample(gamma=tuned if gamma is None else gamma)
    step_size = tuned if eta is None else eta
    weight = numbers.gamma if gamma is None else gamma
    if name == "gml-dps":
        return GMLDPS(step_size, weight, through)
    if name == "psld":
        return PSLD(step_size, weight, through)
    if gamma is not None:
        raise AdaptDiffuseError(f"The solver {name} has no gamma.")
    if name == "dps":
        return DPS(step_size, through)
    return LDPS(step_size, through)
