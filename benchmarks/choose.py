"""What the default, and the numbers of sparse solvers, are chosen by: candidates on photos of the training folder.

    python -m benchmarks.choose --task gaussian-blur-varying --images TRAIN --limit 12 --out choose.json

Every candidate restores the same damaged photos from the adaptive start. Test photos are for reporting alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from adapt_diffuse.benchmark import NOISE_SEED, TASKS, Damaged, damage
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.cost import Cost
from adapt_diffuse.defaults import make_solver
from adapt_diffuse.errors import run_script
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.metrics import haarpsi, psnr
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.severity import SeverityModel
from adapt_diffuse.solvers import Solver
from adapt_diffuse.start import StartSettings
from benchmarks.cost import denoiser_forwards
from benchmarks.inputs import add_encoder, load_encoder, load_photos, load_prior, parser_of
from benchmarks.table import table

NONLINEAR = "nonlinear-blur"


@dataclass(frozen=True)
class Candidate:
    """A solver with its numbers, and how it starts and steps."""

    name: str
    solver: Solver
    start: StartSettings

    @property
    def label(self) -> str:
        return f"{self.name}, {self.start.per_octave:g} per octave, c {self.start.noise_correction:g}"


def candidates(photos: Damaged, linear: bool) -> Iterator[Candidate]:
    """First those that the default is chosen from, then step sizes for the solvers that need one."""

    def solver(name: str, **numbers: Any) -> Solver:
        made: Any = make_solver(name, photos.degradation, through="denoiser")
        return replace(made, **numbers)

    def sparse(density: float, c: float) -> StartSettings:
        return StartSettings(noise_correction=c, per_octave=density)

    for density in (1, 2, 3):
        for c in (0.25, 0.5, 1.0) if linear else ():
            yield Candidate("latino", solver("latino"), sparse(density, c))
        for iterations in (1, 2) if linear else (2, 5):
            fit = solver("diffpir", iterations=iterations)
            yield Candidate(f"diffpir, {iterations} iterations", fit, sparse(density, 0.5))
    for c in (0.25, 1.0):
        yield Candidate("diffpir, 2 iterations", solver("diffpir", iterations=2), sparse(2, c))
    for density in (2, 3, 6):
        for eta in (6.0, 12.0, 24.0, 48.0):
            yield Candidate(f"mpgd, eta {eta:g}", solver("mpgd", eta=eta), sparse(density, 0.5))
    for eta in (4.0, 8.0, 16.0, 32.0, 64.0):
        yield Candidate(f"flow-dps, eta {eta:g}", solver("flow-dps", eta=eta), sparse(3, 0.5))
    for density, etas in ((3, (4.0, 8.0, 16.0, 32.0)), (12, (4.0, 8.0, 16.0))):
        for eta in etas:
            yield Candidate(f"ldps, eta {eta:g}", solver("ldps", eta=eta), sparse(density, 1.0))


def judged(
    candidate: Candidate, photos: Damaged, prior: DiffusersPrior, encoder: SeverityModel, seed: int, batch: int
) -> dict[str, Any]:
    """One row: means over the photos, and each photo's own scores."""
    generators = generators_for(seed + NOISE_SEED, len(photos.truth))
    images, cost = [], Cost()
    for indices in torch.arange(len(photos.truth)).split(batch):
        part, chosen = photos.select(indices), [generators[int(index)] for index in indices]
        done = restore(part.y, part.degradation, prior, candidate.solver, chosen, encoder, candidate.start)
        images.append(done.image)
        cost = cost + done.cost
    image = torch.cat(images)
    scores = {"psnr": psnr(image, photos.truth), "haarpsi": haarpsi(image, photos.truth)}
    return {
        "candidate": candidate.label,
        "calls": cost.denoiser_forwards / len(image),
        "cost": denoiser_forwards(cost) / len(image),
        **{name: float(values.mean()) for name, values in scores.items()},
        "photos": {name: values.tolist() for name, values in scores.items()},
    }


def line(row: dict[str, Any]) -> list[str]:
    return [
        row["candidate"],
        *(f"{row[key]:.1f}" for key in ("calls", "cost")),
        f"{row['psnr']:.2f}",
        f"{row['haarpsi']:.3f}",
    ]


def main() -> None:
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--task", choices=tuple(TASKS), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="candidates with this in their names")
    args = parser.parse_args()
    truth, prior, encoder = load_photos(args), load_prior(args), load_encoder(args, TASKS[args.task][1])
    photos = damage(args.task, truth, args.seed)
    rows: list[dict[str, Any]] = []
    chosen = [one for one in candidates(photos, args.task != NONLINEAR) if args.only in one.label]
    for candidate in chosen:
        rows.append(judged(candidate, photos, prior, encoder, args.seed, args.batch))
        write_text(args.out, json.dumps({"task": args.task, "rows": rows}, indent=2))
        print("  ".join(line(rows[-1])), flush=True)
    print(table(["candidate", "calls", "cost", "PSNR dB", "HaarPSI"], [line(row) for row in rows]))


if __name__ == "__main__":
    run_script(main)
