"""What happens when the world is not the one that was trained for?

    python -m benchmarks.robustness --images TEST --limit 50 --out robustness.json

The blur encoder's family is std 0.3 to 3, noise 0.05. Sweeps, one thing at a time: the noise from 0.01 to 0.2, the
blur up to twice the trained range, and a wrong operator (the solver is told another std than the true one).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from adapt_diffuse.benchmark import Damaged, MethodSettings, run_method
from adapt_diffuse.bundled import bundled_model, default_encoder
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import describe, spread
from adapt_diffuse.degradation import GaussianBlur, measure
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import centre_crop, find_photos, read_photo
from adapt_diffuse.restore import damage_generators
from adapt_diffuse.severity import load_severity_encoder

NOISES = (0.01, 0.02, 0.05, 0.1, 0.2)
STDS = (0.5, 1.5, 3.0, 4.0, 6.0)
TOLD = (1.0, 1.5, 2.0, 2.5, 3.0)
TASK = "gaussian-blur-varying"


def blurred(truth: Tensor, std: float, noise: float, told: float | None = None) -> Damaged:
    """Photos blurred by ``std``, with a solver that is told ``told`` (the truth by default)."""
    y = measure(truth, GaussianBlur(std, noise), damage_generators(0, len(truth)))
    believed = GaussianBlur(std if told is None else told, noise)
    return Damaged(truth, y, believed, torch.full((len(truth),), std, dtype=torch.float64))


def sweeps(truth: Tensor) -> Iterator[tuple[str, float, Damaged]]:
    """The name of each sweep, its value, and the photos."""
    for noise in NOISES:
        yield "noise", noise, blurred(truth, 1.5, noise)
    for std in STDS:
        yield "blur", std, blurred(truth, std, 0.05)
    for told in TOLD:
        yield "told std (true 2)", told, blurred(truth, 2.0, 0.05, told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="damaged,ae,flash-ldps")
    parser.add_argument("--images", required=True, help="folder of undamaged photos")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--model", type=Path, help="default: the bundled one")
    parser.add_argument("--severity-encoder", type=Path, help="default: the bundled one")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    paths = spread(find_photos(args.images), args.limit)
    truth = torch.cat([centre_crop(read_photo(path), args.size) for path in paths])
    prior = DiffusersPrior.load(args.model or bundled_model())
    encoder = load_severity_encoder(args.severity_encoder or default_encoder("gaussian-blur"))
    rows = []
    for sweep, value, photos in sweeps(truth):
        for method in args.methods.split(","):
            row, _ = run_method(method, TASK, photos, prior, encoder, 0, MethodSettings(), batch=args.batch)
            rows.append({**row, "sweep": sweep, "value": value})
            write_text(args.out, json.dumps(rows, indent=2))
            print(f"{sweep} {value:g}: {describe(row)}", flush=True)


if __name__ == "__main__":
    main()
