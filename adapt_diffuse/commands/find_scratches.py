"""Find scratches and dust, and write them as masks for --degradation mask:file=..."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import AdaptDiffuseError
from ..images import on_scale, read_photo, write_image
from . import options
from .files import photos_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks (PNG, white is lost)")
    parser.add_argument(
        "--sensitivity", type=float, default=0.5, help="0 finds only the plainest marks, 1 every doubtful one"
    )
    parser.add_argument("--width", type=int, default=4, help="of the widest scratch in pixels; wider things are kept")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..scratches import check_search, find_scratches

    check_search(args.sensitivity, args.width)
    photos, failed = photos_of(args.photos, args.out)
    for path, target in tqdm(photos, desc="find scratches", leave=False):
        try:
            mask = find_scratches(on_scale(read_photo(path), path), args.sensitivity, args.width)
            write_image(target, mask.repeat(1, 3, 1, 1))
            tqdm.write(f"{target}: {100 * float(mask.mean()):.1f} % of the photo")
        except AdaptDiffuseError as error:
            options.say_failed(path, error)
            failed += 1
    return 2 if failed else 0
