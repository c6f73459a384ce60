"""Damage photos on purpose, to try a restoration or to check a guess."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..degradation import measure
from ..images import on_scale, read_photo, write_image
from ..restore import damage_generators
from . import options
from .batches import sentence_of
from .files import photos_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the damaged photos (PNG)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    options.add_degradation(parser)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    degradation = options.degradation_of(args)
    photos, failed = photos_of(args.photos, args.out)
    done = 0
    for index, (path, target) in enumerate(tqdm(photos, desc="degrade", leave=False)):
        try:
            damaged = measure(on_scale(read_photo(path), path), degradation, damage_generators(args.seed + index, 1))
            write_image(target, damaged, like=path)
            done += 1
        except Exception as error:
            options.say_failed(path, sentence_of(error))
            failed += 1
    print(f"{done} damaged photo{'' if done == 1 else 's'} in {args.out}")
    return 2 if failed else 0
