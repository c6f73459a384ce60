"""Train a severity encoder for an autoencoder and a family of degradations.

On several GPUs: ``accelerate launch --multi_gpu -m adapt_diffuse train-severity ...``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from torch import nn

from ..autoencoder import autoencoder_folder, load_autoencoder
from ..bundled import bundled_model
from ..checkpoints import device_of
from ..degradation.families import FAMILIES, parse_family
from ..errors import AdaptDiffuseError
from ..images import find_photos
from ..photo_crops import PhotoCrops, held_out
from ..severity import load_severity_encoder
from ..severity.evaluation import SeverityScores
from ..severity.ranks import launched_ranks
from ..severity.settings import Architecture
from ..severity.trainee import trainee_of
from ..severity.training import Progress, SeverityTraining, TrainingSettings
from ..tiny_autoencoder import is_tiny, load_tiny_encoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = TrainingSettings()
    parser.add_argument("--images", required=True, help="folder of undamaged photos to train on")
    parser.add_argument("--validation", help="folder of photos to validate on; default: every twentieth of --images")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write; run again to resume")
    parser.add_argument(
        "--init",
        type=Path,
        help="severity encoder of the same architecture to begin with, of another latent space too: weights that fit "
        "are taken over, and far fewer steps are needed",
    )
    parser.add_argument("--model", type=Path, help="diffusers folder with the autoencoder; default: the bundled one")
    parser.add_argument(
        "--vae",
        type=Path,
        help="instead of --model: the folder of a diffusers autoencoder, or the encoder of a tiny one "
        "(taesd_encoder.safetensors, also taesdxl, taesd3, taef1), whose latent space is that of the full autoencoder",
    )
    parser.add_argument(
        "--architecture",
        choices=get_args(Architecture),
        help="encoder-copy fine-tunes a copy of the autoencoder's encoder; refiner trains a small network on its "
        "frozen encoding, for large autoencoders; default: encoder-copy, refiner for tiny autoencoders",
    )
    parser.add_argument(
        "--family",
        default="gaussian-blur",
        help=f"{' | '.join(FAMILIES)}, with options: gaussian-blur:std_min=0.3,std_max=3.0",
    )
    parser.add_argument("--noise-std", type=float, default=0.05, help="noise on [0, 1] images")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--size", type=int, default=defaults.size, help="side of the training crops in pixels")
    parser.add_argument("--head", choices=("log-sigma", "paper"), default=defaults.head)
    parser.add_argument("--loss", choices=("nll", "paper"), default=defaults.loss)
    parser.add_argument("--lambda-sigma", type=float, default=defaults.lambda_sigma)
    parser.add_argument("--lambda-image", type=float, default=defaults.lambda_image)
    parser.add_argument("--validate-every", type=int, default=defaults.validate_every)
    parser.add_argument("--reuse", type=int, default=defaults.reuse, help="of a refiner: steps per encoded batch")
    parser.add_argument("--width", type=int, default=defaults.width, help="of a refiner: features, a multiple of 16")
    parser.add_argument("--no-photo", action="store_true", help="a refiner that does not see the photo itself")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace a finished encoder in --out")
    parser.add_argument("--device", default="auto")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    if args.out.suffix != ".safetensors":
        raise AdaptDiffuseError(f"--out should end in .safetensors, not '{args.out.name}'.")
    settings = settings_of(args)
    family = parse_family(args.family, args.noise_std)
    autoencoder = autoencoder_of(args)
    ranks, device = launched_ranks(args.device)
    trainee = trainee_of(autoencoder, settings, device_of(device))
    train, validation = load_crops(args, settings)
    training = SeverityTraining(trainee, family, train, validation.centres(), settings, args.out, ranks)
    if training.resume():
        if ranks.main:
            print(f"Going on from step {training.step}.", file=sys.stderr)
    elif args.out.exists() and not args.overwrite:
        raise AdaptDiffuseError(f"{args.out} is a finished encoder already; use another --out, or --overwrite.")
    elif args.init:
        training.begin_with(load_severity_encoder(args.init))

    with tqdm(
        total=settings.steps, initial=training.step, desc="train-severity", unit="step", disable=not ranks.main
    ) as bar:

        def progress(now: Progress) -> None:
            bar.update(now.step - bar.n)
            bar.set_postfix(error=f"{now.reconstruction:.4f}", sigma=f"{now.sigma:.3f}")
            if now.scores is not None:
                bar.write(f"step {now.step}: {describe(now.scores)}")

        training.run(progress)
    ranks.leave()
    if training.scores:
        print(f"{args.out}: {describe(training.scores)}")
    return 0


def settings_of(args: argparse.Namespace) -> TrainingSettings:
    tiny = args.vae is not None and is_tiny(args.vae)
    return TrainingSettings(
        steps=args.steps,
        batch=args.batch,
        learning_rate=args.learning_rate,
        size=args.size,
        head=args.head,
        loss=args.loss,
        lambda_sigma=args.lambda_sigma,
        lambda_image=args.lambda_image,
        validate_every=args.validate_every,
        seed=args.seed,
        architecture=args.architecture or ("refiner" if tiny else "encoder-copy"),
        photo=not args.no_photo,
        width=args.width,
        reuse=args.reuse,
    )


def autoencoder_of(args: argparse.Namespace) -> nn.Module:
    """The autoencoder of --vae, or that of --model, or the bundled one."""
    if args.vae is None:
        return load_autoencoder(autoencoder_folder(args.model or bundled_model()))
    if args.model is not None:
        raise AdaptDiffuseError("Give either --model or --vae, not both.")
    if is_tiny(args.vae):
        return load_tiny_encoder(args.vae)
    if args.vae.is_file():
        raise AdaptDiffuseError(
            f"--vae is the folder of a diffusers autoencoder, or the encoder file of a tiny one, not '{args.vae.name}'."
        )
    return load_autoencoder(args.vae)


def load_crops(args: argparse.Namespace, settings: TrainingSettings) -> tuple[PhotoCrops, PhotoCrops]:
    """Training and validation photos; without a validation folder every twentieth photo is set aside."""
    paths = find_photos(args.images)
    if args.validation:
        validation = find_photos(args.validation)
    else:
        paths, validation = held_out(paths)
    train = PhotoCrops(paths, settings.size)
    if train.unreadable:
        print(f"{train.unreadable} of {len(paths)} photos could not be read and are left out.", file=sys.stderr)
    return train, PhotoCrops(validation, settings.size)


def describe(scores: SeverityScores) -> str:
    return (
        f"sigma_hat against the level of damage: Pearson {scores.pearson_level:.3f}, Spearman "
        f"{scores.spearman_level:.3f}; against its true error: Pearson {scores.pearson_error:.3f}, Spearman "
        f"{scores.spearman_error:.3f}; sigma_hat / true {scores.sigma_ratio:.3f}; latent RMSE {scores.latent_rmse:.4f}"
    )
