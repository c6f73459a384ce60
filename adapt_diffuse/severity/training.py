"""Training a severity encoder: one loop for the command line and the node, and for both architectures."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import write_whole
from ..degradation.families import Family, family_to_json
from ..errors import AdaptDiffuseError
from ..photo_crops import PhotoCrops
from .checkpoint import AnySeverityEncoder, save_severity_encoder
from .evaluation import Judged, SeverityErrors, SeverityScores, errors_of, prepare
from .losses import LossTerms, nll_terms, paper_terms
from .ranks import Ranks
from .replay import Batch, BatchSource, Replay
from .settings import TrainingSettings, learning_rate
from .trainee import Trainee

__all__ = ["Progress", "SeverityTraining", "TrainingSettings", "learning_rate"]


@dataclass(frozen=True)
class Progress:
    """What a training tells while it runs. ``scores`` and ``errors`` are there after a validation."""

    step: int
    steps: int
    reconstruction: float
    sigma: float
    scores: SeverityScores | None
    errors: SeverityErrors | None = None


class SeverityTraining:
    """A training in progress: ``run`` it, save it, resume it.

    Args:
        trainee: the severity encoder, and what it needs of its autoencoder; see ``trainee_of`` and ``refiner_of``.
        family: the degradations to learn.
        train, validation: photos; validation photos are cut at their centre.
        settings: see TrainingSettings.
        out: safetensors file to write; the state to resume from is kept beside it until the training is complete.
        ranks: where several processes train together; the first one validates and writes.
    """

    def __init__(
        self,
        trainee: Trainee,
        family: Family,
        train: PhotoCrops,
        validation: Tensor,
        settings: TrainingSettings,
        out: Path,
        ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    ):
        if settings.lambda_image > 0 and trainee.decode is None:
            raise AdaptDiffuseError("The image-space term needs a decoder, which is not there: set lambda-image to 0.")
        self.trainee, self.encoder = trainee, trainee.encoder
        self.family, self.train, self.validation = family, train, validation
        self.settings, self.out, self.ranks = settings, out, ranks
        self.device = next(self.encoder.parameters()).device
        self.encoder.requires_grad_(True)
        self.averaged = copy.deepcopy(self.encoder).requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=settings.learning_rate)
        source = BatchSource(
            train, family, trainee.encode, trainee.refines, settings.lambda_image > 0, settings.batch, settings.seed,
            self.device,
        )  # fmt: skip
        # the pass of an encoder copy costs more than encoding does
        reuse = settings.reuse if trainee.refines else 1
        self.batches = Replay(source, reuse, settings.seed, ranks.index, ranks.count)
        self.judged: list[Judged] | None = None  # the validation photos, encoded
        self.step = 0
        self.whole = True  # False while weights, averages and step belong to different steps
        self.errors: SeverityErrors | None = None
        self.scores: SeverityScores | None = None
        self.seconds = 0.0

    @property
    def state_file(self) -> Path:
        return self.out.with_suffix(".state.pt")

    def begin_with(self, other: AnySeverityEncoder) -> None:
        """Take over the weights of another encoder of this architecture, as far as they fit.

        Between latent spaces all but the first and the last layers do.

        Raises:
            AdaptDiffuseError: none fits.
        """
        theirs, ours = other.state_dict(), self.encoder.state_dict()
        fitting = {name: value for name, value in theirs.items() if name in ours and value.shape == ours[name].shape}
        if not fitting:
            raise AdaptDiffuseError("The severity encoder to begin with is of another architecture: none of it fits.")
        self.encoder.load_state_dict(fitting, strict=False)
        self.averaged.load_state_dict(fitting, strict=False)

    def run(self, progress: Callable[[Progress], None]) -> AnySeverityEncoder:
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
                scores, errors = (self.scores, self.errors) if validated else (None, None)
                progress(Progress(self.step, self.settings.steps, *means, scores, errors))
            if self.scores is None:  # resumed from an interrupt in the last validation
                self.save()
        except BaseException:
            if self.whole:  # else the last state on disk is the one to go on from
                self.save_state()
            raise
        if self.ranks.main:
            self.state_file.unlink(missing_ok=True)
        return self.averaged

    def _one_step(self) -> LossTerms:
        settings = self.settings
        batch = self.batches(self.step).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        terms, loss = self._loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        total = loss.detach().clone()
        gradients = [weight.grad for weight in self.encoder.parameters() if weight.grad is not None]
        self.ranks.average([total, *gradients])
        if not bool(torch.isfinite(total)):
            raise AdaptDiffuseError(f"The training diverged at step {self.step}: use a lower learning rate.")
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.whole = False
        self.optimizer.step()
        decay = min(settings.average, (1 + self.step) / (10 + self.step))
        for average, current in zip(self.averaged.parameters(), self.encoder.parameters(), strict=True):
            average.lerp_(current.detach(), 1 - decay)
        self.step += 1
        self.whole = True
        return terms

    def _loss(self, batch: Batch) -> tuple[LossTerms, Tensor]:
        settings = self.settings
        z_hat, sigma_hat = self.trainee.estimate(batch)
        paper = settings.loss == "paper"
        terms = paper_terms(z_hat, sigma_hat**2, batch.z0) if paper else nll_terms(z_hat, sigma_hat, batch.z0)
        loss = (terms.reconstruction + settings.lambda_sigma * terms.sigma).mean()
        if batch.photos is not None and self.trainee.decode is not None:
            error = self.trainee.decode(z_hat) - (batch.photos * 2 - 1)
            loss = loss + settings.lambda_image * error.square().mean()
        return terms, loss

    def save(self) -> None:
        """Validate the averaged weights, write the checkpoint and the state to resume from."""
        if not self.ranks.main:
            return
        if self.judged is None:
            refines = self.trainee.refines
            self.judged = prepare(self.trainee.encode, self.family, self.validation, 1, self.device, refines)
        self.errors = errors_of(self.averaged, self.judged)
        self.scores = self.errors.scores()
        notes = {
            "family": family_to_json(self.family),
            "training": {**asdict(self.settings), "step": self.step, "photos": len(self.train)},
            "validation": {"photos": len(self.validation), **asdict(self.scores)},
        }
        save_severity_encoder(self.out, self.averaged, self.trainee.autoencoder_config, notes)
        self.save_state()

    def save_state(self) -> None:
        if not self.ranks.main:
            return
        state = {
            **self._identity(),
            "step": self.step,
            "seconds": self.seconds,
            "encoder": self.encoder.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_whole(self.state_file, lambda partial: torch.save(state, partial))

    def _identity(self) -> dict[str, Any]:
        """What two trainings have in common when one can go on from the other's state."""
        return {
            "settings": {**asdict(self.settings), "steps": 0},  # more of them may be asked for
            "family": family_to_json(self.family),
            "space": self.encoder.space.to_json(),
            "photos": self.train.digest,
            "ranks": self.ranks.count,
        }

    def resume(self) -> bool:
        """Go on from ``state_file`` where there is one. Every draw follows from the step, so nothing is repeated.

        Raises:
            AdaptDiffuseError: the state is damaged, or of another training (only ``steps`` may differ).
        """
        if not self.state_file.exists():
            return False
        try:
            state = torch.load(self.state_file, map_location=self.device, weights_only=True)
            different = [key for key, value in self._identity().items() if state[key] != value]
        except Exception as error:
            raise AdaptDiffuseError(
                f"{self.state_file} cannot be resumed from ({type(error).__name__}); delete it to start anew."
            ) from error
        if different:
            names = {"space": "latent space", "photos": "photos", "ranks": "number of processes"}
            what = names.get(different[0], "settings")
            raise AdaptDiffuseError(
                f"{self.state_file} belongs to a training with other {what}; use its {what}, write to another "
                "file, or delete it to start anew."
            )
        self.encoder.load_state_dict(state["encoder"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        return True
