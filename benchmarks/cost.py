"""What each part costs, in denoiser passes.

    python -m benchmarks.cost --out cost.json

Times every part in turn, several rounds on the same photos, and divides by the denoiser's forward pass of the same
round: a ratio holds on a shared machine where seconds do not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from adapt_diffuse.bundled import bundled_model, default_encoder
from adapt_diffuse.checkpoints import device_of, write_text
from adapt_diffuse.cost import Cost
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.errors import run_script
from adapt_diffuse.guidance import Through, data_gradient
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.prior import Codec
from adapt_diffuse.severity import SeverityModel, load_severity_encoder

UNIT = "denoiser forward"
# what a pass takes in denoiser forwards, a backward what it adds: the bundled model at 128 px on one CPU core, rounded
# from this script's output. Fixed, so that every table of the page counts in the same unit
PASS_COST = {
    "denoiser_forwards": 1.0,
    "denoiser_backwards": 1.2,
    "decoder_forwards": 0.6,
    "decoder_backwards": 0.7,
    "encoder_passes": 0.5,
    "encoder_backwards": 0.5,
    # of the tiny autoencoder that training.train_autoencoder --like makes
    "guide_decoder_forwards": 0.2,
    "guide_decoder_backwards": 0.2,
    "guide_encoder_passes": 0.2,
    "guide_encoder_backwards": 0.2,
}


def parts(prior: DiffusersPrior, encoder: SeverityModel, batch: int, size: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name, on a batch of random photos."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(batch, 3, size, size, generator=generator).to(prior.device)
    measurement = Measurement.of(photo, GaussianBlur(2.0, 0.05))
    with torch.no_grad():
        z = prior.encode(photo)
    sigma = torch.full((batch,), 0.5)

    def without_gradient(call: Callable[[], object]) -> Callable[[], object]:
        return torch.no_grad()(call)

    def step(through: Through) -> Callable[[], object]:
        return lambda: data_gradient(prior, measurement, z, sigma, through)

    return {
        UNIT: without_gradient(lambda: prior.denoise(z, sigma)),
        "decoder forward": without_gradient(lambda: prior.decode(z)),
        "encoder": without_gradient(lambda: prior.encode(photo)),
        "severity encoder": lambda: encoder.predict(photo, 1, prior.encode),
        "guided step through the decoder": step("decoder"),
        "guided step through the denoiser": step("denoiser"),
    }


def guide_cost(prior: DiffusersPrior, batch: int, size: int, rounds: int) -> dict[str, float]:
    """What passes of the guidance VAE take in denoiser forwards, by the names of ``Cost``."""
    found = pass_ratios(prior, prior.guide, batch, size, rounds)
    return {f"guide_{name}": value for name, value in found.items() if not name.startswith("denoiser")}


def denoiser_forwards(passes: Cost | dict[str, Any]) -> float:
    """What all passes of a Cost, or of a row of the benchmark, take together, in denoiser forwards."""
    counts = asdict(passes) if isinstance(passes, Cost) else passes
    return sum(counts.get(name, 0) * weight for name, weight in PASS_COST.items())  # older rows know no guidance VAE


def seconds(call: Callable[[], object], device: torch.device) -> float:
    begin = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def ratios(timed: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median over the rounds of each part's time over the unit's; a first round, not counted, warms up."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        took = {name: seconds(call, device) for name, call in timed.items()}
        if number:
            for name, value in took.items():
                found[name].append(value / took[UNIT])
    return {name: median(values) for name, values in found.items()}


def pass_ratios(prior: DiffusersPrior, codec: Codec, batch: int, size: int, rounds: int) -> dict[str, float]:
    """What each kind of pass takes in denoiser forwards, by the names of ``Cost``; a backward is what it adds.

    Args:
        codec: the autoencoder that is timed, the prior's own or its guide.
    """
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(batch, 3, size, size, generator=generator).to(prior.device)
    with torch.no_grad():
        z = prior.encode(photo)
    sigma = torch.full((batch,), 0.5)

    def with_backward(forward: Callable[[Tensor], Tensor], given: Tensor = z) -> Callable[[], object]:
        def call() -> object:
            source = given.clone().requires_grad_()
            return torch.autograd.grad(forward(source).sum(), source)

        return call

    timed: dict[str, Callable[[], object]] = {
        UNIT: torch.no_grad()(lambda: prior.denoise(z, sigma)),
        "denoiser": with_backward(lambda x: prior.denoise(x, sigma)),
        "decoder_forwards": torch.no_grad()(lambda: codec.decode(z)),
        "decoder": with_backward(codec.decode),
        "encoder_passes": torch.no_grad()(lambda: codec.encode(photo)),
        "encoder": with_backward(codec.encode, photo),
    }
    found = ratios(timed, rounds, prior.device)
    return {
        "denoiser_forwards": 1.0,
        "denoiser_backwards": found["denoiser"] - 1,
        "decoder_forwards": found["decoder_forwards"],
        "decoder_backwards": found["decoder"] - found["decoder_forwards"],
        "encoder_passes": found["encoder_passes"],
        "encoder_backwards": found["encoder"] - found["encoder_passes"],
    }


def timing_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments of every script that times parts of a step."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: the bundled one")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main() -> None:
    parser = timing_parser(__doc__)
    parser.add_argument("--severity-encoder", type=Path, help="default: the bundled one")
    parser.add_argument("--guidance-vae", type=Path, help="a smaller autoencoder, timed beside the model's own")
    args = parser.parse_args()
    device = device_of(args.device)
    prior = DiffusersPrior.load(args.model or bundled_model(), device, args.guidance_vae)
    encoder = load_severity_encoder(args.severity_encoder or default_encoder("gaussian-blur")).to(device)
    found = ratios(parts(prior, encoder, args.batch, args.size), args.rounds, device)
    found |= pass_ratios(prior, prior, args.batch, args.size, args.rounds)
    if args.guidance_vae:
        found |= guide_cost(prior, args.batch, args.size, args.rounds)
    write_text(args.out, json.dumps(found, indent=2))
    for name, value in found.items():
        print(f"{name:34} {value:.2f}")


if __name__ == "__main__":
    run_script(main)
