"""Every kind of damage: the photo as it came, the estimate of its severity, the restoration without and with detail.

    python -m benchmarks.kinds --images TEST --limit 20 --out kinds.json --sheet kinds.png

Each kind takes the encoder that the command line takes: its own family's or the mixed family's where they know the
damage, else a calibration.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from adapt_diffuse.benchmark import NOISE_SEED
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.restore import encoders
from adapt_diffuse.defaults import make_solver, start_settings
from adapt_diffuse.degradation import Degradation, measure, parse_degradation
from adapt_diffuse.errors import run_script
from adapt_diffuse.finish import finished
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import write_image
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.metrics import haarpsi, psnr
from adapt_diffuse.restore import damage_generators, generators_for, restore
from adapt_diffuse.severity import SeverityModel
from adapt_diffuse.severity.calibration import Calibration, fill_lost
from adapt_diffuse.sheet import before_after
from benchmarks.inputs import load_photos, load_prior, parser_of
from benchmarks.table import table

# what happens to the photo, and the noise afterwards
KINDS = (
    ("gaussian-blur:std=2", 0.05),
    ("lens-blur:radius=4", 0.03),
    ("motion-blur:length=9,angle=30", 0.03),
    ("camera-blur:extent=8,seed=1,gain=1", 0.03),
    ("missing-pixels:drop=0.75", 0.05),
    ("downscale:factor=3", 0.01),
    ("jpeg:quality=15", 0.01),
    ("noise", 0.1),
    ("gaussian-blur:std=1.5|jpeg:quality=25", 0.01),
    ("film-damage", 0.03),
)


def pictures(
    degradation: Degradation, truth: Tensor, prior: DiffusersPrior, encoder: SeverityModel, batch: int
) -> dict[str, Tensor]:
    """The photos (n, 3, H, W) on [0, 1]: damaged, lost pixels filled without a model, and restored.

    The estimate (``ae``), what the solver makes alone, and what the tool gives (``default``).
    """
    versions: dict[str, list[Tensor]] = {"damaged": [], "filled": [], "ae": [], "solver": [], "default": []}
    for first, part in zip(range(0, len(truth), batch), truth.split(batch), strict=True):
        y = measure(part, degradation, damage_generators(first, len(part)))
        versions["damaged"].append(degradation.start_image(y).clamp(0, 1))
        versions["filled"].append(fill_lost(versions["damaged"][-1], degradation))
        for method, solver in (("ae", None), ("solver", make_solver("default", degradation))):
            generators = generators_for(first + NOISE_SEED, len(part))
            start = start_settings("default", 0, degradation)
            image = restore(y, degradation, prior, solver, generators, encoder, start).image
            versions[method].append(image)
        versions["default"].append(finished(versions["solver"][-1], Measurement.of(y, degradation)))
    height, width = truth.shape[2:]  # a smaller photo may stand for a few pixels more
    return {method: torch.cat(images)[:, :, :height, :width] for method, images in versions.items()}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--encoder", type=Path, help="for all kinds; default: the one that the command line takes")
    parser.add_argument("--sheet", type=Path, help="picture of the first photo under every kind")
    args = parser.parse_args()
    truth, prior = load_photos(args), load_prior(args)
    fitting = encoders(prior, args.encoder)
    rows, lines, first = [], [], []
    for text, noise_std in KINDS:
        degradation = parse_degradation(text, noise_std)
        encoder = fitting(degradation(truth[:1]).shape[2:], degradation)
        known = "calibration" if isinstance(encoder, Calibration) else encoder.notes["family"]["name"]
        found = pictures(degradation, truth, prior, encoder, args.batch)
        scores = {
            method: {"psnr": float(psnr(image, truth).mean()), "haarpsi": float(haarpsi(image, truth).mean())}
            for method, image in found.items()
        }
        rows.append({"kind": text, "noise_std": noise_std, "encoder": known, "images": len(truth), **scores})
        write_text(args.out, json.dumps(rows, indent=2))
        lines.append(
            [text, f"{noise_std:g}", known, *(f"{s['psnr']:.2f} / {s['haarpsi']:.3f}" for s in scores.values())]
        )
        first.append({method: image[:1] for method, image in found.items()})
    print(table(["kind", "noise", "encoder", *(f"{method}: PSNR / HaarPSI" for method in first[0])], lines))
    if args.sheet:
        columns = [(method, torch.cat([each[method] for each in first])) for method in first[0]]
        write_image(args.sheet, before_after([("truth", truth[:1].expand(len(KINDS), -1, -1, -1)), *columns]))


if __name__ == "__main__":
    run_script(main)
