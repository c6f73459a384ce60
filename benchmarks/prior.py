"""How good a denoiser the prior is, level by level, on photos that it has not seen.

    python -m benchmarks.prior --images CLEAN --out prior.json
    python -m benchmarks.prior --images CLEAN --model OTHER --out other.json

The root of the mean squared error of ``denoise(z0 + sigma eps, sigma)``, in the model's latent scale, over sigma: 1 is
noise as it was. ``--whole`` shows whole photos, made smaller, in the place of their middles.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import spread
from adapt_diffuse.degradation import randn
from adapt_diffuse.errors import run_script
from adapt_diffuse.images import find_photos
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.prior import LatentPrior
from adapt_diffuse.restore import generators_for
from benchmarks.inputs import load_photos, load_prior, parser_of
from benchmarks.table import table

LEVELS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)


@torch.no_grad()
def errors(prior: LatentPrior, truth: Tensor, batch: int, seed: int = 0) -> dict[str, list[float]]:
    """For every level the mean squared errors (n,) of the photos' posterior means, in the model's latent scale.

    Args:
        truth: (n, 3, H, W) on [0, 1].
        seed: photo i is noised by the numbers of ``seed + i``, at all levels by the same.
    """
    found: dict[str, list[float]] = {f"{level:g}": [] for level in LEVELS}
    for first in range(0, len(truth), batch):
        z0 = prior.encode(truth[first : first + batch])
        noise = randn(z0.shape, z0, generators_for(seed + first, len(z0)))
        for level in LEVELS:
            guess = prior.denoise(z0 + level * noise, z0.new_full((len(z0),), level))
            found[f"{level:g}"] += (guess - z0).square().mean(dim=(1, 2, 3)).tolist()
    return found


def relative(found: dict[str, list[float]]) -> dict[str, float]:
    """Root mean squares over the photos, over sigma."""
    return {level: (sum(values) / len(values)) ** 0.5 / float(level) for level, values in found.items()}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--whole", action="store_true", help="whole photos, their shorter side made --size long")
    args = parser.parse_args()
    if args.whole:
        paths = spread(find_photos(args.images), args.limit)
        truth = PhotoCrops(paths, args.size, max_side=args.size).centres()
    else:
        truth = load_photos(args)
    found = errors(load_prior(args), truth, args.batch)
    write_text(args.out, json.dumps({"photos": len(truth), "whole": args.whole, "errors": found}))
    row = relative(found)
    print(table(["sigma", *row], [["RMSE / sigma", *(f"{value:.3f}" for value in row.values())]]))


if __name__ == "__main__":
    run_script(main)
