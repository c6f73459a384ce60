"""How well scratches and dust are found: precision and recall on photos that were scratched on purpose.

    python -m benchmarks.scratches --images PHOTOS --out runs/scratches.json --sheets runs/scratches

Every photo gets scratches, hairs and specks (Film Damage's), each lighter or darker than the picture and more or less
transparent, some fading and some grain. A found pixel is right within two pixels of a mark. ``--sheets`` writes each
photo and the mask over it: found marks yellow, missed ones green, false ones red.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import spread
from adapt_diffuse.degradation import Fading, randn
from adapt_diffuse.degradation.base import rand
from adapt_diffuse.degradation.blur import filter_axis, gaussian_taps
from adapt_diffuse.degradation.defects import draw_marks, marks_mask
from adapt_diffuse.errors import run_script
from adapt_diffuse.images import find_photos, read_photo, write_image
from adapt_diffuse.scratches import find_scratches

NEAR = 2


@dataclass(frozen=True)
class Wear:
    """How old prints are worn: the most, or the range, of what is drawn for each.

    Attributes:
        scratches, dust: how many at most.
        size: of the marks of a print, pixels (a scratch is half to once as wide, a speck one to four times as large).
        grain, fade, cast: at most, see ``Fading.of``.
        dark, light: tones of the marks, from black up and from white down.
        opacity: the least.
        soft: std in pixels of a mark's edge.
    """

    scratches: int = 6
    dust: int = 50
    size: tuple[float, float] = (1.0, 2.5)
    grain: float = 0.03
    fade: float = 0.4
    cast: float = 0.5
    dark: float = 0.15
    light: float = 0.15
    opacity: float = 0.6
    soft: float = 0.5


@dataclass(frozen=True)
class Scratched:
    """A photo (1, 3, H, W) with marks, and where they are (1, 1, H, W) bool."""

    photo: Tensor
    marked: Tensor


def scratched(photo: Tensor, generator: torch.Generator, wear: Wear = Wear()) -> Scratched:  # noqa: B008 (frozen)
    """A photo (1, 3, H, W) on [0, 1] as an old print: faded, marked, grainy."""
    height, width = photo.shape[2:]
    many, specks, size, grain, fade, cast = rand((6,), generator).tolist()
    old = Fading.of(wear.fade * fade, wear.cast * (2 * cast - 1))(photo)
    across = wear.size[0] + (wear.size[1] - wear.size[0]) * size
    counts = int((wear.scratches + 1) * many), int((wear.dust + 1) * specks)
    marks = draw_marks(height, width, *counts, across, generator)
    marked = torch.zeros(1, 1, height, width, dtype=torch.bool)
    taps = gaussian_taps(torch.tensor([wear.soft])).to(photo)
    for mark in marks:
        under = 1 - marks_mask(height, width, [mark])
        light, tone, opacity = rand((3,), generator).tolist()
        value = 1 - wear.light * (1 - tone) if light < 0.5 else wear.dark * tone
        soft = filter_axis(filter_axis(under, taps, 2), taps, 3) * (wear.opacity + (1 - wear.opacity) * opacity)
        old = old + soft * (value - old)
        marked |= under > 0
    return Scratched((old + wear.grain * grain * randn(old.shape, old, generator)).clamp(0, 1), marked)


def counts(mask: Tensor, marked: Tensor) -> dict[str, int]:
    """Pixels that are marked, found of those, in the mask, and of those near a mark."""
    found, near = mask > 0.5, F.max_pool2d(marked.float(), 2 * NEAR + 1, 1, NEAR) > 0
    return {
        "marked": int(marked.sum()),
        "found": int((found & marked).sum()),
        "mask": int(found.sum()),
        "right": int((found & near).sum()),
    }


def overlay(photo: Tensor, mask: Tensor, marked: Tensor) -> Tensor:
    """The photo above, and below it in grey with the mask (red) and the marks (green) on it."""
    colours = torch.cat([mask, marked.float(), torch.zeros_like(mask)], 1)
    return torch.cat([photo, 0.5 * photo.mean(1, keepdim=True) + 0.5 * colours], 2)


def row_of(sensitivity: float, rows: list[dict[str, int]]) -> dict[str, float]:
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    with_marks = [row for row in rows if row["marked"]]
    recalls = torch.tensor([row["found"] / row["marked"] for row in with_marks])
    precisions = torch.tensor([row["right"] / row["mask"] for row in rows if row["mask"]])
    return {
        "sensitivity": sensitivity,
        "photos": len(rows),
        "recall": total["found"] / max(total["marked"], 1),
        "precision": total["right"] / max(total["mask"], 1),
        "median_recall": float(recalls.median()) if len(recalls) else 0.0,
        "median_precision": float(precisions.median()) if len(precisions) else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of undamaged photos")
    parser.add_argument("--limit", type=int, help="use N photos, evenly spaced in the folder's order; default: all")
    parser.add_argument("--sensitivity", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--width", type=int, default=4, help="of the widest mark to look for, in pixels")
    parser.add_argument("--size", type=float, nargs=2, default=Wear.size, help="of the marks, least and most pixels")
    parser.add_argument("--sheets", type=Path, help="folder for pictures, at the first sensitivity")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    counted: dict[float, list[dict[str, int]]] = {value: [] for value in args.sensitivity}
    wear = Wear(size=tuple(args.size))
    for index, path in enumerate(spread(find_photos(args.images), args.limit)):
        old = scratched(read_photo(path), torch.Generator().manual_seed(index), wear)
        for value, rows in counted.items():
            mask = find_scratches(old.photo, value, args.width)
            rows.append(counts(mask, old.marked))
            if args.sheets and value == args.sensitivity[0]:
                write_image(args.sheets / f"{path.stem}.png", overlay(old.photo, mask, old.marked))
    table = [row_of(value, rows) for value, rows in counted.items()]
    write_text(args.out, json.dumps(table, indent=2))
    for row in table:
        print(", ".join(f"{key} {value:.2f}" for key, value in row.items()))


if __name__ == "__main__":
    run_script(main)
