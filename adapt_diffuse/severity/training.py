"""Training a severity encoder: one loop for the command line and, later, for nodes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..autoencoder import LatentEncoder, encode_raw, latent_space_of
from ..checkpoints import write_whole
from ..degradation import measure
from ..degradation.families import Family, family_to_json
from ..errors import AdaptDiffuseError
from ..photo_crops import PhotoCrops
from .checkpoint import save_severity_encoder
from .encoder import HeadName, SeverityEncoder
from .evaluation import SeverityScores, evaluate
from .losses import LossName, LossTerms, nll_terms, paper_terms


@dataclass(frozen=True)
class TrainingSettings:
    """How a severity encoder is trained.

    Attributes:
        steps: number of optimiser steps; the learning rate falls along a cosine to their end.
        batch: photos per step.
        learning_rate: of Adam at its highest; the paper uses 1e-4 for 80 000 steps of 32.
        size: side of the random crops, in pixels.
        head: "log-sigma" or "paper".
        loss: "nll" (calibrated) or "paper".
        lambda_sigma, lambda_image: weights of the sigma term and of an image-space term through the decoder.
        average: decay of the running average of the weights that is saved.
        validate_every: steps between validations, each of which saves the checkpoint.
        seed: of crops, degradations and noise.
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

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.size < 8 or self.validate_every < 1:
            raise AdaptDiffuseError("Steps, batch and validate-every must be at least 1, the crop size at least 8.")
        if not 0 < self.learning_rate < math.inf:
            raise AdaptDiffuseError(f"The learning rate must be a number above 0, not {self.learning_rate:g}.")
        if not (0 <= self.lambda_sigma < math.inf and 0 <= self.lambda_image < math.inf):
            raise AdaptDiffuseError("lambda-sigma and lambda-image must be numbers from 0 on.")


@dataclass(frozen=True)
class Progress:
    """What a training tells while it runs. ``scores`` is there after a validation."""

    step: int
    steps: int
    reconstruction: float
    sigma: float
    scores: SeverityScores | None


class SeverityTraining:
    """A training in progress: ``run`` it, save it, resume it.

    Args:
        autoencoder: a diffusers autoencoder, frozen; its encoder is copied.
        family: the degradations to learn.
        train, validation: photos; validation photos are cut at their centre.
        settings: see TrainingSettings.
        out: safetensors file to write; the state to resume from is kept beside it until the training is complete.
        device: "cpu", "cuda", ...
    """

    def __init__(
        self,
        autoencoder: Any,
        family: Family,
        train: PhotoCrops,
        validation: Tensor,
        settings: TrainingSettings,
        out: Path,
        device: torch.device,
    ):
        # convolutions of few channels run up to twice as fast on a CPU with the channels last
        self.autoencoder = autoencoder.to(device, memory_format=torch.channels_last)
        self.family, self.train, self.validation = family, train, validation
        self.settings, self.out, self.device = settings, out, device
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)  # the head's first weights; CUDA generators stay
            copied = LatentEncoder(copy.deepcopy(autoencoder)).requires_grad_(True)
            space = latent_space_of(autoencoder)
            if settings.size % space.factor:
                raise AdaptDiffuseError(f"The crop size must be a multiple of {space.factor}, not {settings.size}.")
            self.encoder = SeverityEncoder(copied, space, settings.head)
            self.encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.encoder).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=settings.learning_rate)
        self.generator = torch.Generator()
        self.step = 0
        self.whole = True  # False while weights, averages and step belong to different steps
        self.scores: SeverityScores | None = None
        self.seconds = 0.0

    @property
    def state_file(self) -> Path:
        return self.out.with_suffix(".state.pt")

    def run(self, progress: Callable[[Progress], None]) -> SeverityEncoder:
        """Train to the end, telling ``progress`` after each step; an exception from it, or Ctrl-C, keeps the state."""
        begin = time.monotonic() - self.seconds
        try:
            while self.step < self.settings.steps:
                terms = self._one_step()
                self.seconds = time.monotonic() - begin
                last = self.step == self.settings.steps
                validated = last or self.step % self.settings.validate_every == 0
                if validated:
                    self.save()
                means = (float(terms.reconstruction.detach().mean()), float(terms.sigma.detach().mean()))
                progress(Progress(self.step, self.settings.steps, *means, self.scores if validated else None))
            if self.scores is None:  # resumed from an interrupt in the last validation
                self.save()
        except BaseException:
            if self.whole:  # else the last state on disk is the one to go on from
                self.save_state()
            raise
        self.state_file.unlink(missing_ok=True)
        return self.averaged

    def _one_step(self) -> LossTerms:
        settings = self.settings
        rng = np.random.default_rng((settings.seed, self.step))
        photos = self.train.random(settings.batch, rng).to(self.device)
        self.generator.manual_seed(int(rng.integers(2**62)))
        count, channels, height, width = photos.shape
        degradation, _ = self.family.sample((count, channels, height, width), self.generator)
        damaged = measure(photos, degradation, self.generator)
        with torch.no_grad():
            z0 = self.encoder.space.from_raw(encode_raw(self.autoencoder, photos * 2 - 1))

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        z_hat, sigma_hat = self.encoder(damaged)
        paper = settings.loss == "paper"
        terms = paper_terms(z_hat, sigma_hat**2, z0) if paper else nll_terms(z_hat, sigma_hat, z0)
        loss = (terms.reconstruction + settings.lambda_sigma * terms.sigma).mean()
        if settings.lambda_image > 0:
            loss = loss + settings.lambda_image * self._image_error(z_hat, photos)
        if not bool(torch.isfinite(loss)):
            raise AdaptDiffuseError(f"The training diverged at step {self.step}: use a lower learning rate.")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.whole = False
        self.optimizer.step()
        decay = min(settings.average, (1 + self.step) / (10 + self.step))
        for average, current in zip(self.averaged.parameters(), self.encoder.parameters(), strict=True):
            average.lerp_(current.detach(), 1 - decay)
        self.step += 1
        self.whole = True
        return terms

    def _image_error(self, z_hat: Tensor, photos: Tensor) -> Tensor:
        image = self.autoencoder.decode(self.encoder.space.to_raw(z_hat)).sample
        return (image - (photos * 2 - 1)).square().mean()

    def save(self) -> None:
        """Validate the averaged weights, write the checkpoint and the state to resume from."""
        self.scores = evaluate(self.averaged, self.autoencoder, self.family, self.validation, seed=1)
        notes = {
            "family": family_to_json(self.family),
            "training": {**asdict(self.settings), "step": self.step, "photos": len(self.train)},
            "validation": {"photos": len(self.validation), **asdict(self.scores)},
        }
        config = {**self.autoencoder.config, "_class_name": type(self.autoencoder).__name__}
        save_severity_encoder(self.out, self.averaged, config, notes)
        self.save_state()

    def save_state(self) -> None:
        state = {
            "settings": asdict(self.settings),
            "family": family_to_json(self.family),
            "space": self.encoder.space.to_json(),
            "step": self.step,
            "seconds": self.seconds,
            "encoder": self.encoder.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_whole(self.state_file, lambda partial: torch.save(state, partial))

    def resume(self) -> bool:
        """Go on from ``state_file`` where there is one. Every draw follows from the step, so nothing is repeated.

        Raises:
            AdaptDiffuseError: the state is damaged, or of another training (only ``steps`` may differ).
        """
        if not self.state_file.exists():
            return False
        try:
            state = torch.load(self.state_file, map_location=self.device, weights_only=True)
            same = {**state["settings"], "steps": 0} == {**asdict(self.settings), "steps": 0}
            same = same and state["family"] == family_to_json(self.family)
            same = same and state["space"] == self.encoder.space.to_json()
        except Exception as error:
            raise AdaptDiffuseError(
                f"{self.state_file} cannot be resumed from ({type(error).__name__}); delete it to start anew."
            ) from error
        if not same:
            raise AdaptDiffuseError(
                f"{self.state_file} belongs to a training with other settings; use its settings, another --out, "
                "or delete it to start anew."
            )
        self.encoder.load_state_dict(state["encoder"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """A short rise over 50 steps, then a cosine down to a fiftieth of the highest rate at the last step."""
    rise = min(1.0, (step + 1) / 50)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return settings.learning_rate * rise * max(0.02, fall)
