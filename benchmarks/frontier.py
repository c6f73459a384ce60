"""Quality against cost: every solver at several densities of steps, from the adaptive start and from pure noise.

    python -m benchmarks.frontier --task gaussian-blur-varying --images TEST --limit 16 --out F.json
    python -m benchmarks.frontier_table F.json --picture F.png

A row's cost is the sum of its passes, each in denoiser forwards (``benchmarks.cost``). ``flash-ldps`` at 0 steps per
octave walks every level, as published. Step sizes of sparse schedules are those that ``benchmarks.choose`` found on
training photos.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapt_diffuse.benchmark import TASKS, MethodSettings, damage, run_method
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import describe
from adapt_diffuse.defaults import LINEAR_ONLY, kind_of, start_settings
from adapt_diffuse.degradation import Degradation
from adapt_diffuse.errors import run_script
from adapt_diffuse.start import StartSettings
from benchmarks.cost import denoiser_forwards
from benchmarks.inputs import add_encoder, load_encoder, load_photos, load_prior, parser_of

NONLINEAR = "nonlinear-blur"
REFERENCE = "flash-ldps 0"


@dataclass(frozen=True)
class Case:
    """A point of the picture.

    Attributes:
        method: as the benchmark names it.
        per_octave: steps in which the noise halves; 0 is every level that the paper's solver walks.
        eta: step size for (blur, lost pixels, camera shake) where it is not the tool's own, which holds for the tool's
            density.
        tiny: whether ``--guidance-vae`` stands in for the model's own autoencoder in the data term.
    """

    method: str
    per_octave: float = 0.0
    eta: tuple[float, float, float] | None = None
    tiny: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.per_octave:g}{' tiny' if self.tiny else ''}"

    def start(self, solver: str, degradation: Degradation) -> StartSettings:
        return replace(start_settings(solver), per_octave=self.per_octave)


CASES = (
    Case("ae"),
    Case("flash-ldps"),
    Case("flash-ldps", 3, (8.0, 32.0, 8.0)),
    Case("flash-ldps", 12, (8.0, 16.0, 8.0)),
    *(Case("flash-latino", density) for density in (1, 2, 3, 6)),
    *(Case("flash-diffpir", density) for density in (1, 2, 3, 6)),
    Case("flash-mpgd", 3, (12.0, 48.0, 12.0)),
    Case("flash-mpgd", 6, (6.0, 24.0, 6.0)),
    Case("flash-flow-dps", 3, (32.0, 64.0, 32.0)),
    Case("flash-latent-daps", 1),
    Case("flash-dcdp", 2),
    Case("latino", 3),
    Case("diffpir", 3),
    Case("flash-gml-dps"),
    Case("flash-psld"),
    Case("flash-resample"),
    Case("flash-ldps", tiny=True),
    *(Case("flash-latino", density, tiny=True) for density in (2, 3)),
    *(Case("flash-diffpir", density, tiny=True) for density in (1, 2, 3)),
)


def cases_for(task: str, methods: list[str] | None, tiny: bool = False) -> list[Case]:
    """The points of a task; ``methods`` keeps those of some methods, or of some names, ``tiny`` adds its points."""
    possible = [case for case in CASES if task != NONLINEAR or case.method.removeprefix("flash-") not in LINEAR_ONLY]
    possible = [case for case in possible if tiny or not case.tiny]
    return [case for case in possible if methods is None or {case.method, case.name} & set(methods)]


def measure(args: argparse.Namespace) -> None:
    """Write the rows of all points as they come."""
    truth, prior, encoder = load_photos(args), load_prior(args), load_encoder(args, TASKS[args.task][1])
    guided = load_prior(args, args.guidance_vae) if args.guidance_vae else None  # the same with the tiny autoencoder
    photos = damage(args.task, truth, args.seed)
    rows: list[dict[str, Any]] = []
    for case in cases_for(args.task, args.methods.split(",") if args.methods else None, guided is not None):
        kind = 2 if args.task == NONLINEAR else int(kind_of(photos.degradation) == "missing")
        eta = case.eta[kind] if case.eta else None
        settings = MethodSettings(eta=eta, start=case.start)
        model = guided if case.tiny else prior
        row, _ = run_method(case.method, args.task, photos, model, encoder, args.seed, settings, args.batch)
        rows.append({**row, "case": case.name, "cost": denoiser_forwards(row)})
        write_text(args.out, json.dumps({"task": args.task, "rows": rows}, indent=2))
        print(f"{case.name:20} cost {rows[-1]['cost']:6.1f}  {describe(row)}", flush=True)


def main() -> None:
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--task", choices=tuple(TASKS), required=True)
    parser.add_argument("--methods", help="some of the methods, or points such as flash-mpgd 3, with commas")
    parser.add_argument("--guidance-vae", type=Path, help="diffusers folder of the tiny autoencoder, for its points")
    parser.add_argument("--seed", type=int, default=0)
    measure(parser.parse_args())


if __name__ == "__main__":
    run_script(main)
