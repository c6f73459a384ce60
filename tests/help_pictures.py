"""Make the pictures of the help pages, from the bundled weights and the sample photo: what a knob does, in a row.

Those of the damage nodes show the photo damaged; those of solvers show the damaged photo, and what comes out of it with
too little, with what is right, and with too much.

python -m tests.help_pictures [part of a picture's name]
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adapt_diffuse.bundled import bundled_model, default_encoder
from adapt_diffuse.commands.demo import PHOTO, demo_photo
from adapt_diffuse.defaults import make_solver, start_settings
from adapt_diffuse.degradation import FAMILIES, Degradation, Fading, measure, parse_degradation
from adapt_diffuse.degradation.spec import degradation_name
from adapt_diffuse.estimate import describe_estimate, estimate_damage, load_estimator
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import centre_crop, read_photo, smaller
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.restore import Restoration, damage_generators, generators_for, restore
from adapt_diffuse.scratches import find_scratches
from adapt_diffuse.severity import load_severity_encoder
from adapt_diffuse.severity.calibration_photos import sample_views
from adapt_diffuse.severity.trainee import trainee_of
from adapt_diffuse.severity.training import Progress, SeverityTraining, TrainingSettings
from adapt_diffuse.sheet import before_after
from adapt_diffuse.start import StartSettings, flash_schedules

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "web" / "docs"
SMALL, FIVE, MIDDLE, FOUR = 128, 150, 160, 190  # sides of a panel; five and four of two are as wide as a page
PLOT = 640  # width
BYTES = 60_000
MARK, MARK_STRENGTH = torch.tensor([1.0, 0.1, 0.5]).reshape(1, 3, 1, 1), 0.75  # of a mask over a photo, as in the node

Columns = list[tuple[str, Tensor]]


def main(part: str = "") -> None:
    for name, picture in PICTURES.items():
        if part in name:
            sheet = picture()
            for quality in range(90, 40, -5):
                sheet.save(DOCS / f"{name}.jpg", quality=quality, optimize=True)
                if (size := (DOCS / f"{name}.jpg").stat().st_size) < BYTES:
                    break
            print(f"{name}: {sheet.width} x {sheet.height}, {size / 1000:.0f} kB at quality {quality}", flush=True)


@cache
def model() -> DiffusersPrior:
    return DiffusersPrior.load(bundled_model())


def flower(side: int) -> Tensor:
    return smaller(demo_photo(), side)


def damaged(photo: Tensor, damage: Degradation) -> Tensor:
    return measure(photo, damage, damage_generators(0, 1))


def restored(
    y: Tensor, damage: Degradation, family: str, solver: str = "default", start: Any = None, **numbers: Any
) -> Restoration:
    """``y`` restored by a solver with these numbers in place of the tuned ones.

    Args:
        family: name of the degradation, for the severity encoder.
        start: StartSettings; None takes the solver's.
    """
    chosen: Any = replace(make_solver(solver, damage), **numbers)  # type: ignore[type-var]
    encoder = load_severity_encoder(default_encoder(family))
    return restore(y, damage, model(), chosen, generators_for(0, 1), encoder, start or start_settings(solver))


def knob(
    solver: str,
    field: str,
    values: tuple[float, ...],
    words: str,
    spec: str,
    noise_std: float,
    start: StartSettings | None = None,
    **numbers: Any,
) -> Callable[[], Image.Image]:
    """The damaged photo, and what a solver makes of it at each of the values of one of its numbers.

    Args:
        field, words: the number's name in the solver, and in the node.
    """

    def draw() -> Image.Image:
        damage = parse_degradation(spec, noise_std)
        y = damaged(flower(SMALL), damage)
        columns: Columns = [("damaged", y)]
        for value in values:
            made = restored(y, damage, degradation_name(spec), solver, start, **{field: value}, **numbers)
            columns.append((f"{words} {value:g}", made.image))
        return before_after(columns)

    return draw


def film_damage() -> Image.Image:
    photo = flower(FIVE)
    columns: Columns = [("the photo", photo)]
    for words, numbers, noise_std in (
        ("fade 0.5", "fade=0.5,scratches=0,dust=0", 0),
        ("colour cast -0.7", "fade=0,cast=-0.7,scratches=0,dust=0", 0),
        ("scratches 5, dust 40", "fade=0,scratches=5,dust=40", 0),
        ("noise_std 0.1", "fade=0,scratches=0,dust=0", 0.1),
    ):
        columns.append((words, damaged(photo, parse_degradation(f"film-damage:{numbers}", noise_std))))
    return before_after(columns)


def scratched() -> Tensor:
    """The whole photo with light marks, strong ones and faint ones."""
    photo = read_photo(PHOTO)
    for seed, strength in ((1, 0.8), (2, 0.4)):
        marks = parse_degradation(f"film-damage:fade=0,scratches=7,dust=30,size=2.5,seed={seed}", 0)
        lost = 1 - marks.observed(torch.ones_like(photo))
        photo = photo + strength * lost * (0.95 - photo)
    return photo


def find_scratches_picture() -> Image.Image:
    photo = scratched()
    shown = [("scratched", photo)]
    for sensitivity in (0.3, 0.5, 0.7):
        mask = find_scratches(photo, sensitivity)
        shown.append((f"sensitivity {sensitivity}", photo + MARK_STRENGTH * mask * (MARK - photo)))
    return before_after([(words, smaller(centre_crop(one, 400), FOUR)) for words, one in shown])


def estimate_degradation() -> Image.Image:
    photo = flower(256)
    y = damaged(photo, parse_degradation("gaussian-blur:std=2|jpeg:quality=30", 0.03)).clamp(0, 1)
    found = estimate_damage(y, load_estimator())
    print(describe_estimate(found))
    made = restored(y, found.degradation(), "mixed").image
    again = damaged(made, found.degradation())
    return before_after([("unknown damage", y), ("restored, damaged as estimated", again), ("restored", made)])


def restore_photo() -> Image.Image:
    above, below, names = [], [], []
    for name, spec, noise_std in (
        ("blurred, noisy", "gaussian-blur:std=2.5", 0.05),
        ("three quarters lost", "missing-pixels:drop=0.75", 0.02),
        ("old print", "film-damage:fade=0.4,cast=0.5,scratches=5,dust=40", 0.03),
        ("four times smaller", "downscale:factor=4", 0.01),
    ):
        damage = parse_degradation(spec, noise_std)
        y = damaged(flower(MIDDLE), damage)
        above.append(torch.nn.functional.interpolate(y, (MIDDLE, MIDDLE), mode="nearest"))
        below.append(restored(y, damage, degradation_name(spec)).image)
        names.append(name)
    return before_after([(name, torch.cat(pair)) for name, *pair in zip(names, above, below, strict=True)])


def start_time() -> Image.Image:
    damage = parse_degradation("gaussian-blur:std=3", 0.05)
    encoder = load_severity_encoder(default_encoder("gaussian-blur"))
    severity = encoder.predict(damaged(flower(MIDDLE), damage), model().multiple, model().encode)
    starts, schedules = flash_schedules(severity.sigma_hat, model().sigmas, StartSettings())
    steps = [len(schedule) - 1 for schedule in schedules]
    picture: Image.Image = of_nodes("plot").schedule_plot(model().sigmas, starts.tolist(), steps)
    return picture.resize((PLOT, round(PLOT * picture.height / picture.width)), Image.Resampling.LANCZOS)


def train_severity() -> Image.Image:
    settings = TrainingSettings(
        400, batch=8, size=64, learning_rate=1e-3, architecture="refiner", width=32, validate_every=400, average=0.97
    )
    trainee = trainee_of(model().autoencoder, settings, torch.device("cpu"))
    photos, views = PhotoCrops([PHOTO], settings.size, max_side=320), sample_views(settings.size, settings.size)
    # what the plot reads of the node's Curve
    curve = types.SimpleNamespace(steps=[], reconstruction=[], errors=None)

    def note(now: Progress) -> None:
        curve.steps.append(now.step)
        curve.reconstruction.append(now.reconstruction)
        curve.errors = now.errors or curve.errors

    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        out = Path(folder) / "encoder.safetensors"
        SeverityTraining(trainee, FAMILIES["gaussian-blur"](), photos, views.repeat(4, 1, 1, 1), settings, out).run(note)
    picture: Image.Image = of_nodes("training_plot").training_picture(curve)
    return picture


def of_nodes(name: str) -> Any:
    """A module of ``nodes`` that draws; the package around it imports the host, which is not needed for that."""
    for package, folder in (("pack", ROOT), ("pack.nodes", ROOT / "nodes")):
        stand_in = types.ModuleType(package)
        stand_in.__path__ = [str(folder)]
        sys.modules[package] = stand_in
    return importlib.import_module(f"pack.nodes.{name}")


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "diffpir": knob("diffpir", "trust", (0.01, 1, 100), "trust", "missing-pixels:drop=0.7", 0.1),
    "latino": knob("latino", "trust", (0.01, 1, 100), "trust", "gaussian-blur:std=2", 0.03),
    "mpgd": knob("mpgd", "eta", (0, 6, 60), "step size", "gaussian-blur:std=3", 0.02),
    "dcdp": knob("dcdp", "iterations", (1, 5, 30), "iterations", "missing-pixels:drop=0.7", 0.05),
    "start-time": start_time,
    "train-severity": train_severity,
    "film-damage": film_damage,
    "find-scratches": find_scratches_picture,
    "estimate-degradation": estimate_degradation,
    "restore-photo": restore_photo,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
