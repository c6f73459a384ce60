"""The memory of a device: how much is left, whether it ran out, and how a network keeps less of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS_OF_A_BLOCK = range(2, 7)


class Machine(Protocol):
    """The memory of the device that an autoencoder runs on."""

    def free(self) -> float | None:
        """Bytes that may be used; None where nobody knows."""
        ...

    def ran_out(self, error: Exception) -> bool:
        """Whether ``error`` says that memory ran out."""
        ...

    def release(self) -> None:
        """Give back what is kept for later."""
        ...

    def check(self) -> None:
        """Called before every tile: raises where the user wants to stop."""
        ...


@dataclass(frozen=True)
class LocalMachine:
    """A device as torch and the operating system see it."""

    device: torch.device

    def free(self) -> float | None:
        if self.device.type == "cuda":
            unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return float(torch.cuda.mem_get_info(self.device)[0] + unused)
        return available_memory() if self.device.type == "cpu" else None

    def ran_out(self, error: Exception) -> bool:
        return out_of_memory(error)

    def release(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def check(self) -> None:
        return None


def available_memory() -> float | None:
    """Bytes of main memory that programs may still take, in this container where it is one; None without psutil."""
    try:
        import psutil
    except ImportError:
        return None
    free = float(psutil.virtual_memory().available)
    left = container_memory()
    return free if left is None else min(free, left)


def container_memory(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Bytes that are left of the limit of a Linux container (control groups, version 2); None where there is none."""
    try:
        limit, used = (float((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (folder / "memory.stat").read_text().splitlines()
        given_back = sum(float(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError):  # without a limit memory.max says "max"
        return None
    return max(limit - used + given_back, 0.0)


def out_of_memory(error: Exception) -> bool:
    """Whether torch, numpy or Python says that the memory of a GPU, or of the machine, ran out."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    # on a CPU torch has no class of its own for it: the first is Linux's and macOS's wording, the second Windows'
    wordings = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(wording in str(error) for wording in wordings)


def kept_bytes(run: Callable[[Tensor], Tensor], source: Tensor, network: nn.Module) -> float:
    """Bytes that ``run`` keeps for the gradient with respect to ``source``, the network's weights not counted."""
    known = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        output = run(source.detach().requires_grad_())
    del output  # until here all of it is alive, and no two have the same address
    return float(sum(kept.values()))


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """The network's blocks (residual, attention): the outermost modules of a few layers that are no mere sequence."""
    for child in network.children():
        count = sum(isinstance(layer, LAYERS) for layer in child.modules())
        if count in LAYERS_OF_A_BLOCK and not isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield child
        else:
            yield from blocks_of(child)


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Inside, the network's blocks keep only what goes into them, and are run again for a gradient."""
    blocks = list(blocks_of(network))
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        vars(block)["forward"] = again
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            del vars(block)["forward"]
            if own is not None:
                vars(block)["forward"] = own
