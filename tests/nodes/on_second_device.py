"""ComfyUI's main.py on a machine with a second device, see ``host_device.py``.

Its own arguments come after ours: ``on_second_device.py MIB VRAM IMAGES [main.py's arguments]``, where MIB is the
device's memory, VRAM a name of the host's VRAMState, and IMAGES "device" or "cpu", where images are kept.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

MIB, VRAM, IMAGES = sys.argv[1:4]
sys.argv = ["main.py", *sys.argv[4:]]
sys.path.insert(0, str(Path.cwd()))  # ComfyUI's folder

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

# isort: split
from host_device import second_device, settle, take_for_plain  # noqa: E402

sys.path.pop(1)  # as for its own main.py


def execute_there() -> None:
    """Run prompts on the device: modes of torch hold for one thread, and the host executes in one of its own."""
    import execution

    executor: Any = execution.PromptExecutor
    plain = executor.execute

    def execute(self: Any, *arguments: Any, **options: Any) -> Any:
        take_for_plain()
        with second_device.second_device():
            return plain(self, *arguments, **options)

    executor.execute = execute


if __name__ == "__main__":
    settle(int(MIB), VRAM, IMAGES == "device")
    execute_there()
    runpy.run_path("main.py", run_name="__main__")
