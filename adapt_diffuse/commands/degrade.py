"""Damage photos on purpose, to try a restoration or to check a guess."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..degradation import measure
from ..images import find_photos, read_photo, write_image
from ..restore import generators_for
from . import options
from .restore import output_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the damaged photos (PNG)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    options.add_degradation(parser)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    _, degradation = options.degradation_of(args)
    photos = [path for source in args.photos for path in find_photos(source)]
    targets = output_names(photos, args.out)
    for index, (path, target) in enumerate(tqdm(list(zip(photos, targets, strict=True)), desc="degrade", leave=False)):
        damaged = measure(read_photo(path), degradation, generators_for(args.seed + index, 1))
        write_image(target, damaged)
    print(f"{len(photos)} damaged photo{'s' if len(photos) > 1 else ''} in {args.out}")
    return 0
