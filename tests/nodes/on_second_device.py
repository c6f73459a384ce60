"""ComfyUI's main.py on a machine with a second device, see ``tests/second_device.py``: what a GPU would be to it.

Its own arguments come after ours: ``on_second_device.py FREE VRAM IMAGES [main.py's arguments]``, where FREE is the
device's memory in MiB, VRAM a name of the host's VRAMState, and IMAGES "device" or "cpu", where images are kept
(``--gpu-only``, or not).
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Any

FREE, VRAM, IMAGES = sys.argv[1:4]
sys.argv = ["main.py", *sys.argv[4:]]
sys.path[0] = str(Path.cwd())  # ComfyUI's folder, as for its own main.py

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

# isort: split
import comfy.model_management as host  # noqa: E402
import torch  # noqa: E402

where = Path(__file__).resolve().parent.parent / "second_device.py"
spec = importlib.util.spec_from_file_location("second_device", where)
assert spec is not None and spec.loader is not None
second_device: Any = importlib.util.module_from_spec(spec)
sys.modules["second_device"] = second_device
spec.loader.exec_module(second_device)

MIB = 2**20


def settle() -> None:
    """Tell the host of the device. Its own questions are put to CUDA, which is not there."""
    second_device.register()
    device, on_cpu = torch.device(second_device.DEVICE), torch.device("cpu")
    size, main_memory = int(FREE) * MIB, host.get_free_memory

    def free(dev: Any = None, torch_free_too: bool = False) -> Any:
        if dev is not None and torch.device(dev).type == "cpu":
            return main_memory(on_cpu, torch_free_too)
        left = size - sum(model.model_loaded_memory() for model in host.current_loaded_models)
        return (left, left) if torch_free_too else left

    def total(dev: Any = None, torch_total_too: bool = False) -> Any:
        return (size, size) if torch_total_too else size

    host.get_torch_device = lambda: device
    host.get_free_memory, host.get_total_memory = free, total
    host.cpu_state, host.vram_state = host.CPUState.GPU, host.VRAMState[VRAM]
    for question in ("should_use_fp16", "should_use_bf16", "is_nvidia"):
        setattr(host, question, lambda *_, **__: False)
    if IMAGES == "device":
        host.intermediate_device = lambda: device


def execute_there() -> None:
    """Run prompts on the device: modes of torch hold for one thread, and the host executes in one of its own."""
    import execution

    executor: Any = execution.PromptExecutor
    plain = executor.execute

    def execute(self: Any, *arguments: Any, **options: Any) -> Any:
        for name, module in list(sys.modules.items()):
            if name.endswith(".hosts.comfy_refusals"):
                module.PLAIN = (torch.Tensor, second_device.There)  # type: ignore[attr-defined]
        with second_device.second_device():
            return plain(self, *arguments, **options)

    executor.execute = execute


if __name__ == "__main__":
    settle()
    execute_there()
    runpy.run_path("main.py", run_name="__main__")
