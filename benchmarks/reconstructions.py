"""Photos through the autoencoder and back: what a latent method can reach at best.

python -m benchmarks.reconstructions --images TEST --limit 8 --out benchmarks/reconstructions.png
"""

from __future__ import annotations

import torch

from adapt_diffuse.errors import run_script
from adapt_diffuse.images import write_image
from adapt_diffuse.metrics import psnr
from benchmarks.inputs import load_photos, load_prior, parser_of
from benchmarks.samples import grid


def main() -> None:
    args = parser_of(__doc__, out="picture: photos above, reconstructions below").parse_args()
    truth, prior = load_photos(args), load_prior(args)
    with torch.no_grad():
        back = torch.cat([prior.decode(prior.encode(part)) for part in truth.split(args.batch)]).clamp(0, 1)
    write_image(args.out, grid(torch.cat([truth, back]), len(truth)))
    print(f"{args.out}: PSNR {float(psnr(back, truth).mean()):.2f} dB over {len(truth)} photos")


if __name__ == "__main__":
    run_script(main)
