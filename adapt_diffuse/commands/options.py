"""Options and checks that several commands share."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from ..bundled import bundled_model
from ..checkpoints import device_of
from ..defaults import start_settings as defaults_of
from ..degradation import Degradation, parse_degradation
from ..errors import AdaptDiffuseError
from ..hosts.diffusers import DiffusersPrior
from ..severity import load_severity_encoder
from ..severity.checkpoint import AnySeverityEncoder
from ..start import StartSettings

MAX_PER_OCTAVE = 100


AUTO = "auto"  # in place of a degradation that nobody knows
NOISE_STD = 0.05


def add_degradation(parser: argparse.ArgumentParser, default: str = "gaussian-blur:std=3.0") -> None:
    estimated = ", or auto, which estimates it" if default == AUTO else ""
    parser.add_argument(
        "--degradation",
        default=default,
        help=f"what happened to the photo{estimated}, several in turn with '|' in "
        "quotes: gaussian-blur:std=3.0, lens-blur:radius=3, motion-blur:length=9,angle=30, "
        "camera-blur:extent=9,gain=1.2,seed=0, kernel-blur:file=PSF.png, bkse:file=GOPRO_wVAE.pth,seed=0, "
        "missing-pixels:drop=0.75,seed=0, missing-box:height=32,width=32,top=0,left=0 (no top or left: seed=0 draws "
        "it), mask:file=M.png (white is lost), film-damage:scratches=5,dust=40,size=2,fade=0.3,cast=0,gamma=1,seed=0 "
        "(file=M.png instead of random marks), downscale:factor=4,filter=bicubic (or area), jpeg:quality=20, noise; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--noise-std",
        type=float,
        help="noise on [0, 1] images: 0.01 is clean, 0.05 is visible grain, and the default for a named degradation",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="diffusers folder (vae, unet, scheduler); default: the bundled one")
    parser.add_argument(
        "--severity-encoder",
        type=Path,
        help="safetensors file; none (restore, demo) calibrates instead; default: the bundled one",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--guidance-vae",
        type=Path,
        metavar="DIR",
        help="tiny autoencoder of the same latent space, for the data term: a diffusers folder, or "
        "taesd_encoder.safetensors with its decoder beside it",
    )
    parser.add_argument("--tile", type=int, default=0, help="side of the decoder's tiles in pixels; 0 fits the memory")


def add_through(parser: argparse.ArgumentParser, default: str | None = "decoder") -> None:
    """Add --through; ``default`` None leaves it to the caller."""
    parser.add_argument(
        "--through",
        choices=("decoder", "denoiser"),
        default=default,
        help="what gradients pass: the decoder alone (half to two thirds of the time), or the denoiser too (published)"
        + ("" if default else "; default: the denoiser, for the method default the decoder"),
    )


def add_detail(parser: argparse.ArgumentParser, default: float | None = 1.0) -> None:
    """Add --detail; ``default`` None leaves it to the caller."""
    parser.add_argument(
        "--detail",
        type=float,
        default=default,
        help="how much of the detail that the photo still shows, and the autoencoder loses, is put back: 1 is what "
        "stands out from its noise, 0 nothing, far above 1 the noise too"
        + ("" if default is not None else "; default: 1 for the method default, else 0"),
    )


def check_detail(detail: float | None) -> None:
    """Raise AdaptDiffuseError for a --detail that is no strength."""
    if detail is not None and not 0 <= detail < math.inf:
        raise AdaptDiffuseError(f"--detail must be a number from 0 on, not {detail:g}.")


def add_solver(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--eta", type=float, help="step size of the data term; default: the tuned one")
    parser.add_argument("--gamma", type=float, help="weight of gml-dps', psld's, resample's own term; default: tuned")
    parser.add_argument(
        "--steps",
        type=int,
        default=0,
        help="solver steps, at most the levels below the start; 0 takes what the solver likes",
    )
    parser.add_argument(
        "--per-octave",
        type=float,
        help="steps in which the noise halves; 0 walks every level below the start, as the paper does; default: 2 for "
        "latino, diffpir and others that fit the estimate itself (3 for JPEG, camera blur and fading), else 0",
    )
    parser.add_argument(
        "--levels",
        type=int,
        help="levels of the whole model, of which those below the start are walked; default: all, 500 for resample",
    )
    parser.add_argument(
        "--noise-correction",
        type=float,
        help="c of the start, 1.0 to 1.2 in the paper; default: 0.5 where the noise is kept from step to step, else 1",
    )
    parser.add_argument(
        "--start-mode",
        choices=("matched", "paper", "published"),
        default="matched",
        help="matched: the schedule begins at the noise that the start really has; paper: at the predicted error, also "
        "where --noise-correction adds more; published: the released code's, for severities up to 1",
    )
    parser.add_argument(
        "--rounding",
        choices=("continuous", "schedule"),
        default="continuous",
        help="continuous: begin exactly at the severity; schedule: at the model's nearest level, as the paper does",
    )
    parser.add_argument("--inversion", action="store_true", help="climb to the start by DDIM inversion, without noise")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another of the possible restorations")


def start_settings(args: argparse.Namespace, solver: str, degradation: Degradation) -> StartSettings:
    """The start that the options ask for, with the levels that ``solver`` walks by default."""
    own = defaults_of(solver, args.steps, degradation)
    levels = own.levels if args.levels is None else args.levels
    chosen = own.per_octave if args.levels is None else 0.0  # a number of levels is a density, too
    per_octave = chosen if args.per_octave is None else args.per_octave
    correction = own.noise_correction if args.noise_correction is None else args.noise_correction
    if args.steps < 0 or levels < 0:
        raise AdaptDiffuseError(f"--steps and --levels must be 0 or more, not {args.steps} and {levels}.")
    if not 0 <= per_octave <= MAX_PER_OCTAVE:
        raise AdaptDiffuseError(f"--per-octave must be from 0 to {MAX_PER_OCTAVE}, not {per_octave:g}.")
    for name in ("eta", "gamma"):
        value = getattr(args, name)
        if value is not None and not 0 <= value < math.inf:
            raise AdaptDiffuseError(f"--{name} must be a number from 0 on, not {value:g}.")
    if not 0 < correction <= 4:
        raise AdaptDiffuseError(f"--noise-correction must be above 0 and at most 4, not {correction:g}.")
    return StartSettings(correction, args.start_mode, args.rounding, args.steps, levels, args.inversion, per_octave)


def say_failed(path: Path, error: AdaptDiffuseError) -> None:
    """One sentence on stderr on the photo that failed, naming it once."""
    from tqdm import tqdm  # its write keeps clear of a progress bar under way

    sentence = str(error)
    tqdm.write(f"adapt_diffuse: {sentence if str(path) in sentence else f'{path}: {sentence}'}", file=sys.stderr)


def degradation_of(args: argparse.Namespace) -> Degradation:
    """The operator of --degradation and --noise-std."""
    return parse_degradation(args.degradation, NOISE_STD if args.noise_std is None else args.noise_std)


def load_prior(args: argparse.Namespace) -> DiffusersPrior:
    """The model of --model on --device, with --guidance-vae, whose agreement is told on stderr, and --tile."""
    if args.tile < 0:
        raise AdaptDiffuseError(f"--tile must be 0 or more pixels, not {args.tile}.")
    device = device_of(args.device)
    if args.device == "auto" and (other := other_gpu()):
        print(f"adapt_diffuse: it runs on the CPU; --device {other} takes the GPU of this machine.", file=sys.stderr)
    prior = DiffusersPrior.load(args.model or bundled_model(), device, args.guidance_vae, args.tile)
    if prior.agreement is not None:
        print(f"adapt_diffuse: {prior.agreement}", file=sys.stderr)
    return prior


def other_gpu() -> str:
    """A GPU that torch has and "auto" does not take, since the pack has not been seen on one of its kind; or ""."""
    import torch

    if torch.cuda.is_available():
        return ""
    if torch.backends.mps.is_available():
        return "mps"
    return "xpu" if hasattr(torch, "xpu") and torch.xpu.is_available() else ""


def load_encoder(path: Path, prior: DiffusersPrior) -> AnySeverityEncoder:
    """The severity encoder in ``path``, made sure to belong to the prior's latent space."""
    from ..autoencoder import encode_raw

    encoder = load_severity_encoder(path).to(prior.device)
    encoder.space.check(lambda image: encode_raw(prior.autoencoder, image.to(prior.device) * 2 - 1))
    return encoder
