"""Guided solvers: one file each, behind one interface."""

from .base import Solver, ancestral_step, solve
from .ldps import LDPS

SOLVERS = {"ldps": LDPS}

__all__ = ["LDPS", "SOLVERS", "Solver", "ancestral_step", "solve"]
