"""What the tool chooses by itself: the solver, each solver's numbers, and how many steps it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .degradation import Degradation, LinearDegradation, Noise, loses_pixels, steps_of
from .degradation.base import require_linear
from .errors import AdaptDiffuseError
from .guidance import Through
from .solvers import SOLVERS, Solver
from .solvers.decoupled import DecoupledSolver
from .start import StartSettings

SOLVER_NAMES = ("default", *SOLVERS)
# of the model's 1000; solvers that are not named walk all of them
LEVELS = {"resample": 500}
# solvers that fit the estimate itself take steps this dense, from this much noise
PER_OCTAVE = 2.0
BENT_PER_OCTAVE = 3.0  # where damage is not linear, and a fit goes less far
NOISE_CORRECTION = 0.5
LINEAR_ONLY = ("psld", "latino")
BENT = 5  # iterations of DiffPIR where damage is not linear, and a line search goes less far


@dataclass(frozen=True)
class Tuned:
    """A solver's numbers for one kind of degradation.

    Attributes:
        from_noise, flash: the strength of its pull to the photo, from pure noise and from the adaptive start: eta,
            of ReSample gamma_r.
        gamma: weight of the solver's own term.
    """

    from_noise: float
    flash: float
    gamma: float = 0.0


# benchmarks/README.md has the command and the figures behind each number; solvers that are not named need none
TUNED: dict[tuple[str, str], Tuned] = {
    ("ldps", "blur"): Tuned(from_noise=2.0, flash=6.0),
    ("ldps", "missing"): Tuned(from_noise=8.0, flash=8.0),
    ("gml-dps", "blur"): Tuned(from_noise=2.0, flash=6.0, gamma=0.05),
    ("gml-dps", "missing"): Tuned(from_noise=8.0, flash=8.0, gamma=0.05),
    ("psld", "blur"): Tuned(from_noise=2.0, flash=6.0, gamma=0.2),
    ("psld", "missing"): Tuned(from_noise=8.0, flash=8.0, gamma=0.5),
    ("resample", "blur"): Tuned(from_noise=1600.0, flash=1600.0),
    ("resample", "missing"): Tuned(from_noise=800.0, flash=800.0),
    ("dps", "blur"): Tuned(from_noise=1.0, flash=1.0),
    ("dps", "missing"): Tuned(from_noise=1.0, flash=1.0),
    ("mpgd", "blur"): Tuned(from_noise=12.0, flash=12.0),
    ("mpgd", "missing"): Tuned(from_noise=48.0, flash=48.0),
    ("flow-dps", "blur"): Tuned(from_noise=32.0, flash=32.0),
    ("flow-dps", "missing"): Tuned(from_noise=64.0, flash=64.0),
}


def kind_of(degradation: Degradation) -> str:
    """Which row of numbers holds: "missing" where pixels are unobserved, "blur" for every other degradation.

    The photos of a batch share their numbers, those of "blur" unless all of them lose pixels: the steps of "missing"
    are larger, and would diverge on the others.
    """
    return "missing" if all(loses_pixels(steps) for steps in steps_of(degradation)) else "blur"


def default_solver(degradation: Degradation) -> str:
    """The name of the solver that restores best for its cost (benchmarks/README.md, the frontier).

    LATINO where the photo's damage is linear; lost pixels, noise alone and other damage want the gradient of DiffPIR.

    The photos of a batch share their solver: LATINO only where each of them would get it alone, else DiffPIR, which
    restores after every kind of damage. Photos that want different solvers are restored best in batches of their own.
    """
    return "latino" if all(_direct(steps) for steps in steps_of(degradation)) else "diffpir"


def _direct(steps: tuple[Degradation, ...]) -> bool:
    """Whether the damage of one photo is undone by a proximal step in pixels."""
    linear = all(isinstance(step, LinearDegradation) for step in steps)
    return linear and not loses_pixels(steps) and not isinstance(steps[-1], Noise)


def make_solver(
    name: str,
    degradation: Degradation,
    flash: bool = True,
    eta: float | None = None,
    gamma: float | None = None,
    through: Through = "decoder",
) -> Solver:
    """The solver ``name`` with the numbers tuned for a degradation.

    "default" is the tool's own choice, see ``default_solver``.

    Args:
        flash: started from the severity encoder's estimate; False from pure noise.
        eta, gamma: numbers that override the tuned ones, of the solvers that have them.
        through: what is differentiated, of the solvers that can choose. "decoder" holds the posterior mean fixed: it
            restores as well at about half the cost, and works with every model. "denoiser" is the published form.

    Raises:
        AdaptDiffuseError: an unknown solver, a number that it does not have, or damage that it cannot undo.
    """
    if name not in SOLVER_NAMES:
        raise AdaptDiffuseError(f"Unknown solver '{name}'; there are {', '.join(SOLVER_NAMES)}.")
    kind = default_solver(degradation) if name == "default" else name
    if kind in LINEAR_ONLY:
        require_linear(degradation, kind.upper())  # now, not after the first step
    solver: Any = SOLVERS[kind]()
    numbers: dict[str, Any] = {"through": through} if "through" in fields_of(solver) else {}
    if kind == "diffpir" and not isinstance(degradation, LinearDegradation):
        numbers["iterations"] = BENT
    if tuned := TUNED.get((kind, kind_of(degradation))):
        strength = tuned.flash if flash else tuned.from_noise
        numbers |= {"eta": strength, "gamma": tuned.gamma} if "eta" in fields_of(solver) else {"gamma": strength}
    for number, value in (("eta", eta), ("gamma", gamma)):
        if value is not None and number not in fields_of(solver):
            raise AdaptDiffuseError(f"The solver {name} has no {number}.")
        if value is not None:
            numbers[number] = value
    return replace(solver, **{number: value for number, value in numbers.items() if number in fields_of(solver)})


def fields_of(solver: Any) -> tuple[str, ...]:
    """The names of a solver's numbers."""
    return tuple(solver.__dataclass_fields__)


def stronger(solver: Any, factor: float) -> Solver:
    """``solver`` with its pull to the photo times ``factor``."""
    if "eta" in fields_of(solver):
        return replace(solver, eta=factor * solver.eta)
    if "gamma" in fields_of(solver):
        return replace(solver, gamma=factor * solver.gamma)
    if "trust" in fields_of(solver):  # a variance, where the others are lengths
        return replace(solver, trust=solver.trust / factor**2)
    return replace(solver, tau=solver.tau / factor)


def start_settings(solver: str, steps: int = 0, degradation: Degradation | None = None) -> StartSettings:
    """The start of the solver of that name, and how densely it runs from there.

    Args:
        steps: number of steps; 0 leaves it to the solver.
        degradation: that is to be undone; None is a linear one.
    """
    if solver != "default" and not issubclass(SOLVERS[solver], DecoupledSolver):
        return StartSettings(steps=steps, levels=LEVELS.get(solver, 0))
    bent = degradation is not None and not isinstance(degradation, LinearDegradation)
    density = BENT_PER_OCTAVE if bent else PER_OCTAVE
    return StartSettings(noise_correction=NOISE_CORRECTION, steps=steps, per_octave=density)
