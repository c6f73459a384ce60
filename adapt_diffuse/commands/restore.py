"""Restore damaged photos."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bundled import default_encoder
from ..checkpoints import write_text
from ..defaults import SOLVER_NAMES, make_solver
from ..degradation import Degradation
from ..errors import AdaptDiffuseError
from ..hosts.diffusers import DiffusersPrior
from ..images import read_photo, write_image
from ..restore import Restoration, generators_for, restore
from ..severity import SeverityModel
from ..solvers import Solver
from ..start import StartSettings
from ..words import describe_restoration
from . import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the restored photos (PNG)")
    parser.add_argument("--solver", default="default", help=" | ".join(SOLVER_NAMES))
    parser.add_argument("--report", type=Path, help="JSON file with the figures of each photo")
    options.add_degradation(parser)
    options.add_model(parser)
    options.add_solver(parser)
    options.add_through(parser)


def run(args: argparse.Namespace) -> int:
    name, degradation = options.degradation_of(args)
    solver = make_solver(args.solver, name, eta=args.eta, gamma=args.gamma, through=args.through)
    start = options.start_settings(args, args.solver)
    photos, failed = options.photos_of(args.photos, args.out)
    prior = options.load_prior(args)
    encoder = options.load_encoder(args.severity_encoder or default_encoder(name), prior)

    rows: list[dict[str, Any]] = []
    for index, (path, target) in enumerate(photos):
        try:
            photo = read_photo(path).to(prior.device)
            result = restore_one(photo, degradation, prior, solver, encoder, start, args.seed + index, path.name)
            write_image(target, result.image)
        except AdaptDiffuseError as error:
            options.say_failed(path, error)
            failed += 1
            continue
        print(f"{target}: {describe_restoration(result, prior.sigmas)}")
        rows.append({"photo": str(path), "restored": str(target), **report_row(result)})
        if args.report:
            write_text(args.report, json.dumps(rows, indent=2))
    return 2 if failed else 0


def restore_one(
    photo: Tensor,
    degradation: Degradation,
    prior: DiffusersPrior,
    solver: Solver,
    encoder: SeverityModel,
    start: StartSettings,
    seed: int,
    title: str,
) -> Restoration:
    """Restore one photo (1, 3, H, W) under a progress bar."""
    from tqdm import tqdm

    with tqdm(desc=title, unit="step", leave=False, file=sys.stderr) as bar:

        def advance(step: int, steps: int, x: Tensor, z0: Tensor, sigma: Tensor) -> None:
            bar.total = steps
            bar.update(1)

        return restore(photo, degradation, prior, solver, generators_for(seed, 1), encoder, start, advance)


def report_row(result: Restoration) -> dict[str, Any]:
    """The figures of a single photo's restoration."""
    assert result.severity is not None
    residual = float(result.residual[0])
    return {
        "sigma_hat": float(result.severity.sigma_hat[0]),
        "sigma_start": float(result.sigma_start[0]),
        "steps": int(result.steps[0]),
        "residual": residual if torch.isfinite(result.residual[0]) else None,
        "seconds": result.seconds,
        "peak_memory_mib": result.peak_memory,
        **asdict(result.cost),
    }
