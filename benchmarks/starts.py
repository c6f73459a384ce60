"""Does the adaptive start pay? Restores the same photos from other starts.

    python -m benchmarks.starts --task gaussian-blur-varying --images TEST --limit 50 --out starts.json

The starts: ``adaptive`` (sigma_hat as it is), ``times-0.5`` ... ``times-2`` (sigma_hat moved by a factor),
``shuffled`` (each photo gets another's sigma_hat), ``oracle`` (the true error of z_hat), and ``fixed-...``: one level
for all photos, at which the mean number of steps is that of the adaptive start, and levels around it. Two are
``oracle`` with another estimate, whose error is as large: that of ``gaussian`` is what the method takes it for,
Gaussian and white, that of ``coloured`` Gaussian with the spectrum of the true one.
"""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from torch import Tensor

from adapt_diffuse.benchmark import NOISE_SEED, TASKS, MethodSettings, clean_latents, damage, run_method, severities
from adapt_diffuse.checkpoints import write_text
from adapt_diffuse.commands.benchmark import describe
from adapt_diffuse.defaults import start_settings
from adapt_diffuse.errors import run_script
from adapt_diffuse.prior import over_image
from adapt_diffuse.severity import Encode, Severity, SeverityModel
from adapt_diffuse.severity.losses import error_variance
from adapt_diffuse.start import StartSettings, flash_schedules
from benchmarks.inputs import add_encoder, load_encoder, load_photos, load_prior, parser_of

FACTORS = (0.5, 0.7, 1.4, 2.0)


class Overruled:
    """A severity encoder whose sigma_hat is replaced, photo by photo in the order in which they come; z_hat may be."""

    def __init__(self, encoder: SeverityModel, sigma_hat: Tensor, z_hat: Tensor | None = None):
        self.encoder, self.sigma_hat, self.z_hat, self.next = encoder, sigma_hat, z_hat, 0

    def predict(self, photo: Tensor, multiple: int = 1, encode: Encode | None = None) -> Severity:
        part = slice(self.next, self.next + len(photo))
        self.next += len(photo)
        found = replace(self.encoder.predict(photo, multiple, encode), sigma_hat=self.sigma_hat[part].to(photo.dtype))
        return found if self.z_hat is None else replace(found, z_hat=self.z_hat[part])


def mean_steps(sigma_hat: Tensor, sigmas: Tensor, settings: StartSettings) -> float:
    schedules = flash_schedules(sigma_hat, sigmas, settings)[1]
    return sum(len(schedule) - 1 for schedule in schedules) / len(schedules)


def level_of_equal_cost(sigma_hat: Tensor, sigmas: Tensor, settings: StartSettings) -> float:
    """The sigma_hat from which a photo takes about as many steps as the photos of ``sigma_hat`` (n,) do on average.

    Of all that do, the one in the middle.
    """
    low, high = float(sigma_hat.min()), float(sigma_hat.max())
    tried = low * (high / low) ** torch.linspace(0, 1, 200, dtype=torch.float64)
    steps = torch.tensor([mean_steps(one[None], sigmas, settings) for one in tried])
    off = (steps - mean_steps(sigma_hat, sigmas, settings)).abs()
    return float(tried[off == off.min()].log().mean().exp())


def starts(
    sigma_hat: Tensor, true_error: Tensor, sigmas: Tensor, seed: int, settings: StartSettings
) -> dict[str, Tensor]:
    """The sigma_hat (n,) of every start, by name."""
    order = torch.randperm(len(sigma_hat), generator=torch.Generator().manual_seed(seed))
    equal = level_of_equal_cost(sigma_hat, sigmas, settings)
    fixed = {f"fixed-{level:.2f}": torch.full_like(sigma_hat, level) for level in (0.7 * equal, equal, 1.4 * equal)}
    moved = {f"times-{factor:g}": factor * sigma_hat for factor in FACTORS}
    return {"adaptive": sigma_hat, **moved, "shuffled": sigma_hat[order], "oracle": true_error, **fixed}


def with_spectrum_of(error: Tensor, noise: Tensor) -> Tensor:
    """``noise`` (B, C, h, w) with the amplitudes of ``error`` (B, C, h, w): as large at every frequency."""
    phases = torch.fft.rfft2(noise)
    return torch.fft.irfft2(phases / phases.abs() * torch.fft.rfft2(error).abs(), s=error.shape[-2:])


def main() -> None:
    parser = parser_of(__doc__)
    add_encoder(parser)
    parser.add_argument("--task", choices=tuple(TASKS), required=True)
    parser.add_argument("--method", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="some of the starts")
    args = parser.parse_args()
    truth, prior, encoder = load_photos(args), load_prior(args), load_encoder(args, TASKS[args.task][1])
    photos = damage(args.task, truth, args.seed)
    found = severities(photos, prior, encoder)
    z0 = clean_latents(truth, prior)
    sigma_hat, true_error = found.sigma_hat, error_variance(found.z_hat, z0).sqrt().cpu()
    noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(args.seed + 2 * NOISE_SEED)).to(z0)
    estimates = {
        "gaussian": z0 + over_image(true_error, z0) * noise,
        "coloured": z0 + with_spectrum_of(found.z_hat.to(z0) - z0, noise),
    }
    rows = []
    settings = start_settings(args.method.removeprefix("flash-"), 0, photos.degradation)
    levels = starts(sigma_hat, true_error, prior.sigmas, args.seed, settings)
    for name, sigmas in {**levels, **dict.fromkeys(estimates, true_error)}.items():
        if args.only and name not in args.only:
            continue
        overruled = Overruled(encoder, sigmas, estimates.get(name))
        row, _ = run_method(
            args.method, args.task, photos, prior, overruled, args.seed, MethodSettings(), batch=args.batch
        )
        rows.append({**row, "start": name})
        write_text(args.out, json.dumps(rows, indent=2))
        print(f"{name:14} {describe(row)}", flush=True)


if __name__ == "__main__":
    run_script(main)
