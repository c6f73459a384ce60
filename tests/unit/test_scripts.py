"""The scripts beside the package: whatever they refuse is one sentence."""

import subprocess
import sys

import pytest

from tests.comfyui import REPOSITORY

SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "training")
    for path in (REPOSITORY / folder).glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_a_script_tells_what_it_refuses_in_a_sentence(path):
    text = path.read_text(encoding="utf-8")
    assert "    run_script(main)\n" in text or "except AdaptDiffuseError" in text


@pytest.mark.parametrize("name", ["training.train_estimator", "benchmarks.prior"])
def test_photos_that_are_not_there(name, tmp_path):
    command = [sys.executable, "-m", name, "--images", tmp_path / "no such folder", "--out", tmp_path / "out"]
    done = subprocess.run(  # noqa: S603
        [*map(str, command)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"{name.rpartition('.')[2]}: ") and "no such folder" in line
