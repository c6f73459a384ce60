"""LPIPS and FID of photos that the benchmark has saved, where their packages and weights are at hand.

    python -m adapt_diffuse benchmark --task TASK --methods ae,default --images TEST --save SAVED --out rows.json
    pip install lpips pytorch-fid
    python -m benchmarks.perceptual --saved SAVED --out perceptual.json

Every folder ``SAVED/TASK/METHOD`` is compared with ``SAVED/TASK/truth``. The networks' weights are those that the two
packages fetch when they are first used, or find in ``$TORCH_HOME/hub/checkpoints``. FID wants thousands of photos: of
fewer it says little, and differs with their number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapt_diffuse.checkpoints import device_of, write_text
from adapt_diffuse.commands.benchmark import TRUTH
from adapt_diffuse.errors import AdaptDiffuseError, run_script
from adapt_diffuse.images import find_photos, read_photo
from adapt_diffuse.statistics import mean_interval
from benchmarks.table import interval, table

Distance = Callable[[Path, Path], dict[str, Any]]  # of a folder of photos from the folder of true ones


def lpips_distance(network: str, device: torch.device) -> Distance:
    """LPIPS (Zhang et al. 2018), photo by photo."""
    import lpips

    measure = lpips.LPIPS(net=network, verbose=False).to(device).eval()

    @torch.no_grad()
    def distance(folder: Path, truth: Path) -> dict[str, Any]:
        pairs = zip(find_photos(folder), find_photos(truth), strict=True)
        values = [float(measure(*(read_photo(path).to(device) * 2 - 1 for path in pair))) for pair in pairs]
        return {"lpips": values}

    return distance


def fid_distance(device: torch.device) -> Distance:
    """FID (Heusel et al. 2017) between the two folders."""
    from pytorch_fid.fid_score import calculate_fid_given_paths

    def distance(folder: Path, truth: Path) -> dict[str, Any]:
        return {"fid": float(calculate_fid_given_paths([str(truth), str(folder)], 16, device, 2048, 0))}

    return distance


def distances(network: str, device: torch.device) -> list[Distance]:
    """Those whose packages are installed."""
    found: list[Distance] = []
    for make in (lambda: lpips_distance(network, device), lambda: fid_distance(device)):
        try:
            found.append(make())
        except ImportError as error:
            print(f"{error}; without it the column stays empty.")
    if not found:
        raise SystemExit("perceptual: pip install lpips pytorch-fid")
    return found


def compared(saved: Path, measures: list[Distance]) -> list[dict[str, Any]]:
    """A row for each task and method of a folder of ``benchmark --save``.

    Raises:
        AdaptDiffuseError: it has no photos.
    """
    truths = sorted(saved.glob(f"*/{TRUTH}"))
    if not truths:
        raise AdaptDiffuseError(f"The folder {saved} was not written by benchmark --save: it has no TASK/{TRUTH}.")
    rows: list[dict[str, Any]] = []
    for truth in truths:
        for folder in sorted(path for path in truth.parent.iterdir() if path.is_dir() and path != truth):
            row: dict[str, Any] = {"task": truth.parent.name, "method": folder.name, "images": len(find_photos(truth))}
            for measure in measures:
                row |= measure(folder, truth)
            rows.append(row)
    return rows


def line(row: dict[str, Any]) -> list[str]:
    lpips = interval(mean_interval(row["lpips"], np.random.default_rng(0)), "{:.3f}") if "lpips" in row else "-"
    return [row["task"], row["method"], str(row["images"]), lpips, f"{row['fid']:.1f}" if "fid" in row else "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved", type=Path, required=True, help="folder of benchmark --save")
    parser.add_argument("--network", choices=("alex", "vgg"), default="alex", help="LPIPS's; the paper has vgg")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    rows = compared(args.saved, distances(args.network, device_of(args.device)))
    write_text(args.out, json.dumps(rows, indent=2))
    print(table(["task", "method", "photos", "LPIPS", "FID"], [line(row) for row in rows]))


if __name__ == "__main__":
    run_script(main)
