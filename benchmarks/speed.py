"""What a guided step costs beside its own parts, and what makes it cheaper, as ratios of one run.

    python -m benchmarks.speed --out speed.json [--guidance-vae DIR] [--published DIR] [--size 128] [--rounds 15]

Everything is timed in turn, several rounds on the same photos; a ratio is the median over the rounds of the ratio in
each: it holds on a shared machine where seconds do not.

    overhead        a step of LDPS over the denoiser's and the decoder's passes that it is made of, timed alone
    form            a step through the decoder alone over one through the denoiser too
    tiny            a decoder gradient of the guidance VAE over one of the full VAE
    batch           eight photos of eight severities together over the same one by one
    published       our step through the denoiser, of one photo, over one whose data consistency is the published code

``--published`` names a checkout of the paper's code (z-fabian/flash-diffusion). Its data consistency runs as it is, on
our model and operator; the ancestral step around it, which is part of another library there, is written down here.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from adapt_diffuse.autoencoder import load_autoencoder
from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.checkpoints import device_of, write_text
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.errors import run_script
from adapt_diffuse.guidance import Through
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import descend
from adapt_diffuse.solvers import LDPS, State, ddim_step, solve
from benchmarks.cost import seconds, timing_parser

SIGMA = 0.5
MIXED = torch.linspace(0.1, 0.8, 8)  # start levels of the batch
STEPS = 6  # from the hardest start

Parts = dict[str, Callable[[], object]]


def gradient_of(run: Callable[[Tensor], Tensor], source: Tensor) -> Callable[[], Tensor]:
    """Forward and backward of one network, and nothing else."""

    def call() -> Tensor:
        leaf = source.detach().requires_grad_()
        output = run(leaf)
        return torch.autograd.grad(output, leaf, torch.ones_like(output))[0]

    return call


def step_parts(prior: DiffusersPrior, batch: int, size: int) -> Parts:
    """A guided step in both forms, and what it is made of."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(batch, 3, size, size, generator=generator).to(prior.device)
    measurement = Measurement.of(photo, GaussianBlur(2.0, 0.05))
    with torch.no_grad():
        z = prior.encode(photo)
    sigma, noise = torch.full((batch,), SIGMA), torch.zeros_like(z)

    def step(through: Through) -> Callable[[], object]:
        solver = LDPS(1.0, through)
        state = State(z, lambda: noise)
        return torch.no_grad()(lambda: solver.step(state, sigma, sigma / 2, prior, measurement))

    return {
        "denoiser forward": torch.no_grad()(lambda: prior.denoise(z, sigma)),
        "denoiser gradient": gradient_of(lambda x: prior.denoise(x, sigma), z),
        "decoder gradient": gradient_of(prior.decode, z),
        "step through the decoder": step("decoder"),
        "step through the denoiser": step("denoiser"),
    }


def batch_parts(prior: DiffusersPrior, size: int) -> Parts:
    """Eight photos of eight severities, together and one by one."""
    generator = torch.Generator().manual_seed(1)
    photo = torch.rand(len(MIXED), 3, size, size, generator=generator).to(prior.device)
    measurement = Measurement.of(photo, GaussianBlur(2.0, 0.05))
    with torch.no_grad():
        z = prior.encode(photo)
    levels = torch.linspace(0, float(MIXED[-1]), STEPS + 1)[1:].double()
    schedules = [descend(float(start), levels) for start in MIXED]
    solver = LDPS(1.0, "decoder")

    def alone() -> None:
        for index, schedule in enumerate(schedules):
            chosen = torch.tensor([index])
            part = measurement.select(chosen)
            solve(solver, prior, part, z[index : index + 1], [schedule], generators_for(index, 1))

    return {
        "eight photos together": lambda: solve(solver, prior, measurement, z, schedules, generators_for(0, len(MIXED))),
        "eight photos one by one": alone,
    }


def published_part(folder: Path, prior: DiffusersPrior, size: int) -> Callable[[], object]:
    """A step of Latent-DPS for one photo, its correction by the published code in ``folder``."""
    utilities: Any = ModuleType("scripts.utils")  # the original asks for far more than the two maps that are used
    utilities.rescale_to_minusone_one = lambda image: image * 2 - 1
    utilities.rescale_to_zero_one = lambda image: (image + 1) / 2
    sys.modules.update({"scripts": ModuleType("scripts"), "scripts.utils": utilities})
    module = runpy.run_path(str(folder / "samplers" / "data_consistency.py"))

    photo = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(prior.device)
    blur = GaussianBlur(2.0, 0.05)
    corrector = module["LatentDataConsistency"](
        fwd_operator=lambda image, t, seed: blur(image), noise_schedule=None, encode_fn=prior.encode,
        decode_fn=lambda z: prior.decode(z) * 2 - 1, dc_step=1.0, scaling_method="error",
    )  # fmt: skip
    corrector.update_y(photo * 2 - 1, torch.ones(1, device=prior.device))
    with torch.no_grad():
        z = prior.encode(photo)
    sigma = torch.full((1,), SIGMA)

    def step() -> Tensor:
        with torch.enable_grad():
            past = z.detach().requires_grad_()
            z0 = prior.denoise(past, sigma)
            following = ddim_step(past, z0, sigma, sigma / 2, torch.zeros_like(z))
            return corrector.modify_score(past, following, z0)

    return step


def ratios(rows: list[dict[str, float]]) -> dict[str, float]:
    """The figures of the page above, from the seconds of every round."""
    made: dict[str, Callable[[dict[str, float]], float]] = {
        "overhead through the decoder": lambda t: (
            t["step through the decoder"] / (t["denoiser forward"] + t["decoder gradient"])
        ),
        "overhead through the denoiser": lambda t: (
            t["step through the denoiser"] / (t["denoiser gradient"] + t["decoder gradient"])
        ),
        "form": lambda t: t["step through the decoder"] / t["step through the denoiser"],
        "batch": lambda t: t["eight photos together"] / t["eight photos one by one"],
    }
    if "tiny decoder gradient" in rows[0]:
        made["tiny"] = lambda t: t["tiny decoder gradient"] / t["decoder gradient"]
    if "published step" in rows[0]:
        made["published"] = lambda t: t["step of one photo"] / t["published step"]
    return {name: median(figure(row) for row in rows) for name, figure in made.items()}


def main() -> None:
    parser = timing_parser(__doc__)
    parser.add_argument("--guidance-vae", type=Path, help="diffusers folder of a smaller autoencoder of any factor")
    parser.add_argument("--published", type=Path, help="checkout of the paper's code")
    args = parser.parse_args()
    device = device_of(args.device)
    prior = DiffusersPrior.load(args.model or bundled_model(), device)
    timed = {**step_parts(prior, args.batch, args.size), **batch_parts(prior, args.size)}
    if args.guidance_vae:
        tiny = load_autoencoder(args.guidance_vae).to(device)
        latent = torch.zeros(args.batch, 4, args.size // prior.space.factor, args.size // prior.space.factor)
        timed["tiny decoder gradient"] = gradient_of(lambda z: tiny.decode(z).sample, latent.to(device))
    if args.published:
        timed["published step"] = published_part(args.published, prior, args.size)
        timed["step of one photo"] = step_parts(prior, 1, args.size)["step through the denoiser"]
    rows = [{name: seconds(call, device) for name, call in timed.items()} for _ in range(args.rounds + 1)]
    found = ratios(rows[1:])  # the first warms up
    write_text(args.out, json.dumps(found, indent=2))
    for name, value in found.items():
        print(f"{name:32} {value:.2f}")


if __name__ == "__main__":
    run_script(main)
