"""Random crops of a folder of photos, for training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import AdaptDiffuseError
from .images import centre_crop, read_photo, smaller, to_pil


def digest_of(paths: Iterable[Path]) -> str:
    """Of the names of files and their sizes in bytes: another folder, or a changed one, has another."""
    named = hashlib.sha256()
    for path in paths:
        named.update(os.fsencode(f"{path.name}\n{path.stat().st_size}\n"))
    return named.hexdigest()


class PhotoCrops:
    """Photos kept in memory as 8 bit, handed out as random crops.

    Attributes:
        digest: ``digest_of`` the photos that could be read.

    Args:
        paths: the photos; those that cannot be read are left out and counted in ``unreadable``.
        size: side of the crops. Smaller photos are enlarged to it.
        max_side: larger photos are reduced so that their longer side is this long, to fit into memory.

    Raises:
        AdaptDiffuseError: no photo could be read.
    """

    def __init__(self, paths: Iterable[Path], size: int, max_side: int = 768):
        self.size = size
        self.photos: list[Tensor] = []
        self.unreadable = 0
        read = []
        for path in paths:
            try:
                self.photos.append(_read(path, size, max_side))
            except AdaptDiffuseError:
                self.unreadable += 1
            else:
                read.append(path)
        self.digest = digest_of(read)
        if not self.photos:
            raise AdaptDiffuseError(f"None of the {self.unreadable} photos could be read.")

    def __len__(self) -> int:
        return len(self.photos)

    def random(self, count: int, rng: np.random.Generator, scaled: float = 0.0) -> Tensor:
        """``count`` random crops, half of them mirrored: (count, 3, size, size) on [0, 1].

        Args:
            rng: draws the photos and the places.
            scaled: the part of the crops, 0 to 1, that show more of their photo: squares of any side between ``size``
                and the photo's shorter one, made smaller to ``size``. What a photo shows as a whole is only in these.
        """
        crops = []
        for index in rng.integers(len(self.photos), size=count):
            photo = self.photos[index]
            side = self.size
            if scaled and rng.random() < scaled:
                side = int(rng.integers(self.size, min(photo.shape[1:]) + 1))
            top = int(rng.integers(photo.shape[1] - side + 1))
            left = int(rng.integers(photo.shape[2] - side + 1))
            crop = photo[:, top : top + side, left : left + side]
            crop = crop.flip(2) if rng.random() < 0.5 else crop
            crops.append(smaller(crop[None].float() / 255, self.size))
        return torch.cat(crops)

    def centres(self) -> Tensor:
        """The centre crop of every photo: (n, 3, size, size) on [0, 1]."""
        return torch.stack([centre_crop(photo, self.size) for photo in self.photos]).float() / 255


def held_out(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photos to train on, and every twentieth to validate on; a single photo does both."""
    validation = list(paths[::20])
    chosen = set(validation)
    return [path for path in paths if path not in chosen] or validation, validation


def _read(path: Path, size: int, max_side: int) -> Tensor:
    image = to_pil(read_photo(path))
    scale = min(1.0, max_side / max(image.size))
    scale = max(scale, size / min(image.size))
    if scale != 1:
        target = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
        image = image.resize(target, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
