"""Training a severity encoder inside the host, with its progress bar, its previews and its Cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..degradation.families import Family
from ..errors import AdaptDiffuseError
from ..latent_space import LatentSpace
from ..photo_crops import PhotoCrops
from ..severity.evaluation import SeverityErrors
from ..severity.settings import TrainingSettings
from ..severity.trainee import refiner_of
from ..severity.training import Progress, SeverityTraining
from .comfy_encoder import HostSeverityEncoder, host_latent_space, raw_encode

NUMBERS_PER_CELL = 10_000  # that a refiner of the usual width keeps alive in training, per latent position; generous
PREVIEW_SECONDS, PREVIEW_SIDE = 1.0, 512


class Curve:
    """What a training has told so far: the error of each step, and what the last validation found."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.reconstruction: list[float] = []
        self.errors: SeverityErrors | None = None

    def add(self, now: Progress) -> None:
        self.steps.append(now.step)
        self.reconstruction.append(now.reconstruction)
        self.errors = now.errors or self.errors


def train_refiner(
    vae: Any,
    model: Any | None,
    family: Family,
    train: PhotoCrops,
    validation: Tensor,
    settings: TrainingSettings,
    out: Path,
    overwrite: bool,
    picture: Callable[[Curve], Any],
    say: Callable[[str], None],
) -> tuple[HostSeverityEncoder, Curve]:
    """Train a refiner of the host's ``vae``, or go on where the last training of these settings stopped.

    Args:
        model: the host's MODEL that the latents are for; None where the VAE knows their scale.
        train, validation, settings, out: see SeverityTraining.
        overwrite: whether ``out``, finished or not, may be replaced.
        picture: the preview, a PIL image, of a curve.
        say: shows a line of text in the node.

    Raises:
        AdaptDiffuseError: what cannot be trained, with the reason.
        InterruptProcessingException: the user's Cancel; the state is kept.
    """
    import comfy.model_management

    space = host_latent_space(vae, model)
    device = comfy.model_management.get_torch_device()
    cells = settings.batch * (settings.size // space.factor) ** 2
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=4 * NUMBERS_PER_CELL * cells)
    # nodes run in inference mode, where nothing learns
    with torch.inference_mode(False), torch.enable_grad():
        trainee = refiner_of(host_encode(vae, space, device), space, settings, device)
        training = SeverityTraining(trainee, family, train, validation, settings, out)
        begin(training, overwrite, say)
        curve = Curve()
        training.run(telling(curve, picture, say))
        curve.errors = training.errors
    return HostSeverityEncoder.load(out), curve


def host_encode(vae: Any, space: LatentSpace, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The host's encoding of images on [0, 1] in the model's scale, as ordinary tensors on ``device``."""
    raw = raw_encode(vae)

    def encode(image: Tensor) -> Tensor:
        with torch.inference_mode():  # the VAE's weights are the host's
            latent = raw(image)
        return space.from_raw(latent.clone().to(device, torch.float32))

    return encode


def begin(training: SeverityTraining, overwrite: bool, say: Callable[[str], None]) -> None:
    """Resume where there is something to resume from; refuse to replace what may not be replaced."""
    try:
        if training.resume():
            say(f"going on from step {training.step}")
            return
    except AdaptDiffuseError:
        if not overwrite:
            raise
        training.state_file.unlink(missing_ok=True)
    if training.out.exists() and not overwrite:
        raise AdaptDiffuseError(
            f"There is a severity encoder {training.out.name} already: load it, choose another name, or turn on "
            "'overwrite'."
        )


def telling(curve: Curve, picture: Callable[[Curve], Any], say: Callable[[str], None]) -> Callable[[Progress], None]:
    """What to do after each step: the bar, now and then the preview and a line of text; and Cancel."""
    import comfy.model_management
    import comfy.utils

    bar: list[Any] = []
    shown = [0.0]

    def progress(now: Progress) -> None:
        curve.add(now)
        if not bar:
            bar.append(comfy.utils.ProgressBar(now.steps))
        preview = None
        if now.errors is not None or time.monotonic() - shown[0] > PREVIEW_SECONDS:
            preview = ("JPEG", picture(curve), PREVIEW_SIDE)
            say(f"step {now.step} of {now.steps}, latent error {now.reconstruction**0.5:.3f}")
            shown[0] = time.monotonic()
        bar[0].update_absolute(now.step, now.steps, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return progress


def say_in_node(node: str | None) -> Callable[[str], None]:
    """Shows lines of text in the node of that id; nothing where there is no server."""

    def say(text: str) -> None:
        from server import PromptServer

        server = getattr(PromptServer, "instance", None)
        if server is not None and node is not None:
            server.send_progress_text(text, node)

    return say
