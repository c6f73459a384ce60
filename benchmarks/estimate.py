"""How well the damage of unknown photos is estimated, and what that is worth to their restoration.

    python -m benchmarks.estimate --images PHOTOS --out runs/estimate.json
    python -m benchmarks.estimate --images PHOTOS --limit 16 --restore --out runs/estimate-restored.json

Every photo is damaged by a chain drawn at random (blur or motion, low resolution, JPEG, noise, each there or not). The
photos are reduced before by ``--reduce``, because photos that are JPEG files already have blocks that nobody drew. With
``--restore`` each is restored with the true degradation, with the estimated one, with the refined one, and with none
but noise of the command line's 0.05; ``--size`` is then the side of the crops.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import spread
from adapt_diffuse.commands.restore import encoders
from adapt_diffuse.defaults import make_solver, start_settings
from adapt_diffuse.degradation import Degradation, Noise
from adapt_diffuse.errors import run_script
from adapt_diffuse.estimate import (
    Damage,
    Estimate,
    cautious,
    describe_estimate,
    doubted,
    estimate_damage,
    load_estimator,
    refine,
)
from adapt_diffuse.estimate.damage import NO_JPEG
from adapt_diffuse.estimate.simulate import DamageRange, damaged
from adapt_diffuse.finish import finished
from adapt_diffuse.images import centre_crop, find_photos, read_photo
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.metrics import haarpsi, psnr
from adapt_diffuse.restore import generators_for, restore
from benchmarks.inputs import add_encoder, load_prior, parser_of

ASSUMED_NOISE = 0.05  # the command line's, of a user who does not look
NUMBERS = ("std", "length", "angle", "quality", "noise")


def reduced(photo: Tensor, factor: float) -> Tensor:
    """A photo (1, 3, H, W) made smaller, antialiased; traces of its own JPEG go with the detail."""
    size = [max(1, round(side / factor)) for side in photo.shape[2:]]
    return F.interpolate(photo, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def numbers_of(truth: Damage, said: Estimate) -> dict[str, tuple[float, float]]:
    """For each number that is there, in truth and in the estimate: its error, and the error it says it has."""
    damage, found = said.damage, {}
    if truth.std > 0 and damage.std > 0:
        found["std"] = (float(damage.std - truth.std), float(said.std_error))
    if truth.length > 0 and damage.length > 0:
        found["length"] = (float(damage.length - truth.length), float(said.length_error))
        turned = float((damage.angle - truth.angle + 90) % 180 - 90)
        found["angle"] = (turned, float(said.angle_error))
    if truth.quality < NO_JPEG and damage.quality < NO_JPEG:
        found["quality"] = (float(damage.quality - truth.quality), float(said.quality_error))
    found["noise"] = (float(damage.noise_std - truth.noise_std), float(said.noise_error))
    return found


def decisions_of(truth: Damage, said: Estimate) -> dict[str, bool]:
    """What is there and what is not: whether the estimate is right."""
    damage = said.damage
    return {
        "blur": bool(((truth.std > 0) | (truth.length > 0)) == ((damage.std > 0) | (damage.length > 0))),
        "kind of blur": bool(((truth.std > 0) == (damage.std > 0)) & ((truth.length > 0) == (damage.length > 0))),
        "factor": bool(truth.factor == damage.factor),
        "jpeg": bool((truth.quality < NO_JPEG) == (damage.quality < NO_JPEG)),
    }


def summary(rows: list[tuple[Damage, Estimate]]) -> dict[str, dict[str, float]]:
    """For each number: how many, median absolute error, share within one and two of the errors that it says."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NUMBERS}
    decided: dict[str, list[bool]] = {}
    for truth, said in rows:
        for name, pair in numbers_of(truth, said).items():
            found[name].append(pair)
        for name, right in decisions_of(truth, said).items():
            decided.setdefault(name, []).append(right)
    table: dict[str, dict[str, float]] = {}
    for name, pairs in found.items():
        if pairs:
            error, said_error = torch.tensor(pairs, dtype=torch.float64).abs().unbind(1)
            table[name] = {
                "photos": len(pairs),
                "median_absolute_error": float(error.median()),
                "within_one": float((error <= said_error).double().mean()),
                "within_two": float((error <= 2 * said_error).double().mean()),
            }
    for name, each in decided.items():
        table[name] = {"photos": len(each), "right": sum(each) / len(each)}
    return table


def restorations(
    args: argparse.Namespace, photos: list[Tensor], hurt: list[Tensor], rows: list[tuple[Damage, Estimate]]
) -> dict[str, dict[str, list[float]]]:
    """PSNR and HaarPSI of each photo, damaged, and restored with each of the degradations."""
    prior = load_prior(args)
    fitting = encoders(prior, args.severity_encoder)  # as the tool takes them

    def restored(y: Tensor, degradation: Degradation, index: int) -> Tensor:
        solver = make_solver("default", degradation)
        start = start_settings("default", 0, degradation)
        encoder = fitting((y.shape[2], y.shape[3]), degradation)
        image = restore(y, degradation, prior, solver, generators_for(index, 1), encoder, start).image
        return finished(image, Measurement.of(y, degradation))

    scores: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "haarpsi": haarpsi}
    found: dict[str, dict[str, list[float]]] = {}
    for index, (photo, y, (truth, said)) in enumerate(zip(photos, hurt, rows, strict=True)):
        assumed = cautious(said, y)
        by_estimate = y.clamp(0, 1) if bool(said.damage.nothing) else restored(y, assumed.degradation(), index)
        if (gentler := doubted(assumed, y, by_estimate)) is not None:
            by_estimate = restored(y, gentler.degradation(), index)
        images = {
            "damaged": y.clamp(0, 1),
            "none": restored(y, Noise(ASSUMED_NOISE), index),
            "true": restored(y, truth.degradation(), index),
            "estimated": by_estimate,
            "refined": restored(y, cautious(refine(y, by_estimate, said), y).degradation(), index),
        }
        for name, image in images.items():
            for score, measure in scores.items():
                found.setdefault(name, {}).setdefault(score, []).append(float(measure(image, photo)))
    return found


def main() -> None:
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--reduce", type=float, default=1.5, help="make the photos smaller first, by this factor")
    parser.add_argument("--restore", action="store_true", help="restore them too, cut to --size")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    estimator, photos, hurt, rows, told = load_estimator(), [], [], [], []
    for index, path in enumerate(spread(find_photos(args.images), args.limit)):
        photo = reduced(read_photo(path), args.reduce)
        photo = centre_crop(photo, args.size) if args.restore else photo
        generator = torch.Generator().manual_seed(1_000_003 * (args.seed + 1) + index)
        truth = DamageRange().draw(1, generator)
        y = damaged(photo, truth, generator)
        said = estimate_damage(y, estimator)
        photos.append(photo)
        hurt.append(y)
        rows.append((truth, said))
        told.append({"photo": path.name, "estimate": describe_estimate(said), **plain(truth)})
    report: dict[str, object] = {"numbers": summary(rows)}
    if args.restore:
        scores = restorations(args, photos, hurt, rows)
        report["restored"] = {
            name: {score: fmean(values) for score, values in each.items()} for name, each in scores.items()
        }
        report["each"] = scores
    write_text(args.out, json.dumps({**report, "photos": told}, indent=2))
    print(json.dumps(report, indent=2))


def plain(truth: Damage) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in vars(truth).items()}


if __name__ == "__main__":
    run_script(main)
