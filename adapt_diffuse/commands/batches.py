"""Photos of one size restored together, each as it would be alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..borders import Borders
from ..cost import Cost
from ..degradation import Degradation
from ..errors import AdaptDiffuseError
from ..feasible import check_feasible
from ..finish import KnownPixels, finished
from ..hosts.diffusers import DiffusersPrior
from ..images import fitted_size, from_head, on_scale, read_photo, smaller
from ..measurement import Measurement
from ..memory import LocalMachine, out_of_memory
from ..noise_check import misfit, unsaid_noise
from ..restore import Restoration, generators_for, restore
from ..severity import SeverityModel
from ..solvers import Solver
from ..start import StartSettings

ORIENTATION, TURNED = 0x0112, range(5, 9)  # EXIF: these swap height and width
MOST_PHOTOS = 8  # at once; more is hardly faster, and Ctrl-C loses those under way
CPU_PIXELS = 2**18  # at once on a CPU, where a batch saves little time
GPU_BYTES_PER_PIXEL = 2**15  # of a large autoencoder's decoder with its gradient

EncoderFor = Callable[[tuple[int, int], Degradation], SeverityModel]


@dataclass(frozen=True)
class Job:
    """One photo on disk.

    Attributes:
        index: its place among all photos; it draws the numbers of the seed plus that.
        photo, target: the damaged one, and the file for the restored one.
    """

    index: int
    photo: Path
    target: Path


@dataclass(frozen=True)
class Recipe:
    """What is done to every photo.

    Attributes:
        encoder: the severity encoder for photos of a (height, width) after a degradation.
        seed: of the first photo.
        max_side: larger photos are reduced until their longer side has so many pixels; 0 leaves them as they are.
        known_pixels, detail: see ``finish.finished``.
    """

    degradation: Degradation
    prior: DiffusersPrior
    solver: Solver
    encoder: EncoderFor
    start: StartSettings
    seed: int
    max_side: int = 0
    known_pixels: KnownPixels = "auto"
    detail: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """A photo's place in the restoration of its batch, or why there is none; its ``unsaid_noise`` and ``misfit``.

    Attributes:
        borders: of this photo alone; the result has it filled.
    """

    job: Job
    result: Restoration | None = None
    place: int = 0
    error: AdaptDiffuseError | None = None
    unsaid: float = 0.0
    misfit: float = 0.0
    borders: Borders | None = None

    def image(self) -> Tensor:
        """The restored photo (3, H, W) with its border, as it is to be seen."""
        assert self.result is not None
        image = self.result.image[self.place]
        return image if self.borders is None else self.borders.put_back(image[None])[0]


def batches_of(
    jobs: Sequence[Job], batch: int | None, degradation: Degradation, device: torch.device, max_side: int = 0
) -> list[list[Job]]:
    """The jobs by the size of their photos, ``batch`` at a time; None takes what the memory bears of their images.

    Photos are taken as large as ``max_side`` leaves them, see Recipe. Files that are no photos are alone: reading them
    says what they are.
    """
    groups: dict[tuple[int, ...], list[Job]] = {}
    for job in jobs:
        found = size_on_disk(job.photo)
        groups.setdefault(fitted_size(*found, max_side) if found else (job.index,), []).append(job)
    batches = []
    for size, group in groups.items():
        count = batch or (photos_at_once(degradation.image_size(*size), device) if len(size) == 2 else 1)
        batches += [group[first : first + count] for first in range(0, len(group), count)]
    return batches


def size_on_disk(path: Path) -> tuple[int, int] | None:
    """(height, width) of the upright photo, from the head of its file; None where that is no image."""

    def upright(file: Image.Image) -> tuple[int, int]:
        width, height = file.size
        return (width, height) if file.getexif().get(ORIENTATION) in TURNED else (height, width)

    return from_head(path, upright)


def photos_at_once(size: tuple[int, int], device: torch.device) -> int:
    """How many images of ``size``, that of the restored ones, go through together."""
    pixels = size[0] * size[1]
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return min(max(free // (GPU_BYTES_PER_PIXEL * pixels), 1), MOST_PHOTOS)
    return min(max(CPU_PIXELS // pixels, 1), MOST_PHOTOS)


def outcomes(jobs: Sequence[Job], recipe: Recipe) -> Iterator[Outcome]:
    """Restore photos of one size together; one that cannot be restored does not lose the others."""
    good: list[tuple[Job, Tensor]] = []
    for job in jobs:
        try:
            good.append((job, photo_for(job, recipe)))
        except Exception as error:
            yield Outcome(job, error=sentence_of(error))
    if good:
        yield from attempt(good, recipe)


def photo_for(job: Job, recipe: Recipe) -> Tensor:
    """The photo (1, 3, H, W), reduced where that is asked for. Raises AdaptDiffuseError where it cannot be restored."""
    size = size_on_disk(job.photo)
    if size is not None:
        size = fitted_size(*size, recipe.max_side)
        free = LocalMachine(recipe.prior.device).free()
        remedy = "Let it be made smaller first: --max-side {side}."
        check_feasible(*recipe.degradation.image_size(*size), max(size), free, remedy)
    photo = smaller(on_scale(read_photo(job.photo), job.photo), recipe.max_side).to(recipe.prior.device)
    Measurement.of(photo, recipe.degradation)
    return photo


def sentence_of(error: Exception) -> AdaptDiffuseError:
    """The sentence for an error that is about the user's photo or machine; any other is raised again."""
    if isinstance(error, AdaptDiffuseError):
        return error
    if out_of_memory(error):
        other = "use --device cpu" if isinstance(error, torch.cuda.OutOfMemoryError) else "close other programs"
        return AdaptDiffuseError(
            f"The memory does not hold this photo: make it smaller (restore has --max-side), or {other}."
        )
    raise error


def attempt(good: Sequence[tuple[Job, Tensor]], recipe: Recipe) -> Iterator[Outcome]:
    """Restore ``good`` together, or, where that fails, each half of them by itself."""
    jobs = [job for job, _ in good]
    error: AdaptDiffuseError | None = None
    try:
        generators = [generators_for(recipe.seed + job.index, 1)[0] for job in jobs]
        title = jobs[0].photo.name if len(jobs) == 1 else f"{len(jobs)} photos from {jobs[0].photo.name} on"
        photos = torch.cat([photo for _, photo in good])
        borders = Borders.of(photos, recipe.degradation)
        measurement = Measurement.of(photos if borders is None else borders.filled, recipe.degradation)
        result = restore_batch(measurement, recipe, generators, title)
        unsaid, missed = unsaid_noise(measurement), misfit(result.image.to(photos), measurement, recipe.detail)
    except Exception as reason:
        error = sentence_of(reason)
    if error is None:
        for place, job in enumerate(jobs):
            border = None if borders is None else borders.of_photo(place)
            yield Outcome(job, result, place, None, unsaid[place], missed[place], border)
    elif len(good) == 1:
        yield Outcome(jobs[0], error=error)
    else:
        middle = len(good) // 2
        yield from attempt(good[:middle], recipe)
        yield from attempt(good[middle:], recipe)


def restore_batch(
    measurement: Measurement, recipe: Recipe, generators: list[torch.Generator], title: str
) -> Restoration:
    """Restore the photos that were measured under a progress bar."""
    from tqdm import tqdm

    photo = measurement.y
    encoder = recipe.encoder((photo.shape[2], photo.shape[3]), recipe.degradation)
    with tqdm(desc=title, unit="step", leave=False, file=sys.stderr) as bar:

        def advance(step: int, steps: int, x: Tensor, z0: Tensor, sigma: Tensor) -> None:
            bar.total = steps
            bar.update(1)

        result = restore(
            photo, recipe.degradation, recipe.prior, recipe.solver, generators, encoder, recipe.start, advance
        )
    begin = time.monotonic()
    image = finished(result.image, measurement, recipe.detail, recipe.known_pixels)
    return replace(result, image=image, seconds=result.seconds + time.monotonic() - begin)


def cost_of(result: Restoration, place: int) -> Cost:
    """What one photo of a batch cost.

    Passes that come with every step are counted by the photo's own steps, the rest is shared evenly.
    """
    steps, count = int(result.steps.sum()), len(result.steps)
    shares = []
    for field in fields(Cost):
        total = getattr(result.cost, field.name)
        per_step = total // steps if steps else 0
        shares.append(per_step * int(result.steps[place]) + round((total - per_step * steps) / count))
    return Cost(*shares)


def seconds_of(result: Restoration, place: int) -> float:
    """The part of the batch's seconds that is a photo's, by its steps."""
    total = int(result.steps.sum())
    return result.seconds * (int(result.steps[place]) / total if total else 1 / len(result.steps))
