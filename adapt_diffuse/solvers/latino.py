"""LATINO's pattern: decode, prox in pixels, encode, renoise: no gradient (after Spagnoletti et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..degradation.prox import prox
from ..fit import anchor_weight, contrast
from ..measurement import Measurement
from ..prior import LatentPrior
from .base import State
from .decoupled import ChurnedSolver


@dataclass(frozen=True)
class LATINO(ChurnedSolver):
    """``z* = z0 + E(u*) - E(D(z0))`` with ``u* = prox(D(z0))`` of the data term, of linear damage.

    ``E(D(z0))`` is not z0; what the autoencoder loses on the way is taken out, for one more encoding. The prox weighs
    the photo's noise against the estimate's error: s of ``anchor_weight``, times the contrast of the image over that
    of its latent.

    Differs from the paper, which steps with a consistency model in a handful of levels, draws all noise anew and takes
    ``E(u*)`` as it is (``churn`` 1, ``correct`` False): here any model, its own noise kept, from the adaptive start.

    Attributes:
        trust: weight of the model; above 1 the model counts more, below 1 the photo.
        churn: see ChurnedSolver; 1 in the paper, which steps with consistency models.
        correct: False is the published ``z* = E(u*)``.
    """

    trust: float = 1.0
    churn: float = 0.0
    correct: bool = True

    def fit(self, state: State, z0: Tensor, sigma: Tensor, prior: LatentPrior, measurement: Measurement) -> Tensor:
        image = prior.guide.decode(z0)
        weight = anchor_weight(measurement, sigma, self.trust) / contrast(image, z0) ** 2
        fitted = prior.guide.encode(prox(measurement.degradation, image, measurement.y, weight))
        return z0 + fitted - prior.guide.encode(image) if self.correct else fitted
