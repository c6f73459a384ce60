"""The package on a device that is not the CPU, emulated: no GPU is needed. See ``tests/second_device.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from tests.comfyui import REPOSITORY
from tests.inside_second_device import cases


@pytest.fixture(scope="module")
def report() -> dict[str, str]:
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("This torch cannot emulate a device: it is too old.")
    command = [sys.executable, "-m", "tests.inside_second_device"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)  # noqa: S603
    assert done.returncode == 0, done.stderr[-4000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    return json.loads(line.removeprefix("REPORT "))


@pytest.mark.parametrize("case", cases(Path()))
def test_what_the_cpu_does_the_device_does(report: dict[str, str], case: str) -> None:
    assert report[case] == "", report[case]
