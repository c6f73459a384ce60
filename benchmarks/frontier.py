"""Quality against cost: every solver at several densities of steps, from the adaptive start and from pure noise.

    python -m benchmarks.frontier --task gaussian-blur-varying --images TEST --limit 16 --out F.json --picture F.png

A row's cost is the sum of its passes, each in denoiser forwards (``benchmarks.cost``). ``flash-ldps`` at 0 steps per
octave walks every level, as published, and the last columns are the differences to it, paired by photo, with 95 %
bootstrap intervals. Step sizes of sparse schedules are those that ``benchmarks.choose`` found on training photos.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from adapt_diffuse.benchmark import TASKS, MethodSettings, damage, run_method
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import describe
from adapt_diffuse.defaults import kind_of, start_settings
from adapt_diffuse.degradation import Degradation
from adapt_diffuse.start import StartSettings
from adapt_diffuse.statistics import difference_interval
from benchmarks.cost import denoiser_forwards
from benchmarks.figures import COLOURS, DPI, GREY, METRICS
from benchmarks.inputs import add_encoder, load_encoder, load_photos, load_prior, parser_of
from benchmarks.sweep_figures import panels
from benchmarks.table import places, table, without

SCORES = ("psnr", "haarpsi")
NONLINEAR = "nonlinear-blur"
LINEAR_ONLY = ("psld", "latino")
REFERENCE = "flash-ldps 0"
MARKERS = {"": "o", "from noise": "x", "tiny decoder": "^"}
HEADER = ["task", "method", "steps per octave", "calls", "cost", "PSNR dB", "HaarPSI", *(
    f"{METRICS[score]} minus {REFERENCE.split()[0]}'s at all levels" for score in SCORES
)]  # fmt: skip


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


def reference_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row that the others are compared with; the first where it was left out."""
    return next((row for row in rows if row["case"] == REFERENCE), rows[0])


def compare(rows: list[dict[str, Any]]) -> None:
    """Give every row its differences to the reference, photo by photo: mean, and the ends of the interval."""
    reference = reference_of(rows)
    for row in rows:
        for score in SCORES:
            ours, theirs = ([photo[score] for photo in one["photos"]] for one in (row, reference))
            found = difference_interval(ours, theirs, np.random.default_rng(0))
            row[f"{score}_difference"] = [found.mean, found.low, found.high]


def times(rows: list[dict[str, Any]]) -> list[str]:
    """Each row's seconds over the reference's, as 1/n."""
    reference = reference_of(rows)
    return ["" if row is reference else f"1/{reference['seconds'] / row['seconds']:.0f}" for row in rows]


def line(row: dict[str, Any], task: str) -> list[str]:
    """A row of the page's table; bold where the whole interval is above zero."""
    method, density, *tiny = row["case"].split(" ")
    steps = "" if method == "ae" else "all levels" if density == "0" else density
    gains = []
    for score, digits in zip(SCORES, (2, 3), strict=True):
        mean, low, high = row[f"{score}_difference"]
        text = f"{mean:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        gains.append("" if row["case"] == REFERENCE else f"**{text}**" if low > 0 else text)
    name = method if method.startswith("flash-") or method == "ae" else f"{method} from noise"
    name += ", tiny decoder" if tiny else ""
    cells = [f"{row['denoiser_forwards']:.1f}", f"{row['cost']:.1f}", f"{row['psnr']:.2f}", f"{row['haarpsi']:.3f}"]
    return [task, name, steps, *cells, *gains]


def measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of all points, written as they come."""
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
    return rows


def finished(files: list[Path]) -> dict[str, dict[str, Any]]:
    """The rows of files, by their points in the order of ``CASES``; of a point in two files the later one's."""
    found = {row["case"]: row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    return {
        case.name: {**found[case.name], "cost": denoiser_forwards(found[case.name])}
        for case in CASES
        if case.name in found
    }


def main() -> None:
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--task", choices=tuple(TASKS), required=True)
    parser.add_argument("--methods", help="some of the methods, or points such as flash-mpgd 3, with commas")
    parser.add_argument("--guidance-vae", type=Path, help="diffusers folder of the tiny autoencoder, for its points")
    parser.add_argument("--time", action="store_true", help="a column of seconds over the reference's of the same run")
    parser.add_argument("--rows", nargs="+", type=Path, default=[], help="finished files to show, in place of a run")
    parser.add_argument("--drop", type=places, default=[], help="places of photos to leave out: 6,8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="PNG: quality against cost")
    args = parser.parse_args()
    rows = list(finished(args.rows).values()) if args.rows else measured(args)
    rows = [without(row, args.drop) for row in rows]
    compare(rows)
    write_text(args.out, json.dumps({"task": rows[0]["task"], "rows": rows}, indent=2))
    lines = [line(row, rows[0]["task"] if row is rows[0] else "") for row in rows]
    if args.time:
        lines = [[*cells, part] for cells, part in zip(lines, times(rows), strict=True)]
    print(table([*HEADER, "seconds"] if args.time else HEADER, lines))
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        picture(rows).savefig(args.picture, dpi=DPI)


def series(row: dict[str, Any]) -> tuple[str, bool]:
    """The line of the picture that a row is a point of: its method, and whether with the tiny autoencoder."""
    return row["method"], row["case"].endswith(" tiny")


def picture(rows: list[dict[str, Any]]) -> Figure:
    """Quality over cost, a line for every method; crosses from pure noise, triangles with the tiny autoencoder."""
    figure, axes = panels(len(SCORES))
    names = list(dict.fromkeys(case.method.removeprefix("flash-") for case in CASES))  # of one colour in all pictures
    for axis, score in zip(axes, SCORES, strict=True):
        for method, tiny in dict.fromkeys(map(series, rows)):
            name = method.removeprefix("flash-")
            points = sorted((row["cost"], row[score]) for row in rows if series(row) == (method, tiny))
            kind = "from noise" if name == method != "ae" else "tiny decoder" if tiny else ""
            number = names.index(name) - 1  # the first is no solver
            colour = GREY if name == "ae" else COLOURS[number % len(COLOURS)]
            marker = MARKERS[kind] if number < len(COLOURS) else "s"
            axis.plot(*zip(*points, strict=True), label=f"{name} {kind}".strip(), color=colour, marker=marker)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_xlabel("cost in denoiser forwards per photo")
        axis.set_ylabel(METRICS[score])
    axes[0].set_title(f"{rows[0]['task']}, {rows[0]['images']} photos", loc="left", fontsize=9)
    axes[-1].legend(fontsize=7, frameon=False)
    return figure


if __name__ == "__main__":
    main()
