"""What the scripts of the benchmark are given: photos, a model, a severity encoder."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from adapt_diffuse.bundled import bundled_model, default_encoder
from adapt_diffuse.commands.benchmark import spread
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import centre_crop, find_photos, read_photo
from adapt_diffuse.severity import SeverityModel, load_severity_encoder


def parser_of(description: str | None, out: str = "JSON file") -> argparse.ArgumentParser:
    """A parser that knows the photos, the model, and where the result goes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of undamaged photos")
    parser.add_argument("--limit", type=int, help="use N photos, evenly spaced in the folder's order; default: all")
    parser.add_argument("--size", type=int, default=128, help="side of the centre crop in pixels")
    parser.add_argument("--model", type=Path, help="diffusers folder; default: the bundled one")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help=out)
    return parser


def add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--severity-encoder", type=Path, help="safetensors file; default: the bundled one")


def load_photos(args: argparse.Namespace) -> Tensor:
    """The centre crops (n, 3, size, size) on [0, 1]."""
    paths = spread(find_photos(args.images), args.limit)
    return torch.cat([centre_crop(read_photo(path), args.size) for path in paths])


def load_prior(args: argparse.Namespace, guidance: Path | None = None) -> DiffusersPrior:
    return DiffusersPrior.load(args.model or bundled_model(), guidance=guidance)


def load_encoder(args: argparse.Namespace, degradation: str) -> SeverityModel:
    """The encoder of the options, or the bundled one for a degradation."""
    return load_severity_encoder(args.severity_encoder or default_encoder(degradation))
