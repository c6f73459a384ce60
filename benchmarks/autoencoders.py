"""What the choice of autoencoder changes: what it keeps of a photo, and how well its latents tell damage.

    python -m benchmarks.autoencoders --images TEST --limit 40 --vaes taesd_encoder.safetensors --out F.json

Every autoencoder, the model's own and those of ``--vaes`` (diffusers folders, or tiny ones as published), gets a row:
the PSNR and HaarPSI of the true photos through it, the most that any latent method can reach; and for blurs of rising
std the error of the damaged photo's latent, in units of the latent's own spread, with its Spearman correlation with the
std over all photos. No severity encoder is involved, so that only the autoencoder differs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt_diffuse.autoencoder import autoencoder_folder, decode_raw, encode_raw, latent_space_of, load_autoencoder
from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.degradation import GaussianBlur, measure
from adapt_diffuse.errors import run_script
from adapt_diffuse.hosts.diffusers import load_guide
from adapt_diffuse.metrics import haarpsi, psnr
from adapt_diffuse.restore import damage_generators
from adapt_diffuse.severity.evaluation import correlations
from adapt_diffuse.severity.losses import error_variance
from benchmarks.inputs import load_photos, parser_of

STDS = (0.5, 1.0, 2.0, 3.0)
NOISE_STD = 0.05
BATCH = 8


@torch.no_grad()
def row_of(autoencoder: Any, truth: Tensor) -> dict[str, Any]:
    """The figures of one autoencoder over the photos (n, 3, H, W) on [0, 1]."""
    space = latent_space_of(autoencoder)

    def encode(image: Tensor) -> Tensor:
        return torch.cat([space.from_raw(encode_raw(autoencoder, part * 2 - 1)) for part in image.split(BATCH)])

    z0 = encode(truth)
    back = torch.cat([decode_raw(autoencoder, space.to_raw(part)) for part in z0.split(BATCH)])
    image = ((back + 1) / 2).clamp(0, 1)
    spread = float(z0.std())
    errors = []
    for std in STDS:
        damaged = measure(truth, GaussianBlur(std, NOISE_STD), damage_generators(0, len(truth)))
        errors.append(error_variance(encode(damaged), z0).sqrt().double() / spread)
    levels = torch.tensor(STDS, dtype=torch.float64).repeat_interleave(len(truth))
    return {
        "channels": space.channels,
        "factor": space.factor,
        "spread": spread,
        "psnr": float(psnr(image, truth).mean()),
        "haarpsi": float(haarpsi(image, truth).mean()),
        "errors": {f"{std:g}": float(error.mean()) for std, error in zip(STDS, errors, strict=True)},
        "spearman": correlations(torch.cat(errors), levels)[1],
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--vaes", default="", help="more autoencoders, with commas")
    args = parser.parse_args()
    truth = load_photos(args)
    folder = autoencoder_folder(args.model or bundled_model())
    autoencoders = {"the model's own": load_autoencoder(folder)}
    autoencoders |= {Path(text).name: load_guide(Path(text)) for text in filter(None, args.vaes.split(","))}
    rows = []
    for name, autoencoder in autoencoders.items():
        rows.append({"autoencoder": name, "kind": type(autoencoder).__name__, **row_of(autoencoder, truth)})
        write_text(args.out, json.dumps(rows, indent=2))
        found = rows[-1]
        told = "  ".join(f"std {std}: {error:.2f}" for std, error in found["errors"].items())
        print(
            f"{name:28} {found['channels']:2d} channels at 1/{found['factor']}  ceiling {found['psnr']:.2f} dB, "
            f"HaarPSI {found['haarpsi']:.3f}  latent error {told}  Spearman with the std {found['spearman']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
