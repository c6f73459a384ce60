"""How much noise is read off photos whose grain is alike in all channels, grey, toned, or was there before JPEG.

    python -m benchmarks.grain --images PHOTOS --limit 20 --out runs/grain.json

Medians and quartiles over the photos, which are reduced first as in ``benchmarks.estimate``. Noise of 0 is the photo
as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import Tensor

from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import spread
from adapt_diffuse.degradation.kernel import LUMINANCE
from adapt_diffuse.errors import run_script
from adapt_diffuse.estimate import estimate_damage, load_estimator
from adapt_diffuse.estimate.simulate import saved
from adapt_diffuse.images import find_photos, read_photo
from benchmarks.estimate import reduced
from benchmarks.inputs import parser_of

LEVELS = (0.0, 0.02, 0.05, 0.1)
SEPIA = (1.0, 0.92, 0.75)
QUALITY = 90  # of the JPEG that comes last


def grey(photo: Tensor) -> Tensor:
    return (photo * photo.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True).expand_as(photo)


def toned(photo: Tensor) -> Tensor:
    return photo * photo.new_tensor(SEPIA)[:, None, None]


# what the photo is made before its grain, whether that is alike in all channels, and what comes after
KINDS: dict[str, tuple[Callable[[Tensor], Tensor], bool, Callable[[Tensor], Tensor]]] = {
    "in each channel": (lambda photo: photo, False, lambda photo: photo),
    "alike in all channels": (lambda photo: photo, True, lambda photo: photo),
    "grey": (grey, True, lambda photo: photo),
    "sepia": (grey, True, toned),
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--reduce", type=float, default=1.5, help="make the photos smaller first, by this factor")
    args = parser.parse_args()
    network = load_estimator()
    photos = [reduced(read_photo(path), args.reduce) for path in spread(find_photos(args.images), args.limit)]
    rows = []
    for name, (before, alike, after) in KINDS.items():
        for compressed in (False, True):
            for level in LEVELS:
                read = []
                for index, photo in enumerate(photos):
                    grain = torch.randn(photo.shape, generator=torch.Generator().manual_seed(index))
                    y = after(before(photo) + level * (grain[:, :1] if alike else grain)).clamp(0, 1)
                    y = saved(y, QUALITY) if compressed else (y * 255).round() / 255
                    read.append(float(estimate_damage(y, network).damage.noise_std))
                low, middle, high = torch.tensor(read).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
                rows.append(
                    {"grain": name, "jpeg": compressed, "noise": level, "read": middle, "quartiles": [low, high]}
                )
                print(
                    f"{name:22} {'JPEG' if compressed else '':5} {level:.2f} {middle:.4f} [{low:.4f}, {high:.4f}]",
                    flush=True,
                )
    write_text(args.out, json.dumps(rows, indent=2))


if __name__ == "__main__":
    run_script(main)
