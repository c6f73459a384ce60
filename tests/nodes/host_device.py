"""Tells a ComfyUI that it has a second device, see ``tests/second_device.py``: what a GPU would be to it.

To be imported inside ComfyUI, after its options are read, and before ``settle`` is called.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import comfy.model_management as host
import torch

# by its file: ComfyUI has a package ``tests``, too
spec = importlib.util.spec_from_file_location(
    "second_device", Path(__file__).resolve().parent.parent / "second_device.py"
)
assert spec is not None and spec.loader is not None
second_device: Any = importlib.util.module_from_spec(spec)
sys.modules["second_device"] = second_device
spec.loader.exec_module(second_device)
second_device.register()  # before the first gradient: torch's engine counts the devices then

MIB = 2**20
main_memory = host.get_free_memory


def settle(mebibytes: int, vram: str, keeps_images: bool = False, half: str = "") -> None:
    """Give the host a device. Its own questions are put to CUDA, which is not there.

    Args:
        mebibytes: the device's memory.
        vram: a name of the host's VRAMState: NORMAL_VRAM, HIGH_VRAM (``--highvram``), NO_VRAM (``--novram``).
        keeps_images: whether images between nodes are on the device (``--gpu-only``).
        half: what it computes in where the host has the choice: "fp16", "bf16" or, by default, float32.
    """
    device, size = torch.device(second_device.DEVICE), mebibytes * MIB

    def free(dev: Any = None, torch_free_too: bool = False) -> Any:
        if dev is not None and torch.device(dev).type == "cpu":
            return main_memory(torch.device("cpu"), torch_free_too)
        left = size - sum(model.model_loaded_memory() for model in host.current_loaded_models)
        return (left, left) if torch_free_too else left

    def total(dev: Any = None, torch_total_too: bool = False) -> Any:
        return (size, size) if torch_total_too else size

    host.get_torch_device = lambda: device
    host.get_free_memory, host.get_total_memory = free, total
    host.cpu_state, host.vram_state = host.CPUState.GPU, host.VRAMState[vram]
    host.is_nvidia = lambda: False
    host.should_use_fp16 = lambda *_, **__: half == "fp16"
    host.should_use_bf16 = lambda *_, **__: half == "bf16"
    if keeps_images:
        host.intermediate_device = lambda: device


def take_for_plain() -> None:
    """The device's tensors are a class of their own, as quantised weights are; our refusals shall not mind."""
    for name, module in list(sys.modules.items()):
        if name.endswith("hosts.comfy_refusals"):
            module.PLAIN = (torch.Tensor, second_device.There)  # type: ignore[attr-defined]
