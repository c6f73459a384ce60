"""Train the estimator of degradations: blur, scale, JPEG and noise of an unknown photo, read off its pixels.

    python -m training.train_estimator --images PHOTOS [PHOTOS ...] --out runs/degradation-estimator.safetensors \
        --minutes 40 --autocast

The photos are made smaller first, by 1.3 or more where they were saved as JPEG of a quality below 90, so that their own
blocks are not taken for a lie. Run the command again to resume from the state beside ``--out``. Runs on a CPU or on one
GPU.
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

from adapt_diffuse.checkpoints import device_of, write_whole
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.estimate.checkpoint import new_estimator, save_estimator
from adapt_diffuse.estimate.network import WIDTHS
from adapt_diffuse.estimate.simulate import DamageRange
from adapt_diffuse.estimate.training import BLOCK, Examples, calibrate, draw_examples, loss_of, scores
from adapt_diffuse.images import find_photos, open_image
from adapt_diffuse.photo_crops import held_out

SIDES = (96, 128, 160)  # of the crops, drawn for each step; a step always sees about as many pixels
SHORTEST = max(SIDES) + BLOCK
COARSE, REDUCED = 4, 1.3  # tables whose first entry is above this are of a quality below 90
AVERAGE = 0.998
JUDGED = 32  # batches of held-out photos


def read_reduced(path: Path, share: float) -> Tensor:
    """A photo (3, H, W) uint8 whose shorter side is ``share`` of the way from 168 pixels to what it may keep.

    Raises:
        AdaptDiffuseError: a file that is no image, or smaller than 168 pixels.
    """
    with Image.open(path) as file:
        coarse = max(table[0] for table in getattr(file, "quantization", {0: [0]}).values()) > COARSE
    image = open_image(path).convert("RGB")
    short = min(image.size)
    kept = int(short / REDUCED) if coarse else short
    if kept < SHORTEST:
        raise AdaptDiffuseError(f"{path} is too small to train on.")
    scale = (SHORTEST + share * (min(kept, 2 * SHORTEST) - SHORTEST)) / short
    size = tuple(max(SHORTEST, round(side * scale)) for side in image.size)
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
    """``count`` random crops (count, 3, side, side) on [0, 1], half of them mirrored."""
    crops = []
    for index in torch.randint(len(photos), (count,), generator=generator).tolist():
        photo = photos[index]
        top, left = (int(torch.randint(length - side + 1, (1,), generator=generator)) for length in photo.shape[1:])
        crop = photo[:, top : top + side, left : left + side]
        crops.append(crop.flip(2) if bool(torch.rand(1, generator=generator) < 0.5) else crop)
    return torch.stack(crops).float() / 255


def draw(photos: list[Tensor], pixels: int, generator: torch.Generator, side: int | None = None) -> Examples:
    """A batch of about ``pixels`` pixels, of a side that is drawn where none is given."""
    chosen = side or SIDES[int(torch.randint(len(SIDES), (1,), generator=generator))]
    crops = random_crops(photos, max(1, pixels // chosen**2), chosen + BLOCK, generator)
    return draw_examples(crops, DamageRange(), generator)


class Training:
    """A training that can be stopped and gone on with."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.device = args, device_of(args.device)
        paths = sorted(path for folder in args.images for path in find_photos(folder))
        train, validation = held_out(paths)
        generator = torch.Generator().manual_seed(args.seed)
        self.train, self.validation = load_photos(train, generator), load_photos(validation, generator)
        self.pixels = args.batch * 128**2
        self.network = new_estimator(WIDTHS, 128, args.seed).to(self.device).train()
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=args.lr, weight_decay=1e-4)
        self.step, self.seconds = 0, 0.0
        self.state_file = Path(args.out).with_suffix(".state.pt")
        if self.state_file.is_file():
            self.load_state()

    def load_state(self) -> None:
        state = torch.load(self.state_file, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save_state(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        write_whole(self.state_file, lambda partial: torch.save(state, partial))

    def run(self) -> None:
        """Train for the minutes that are left, then calibrate and write the file."""
        while self.seconds < 60 * self.args.minutes:
            begin = time.monotonic()
            loss = self.one_step()
            self.seconds += time.monotonic() - begin
            if self.step % 50 == 0:
                print(f"step {self.step} minutes {self.seconds / 60:.1f} loss {loss:.3f}", flush=True)
            if self.step % 500 == 0:
                self.save_state()
                print(json.dumps(scores(self.average, self.judged()[:8])), flush=True)
        self.finish()

    def one_step(self) -> float:
        progress = min(1.0, self.seconds / (60 * self.args.minutes))
        warm = min(1.0, (self.step + 1) / 100)
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.lr * warm * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))
        # a generator of the step's own: a training that was stopped sees what it would have seen
        generator = torch.Generator().manual_seed(1_000_003 * (self.args.seed + 1) + self.step)
        examples = draw(self.train, self.pixels, generator)
        loss = loss_of(self.network, examples, self.args.autocast)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimizer.step()
        self.step += 1
        decay = min(AVERAGE, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return float(loss.detach())

    def judged(self) -> list[Examples]:
        """Held-out photos at the largest side, damaged; the same ones every time."""
        generator = torch.Generator().manual_seed(self.args.seed + 7)
        return [draw(self.validation, self.pixels, generator, max(SIDES)) for _ in range(JUDGED)]

    def finish(self) -> None:
        judged = self.judged()
        calibrate(self.average, judged[: JUDGED // 2])
        found = scores(self.average, judged[JUDGED // 2 :])
        training = {"steps": self.step, "batch": self.args.batch, "learning_rate": self.args.lr, "seed": self.args.seed}
        notes = {"training": training, "ranges": asdict(DamageRange()), "validation": found}
        save_estimator(self.args.out, self.average, notes)
        self.state_file.unlink(missing_ok=True)
        print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--minutes", type=float, default=40, help="of training, all runs of it together")
    parser.add_argument("--batch", type=int, default=16, help="crops of 128 px in a step; others by their pixels")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--autocast", action="store_true", help="convolutions in bfloat16")
    Training(parser.parse_args()).run()


if __name__ == "__main__":
    main()
