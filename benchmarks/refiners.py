"""How good severity encoders are on photos that they have not seen.

    python -m benchmarks.refiners --images TEST --vae taesd_encoder.safetensors --encoders ENCODER --out F.json
    python -m benchmarks.refiners --grain grey ...

Every photo is damaged ``--draws`` times by the family that the encoder was trained on: in colour, with noise in each
channel, as in training, or as old photos are, grey or sepia, with grain. Per encoder: the correlations of
sigma_hat with its true error and with the level of damage, sigma_hat over the true error, the calibration by deciles
with its expected error, and the error of the autoencoder's own encoding of the damaged photo, for comparison.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt_diffuse.autoencoder import encode_raw, latent_space_of
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.degradation import noise_levels
from adapt_diffuse.degradation.base import randn
from adapt_diffuse.degradation.families import Family, family_from_json
from adapt_diffuse.errors import run_script
from adapt_diffuse.hosts.diffusers import load_guide
from adapt_diffuse.severity import load_severity_encoder
from adapt_diffuse.severity.encoder import Encode
from adapt_diffuse.severity.evaluation import Judged, SeverityErrors, errors_of
from adapt_diffuse.statistics import calibration_table, expected_calibration_error
from benchmarks.grain import KINDS
from benchmarks.inputs import load_photos, parser_of

TRAINED = "in each channel"


@torch.no_grad()
def grainy(encode: Encode, family: Family, photos: Tensor, seed: int, kind: str, batch: int) -> list[Judged]:
    """As ``prepare``, with photos and noise of a kind of ``benchmarks.grain``."""
    before, alike, after = KINDS[kind]
    generator, parts = torch.Generator().manual_seed(seed), []
    for part in photos.split(batch):
        count, channels, height, width = part.shape
        degradation, level = family.sample((count, channels, height, width), generator)
        clean = degradation(before(part))
        drawn = randn(clean.shape, clean, generator)
        noise = noise_levels(degradation, count).to(clean).reshape(-1, 1, 1, 1) * (drawn[:, :1] if alike else drawn)
        damaged = after(degradation.observed(clean + noise))
        parts.append(Judged(damaged, encode(after(before(part))), encode(damaged), level))
    return parts


def judged(
    path: Path, autoencoder: Any, photos: Tensor, draws: int, batch: int, kind: str = TRAINED
) -> tuple[SeverityErrors, float]:
    """What the encoder in ``path`` says of the photos and the truth, and the RMSE of the plain encoding."""
    encoder, space = load_severity_encoder(path), latent_space_of(autoencoder)
    family = family_from_json(encoder.notes["family"])

    def encode(image: Tensor) -> Tensor:
        return space.from_raw(encode_raw(autoencoder, image * 2 - 1))

    parts = [part for draw in range(draws) for part in grainy(encode, family, photos, 100 + draw, kind, batch)]
    plain = [(part.encoding - part.z0).square().flatten(1).mean(1) for part in parts if part.encoding is not None]
    return errors_of(encoder, parts), float(torch.cat(plain).mean().sqrt())


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--vae", type=Path, required=True, help="the autoencoder: a diffusers folder, or a tiny one's file"
    )
    parser.add_argument("--encoders", required=True, help="severity encoders of this autoencoder, with commas")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--grain", choices=KINDS, default=TRAINED)
    args = parser.parse_args()
    photos, autoencoder, rows = load_photos(args), load_guide(args.vae), []
    for text in args.encoders.split(","):
        errors, plain = judged(Path(text), autoencoder, photos, args.draws, args.batch, args.grain)
        bins = calibration_table(errors.sigma_hat, errors.true_error)
        scores = {**asdict(errors.scores()), "plain_rmse": plain, "calibration_error": expected_calibration_error(bins)}
        deciles = [{"predicted": one.predicted, "true": one.true} for one in bins]
        rows.append(
            {
                "encoder": Path(text).stem,
                "grain": args.grain,
                "photos": len(photos),
                "draws": args.draws,
                **scores,
                "deciles": deciles,
            }
        )
        write_text(args.out, json.dumps(rows, indent=2))
        print(
            f"{Path(text).stem}: Pearson with its error {scores['pearson_error']:.2f}, with the level "
            f"{scores['pearson_level']:.2f}; sigma_hat / true {scores['sigma_ratio']:.2f}; calibration error "
            f"{scores['calibration_error']:.3f}; latent RMSE {scores['latent_rmse']:.3f}, plain encoding {plain:.3f}; "
            f"deciles {', '.join(f'{one.predicted / one.true:.2f}' for one in bins)}"
        )


if __name__ == "__main__":
    run_script(main)
