"""Train the network that finds scratches and dust, on photos that are scratched on purpose.

    python -m training.train_scratches --images PHOTOS --out runs/scratches.safetensors --minutes 15

Half an hour of one CPU core is enough. Every example is a crop with marks of its own (see benchmarks/scratches.py), in
wider ranges than the benchmark's: from hair-thin to 10 pixels, grey as well as black and white, on sharp and on soft
photos. A thirtieth of the photos is held out for the figures at the end.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.degradation.base import rand
from adapt_diffuse.errors import run_script
from adapt_diffuse.estimate.simulate import saved
from adapt_diffuse.images import find_photos, read_photo
from adapt_diffuse.scratch_network import ScratchNetwork, load_network, new_network, save_network
from benchmarks.scratches import Scratched, Wear, scratched

CROP, PER_PHOTO, BATCH = 128, 4, 16
QUALITY = 50.0  # of JPEG, at the least
BLURRED, PLAIN, COMPRESSED = 0.3, 0.1, 0.3  # of the crops are soft, without any mark, saved as JPEG
WEARS = (
    Wear(scratches=4, dust=8),
    Wear(scratches=4, dust=8, size=(2.0, 5.0), dark=0.3, light=0.3, soft=0.7),
    Wear(scratches=3, dust=6, size=(4.0, 10.0), opacity=0.8, soft=0.8),
    Wear(scratches=4, dust=8, size=(0.8, 1.5), fade=0.0, cast=0.0, opacity=0.8, soft=0.3),
)


def examples(path: Path, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` crops (count, 3, 128, 128) of a photo with marks, and where these are (count, 1, 128, 128)."""
    photo = read_photo(path)
    pairs = [_example(photo, generator) for _ in range(count)]
    return torch.cat([one for one, _ in pairs]), torch.cat([marks for _, marks in pairs])


def _example(photo: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    down, right, turn, wear, soft, plain, jpeg = rand((7,), generator).tolist()
    height, width = photo.shape[2:]
    top, left = int(down * (height - CROP + 1)), int(right * (width - CROP + 1))
    crop = photo[:, :, top : top + CROP, left : left + CROP]
    if turn < 0.5:
        crop = crop.flip(3)
    if soft < BLURRED:
        crop = GaussianBlur(0.3 + 4 * soft)(crop)
    old = Scratched(crop, torch.zeros(1, 1, CROP, CROP, dtype=torch.bool))
    if plain >= PLAIN:
        old = scratched(crop, generator, WEARS[int(wear * len(WEARS))])
    seen = saved(old.photo, QUALITY + (100 - QUALITY) * jpeg / COMPRESSED) if jpeg < COMPRESSED else old.photo
    return seen, old.marked.float()


def train(network: ScratchNetwork, photos: Sequence[Path], minutes: float, rate: float, seed: int) -> int:
    """Adam with a cosine to zero over ``minutes``; the number of steps that were taken."""
    generator, steps, begin = torch.Generator().manual_seed(seed), 0, time.monotonic()
    optimiser = torch.optim.Adam(network.parameters(), rate)
    average = 0.0
    while (done := (time.monotonic() - begin) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / 50) * 0.5 * float(1 + torch.cos(torch.tensor(torch.pi * done)))
        chosen = torch.randint(len(photos), (BATCH // PER_PHOTO,), generator=generator).tolist()
        parts = [examples(photos[index], PER_PHOTO, generator) for index in chosen]
        y, marks = (torch.cat([part[place] for part in parts]) for place in (0, 1))
        loss = F.binary_cross_entropy_with_logits(network(y), marks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
        average = loss.item() if steps == 1 else 0.98 * average + 0.02 * loss.item()
        if steps % 50 == 0:
            print(f"step {steps}, {60 * minutes * done:.0f} s: loss {average:.4f}", flush=True)
    return steps


@torch.no_grad()
def figures(network: ScratchNetwork, photos: Sequence[Path], seed: int) -> dict[str, dict[str, float]]:
    """Recall and precision of pixels above some logits, on crops of ``photos``."""
    generator = torch.Generator().manual_seed(seed)
    parts = [examples(path, PER_PHOTO, generator) for path in photos]
    y, marks = (torch.cat([part[place] for part in parts]) for place in (0, 1))
    logits, true = torch.cat([network(part) for part in y.split(BATCH)]), marks > 0
    table = {}
    for level in (-2, -1, 0, 1, 2):
        found = logits > level
        right = int((found & true).sum())
        table[str(level)] = {
            "recall": right / max(int(true.sum()), 1),
            "precision": right / max(int(found.sum()), 1),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of undamaged photos")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--width", type=int, default=8, help="channels of the network")
    parser.add_argument("--rate", type=float, default=4e-3, help="learning rate at the beginning")
    parser.add_argument("--init", type=Path, help="network to go on from, instead of a new one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    photos = find_photos(args.images)
    held = photos[::30] if len(photos) > 30 else photos  # of a few, all: there is nothing to hold out
    rest = [path for path in photos if path not in set(held)] or photos
    network = load_network(args.init).requires_grad_(True) if args.init else new_network(args.width, args.seed)
    steps = train(network, rest, args.minutes, args.rate, args.seed)
    told = figures(network.eval(), held, args.seed + 1)
    for level, row in told.items():
        print(f"logit above {level}: recall {row['recall']:.3f}, precision {row['precision']:.3f}")
    save_network(args.out, network, {"training": {"steps": steps, "minutes": round(args.minutes), "held out": told}})


if __name__ == "__main__":
    run_script(main)
