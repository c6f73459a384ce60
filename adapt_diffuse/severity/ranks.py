"""Several processes that train together, one per GPU, as ``accelerate launch`` starts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError


@dataclass(frozen=True)
class Ranks:
    """Which process of how many this is."""

    index: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and draws the bar."""
        return self.index == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one exchange."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, mean in zip(tensors, (flat / self.count).split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.reshape(tensor.shape))

    def leave(self) -> None:
        """Part from the others once all is done."""
        if self.count > 1:
            torch.distributed.destroy_process_group()


def launched_ranks(device: str) -> tuple[Ranks, str]:
    """The ranks of this launch, connected, and the device of this one; a process on its own where nothing launched it.

    Raises:
        AdaptDiffuseError: launched as one of several, without accelerate.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Ranks(), device
    try:
        from accelerate import PartialState
    except ImportError:
        raise AdaptDiffuseError("Training on several GPUs needs accelerate: pip install accelerate.") from None
    state = PartialState(cpu=device == "cpu")
    return Ranks(state.process_index, state.num_processes), str(state.device) if device == "auto" else device
