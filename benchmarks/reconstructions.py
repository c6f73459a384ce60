"""Photos through the autoencoder and back: what a latent method can reach at best.

python -m benchmarks.reconstructions --images TEST --limit 8 --out benchmarks/reconstructions.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.commands.benchmark import spread
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import centre_crop, find_photos, read_photo, write_image
from adapt_diffuse.metrics import psnr
from benchmarks.samples import grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--model", type=Path, help="default: the bundled one")
    parser.add_argument(
        "--out", type=Path, required=True, help="picture: the photos above, their reconstructions below"
    )
    args = parser.parse_args()
    paths = spread(find_photos(args.images), args.limit)
    truth = torch.cat([centre_crop(read_photo(path), args.size) for path in paths])
    prior = DiffusersPrior.load(args.model or bundled_model())
    with torch.no_grad():
        back = prior.decode(prior.encode(truth)).clamp(0, 1)
    write_image(args.out, grid(torch.cat([truth, back]), len(truth)))
    print(f"{args.out}: PSNR {float(psnr(back, truth).mean()):.2f} dB over {len(truth)} photos")


if __name__ == "__main__":
    main()
