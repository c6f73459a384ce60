"""Measure methods on a task: quality, cost and severity."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..benchmark import METHODS, TASKS, Damaged, MethodSettings, check_method, damage, run_method, severity_row
from ..bundled import default_encoder
from ..checkpoints import device_of, write_text
from ..errors import AdaptDiffuseError
from ..hosts.diffusers import DiffusersPrior
from ..image_models import ImageModel
from ..images import centre_crop, find_photos, read_photo, write_image
from ..severity import SeverityModel
from ..sheet import before_after
from . import options

TRUTH = "truth"  # beside the methods' folders of --save


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", required=True, help=f"{' | '.join(TASKS)}, several with commas, or all")
    parser.add_argument("--methods", default="ae,flash-ldps", help=f"{' | '.join(METHODS)}, with commas")
    parser.add_argument("--images", required=True, help="folder of undamaged photos")
    parser.add_argument("--limit", type=int, help="use N photos, evenly spaced in the folder's order; default: all")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of rows, written after each row")
    parser.add_argument("--size", type=int, default=128, help="side of the centre crop in pixels")
    parser.add_argument("--noise-std", type=float, default=0.05, help="noise on [0, 1] images")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--sheet", type=Path, help="picture of the first --sheet-photos photos under every method")
    parser.add_argument("--sheet-photos", type=int, default=6)
    parser.add_argument(
        "--save", type=Path, help="folder for the photos, as SAVE/TASK/METHOD/0000.png, and truth beside"
    )
    parser.add_argument("--pixel-model", type=Path, help="diffusers folder of a model of pixels, for the method dps")
    parser.add_argument("--image-model", type=Path, help="file of a network that spandrel knows, for the method swinir")
    options.add_model(parser)
    options.add_solver(parser)
    options.add_detail(parser, default=None)
    options.add_through(parser, default=None)


def run(args: argparse.Namespace) -> int:
    tasks = list(TASKS) if args.task == "all" else args.task.split(",")
    methods = args.methods.split(",")
    if unknown := [name for name in tasks if name not in TASKS]:
        raise AdaptDiffuseError(f"Unknown task '{unknown[0]}'; there are {', '.join(TASKS)}.")
    for name in ("limit", "size", "batch", "sheet_photos"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise AdaptDiffuseError(f"--{name.replace('_', '-')} must be 1 or more, not {value}.")
    options.check_detail(args.detail)
    settings = load_settings(args)
    for method in methods:
        check_method(method, settings, has_encoder=True)
    paths = spread(find_photos(args.images), args.limit)
    prior = options.load_prior(args)
    truth = torch.cat([centre_crop(read_photo(path), args.size) for path in paths]).to(prior.device)

    rows: list[dict[str, Any]] = []
    for task in tasks:
        photos = damage(task, truth, args.seed, args.noise_std)
        file = args.severity_encoder or default_encoder(TASKS[task][1])
        encoder = options.load_encoder(file, prior)
        if args.save:
            save(args.save / task / TRUTH, truth)
        columns: list[tuple[str, Tensor]] = [("truth", truth)]
        if "damaged" not in methods:
            columns.append(("damaged", photos.y))
        keep(args.out, rows, severity_row(task, photos, prior, encoder))
        for method in methods:
            row, restored = under_progress_bar(args, method, task, photos, prior, encoder, settings)
            keep(args.out, rows, row)
            print(describe(row), flush=True)
            columns.append((method, restored))
            if args.save:
                save(args.save / task / method, restored)
        if args.sheet:
            sheet = args.sheet if len(tasks) == 1 else args.sheet.with_stem(f"{args.sheet.stem}-{task}")
            write_image(sheet, before_after([(title, image[: args.sheet_photos]) for title, image in columns]))
    return 0


def load_settings(args: argparse.Namespace) -> MethodSettings:
    """The methods' settings, with the models that only one of them needs."""
    start = partial(options.start_settings, args)
    pixel_prior = DiffusersPrior.load(args.pixel_model, device_of(args.device)) if args.pixel_model else None
    image_model = ImageModel.load(args.image_model, device_of(args.device)) if args.image_model else None
    return MethodSettings(args.eta, args.gamma, start, pixel_prior, image_model, args.through, args.detail)


def save(folder: Path, photos: Tensor) -> None:
    """Write photos (n, 3, H, W) on [0, 1] as 0000.png and so on, for measures that other programs make."""
    for index, photo in enumerate(photos):
        write_image(folder / f"{index:04d}.png", photo[None])


def spread(paths: list[Path], limit: int | None) -> list[Path]:
    """``limit`` of the paths, evenly spaced: a folder sorted by subject gives some of each."""
    if limit is None or limit >= len(paths):
        return paths
    return [paths[index * len(paths) // limit] for index in range(limit)]


def under_progress_bar(
    args: argparse.Namespace,
    method: str,
    task: str,
    photos: Damaged,
    prior: DiffusersPrior,
    encoder: SeverityModel,
    settings: MethodSettings,
) -> tuple[dict[str, Any], Tensor]:
    from tqdm import tqdm

    with tqdm(desc=f"{task} {method}", total=len(photos.truth), unit="photo", leave=False) as bar:

        def advance(step: int, steps: int, x: Tensor, z0: Tensor, sigma: Tensor) -> None:
            bar.set_postfix_str(f"step {step + 1} of {steps}")
            if step + 1 == steps:
                bar.update(len(x))

        return run_method(method, task, photos, prior, encoder, args.seed, settings, args.batch, advance)


def keep(out: Path, rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
    """Add a row and write all of them, whole."""
    rows.append(row)
    write_text(out, json.dumps(rows, indent=2))


def describe(row: dict[str, Any]) -> str:
    residual = "-" if row["residual"] is None else f"{row['residual']:.2f}"
    return (
        f"{row['task']:22} {row['method']:12} {row['images']:4d} photos  PSNR {row['psnr']:.2f} dB  "
        f"SSIM {row['ssim']:.3f}  HaarPSI {row['haarpsi']:.3f}  denoiser calls {row['denoiser_forwards']:.1f}  "
        f"residual {residual}  {row['seconds']:.2f} s"
    )
