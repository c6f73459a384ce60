"""Unconditional samples of a prior, to see what it knows: ancestral steps down all levels from pure noise.

python -m benchmarks.samples --out benchmarks/out/samples.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.degradation import randn
from adapt_diffuse.errors import run_script
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import to_pil, write_image
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import descend
from adapt_diffuse.solvers import ddim_step


@torch.no_grad()
def sample(prior: DiffusersPrior, count: int, size: int, steps: int, seed: int) -> torch.Tensor:
    """Images (count, 3, size, size) on [0, 1]."""
    generators = generators_for(seed, count)
    shape = prior.encode(torch.zeros(1, 3, size, size)).shape[1:]
    like = torch.zeros(count, *shape)
    schedule = descend(float(prior.sigmas[-1]), prior.sigmas, steps)
    x = schedule[0].float() * randn(like.shape, like, generators)
    for sigma, sigma_next in tqdm(list(zip(schedule[:-1], schedule[1:], strict=True)), desc="samples", leave=False):
        each = sigma.expand(count)
        z0 = prior.denoise(x, each)
        x = ddim_step(x, z0, each, sigma_next.expand(count), randn(like.shape, like, generators))
    return prior.decode(x).clamp(0, 1)


def grid(images: torch.Tensor, columns: int) -> Image.Image:
    size = images.shape[-1]
    picture = Image.new("RGB", (columns * size, -(-len(images) // columns) * size))
    for index, image in enumerate(images):
        picture.paste(to_pil(image), (index % columns * size, index // columns * size))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=0, help="0 walks all levels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prior = DiffusersPrior.load(args.model or bundled_model())
    write_image(args.out, grid(sample(prior, args.count, args.size, args.steps, args.seed), 8))


if __name__ == "__main__":
    run_script(main)
