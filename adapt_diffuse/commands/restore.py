"""Restore damaged photos."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..autoencoder import encode_raw
from ..bundled import bundled_encoders
from ..checkpoints import write_text
from ..defaults import SOLVER_NAMES, make_solver
from ..degradation import Chain, Degradation, FilmDamage, Marks, Noise
from ..errors import AdaptDiffuseError
from ..estimate import load_estimator
from ..hosts.diffusers import DiffusersPrior
from ..images import find_photos, has_one_channel, write_image
from ..latent_space import test_pattern
from ..restore import Restoration
from ..severity import SeverityModel
from ..severity.calibration import Calibration, calibrate, encodings
from ..severity.calibration_photos import calibration_size, folder_views, sample_views
from ..severity.choice import choose
from ..solvers import Solver
from ..words import BORDER_KEPT, describe_restoration
from . import options
from .batches import (
    EncoderFor,
    Job,
    Recipe,
    batches_of,
    cost_of,
    outcomes,
    seconds_of,
    size_on_disk,
)
from .blind import Guessed, Guesswork, guessed_outcomes
from .files import check_report, photos_of

WITHOUT = Path("none")  # in place of a severity encoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--out", type=Path, default=Path("restored"), help="folder for the restored photos (PNG)")
    parser.add_argument("--solver", default="default", help=" | ".join(SOLVER_NAMES))
    parser.add_argument("--batch", type=int, help="photos of one size at a time; default: what the memory bears")
    parser.add_argument("--report", type=Path, help="JSON file with the figures of each photo")
    parser.add_argument(
        "--max-side",
        type=int,
        default=0,
        help="make photos smaller whose longer side has more pixels; the numbers of a --degradation are then those of "
        "the smaller photo: at half the size half the blur",
    )
    parser.add_argument(
        "--known-pixels",
        choices=("auto", "keep", "restore"),
        default="auto",
        help="where pixels are lost, whether the others stay the photo's own (keep) or become the model's (restore); "
        "auto keeps those of photos with hardly any noise",
    )
    options.add_detail(parser)
    options.add_degradation(parser, options.AUTO)
    parser.add_argument(
        "--refine",
        type=int,
        default=0,
        help="with --degradation auto, which estimates what happened to each photo: restore so many times more, each "
        "time with the estimate refined by the photo restored before",
    )
    options.add_model(parser)
    options.add_solver(parser)
    options.add_through(parser)
    parser.add_argument(
        "--calibration-photos",
        type=Path,
        metavar="DIR",
        help="with --severity-encoder none: undamaged photos to calibrate the severity on; default: the sample photo",
    )


def run(args: argparse.Namespace) -> int:
    unknown = args.degradation == options.AUTO
    check_refine(args, unknown)
    degradation = Noise(args.noise_std or 0.0) if unknown else options.degradation_of(args)
    check_marks(degradation, args.degradation)

    def solver_for(damage: Degradation) -> Solver:
        return make_solver(args.solver, damage, eta=args.eta, gamma=args.gamma, through=args.through)

    solver = solver_for(degradation)
    start_for = partial(options.start_settings, args, args.solver)
    if args.batch is not None and args.batch < 1:
        raise AdaptDiffuseError(f"--batch must be 1 or more photos, not {args.batch}.")
    options.check_detail(args.detail)
    if args.max_side < 0:
        raise AdaptDiffuseError(f"--max-side must be 0 or more pixels, not {args.max_side}.")
    photos, failed = photos_of(args.photos, args.out)
    check_report(args.report, photos)
    prior = options.load_prior(args)
    encoder = encoders(prior, args.severity_encoder, args.calibration_photos)
    recipe = Recipe(
        degradation,
        prior,
        solver,
        encoder,
        start_for(degradation),
        args.seed,
        args.max_side,
        known_pixels=args.known_pixels,
        detail=args.detail,
    )
    jobs = [Job(index, path, target) for index, (path, target) in enumerate(photos)]

    worked: Iterator[Guessed]
    if unknown:
        guesswork = Guesswork(load_estimator(), solver_for, start_for, args.refine, args.noise_std)
        worked = guessed_outcomes(jobs, recipe, guesswork)
    else:
        batches = batches_of(jobs, args.batch, degradation, prior.device, args.max_side)
        worked = (Guessed(outcome, degradation) for batch in batches for outcome in outcomes(batch, recipe))

    rows: dict[int, dict[str, Any]] = {}
    for one in worked:
        row = finish(one, prior.sigmas)
        if row is None:
            failed += 1
            continue
        if one.words:
            print(f"{one.outcome.job.photo}: {one.words}")
            row["estimate"] = one.words
        rows[one.outcome.job.index] = row
        if args.report:
            write_text(args.report, json.dumps([rows[index] for index in sorted(rows)], indent=2))
    return 2 if failed else 0


def check_refine(args: argparse.Namespace, unknown: bool) -> None:
    """Raise AdaptDiffuseError where --refine does not go with the degradation."""
    if args.refine < 0 or (args.refine and not unknown):
        raise AdaptDiffuseError(f"--refine goes with --degradation auto, and is 0 or more, not {args.refine}.")


def check_marks(degradation: Degradation, text: str) -> None:
    """Raise AdaptDiffuseError where the scratches of a photo would be looked for in random places.

    Those of a seed that was named are where ``degrade`` put them.
    """
    parts = degradation.parts if isinstance(degradation, Chain) else (degradation,)
    films = [part.lost for part in parts if isinstance(part, FilmDamage)]
    if "seed=" not in text and any(isinstance(lost, Marks) and lost.scratches + lost.dust > 0 for lost in films):
        raise AdaptDiffuseError(
            "film-damage needs a mask of the photo's own scratches and dust: make one with find-scratches and name it, "
            "film-damage:file=MASK.png (with fade=0.3 before it where it has faded, too), or say that there are none, "
            "film-damage:scratches=0,dust=0."
        )


def finish(one: Guessed, sigmas: Tensor) -> dict[str, Any] | None:
    """Write the restored photo, say so, and give its row; None where it failed, with the reason on stderr."""
    outcome = one.outcome
    job, result, place = outcome.job, outcome.result, outcome.place
    try:
        if result is None:
            raise outcome.error or AdaptDiffuseError("There is no restoration.")
        write_image(job.target, outcome.image(), has_one_channel(job.photo), like=job.photo)
    except AdaptDiffuseError as error:
        options.say_failed(job.photo, error)
        return None
    missed = 0.0 if one.words else outcome.misfit  # by an estimate it has been tried again already
    told = describe_restoration(result, sigmas, one.degradation, place, outcome.unsaid, missed, one.estimated)
    if one.unchanged:
        told = "the photo as it is" if result.image.shape[2:] == size_on_disk(job.photo) else "the photo, made smaller"
    if outcome.borders is not None:
        told += f"; {BORDER_KEPT}"
    print(f"{job.target}: {told}")
    return {"photo": str(job.photo), "restored": str(job.target), **report_row(result, place)}


def encoders(prior: DiffusersPrior, file: Path | None = None, folder: Path | None = None) -> EncoderFor:
    """The severity encoder for photos: the one in ``file``, else the bundled one that fits.

    Where none does, a calibration, made once for each size where the degradation stays the same.

    Args:
        file: ``WITHOUT`` calibrates always.
        folder: undamaged photos to calibrate on; default: the sample photo.

    Raises:
        AdaptDiffuseError: an encoder that cannot be used, or calibration photos beside one.
    """
    if file != WITHOUT:
        if folder is not None:
            raise AdaptDiffuseError("--calibration-photos goes with --severity-encoder none.")
        if file is not None:
            given = options.load_encoder(file, prior)
            return lambda size, degradation: given
    if folder is not None:
        find_photos(folder)  # a folder without any is said at once
    with torch.no_grad():
        latent = encode_raw(prior.autoencoder, test_pattern().to(prior.device) * 2 - 1)
    loaded = cache(partial(options.load_encoder, prior=prior))

    made: dict[tuple[int, int], Calibration] = {}

    def calibrated(size: tuple[int, int], degradation: Degradation) -> Calibration:
        if size not in made or made[size].degradation is not degradation:
            views = sample_views(*size) if folder is None else folder_views(folder, *size)
            made[size] = calibrated_under_bar(views, degradation, prior)
        return made[size]

    def fitting(photo_size: tuple[int, int], degradation: Degradation) -> SeverityModel:
        if file is None:
            found = choose(bundled_encoders().values(), latent, degradation, torch.zeros(1, 3, *photo_size))
            if found is not None:
                return loaded(found)
        return calibrated(calibration_size(degradation, *degradation.image_size(*photo_size)), degradation)

    return fitting


def calibrated_under_bar(views: Tensor, degradation: Degradation, prior: DiffusersPrior) -> Calibration:
    """``calibrate`` under a progress bar."""
    from tqdm import tqdm

    with tqdm(total=encodings(len(views), degradation), desc="calibrating", leave=False, file=sys.stderr) as bar:

        def encode(image: Tensor) -> Tensor:
            bar.update(1)
            return prior.encode(image)

        return calibrate(views.to(prior.device), degradation, encode, prior.multiple)


def report_row(result: Restoration, place: int = 0) -> dict[str, Any]:
    """The figures of one photo of a restoration."""
    residual = float(result.residual[place])
    return {
        "sigma_hat": None if result.severity is None else float(result.severity.sigma_hat[place]),
        "sigma_start": float(result.sigma_start[place]),
        "steps": int(result.steps[place]),
        "residual": residual if torch.isfinite(result.residual[place]) else None,
        "seconds": seconds_of(result, place),
        "peak_memory_mib": result.peak_memory,
        **asdict(cost_of(result, place)),
    }
