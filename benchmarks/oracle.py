"""How far each solver's samples are from the truth, in a world where the truth is known.

    python -m benchmarks.oracle --out oracle.json

Gaussian latents, a linear decoder, a linear degradation, the exact denoiser: the posterior of the latent given the
photo is a Gaussian in closed form (``tests/gaussian_world.py``). Every solver restores one measurement many times, as
the tool runs it: its tuned numbers, its steps, gradients through the decoder, from pure noise and from the adaptive
start of a perfect severity encoder. Of the samples, along the posterior's principal axes:

* bias: of their mean, in posterior standard deviations, root mean square; n samples of the truth have 1 / sqrt(n);
* variance: over the posterior's, mean (smallest, largest); 1 is right, 0 a point, below 1 too sure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.defaults import PER_OCTAVE, make_solver, start_settings
from adapt_diffuse.degradation import Degradation, GaussianBlur, MissingPixels, randn, random_mask
from adapt_diffuse.errors import run_script
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.prior import over_image
from adapt_diffuse.restore import generators_for
from adapt_diffuse.solvers import SOLVERS, Solver, solve
from adapt_diffuse.start import Start, StartSettings
from benchmarks.table import table
from tests.gaussian_world import Deviation, ExactSolver, GaussianWorld, Unguided, pixel_world, tiny_world

NOISE_STD = 0.1
SOLVER_SEED, SPREAD_SEED = 10_000, 20_000
STARTS = ("noise", "adaptive")
# solvers that fit each photo by itself: fewer samples
SLOW = {"resample": 8}
EVERY_LEVEL, SPARSE = StartSettings(), StartSettings(per_octave=PER_OCTAVE)


@dataclass(frozen=True)
class Contestant:
    """A solver for a world, a degradation and a start, and how densely it runs.

    Attributes:
        spread: the adaptive start draws the estimate's own error as well, of which it otherwise has the mean alone.
    """

    make: Callable[[GaussianWorld, Degradation, str], Solver]
    settings: StartSettings
    world: GaussianWorld
    spread: bool = False


def damages(size: tuple[int, ...]) -> dict[str, Degradation]:
    """The degradations of the table, for images of (height, width)."""
    mask = random_mask((1, 1, *size[-2:]), torch.tensor([0.6]), torch.Generator().manual_seed(0))
    return {"gaussian-blur": GaussianBlur(1.0, NOISE_STD), "missing-pixels": MissingPixels(mask, NOISE_STD)}


def contestants() -> dict[str, Contestant]:
    """The controls, which know the answer or do not look at it, and every solver of the pack."""
    world, pixels = tiny_world(), pixel_world()
    found = {
        "unguided": Contestant(lambda world, damage, start: Unguided(), EVERY_LEVEL, world),
        "exact": Contestant(lambda world, damage, start: ExactSolver(world), EVERY_LEVEL, world),
        "exact-spread": Contestant(lambda world, damage, start: ExactSolver(world), EVERY_LEVEL, world, spread=True),
        "exact-sparse": Contestant(lambda world, damage, start: ExactSolver(world, eta_ddim=0.0), SPARSE, world),
    }
    for name in SOLVERS:
        found[name] = Contestant(_maker(name), start_settings(name), pixels if name == "dps" else world)
    return found


def _maker(name: str) -> Callable[[GaussianWorld, Degradation, str], Solver]:
    return lambda world, damage, start: make_solver(name, damage, flash=start == "adaptive")


def begin(contestant: Contestant, measurement: Measurement, start: str) -> Start:
    world, settings = contestant.world, contestant.settings
    if start == "noise":
        return world.from_noise(len(measurement.y), settings)
    begun = world.adaptive(measurement, settings)
    if not contestant.spread:
        return begun
    error = begun.sigma / settings.noise_correction**0.5
    eps = randn(begun.x.shape, begun.x, generators_for(SPREAD_SEED, len(begun.x)))
    return replace(begun, x=begun.x + over_image(error, begun.x) * eps)


def run(contestant: Contestant, damage: str, start: str, count: int) -> dict[str, Any]:
    """One cell of the table: ``count`` samples of one solver."""
    world = contestant.world
    degradation = damages(world.image_shape)[damage]
    measurement = world.measured(degradation, count)
    begun = begin(contestant, measurement, start)
    solver = contestant.make(world, degradation, start)
    generators = generators_for(SOLVER_SEED, count)
    z0 = solve(solver, world, measurement, begun.x, begun.schedules, generators)
    deviation = Deviation.of(z0, world.posterior(measurement))
    return {
        "damage": damage,
        "start": start,
        "samples": count,
        "steps": int(begun.steps[0]),
        "rms_bias": deviation.rms_bias,
        "bias": deviation.bias.tolist(),
        "variance_ratio": deviation.ratio.tolist(),
    }


def cells(row: dict[str, Any]) -> list[str]:
    ratios = row["variance_ratio"]
    spread = f"{sum(ratios) / len(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
    return [str(row["steps"]), f"{row['rms_bias']:.2f}", spread]


def lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each solver and degradation: its cells from noise, then from the adaptive start."""
    pairs: dict[tuple[str, str], list[str]] = {(row["damage"], row["solver"]): [] for row in rows}
    for row in rows:
        pairs[row["damage"], row["solver"]] += cells(row)
    return [[*pair, *found] for pair, found in pairs.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--solvers", help="only these, with commas between; default: all, and the controls")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    entered = contestants()
    names = args.solvers.split(",") if args.solvers else list(entered)
    rows = []
    for damage in damages((1, 1)):
        for name in names:
            for start in STARTS:
                count = max(args.samples // SLOW.get(name, 1), 2)
                rows.append({"solver": name, **run(entered[name], damage, start, count)})
                write_text(args.out, json.dumps(rows, indent=2))
    columns = [f"{start}: {what}" for start in STARTS for what in ("steps", "bias", "variance")]
    print(table(["damage", "solver", *columns], lines(rows)))


if __name__ == "__main__":
    run_script(main)
