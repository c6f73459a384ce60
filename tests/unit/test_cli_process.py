"""The command line as a process of its own: Ctrl-C, a full disk, exit codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from adapt_diffuse.images import read_photo
from adapt_diffuse.severity import load_severity_encoder
from tests.command_line import model, names, strict_json
from tests.models import draw_photos

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments):
    return [sys.executable, "-m", "adapt_diffuse", *map(str, arguments)]


def start(*arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # a shell starts what it puts into the background deaf to Ctrl-C, this test run perhaps, and so its children
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command(*arguments), cwd=ROOT, start_new_session=True, **pipes)
    finally:
        signal.signal(signal.SIGINT, heard)


def interrupt_when(process, ready, limit=300):
    """Send Ctrl-C as soon as ``ready()``; the exit code and what was said on stderr."""
    end = time.monotonic() + limit
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"not ready after {limit} seconds"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=limit)
    return process.returncode, errors


def test_bad_input_exits_with_2_and_without_a_traceback(files, tmp_path):
    (tmp_path / "note.png").write_text("not an image")
    done = subprocess.run(
        command("restore", tmp_path / "note.png", "--out", tmp_path / "out", *model(files)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "note.png cannot be read as an image" in done.stderr


def test_ctrl_c_keeps_finished_photos_and_no_half_file(files, tmp_path):
    draw_photos(tmp_path / "photos", 40, 24, 32)
    out, report = tmp_path / "out", tmp_path / "report.json"
    options = ["--out", out, "--report", report, "--steps", 60, "--batch", 2, *model(files)]
    options += ["--degradation", "gaussian-blur:std=3"]
    process = start("restore", tmp_path / "photos", *options)
    code, errors = interrupt_when(process, lambda: len(list(out.glob("[!.]*.png"))) >= 2)
    assert code == 130
    assert "Traceback" not in errors
    assert "adapt_diffuse: interrupted; what was finished before is kept." in errors
    finished = sorted(out.iterdir())
    assert 2 <= len(finished) < 40
    for path in finished:
        assert read_photo(path).shape == (1, 3, 24, 32)
    rows = strict_json(report)
    assert len(finished) - 1 <= len(rows) <= len(finished)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos", "report.json"]


def test_ctrl_c_keeps_finished_rows(files, photos, tmp_path):
    out = tmp_path / "results.json"
    options = ["--task", "gaussian-blur-fixed", "--methods", "ae,ldps", "--size", 24, "--out", out]
    process = start("benchmark", "--images", photos[0].parent, *options, *model(files))
    code, errors = interrupt_when(process, lambda: out.exists() and len(strict_json(out)) == 2)
    assert code == 130
    assert "Traceback" not in errors
    assert [row["method"] for row in strict_json(out)] == ["severity", "ae"]
    assert names(tmp_path) == ["photos/photo-0.png", "photos/photo-1.png", "photos/photo-2.png", "results.json"]


def test_ctrl_c_in_a_training_can_be_taken_up_again(files, tmp_path):
    out = tmp_path / "severity.safetensors"
    options = ["--images", files / "training", "--out", out, "--model", files / "model", "--device", "cpu"]
    options += ["--batch", 2, "--size", 32, "--validate-every", 5]
    process = start("train-severity", *options, "--steps", 100000)
    code, errors = interrupt_when(process, out.exists)
    assert code == 130
    assert "Traceback" not in errors
    assert names(tmp_path) == ["severity.safetensors", "severity.state.pt"]
    step = torch.load(out.with_suffix(".state.pt"), weights_only=True)["step"]
    done = subprocess.run(
        command("train-severity", *options, "--steps", step + 2), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"Going on from step {step}." in done.stderr
    assert load_severity_encoder(out).notes["training"]["step"] == step + 2
    assert names(tmp_path) == ["severity.safetensors"]


LIMITED = """
import resource, signal, sys
from adapt_diffuse.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("what", ["restore", "degrade", "train-severity"])
def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(files, tmp_path, what):
    # a limit on the size of files ends a write in the middle, as a full disk does
    out = tmp_path / "out"
    out.mkdir()
    photos = draw_photos(tmp_path / "photos", 1, 64, 64)
    arguments = {
        "restore": ["restore", photos[0], "--out", out, *model(files), "--steps", 1],
        "degrade": ["degrade", photos[0], "--out", out],
        "train-severity": ["train-severity", "--images", photos[0], "--out", out / "s.safetensors"]
        + ["--model", files / "model", "--steps", 1, "--batch", 1, "--size", 32, "--device", "cpu"],
    }[what]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "1000", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("cannot be written") == 1
    assert names(out) == []
