"""What happens when the world is not the one that was trained for?

    python -m benchmarks.robustness --images TEST --limit 50 --out robustness.json

The blur encoder's family is std 0.3 to 3, noise 0.05. Sweeps, one thing at a time: the noise from 0.01 to 0.2, the
blur up to twice the trained range, and a wrong operator (the solver is told another std than the true one).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from torch import Tensor

from adapt_diffuse.benchmark import Damaged, MethodSettings, run_method
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import describe
from adapt_diffuse.degradation import GaussianBlur, measure
from adapt_diffuse.errors import run_script
from adapt_diffuse.restore import damage_generators
from benchmarks.inputs import add_encoder, load_encoder, load_photos, load_prior, parser_of

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
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--methods", default="damaged,ae,flash-ldps")
    args = parser.parse_args()
    truth, prior, encoder = load_photos(args), load_prior(args), load_encoder(args, "gaussian-blur")
    rows = []
    for sweep, value, photos in sweeps(truth):
        for method in args.methods.split(","):
            row, _ = run_method(method, TASK, photos, prior, encoder, 0, MethodSettings(), batch=args.batch)
            rows.append({**row, "sweep": sweep, "value": value})
            write_text(args.out, json.dumps(rows, indent=2))
            print(f"{sweep} {value:g}: {describe(row)}", flush=True)


if __name__ == "__main__":
    run_script(main)
