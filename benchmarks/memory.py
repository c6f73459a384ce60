"""Peak memory of one decoder gradient: whole, with recomputed blocks, in tiles, and through a tiny autoencoder.

    python -m benchmarks.memory --side 2048 --out memory.json
    python -m benchmarks.memory --vae sd --tiny taesd_encoder.safetensors --side 256 --tile 128 --out memory-sd.json

Each way runs in a process of its own on the CPU, and its peak is that of the process (resident memory) less what the
process held before: what the operating system has to find, with every temporary buffer in it. ``--vae`` names another
diffusers autoencoder, or is ``sd``: the layout of Stable Diffusion's, with random weights, which cost the same.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from adapt_diffuse.autoencoder import autoencoder_folder, decode_raw, downsampling, latent_channels
from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.errors import run_script
from adapt_diffuse.fitted import FittedPass
from adapt_diffuse.hosts.diffusers import load_guide
from adapt_diffuse.memory import LocalMachine
from adapt_diffuse.tiling import Units

MIB = 2**20
RANDOM = "sd"
WAYS = ("whole", "recomputed", "tiles")


@dataclass(frozen=True)
class Told(LocalMachine):
    """A machine that has as much memory as it is told."""

    bytes: float = math.inf

    def free(self) -> float:
        return self.bytes


def resident() -> float:
    """Peak resident memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 2**10)


def autoencoder_of(vae: str) -> Any:
    """The autoencoder in a path, full or tiny, or one of Stable Diffusion's layout with random weights for ``sd``."""
    if vae != RANDOM:
        return load_guide(Path(vae))
    widths = (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=2,
        latent_channels=4,
    ).requires_grad_(False).eval()  # fmt: skip


def measured(vae: str, side: int, way: str, tile: int) -> dict[str, float]:
    """One gradient of a picture's norm with respect to its latent, in this process."""
    autoencoder = autoencoder_of(vae)
    factor = downsampling(autoencoder)
    z = torch.randn(1, latent_channels(autoencoder), side // factor, side // factor).requires_grad_()

    def passing(tile: int = 0, free: float = math.inf) -> FittedPass:
        units, machine = Units(1, factor), Told(z.device, free)
        return FittedPass(lambda raw: decode_raw(autoencoder, raw), autoencoder, units, machine, "decoder", tile)

    small = z[:, :, :16, :16].detach().requires_grad_()
    torch.autograd.grad(passing()(small).norm(), small)  # what libraries allocate once
    enough = 2 * passing().rungs(z, True)[1].bytes  # for recomputed blocks, and not for the whole
    chosen = {"whole": passing(), "recomputed": passing(free=enough), "tiles": passing(tile)}[way]
    before, begin = resident(), time.perf_counter()
    (gradient,) = torch.autograd.grad(chosen(z).norm(), z)
    return {
        "mib": resident() - before,
        "seconds": time.perf_counter() - begin,
        "norm": float(gradient.norm()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", default=str(autoencoder_folder(bundled_model())), help=f"folder, file, or {RANDOM}")
    parser.add_argument("--tiny", help="autoencoder to go through as a whole in its place, as the last row")
    parser.add_argument("--side", type=int, default=2048, help="of the picture in pixels")
    parser.add_argument("--tile", type=int, default=512, help="in pixels")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=WAYS, help="run this one, here; default: all")
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measured(args.vae, args.side, args.way, args.tile)))
        return
    found = {}
    ways = dict.fromkeys(WAYS, args.vae) | ({"tiny whole": args.tiny} if args.tiny else {})
    for way, vae in ways.items():
        options = ["--vae", vae, "--side", args.side, "--tile", args.tile, "--way", way.removeprefix("tiny ")]
        command = [sys.executable, "-m", "benchmarks.memory", *map(str, options)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        found[way] = json.loads(done.stdout.splitlines()[-1])
        share = found[way]["mib"] / found["whole"]["mib"]
        print(
            f"{way:12} {found[way]['mib']:8.0f} MiB  {share:5.2f} of whole  {found[way]['seconds']:6.1f} s, "
            f"{found[way]['seconds'] / found['whole']['seconds']:.2f}"
        )
    if args.out:
        write_text(args.out, json.dumps(found, indent=2))


if __name__ == "__main__":
    run_script(main)
