"""Guided solvers: one file each, behind one interface."""

from .base import Solver, State, ddim_step, solve
from .dps import DPS
from .gml_dps import GMLDPS
from .ldps import LDPS
from .psld import PSLD
from .resample import ReSample

SOLVERS = {"ldps": LDPS, "gml-dps": GMLDPS, "psld": PSLD, "resample": ReSample, "dps": DPS}

__all__ = ["DPS", "GMLDPS", "LDPS", "PSLD", "SOLVERS", "ReSample", "Solver", "State", "ddim_step", "solve"]
