"""Train the estimator of degradations: blur, scale, JPEG and noise of an unknown photo, read off its pixels.

    python -m training.train_estimator --images PHOTOS [PHOTOS ...] --out runs/degradation-estimator.safetensors

Most of the time goes into damaging photos and taking their statistics, which are kept in a folder beside ``--out``; the
network is then trained on all of them in a few minutes. Run the command again to resume; with more ``--examples`` only
the new ones are made. The photos are made smaller first, by 1.3 or more where they were saved as JPEG of a quality
below 90, so that their own blocks are not taken for a lie. Runs on a CPU or on one GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from adapt_diffuse.checkpoints import device_of, write_text, write_whole
from adapt_diffuse.errors import AdaptDiffuseError, run_script
from adapt_diffuse.estimate.checkpoint import new_estimator, save_estimator
from adapt_diffuse.estimate.damage import Damage
from adapt_diffuse.estimate.network import DamageEstimator
from adapt_diffuse.estimate.simulate import DamageRange
from adapt_diffuse.estimate.statistics import BLOCK, Statistics
from adapt_diffuse.estimate.training import Examples, calibrate, draw_examples, joined, loss_of, mirrored, scores
from adapt_diffuse.images import find_photos, open_image
from adapt_diffuse.photo_crops import digest_of, held_out

SIDES = (96, 128, 160, 224)  # of the crops
SHORTEST = 160 + BLOCK
COARSE, REDUCED = 4, 1.3  # tables whose first entry is above this are of a quality below 90
CHUNK = 256  # examples in a file
AT_ONCE = 16
HELD_OUT = 10  # every tenth file is of held-out photos
AVERAGE = 0.998


def read_reduced(path: Path, share: float) -> Tensor:
    """A photo (3, H, W) uint8 whose shorter side is ``share`` of the way from 168 pixels to what it may keep.

    Raises:
        AdaptDiffuseError: a file that is no image, or smaller than 168 pixels.
    """
    image = open_image(path).convert("RGB")
    with Image.open(path) as file:
        coarse = max((table[0] for table in getattr(file, "quantization", {}).values()), default=0) > COARSE
    short = min(image.size)
    kept = int(short / REDUCED) if coarse else short
    if kept < SHORTEST:
        raise AdaptDiffuseError(f"{path} is too small to train on.")
    scale = (SHORTEST + share * (min(kept, 2 * SHORTEST) - SHORTEST)) / short
    size = (max(SHORTEST, round(image.width * scale)), max(SHORTEST, round(image.height * scale)))
    pixels = torch.frombuffer(bytearray(image.resize(size, Image.Resampling.LANCZOS).tobytes()), dtype=torch.uint8)
    return pixels.reshape(size[1], size[0], 3).permute(2, 0, 1).contiguous()


def load_photos(paths: list[Path], generator: torch.Generator) -> list[Tensor]:
    """Those of the photos that can be used, each at a scale of its own."""
    photos = []
    for path, share in zip(paths, torch.rand(len(paths), generator=generator).tolist(), strict=True):
        try:
            photos.append(read_reduced(path, share))
        except AdaptDiffuseError:
            continue
    if not photos:
        raise AdaptDiffuseError(f"None of the {len(paths)} photos is an image of {SHORTEST} pixels or more.")
    return photos


def random_crops(photos: list[Tensor], count: int, side: int, generator: torch.Generator) -> Tensor:
    """``count`` random crops (count, 3, side, side) on [0, 1] of the photos that hold one, half of them mirrored."""
    crops = []
    large = [photo for photo in photos if min(photo.shape[1:]) >= side]
    for index in torch.randint(len(large), (count,), generator=generator).tolist():
        photo = large[index]
        top, left = (int(torch.randint(length - side + 1, (1,), generator=generator)) for length in photo.shape[1:])
        crop = photo[:, top : top + side, left : left + side]
        crops.append(crop.flip(2) if bool(torch.rand(1, generator=generator) < 0.5) else crop)
    return torch.stack(crops).float() / 255


def make_chunk(photos: list[Tensor], generator: torch.Generator) -> Examples:
    """256 examples, a few of each size at a time."""
    most = max(min(photo.shape[1:]) for photo in photos)
    sides = [side for side in SIDES if side + BLOCK <= most]
    parts = []
    for _ in range(CHUNK // AT_ONCE):
        side = sides[int(torch.randint(len(sides), (1,), generator=generator))]
        crops = random_crops(photos, AT_ONCE, side + BLOCK, generator)
        parts.append(draw_examples(crops, DamageRange(), generator))
    return joined(parts)


def write_chunk(path: Path, examples: Examples) -> None:
    state = {
        "spectra": examples.statistics.spectra.half(),
        "numbers": examples.statistics.numbers,
        "damage": {name: value for name, value in vars(examples.damage).items()},
    }
    write_whole(path, lambda partial: torch.save(state, partial))


def read_chunk(path: Path) -> Examples:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return Examples(Statistics(state["spectra"], state["numbers"]), Damage(**state["damage"]))


def make_examples(args: argparse.Namespace, folder: Path) -> tuple[Examples, Examples]:
    """The examples to train on and the held-out ones, made where they are not there yet."""
    paths = sorted(path for source in args.images for path in find_photos(source))
    check_made_of(args, paths, folder / "made_of.json")
    wanted = [folder / f"{index:05}.pt" for index in range(math.ceil(args.examples / CHUNK))]
    if not all(path.is_file() for path in wanted):
        make_missing(args, paths, wanted)
    chunks = [path for path in wanted if path.is_file()]
    if len(chunks) < 2:
        raise AdaptDiffuseError("Too few examples were made in that time: give more --minutes.")
    learned = [read_chunk(path) for path in chunks if int(path.stem) % HELD_OUT]
    return joined(learned), joined([read_chunk(path) for path in chunks if int(path.stem) % HELD_OUT == 0])


def check_made_of(args: argparse.Namespace, paths: list[Path], note: Path) -> None:
    """Raise AdaptDiffuseError where the examples beside ``note`` were made in another way; else leave one there."""
    ranges = json.loads(json.dumps(asdict(DamageRange())))  # as a file gives them back
    made_of = {"photos": digest_of(paths), "seed": args.seed, "ranges": ranges}
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != made_of:
        raise AdaptDiffuseError(f"The examples in {note.parent} are of other photos, seeds or damage: remove them.")
    write_text(note, json.dumps(made_of, indent=2))


def make_missing(args: argparse.Namespace, paths: list[Path], wanted: list[Path]) -> None:
    """Write those files of examples that are not there, until the minutes are over."""
    generator = torch.Generator().manual_seed(args.seed)
    train, validation = (load_photos(part, generator) for part in held_out(paths))
    begin = time.monotonic()
    for index, path in enumerate(wanted):
        if path.is_file():
            continue
        if time.monotonic() - begin > 60 * args.minutes:
            return
        # a generator of the file's own: one that was interrupted is made again as it would have been
        own = torch.Generator().manual_seed(1_000_003 * (args.seed + 1) + index)
        write_chunk(path, make_chunk(validation if index % HELD_OUT == 0 else train, own))
        print(f"{(index + 1) * CHUNK} examples, {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)


def train_network(args: argparse.Namespace, examples: Examples, judged: Examples) -> DamageEstimator:
    """The network, its weights averaged over the last steps."""
    device = device_of(args.device)
    network = new_estimator(seed=args.seed)
    network.set_scale(examples.statistics)
    network.to(device).train()
    average = copy.deepcopy(network).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    batch = min(args.batch, len(examples))
    steps_in_epoch = len(examples) // batch
    generator = torch.Generator().manual_seed(args.seed)
    total, step = args.epochs * steps_in_epoch, 0
    turned = mirrored(examples, torch.ones(len(examples), dtype=torch.bool))
    seen = [(network.features(part.statistics), part.damage) for part in (examples, turned)]
    for epoch in range(args.epochs):
        order = torch.randperm(len(examples), generator=generator)
        for rows in order[: steps_in_epoch * batch].split(batch):
            rate = args.lr * min(1.0, (step + 1) / 100) * max(0.01, 0.5 * (1 + math.cos(math.pi * step / total)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            features, damage = seen[int(torch.randint(2, (1,), generator=generator))]
            loss = loss_of(network(features[rows]), damage.select(rows))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            step += 1
            decay = min(AVERAGE, step / (step + 10))
            with torch.no_grad():
                for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                    mean.lerp_(value, 1 - decay)
        if epoch % 5 == 4 or epoch == args.epochs - 1:
            print(epoch + 1, f"loss {loss.item():.3f}", json.dumps(scores(average, judged)), flush=True)
    return average.cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--examples", type=int, default=57_344)
    parser.add_argument("--minutes", type=float, default=math.inf, help="for making examples, at most; then training")
    parser.add_argument("--epochs", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.manual_seed(args.seed)  # of the network's dropout
    folder = args.out.with_suffix(".examples")
    folder.mkdir(parents=True, exist_ok=True)
    examples, judged = make_examples(args, folder)
    network = train_network(args, examples, judged)
    half = len(judged) // 2
    calibrate(network, judged.select(torch.arange(half)))
    found = scores(network, judged.select(torch.arange(half, len(judged))))
    made = len(examples) + len(judged)
    training = {
        "made": made,
        "examples": len(examples),
        "epochs": args.epochs,
        "batch": args.batch,
        "learning_rate": args.lr,
    }
    notes = {"training": training, "ranges": asdict(DamageRange()), "validation": found}
    save_estimator(args.out, network, notes)
    print(json.dumps(found))


if __name__ == "__main__":
    run_script(main)
