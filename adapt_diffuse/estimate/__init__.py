"""What happened to an unknown photo: blur, scale, JPEG and noise, estimated from its pixels alone."""

from .caution import cautious, doubted
from .checkpoint import load_estimator
from .damage import Damage
from .estimate import Estimate, estimate_damage
from .network import DamageEstimator
from .refine import refine
from .report import describe_estimate

__all__ = [
    "Damage",
    "DamageEstimator",
    "Estimate",
    "cautious",
    "describe_estimate",
    "doubted",
    "estimate_damage",
    "load_estimator",
    "refine",
]
