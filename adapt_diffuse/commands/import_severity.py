"""Convert a published severity encoder (flash-diffusion .ckpt) to a safetensors file, offline."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import AdaptDiffuseError
from ..imports import convert_severity_encoder
from ..imports.checkpoint import read_checkpoint
from ..severity import save_severity_encoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="flash-diffusion severity encoder .ckpt")
    parser.add_argument("--model", type=Path, required=True, help="diffusers folder, made by import-model")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")


def run(args: argparse.Namespace) -> int:
    if args.out.suffix != ".safetensors":
        raise AdaptDiffuseError(f"--out should end in .safetensors, not '{args.out.name}'.")
    encoder, config, notes = convert_severity_encoder(read_checkpoint(args.checkpoint), args.model, args.checkpoint)
    save_severity_encoder(args.out, encoder, config, notes)
    print(args.out)
    return 0
