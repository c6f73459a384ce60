"""How a severity encoder is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import AdaptDiffuseError
from .encoder import HeadName
from .losses import LossName

Architecture = Literal["encoder-copy", "refiner"]


@dataclass(frozen=True)
class TrainingSettings:
    """How a severity encoder is trained.

    Attributes:
        steps: number of optimiser steps; the learning rate falls along a cosine to their end.
        batch: photos per step.
        learning_rate: of Adam at its highest; the paper uses 1e-4 for 80 000 steps of 32.
        size: side of the random crops, in pixels.
        head: "log-sigma" or "paper"; of an encoder copy.
        loss: "nll" (calibrated) or "paper".
        lambda_sigma, lambda_image: weights of the sigma term and of an image-space term through the decoder.
        average: decay of the running average of the weights that is saved.
        validate_every: steps between validations, each of which saves the checkpoint.
        seed: of crops, degradations and noise.
        architecture: "encoder-copy", or "refiner" of the frozen encoding.
        photo, width: of a refiner, see SeverityRefiner.
        reuse: of a refiner: optimiser steps per freshly encoded batch, because encoding costs more than learning; each
            step draws from the latest batches. 1 sees every crop once.
    """

    steps: int = 2000
    batch: int = 16
    learning_rate: float = 3e-4
    size: int = 128
    head: HeadName = "log-sigma"
    loss: LossName = "nll"
    lambda_sigma: float = 0.1
    lambda_image: float = 0.0
    average: float = 0.995
    validate_every: int = 500
    seed: int = 0
    architecture: Architecture = "encoder-copy"
    photo: bool = True
    width: int = 96
    reuse: int = 4

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.size < 8 or self.validate_every < 1:
            raise AdaptDiffuseError("Steps, batch and validate-every must be at least 1, the crop size at least 8.")
        if self.reuse < 1:
            raise AdaptDiffuseError(f"A batch must be used at least once, not {self.reuse} times (reuse).")
        if not 0 < self.learning_rate < math.inf:
            raise AdaptDiffuseError(f"The learning rate must be a number above 0, not {self.learning_rate:g}.")
        if not (0 <= self.lambda_sigma < math.inf and 0 <= self.lambda_image < math.inf):
            raise AdaptDiffuseError("lambda-sigma and lambda-image must be numbers from 0 on.")


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """A short rise over 50 steps, then a cosine down to a fiftieth of the highest rate at the last step."""
    rise = min(1.0, (step + 1) / 50)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return settings.learning_rate * rise * max(0.02, fall)
