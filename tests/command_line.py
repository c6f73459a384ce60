"""The command line called as a function, and what it left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adapt_diffuse.cli import main

# the keys of a benchmark's row
ROW = {
    "task",
    "method",
    "images",
    "psnr",
    "ssim",
    "haarpsi",
    "denoiser_forwards",
    "denoiser_backwards",
    "decoder_forwards",
    "decoder_backwards",
    "encoder_passes",
    "encoder_backwards",
    "guide_decoder_forwards",
    "guide_decoder_backwards",
    "guide_encoder_passes",
    "guide_encoder_backwards",
    "seconds",
    "peak_memory_mib",
    "sigma_hat_mean",
    "residual",
    "photos",
}


def call(*arguments: object) -> int:
    """The exit code of ``python -m adapt_diffuse`` with these arguments."""
    return main([str(argument) for argument in arguments])


def run_main(script: Any, *arguments: object) -> None:
    """``python -m`` of a script's module with these arguments, in this process."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
        script.main()


def model(files: Path, name: str = "model") -> list[object]:
    """The options that choose a tiny model of the fixture ``files``."""
    return ["--model", files / name, "--severity-encoder", files / f"{name}.safetensors", "--device", "cpu"]


def restore(files: Path, *arguments: object, steps: int = 2) -> int:
    """``restore`` on a tiny model, of photos that are blurred where the arguments name nothing else."""
    blur = [] if "--degradation" in arguments else ["--degradation", "gaussian-blur:std=3.0"]
    return call("restore", *arguments, *blur, *model(files), "--steps", steps)


def names(folder: Path) -> list[str]:
    """Every file in a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def strict_json(path: Path) -> Any:
    """JSON without NaN and Infinity, which only Python reads."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def one_sentence(capsys: Any, *parts: object) -> str:
    """What the command said on stderr: one line with all of ``parts``, and no traceback."""
    said: list[str] = []
    for line in capsys.readouterr().err.split("\n"):
        shown = ""
        for written in line.split("\r"):  # a progress bar writes over itself, and over its last state with spaces
            shown = written + shown[len(written) :]
        said += [shown.strip()] if shown.strip() else []
    assert len(said) == 1, said
    assert all(str(part) in said[0] for part in parts), said[0]
    return said[0]
