"""Convert a published latent diffusion checkpoint (CompVis .ckpt) to a model folder, offline."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..imports import ImportedModel, convert_model, write_model
from ..imports.checkpoint import read_checkpoint, state_dict_of
from ..imports.declared import Declared, read_declared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="unconditional CompVis latent diffusion .ckpt")
    parser.add_argument("--out", type=Path, required=True, help="diffusers folder to write, for --model")
    parser.add_argument(
        "--config",
        type=Path,
        help="the model's config.yaml; not needed for the published CelebA-HQ, FFHQ and LSUN-Bedrooms models",
    )
    parser.add_argument("--no-ema", action="store_true", help="take the last weights, not their running average")


def run(args: argparse.Namespace) -> int:
    declared = read_declared(args.config) if args.config else Declared()
    state = state_dict_of(read_checkpoint(args.checkpoint), args.checkpoint)
    model = convert_model(state, declared, not args.no_ema, args.checkpoint)
    write_model(model, args.out)
    assumed = "" if declared.known else f"; heads of {declared.attention.head_channels} channels assumed"
    print(f"{args.out}: {describe(model)}{assumed}")
    return 0


def describe(model: ImportedModel) -> str:
    parameters = sum(value.numel() for value in model.unet.tensors.values())
    return (
        f"{model.autoencoder.config['_class_name']} of {model.unet.config['in_channels']} channels; denoiser of "
        f"{parameters / 1e6:.1f} M parameters ({'running average' if model.averaged else 'last weights'}); "
        f"{model.scheduler['num_train_timesteps']} levels"
    )
