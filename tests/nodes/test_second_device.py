"""Example workflows in a real ComfyUI whose models are on a device that is not the CPU, see tests/second_device.py."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.comfyui import REPOSITORY, ComfyServer, find_emulating_comfyui, to_prompt
from tests.graph import WORKFLOWS, pixels

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
# the device's memory in MiB, the host's VRAMState, where images are kept
MACHINES = {
    "a GPU": ("8000", "NORMAL_VRAM", "cpu"),
    "models that come and go (--novram)": ("8000", "NO_VRAM", "cpu"),
    "images on the GPU (--gpu-only)": ("8000", "HIGH_VRAM", "device"),
}
GRAPHS = ("1 Restore my photo", "Enlarge a small photo", "Fill in lost pixels (PSLD)")


@pytest.fixture(scope="module", params=MACHINES)
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    if isinstance(found := find_emulating_comfyui(), str):
        pytest.skip(found)
    script = REPOSITORY / "tests" / "nodes" / "on_second_device.py"
    main = (str(script), *MACHINES[request.param])
    with ComfyServer(tmp_path_factory.mktemp("second device"), main=main) as server:
        yield server


@pytest.mark.parametrize("name", GRAPHS)
def test_workflows_make_there_what_they_make_on_the_cpu(there: ComfyServer, comfy: ComfyServer, name: str) -> None:
    (workflow,) = [path for path in WORKFLOWS if path.stem == name]
    pictures = []
    for server in (there, comfy):
        prompt = to_prompt(json.loads(workflow.read_text(encoding="utf-8")), server.get("/object_info"))
        outputs = server.run(prompt)
        shown = [entry for output in outputs.values() for entry in output.get("images", [])]
        pictures.append([pixels(server, entry) for entry in shown])
    assert len(pictures[0]) == len(pictures[1]) > 0
    for found, expected in zip(*pictures, strict=True):
        assert abs(found - expected).max() <= 2.01 / 255
