"""Photos of a test folder that are also in the training folder, which no figure may rest on.

    python -m benchmarks.duplicates --test TEST --train TRAIN --copy TEST-WITHOUT

Compares the central squares, 32 x 32 px, grey, as they are and mirrored. Prints every test photo with a training photo
that correlates above --above, and copies the others.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from adapt_diffuse.errors import run_script
from adapt_diffuse.images import find_photos, open_image

SIDE = 32


def fingerprint(path: Path) -> np.ndarray:
    """The photo's central square as SIDE x SIDE grey values of mean 0 and length 1."""
    grey = open_image(path).convert("L")
    side = min(grey.size)
    left, top = (grey.width - side) // 2, (grey.height - side) // 2
    small = grey.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.float64)
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-9)


def pairs(test: list[Path], train: list[Path], above: float) -> dict[Path, tuple[Path, float]]:
    """The test photos with a training photo like them: that photo, and the correlation."""
    known = np.stack([fingerprint(path) for path in train])
    found = {}
    for path in test:
        own = fingerprint(path)
        likeness = np.maximum((known * own).sum((1, 2)), (known * own[:, ::-1]).sum((1, 2)))
        if likeness.max() > above:
            found[path] = (train[int(likeness.argmax())], float(likeness.max()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--above", type=float, default=0.98, help="correlation from which two photos are one")
    parser.add_argument("--copy", type=Path, help="folder for the test photos that are not in the training folder")
    args = parser.parse_args()
    test = find_photos(args.test)
    found = pairs(test, find_photos(args.train), args.above)
    for path, (other, likeness) in found.items():
        print(f"{path.name} is {other.name} ({likeness:.4f})")
    if args.copy:
        args.copy.mkdir(parents=True, exist_ok=True)
        for path in test:
            if path not in found:
                shutil.copyfile(path, args.copy / path.name)
    print(f"{len(test) - len(found)} of {len(test)} photos are not in the training folder.")


if __name__ == "__main__":
    run_script(main)
