"""Damage the bundled photo, restore it with the bundled weights, and show both side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..bundled import WEIGHTS
from ..defaults import SOLVER_NAMES, make_solver
from ..degradation import measure
from ..errors import AdaptDiffuseError
from ..images import open_image, write_image
from ..measurement import Measurement
from ..metrics import psnr
from ..restore import damage_generators, generators_for
from ..sheet import before_after
from ..words import describe_restoration
from . import options
from .batches import Recipe, restore_batch
from .restore import encoders

PHOTO = WEIGHTS.parent / "assets" / "flower.jpg"
FLOWER = (150, 50, 470, 370)  # the blossom in the photo
SIZE = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures")
    parser.add_argument("--solver", default="default", help=" | ".join(SOLVER_NAMES))
    options.add_model(parser)
    options.add_solver(parser)
    options.add_through(parser)
    options.add_degradation(parser)
    parser.set_defaults(degradation="gaussian-blur:std=2.0")


def demo_photo() -> Tensor:
    """The bundled photo's blossom, (1, 3, 256, 256) on [0, 1]. Raises AdaptDiffuseError where the clone lacks it."""
    if not PHOTO.exists():
        raise AdaptDiffuseError(f"The bundled photo is missing from {PHOTO.parent}: clone the repository again.")
    blossom = open_image(PHOTO).convert("RGB").crop(FLOWER).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(blossom)).permute(2, 0, 1)[None].float() / 255


def run(args: argparse.Namespace) -> int:
    degradation = options.degradation_of(args)
    solver = make_solver(args.solver, degradation, eta=args.eta, gamma=args.gamma, through=args.through)
    start = options.start_settings(args, args.solver, degradation)
    prior = options.load_prior(args)
    recipe = Recipe(degradation, prior, solver, encoders(prior, args.severity_encoder), start, args.seed)
    photo = demo_photo().to(prior.device)
    damaged = measure(photo, degradation, damage_generators(args.seed, 1))
    write_image(args.out / "damaged.png", damaged)
    result = restore_batch(Measurement.of(damaged, degradation), recipe, generators_for(args.seed, 1), "restoring")
    write_image(args.out / "restored.png", result.image)
    columns = [("the photo", photo), ("damaged", damaged), ("restored", result.image)]
    write_image(args.out / "before-after.png", before_after(columns))
    print(f"{args.out / 'restored.png'}: {describe_restoration(result, prior.sigmas, degradation)}")
    gain = float(psnr(result.image, photo)[0]), float(psnr(damaged, photo)[0])
    print(f"{args.out / 'before-after.png'}: PSNR {gain[1]:.1f} dB damaged, {gain[0]:.1f} dB restored")
    return 0
