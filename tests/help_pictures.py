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

from adapt_diffuse.autoencoder import encode_raw
from adapt_diffuse.bundled import bundled_encoders, bundled_model
from adapt_diffuse.commands.demo import PHOTO, demo_photo
from adapt_diffuse.defaults import make_solver, start_settings
from adapt_diffuse.degradation import FAMILIES, Degradation, measure, parse_degradation
from adapt_diffuse.estimate import describe_estimate, estimate_damage, load_estimator
from adapt_diffuse.finish import finished
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import centre_crop, read_photo, smaller
from adapt_diffuse.latent_space import test_pattern
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.restore import damage_generators, generators_for, restore
from adapt_diffuse.scratches import find_scratches
from adapt_diffuse.severity import Severity, SeverityModel, load_severity_encoder
from adapt_diffuse.severity.calibration import calibrate
from adapt_diffuse.severity.calibration_photos import calibration_size, sample_views
from adapt_diffuse.severity.choice import choose
from adapt_diffuse.severity.trainee import trainee_of
from adapt_diffuse.severity.training import Progress, SeverityTraining, TrainingSettings
from adapt_diffuse.sheet import before_after
from adapt_diffuse.start import StartSettings, flash_schedules

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "web" / "docs"
SMALL, FIVE, MIDDLE, FOUR = 128, 150, 160, 190  # sides of a panel; five and four of two are as wide as a page
PLOT, BYTES = 640, 58_000  # width of a plot, size of any
LOST, BLUR = "missing-pixels:drop=0.7", "gaussian-blur:std=2"
THIRTY = StartSettings(steps=30)
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


def restored(y: Tensor, damage: Degradation, solver: str = "default", start: Any = None, **numbers: Any) -> Tensor:
    """``y`` restored by a solver with these numbers in place of the tuned ones; ``start`` None takes the solver's."""
    chosen: Any = replace(make_solver(solver, damage), **numbers)  # type: ignore[type-var]
    settings = start or start_settings(solver)
    return restore(y, damage, model(), chosen, generators_for(0, 1), severity_model(damage, y), settings).image


def severity_model(damage: Degradation, y: Tensor) -> SeverityModel:
    """What Restore Photo takes for the photo ``y``: the bundled encoder that fits, else a calibration."""
    with torch.no_grad():
        latent = encode_raw(model().autoencoder, test_pattern() * 2 - 1)
    if found := choose(bundled_encoders().values(), latent, damage, y):
        return load_severity_encoder(found)
    views = sample_views(*calibration_size(damage, *damage.image_size(y.shape[2], y.shape[3])))
    return calibrate(views, damage, model().encode, model().multiple)


def knob(
    solver: str,
    field: str,
    values: tuple[float, ...],
    words: str,
    spec: str,
    noise_std: float,
    side: int = SMALL,
    start: StartSettings | None = None,
    **numbers: Any,
) -> Callable[[], Image.Image]:
    """The damaged photo, and what a solver makes of it at each of the values of one of its numbers.

    Args:
        field, words: the number's name in the solver, and in the node.
    """

    def draw() -> Image.Image:
        damage = parse_degradation(spec, noise_std)
        y = damaged(flower(side), damage)
        columns: Columns = [("damaged", y)]
        for value in values:
            columns.append((f"{words} {value:g}", restored(y, damage, solver, start, **{field: value}, **numbers)))
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
    shown = [("scratched", photo := scratched())]
    for sensitivity in (0.3, 0.5, 0.7):
        mask = find_scratches(photo, sensitivity)
        shown.append((f"sensitivity {sensitivity}", photo + MARK_STRENGTH * mask * (MARK - photo)))
    return before_after([(words, smaller(centre_crop(one, 400), FOUR)) for words, one in shown])


def kernel_blur() -> Image.Image:
    path = PHOTO.parent / "lens-spot.png"
    damage, disk = parse_degradation(f"kernel-blur:file={path}", 0.02), parse_degradation("lens-blur:radius=4", 0.02)
    shown = torch.nn.functional.interpolate(centre_crop(read_photo(path), 15), (FIVE, FIVE), mode="nearest")
    y = damaged(flower(FIVE), damage)
    columns: Columns = [("the kernel, enlarged", shown)]
    columns += [("blurred by it", y), ("restored with it", restored(y, damage)), ("with a disk", restored(y, disk))]
    return before_after(columns)


def lens_blur() -> Image.Image:
    y = damaged(flower(FIVE), parse_degradation("lens-blur:radius=4", 0.02))
    columns: Columns = [("damaged, radius 4", y)]
    for radius in (2.5, 4, 5.5):
        columns.append((f"radius {radius:g}", restored(y, parse_degradation(f"lens-blur:radius={radius}", 0.02))))
    return before_after(columns)


def estimate_degradation() -> Image.Image:
    y = damaged(flower(256), parse_degradation(f"{BLUR}|jpeg:quality=30", 0.03)).clamp(0, 1)
    found = estimate_damage(y, load_estimator())
    print(describe_estimate(found))
    damage = found.degradation()
    made = restored(y, damage)
    shown = [("unknown damage", y), ("restored, damaged as estimated", damaged(made, damage)), ("restored", made)]
    return before_after(shown)


def restore_photo() -> Image.Image:
    columns: Columns = []
    for words, spec, noise_std in (
        ("blurred, noisy", "gaussian-blur:std=2.5", 0.05),
        ("three quarters lost", "missing-pixels:drop=0.75", 0.02),
        ("old print", "film-damage:fade=0.4,cast=0.5,scratches=5,dust=40", 0.03),
        ("four times smaller", "downscale:factor=4", 0.01),
    ):
        damage = parse_degradation(spec, noise_std)
        y = damaged(flower(MIDDLE), damage)
        shown = torch.nn.functional.interpolate(y, (MIDDLE, MIDDLE), mode="nearest")
        columns.append((words, torch.cat([shown, finished(restored(y, damage), Measurement.of(y, damage))])))
    return before_after(columns)


def detail() -> Image.Image:
    """A photo with noise and one with scratches, and how much of their own detail is put back."""
    photo, rows = flower(SMALL), []
    for spec, noise_std in (("gaussian-blur:std=0.6", 0.06), ("film-damage:fade=0.4,scratches=5,dust=30", 0.03)):
        damage = parse_degradation(spec, noise_std)
        y = damaged(photo, damage)
        image, measurement = restored(y, damage), Measurement.of(y, damage)
        rows.append([y, *(finished(image, measurement, strength) for strength in (0, 1, 10))])
    words = ("damaged", "detail 0", "detail 1", "detail 10")
    return before_after(
        [(word, torch.cat(column)) for word, column in zip(words, zip(*rows, strict=True), strict=True)]
    )


def blurred(std: float) -> tuple[Tensor, Severity]:
    damage = parse_degradation(f"gaussian-blur:std={std}", 0.05)
    y = damaged(flower(MIDDLE), damage)
    return y, severity_model(damage, y).predict(y, model().multiple, model().encode)


def encode_severity() -> Image.Image:
    shown = [(std, *blurred(std)) for std in (0.3, 1, 2, 3)]
    return before_after([(f"blur {std:g}: severity {float(found.sigma_hat):.2f}", y) for std, y, found in shown])


def start_time() -> Image.Image:
    _, severity = blurred(3)
    starts, schedules = flash_schedules(severity.sigma_hat, model().sigmas, StartSettings())
    steps = [len(schedule) - 1 for schedule in schedules]
    picture: Image.Image = of_nodes("plot").schedule_plot(model().sigmas, starts.tolist(), steps)
    return picture.resize((PLOT, round(PLOT * picture.height / picture.width)), Image.Resampling.LANCZOS)


def train_severity() -> Image.Image:
    settings = TrainingSettings(
        400, batch=8, size=64, learning_rate=1e-3, architecture="refiner", width=32, validate_every=400, average=0.97
    )
    trainee = trainee_of(model().autoencoder, settings, torch.device("cpu"))
    photos = PhotoCrops([PHOTO], settings.size, max_side=320)
    views = sample_views(settings.size, settings.size).repeat(4, 1, 1, 1)
    # what the plot reads of the node's Curve
    curve = types.SimpleNamespace(steps=[], reconstruction=[], errors=None)

    def note(now: Progress) -> None:
        curve.steps.append(now.step)
        curve.reconstruction.append(now.reconstruction)
        curve.errors = now.errors or curve.errors

    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        out = Path(folder) / "encoder.safetensors"
        SeverityTraining(trainee, FAMILIES["gaussian-blur"](), photos, views, settings, out).run(note)
    return of_nodes("training_plot").training_picture(curve)


def of_nodes(name: str) -> Any:
    """A module of ``nodes`` that draws; the package around it imports the host, which is not needed for that."""
    for package, folder in (("pack", ROOT), ("pack.nodes", ROOT / "nodes")):
        stand_in = types.ModuleType(package)
        stand_in.__path__ = [str(folder)]
        sys.modules[package] = stand_in
    return importlib.import_module(f"pack.nodes.{name}")


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "diffpir": knob("diffpir", "trust", (1, 30, 1000), "trust", LOST, 0.02, MIDDLE),
    "latino": knob("latino", "trust", (0.01, 1, 100), "trust", BLUR, 0.03, MIDDLE),
    "mpgd": knob("mpgd", "eta", (0, 12, 100), "step size", LOST, 0.05),
    "flow-dps": knob("flow-dps", "eta", (0, 12, 60), "step size", LOST, 0.05, start=StartSettings(per_octave=6)),
    "latent-daps": knob("latent-daps", "rate", (0.01, 0.2, 2), "rate", LOST, 0.05),
    "dcdp": knob("dcdp", "iterations", (1, 5, 30), "iterations", LOST, 0.05),
    "gml-dps": knob("gml-dps", "eta", (0, 8, 80), "step size", LOST, 0.05, start=THIRTY),
    "resample": knob("resample", "proximal", (0, 1, 300), "hold", BLUR, 0.03, start=THIRTY, iterations=20),
    "encode-severity": encode_severity,
    "start-time": start_time,
    "train-severity": train_severity,
    "lens-blur": lens_blur,
    "kernel-blur": kernel_blur,
    "film-damage": film_damage,
    "find-scratches": find_scratches_picture,
    "estimate-degradation": estimate_degradation,
    "restore-photo": restore_photo,
    "detail": detail,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
