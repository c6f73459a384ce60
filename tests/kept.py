"""Counts the bytes that autograd keeps alive for backward passes, at their peak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Kept:
    """Bytes kept now and at most; a storage that several tensors share counts once."""

    now: int = 0
    peak: int = 0
    users: Counter[int] = field(default_factory=Counter)


class Holder:
    """A saved tensor, counted until autograd lets it go."""

    def __init__(self, tensor: Tensor, kept: Kept):
        self.tensor, self.kept = tensor, kept
        self.key, self.size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        kept.users[self.key] += 1
        if kept.users[self.key] == 1:
            kept.now += self.size
            kept.peak = max(kept.peak, kept.now)

    def __del__(self) -> None:
        self.kept.users[self.key] -= 1
        if not self.kept.users[self.key]:
            self.kept.now -= self.size


@contextmanager
def counted(*networks: torch.nn.Module) -> Iterator[Kept]:
    """Inside, what autograd saves is counted; the weights of ``networks``, which are there anyway, are not."""
    kept = Kept()
    weights = {parameter.untyped_storage().data_ptr() for network in networks for parameter in network.parameters()}

    def pack(tensor: Tensor) -> Tensor | Holder:
        return tensor if tensor.untyped_storage().data_ptr() in weights else Holder(tensor, kept)

    def unpack(saved: Tensor | Holder) -> Tensor:
        return saved.tensor if isinstance(saved, Holder) else saved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield kept
