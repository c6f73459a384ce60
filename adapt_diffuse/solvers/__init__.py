"""Guided solvers: one file each, behind one interface."""

from .base import Solver, State, ddim_step, solve
from .dcdp import DCDP
from .diffpir import LatentDiffPIR
from .dps import DPS
from .flow_dps import FlowDPS
from .gml_dps import GMLDPS
from .latent_daps import LatentDAPS
from .latino import LATINO
from .ldps import LDPS
from .mpgd import MPGD
from .psld import PSLD
from .resample import ReSample

SOLVERS = {
    "ldps": LDPS,
    "gml-dps": GMLDPS,
    "psld": PSLD,
    "resample": ReSample,
    "dps": DPS,
    "diffpir": LatentDiffPIR,
    "latino": LATINO,
    "mpgd": MPGD,
    "flow-dps": FlowDPS,
    "latent-daps": LatentDAPS,
    "dcdp": DCDP,
}

__all__ = [
    "DCDP",
    "DPS",
    "GMLDPS",
    "LATINO",
    "LDPS",
    "MPGD",
    "PSLD",
    "SOLVERS",
    "FlowDPS",
    "LatentDAPS",
    "LatentDiffPIR",
    "ReSample",
    "Solver",
    "State",
    "ddim_step",
    "solve",
]
