"""Photos as training crops: reading, cropping, flipping. Shared by the training scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def find_photos(folder: str | Path) -> list[Path]:
    """All photos below ``folder``, sorted. Raises SystemExit with a sentence when there is none."""
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"No photos found in {folder}.")
    return paths


def read_photos(paths: list[Path], size: int) -> list[Tensor]:
    """Photos as uint8 tensors (3, H, W); those with a shorter side below ``size`` are enlarged to it."""
    photos = []
    for path in paths:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        scale = size / min(image.size)
        if scale > 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        photos.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())
    return photos


def random_crops(photos: list[Tensor], size: int, count: int, rng: np.random.Generator) -> Tensor:
    """``count`` random crops, half of them mirrored, as floats (count, 3, size, size) in [-1, 1]."""
    crops = []
    for index in rng.integers(len(photos), size=count):
        photo = photos[index]
        top = int(rng.integers(photo.shape[1] - size + 1))
        left = int(rng.integers(photo.shape[2] - size + 1))
        crop = photo[:, top : top + size, left : left + size]
        crops.append(crop.flip(2) if rng.random() < 0.5 else crop)
    return torch.stack(crops).float() / 127.5 - 1


def epochs(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of indices, without replacement within an epoch, for ever."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]
