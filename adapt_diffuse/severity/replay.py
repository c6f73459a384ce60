"""The batches of a training: each a function of its number, the latest kept to be learnt from again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ..degradation import measure
from ..degradation.families import Family
from ..photo_crops import PhotoCrops
from .encoder import Encode

KEPT = 64  # batches; with fewer, the same photos come so often that they are learnt by heart


@dataclass(frozen=True)
class Batch:
    """Photos to learn from.

    Attributes:
        damaged: (B, 3, H, W) on [0, 1].
        z0: (B, C, h, w) latents of the photos, model's scale.
        encoding: (B, C, h, w) latents of the damaged photos; None where nobody asks for them.
        photos: (B, 3, H, W) on [0, 1], undamaged; None where nobody asks for them.
    """

    damaged: Tensor
    z0: Tensor
    encoding: Tensor | None
    photos: Tensor | None

    def to(self, device: torch.device | str) -> Batch:
        moved = (getattr(self, field.name) for field in fields(self))
        return Batch(*(None if value is None else value.to(device) for value in moved))  # type: ignore[arg-type]


def select(batches: list[Batch], rows: list[tuple[int, int]]) -> Batch:
    """A batch of the given (batch, photo)s."""

    def column(name: str) -> Tensor | None:
        values = [getattr(batch, name) for batch in batches]
        if values[0] is None:
            return None
        return torch.stack([values[which][row] for which, row in rows])

    return Batch(*(column(field.name) for field in fields(Batch)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class BatchSource:
    """Makes batch after batch: random crops, damaged by a draw from the family, and encoded.

    Attributes:
        encoded: whether the damaged photos are encoded too.
        undamaged: whether the batches hold the undamaged photos too.
        device: of the draws and the encoding.
    """

    train: PhotoCrops
    family: Family
    encode: Encode
    encoded: bool
    undamaged: bool
    size: int
    seed: int
    device: torch.device

    @torch.no_grad()
    def __call__(self, number: int) -> Batch:
        """The batch ``number``, the same whenever it is asked for."""
        rng = np.random.default_rng((self.seed, number))
        photos = self.train.random(self.size, rng).to(self.device)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        count, channels, height, width = photos.shape
        degradation, _ = self.family.sample((count, channels, height, width), generator)
        damaged = measure(photos, degradation, generator)
        encoding = self.encode(damaged) if self.encoded else None
        return Batch(damaged, self.encode(photos), encoding, photos if self.undamaged else None)


class Replay:
    """The batch of each step: its own where ``reuse`` is 1, else a draw from the ``KEPT`` latest.

    What a step gets follows from its number alone: after an interrupt the batches are made again.

    Args:
        make: the batch of a number.
        reuse: steps per new batch.
        seed: of the draws.
        rank, ranks: which of several processes this is; each has batches of its own.
    """

    def __init__(self, make: Callable[[int], Batch], reuse: int, seed: int, rank: int = 0, ranks: int = 1):
        self.make, self.reuse, self.seed, self.rank, self.ranks = make, reuse, seed, rank, ranks
        self.kept: dict[int, Batch] = {}

    def __call__(self, step: int) -> Batch:
        latest = step // self.reuse
        if self.reuse == 1:
            return self._made(latest)
        numbers = range(max(0, latest - KEPT + 1), latest + 1)
        self.kept = {number: self.kept.get(number) or self._made(number).to("cpu") for number in numbers}
        rng = np.random.default_rng((self.seed, step, self.rank, 1))
        count = len(self.kept[latest].z0)
        which, rows = rng.integers(len(numbers), size=count), rng.integers(count, size=count)
        return select(list(self.kept.values()), list(zip(which.tolist(), rows.tolist(), strict=True)))

    def _made(self, number: int) -> Batch:
        return self.make(number * self.ranks + self.rank)
