"""The two severity encoders side by side: the same autoencoder, photos, damage and budget.

    python -m benchmarks.encoders --images TRAIN --test TEST --family mixed --seconds 600 --out encoders.json

The budget is a number of steps (``--steps``) or of seconds (``--seconds``), which become as many steps as fit; on a
CPU they are seconds of its own work, so that other programs do not shorten one training more than the other. Each
training has a process of its own, so that its peak memory is its own. ``frozen`` is the autoencoder's own encoding of
the damaged photo, which a refiner begins with.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapt_diffuse.autoencoder import autoencoder_folder, load_autoencoder
from adapt_diffuse.bundled import bundled_model
from adapt_diffuse.checkpoints import device_of, write_text
from adapt_diffuse.commands.benchmark import spread
from adapt_diffuse.cost import peak_memory
from adapt_diffuse.degradation.families import parse_family
from adapt_diffuse.errors import run_script
from adapt_diffuse.images import find_photos
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.severity.checkpoint import count_parameters
from adapt_diffuse.severity.evaluation import errors_of, prepare
from adapt_diffuse.severity.settings import TrainingSettings
from adapt_diffuse.severity.trainee import trainee_of
from adapt_diffuse.severity.training import SeverityTraining
from adapt_diffuse.tiny_autoencoder import is_tiny, load_tiny_encoder

VARIANTS: dict[str, dict[str, Any]] = {
    "encoder-copy": {"architecture": "encoder-copy"},
    "refiner": {"architecture": "refiner"},
    "refiner, no photo": {"architecture": "refiner", "photo": False},
    "refiner, no reuse": {"architecture": "refiner", "reuse": 1},
}
TEST_SEED = 11


@dataclass(frozen=True)
class Job:
    """One training: all that a process needs to know."""

    name: str
    settings: TrainingSettings
    vae: Path | None
    train: list[Path]
    test: list[Path]
    family: str
    noise_std: float
    seconds: float | None
    device: str


def begin(job: Job, settings: TrainingSettings, folder: Path) -> SeverityTraining:
    if job.vae is not None and is_tiny(job.vae):
        autoencoder = load_tiny_encoder(job.vae)
    else:
        autoencoder = load_autoencoder(job.vae or autoencoder_folder(bundled_model()))
    trainee = trainee_of(autoencoder, settings, device_of(job.device))
    crops, test = PhotoCrops(job.train, settings.size), PhotoCrops(job.test, settings.size)
    family = parse_family(job.family, job.noise_std)
    return SeverityTraining(trainee, family, crops, test.centres()[:2], settings, folder / "encoder.safetensors")


def steps_within(job: Job, folder: Path) -> int:
    """How many steps fit into the seconds: two rounds of new batches are timed, the first is not counted."""
    rounds = job.settings.reuse
    training = begin(job, replace(job.settings, steps=3 * rounds, validate_every=10**9), folder)
    on_cpu = training.device.type == "cpu"
    at: list[float] = []
    training.run(lambda now: at.append(time.process_time() if on_cpu else training.seconds))
    assert job.seconds is not None
    return max(1, int(job.seconds / ((at[-2] - at[rounds - 1]) / (2 * rounds - 1))))


def train(job: Job) -> dict[str, Any]:
    """Train one severity encoder and judge it on the test photos."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = job.settings.steps if job.seconds is None else steps_within(job, folder)
        training = begin(job, replace(job.settings, steps=steps, validate_every=steps), folder)
        worked = time.process_time()
        encoder = training.run(lambda now: None)
        worked = time.process_time() - worked
        memory, seconds = peak_memory(), training.seconds
    test = PhotoCrops(job.test, job.settings.size).centres()
    judged = prepare(training.trainee.encode, training.family, test, TEST_SEED, training.device, True)
    frozen = torch.cat(
        [(part.encoding - part.z0).square().flatten(1).mean(1) for part in judged if part.encoding is not None]
    )
    return {
        "encoder": job.name,
        "parameters": count_parameters(encoder),
        "steps": steps,
        "seconds": seconds,
        "cpu_seconds": worked,
        "peak_memory_mib": memory,
        "frozen_rmse": float(frozen.mean().sqrt()),
        **asdict(errors_of(encoder, judged).scores()),
        "settings": asdict(training.settings),
    }


def in_its_own_process(job: Job) -> dict[str, Any]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, job).result()


def row_text(row: dict[str, Any]) -> str:
    return (
        f"{row['encoder']:18} {row['parameters'] / 1e6:5.2f} M {row['steps']:6d} steps {row['seconds']:7.0f} s "
        f"({row['cpu_seconds']:.0f} s of the CPU) {row['peak_memory_mib'] or 0:6.0f} MiB  "
        f"RMSE {row['latent_rmse']:.4f} (frozen {row['frozen_rmse']:.4f})  sigma ratio {row['sigma_ratio']:.3f}  "
        f"error r {row['pearson_error']:.3f} rho {row['spearman_error']:.3f}  level r {row['pearson_level']:.3f}"
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--images", type=Path, required=True, help="folder of undamaged photos to train on")
    made.add_argument("--test", type=Path, required=True, help="folder of undamaged photos to judge on")
    made.add_argument("--limit", type=int, help="use N test photos, evenly spaced; default: all")
    made.add_argument("--train-limit", type=int, help="use N training photos, evenly spaced; default: all")
    made.add_argument("--vae", type=Path, help="autoencoder folder, or a tiny one's encoder file; default: the bundled")
    made.add_argument("--family", default="mixed")
    made.add_argument("--noise-std", type=float, default=0.1)
    made.add_argument("--only", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    budget = made.add_mutually_exclusive_group(required=True)
    budget.add_argument("--steps", type=int)
    budget.add_argument("--seconds", type=float)
    made.add_argument("--batch", type=int, default=16)
    made.add_argument("--size", type=int, default=128)
    made.add_argument("--width", type=int, default=TrainingSettings().width)
    made.add_argument("--learning-rate", type=float, default=TrainingSettings().learning_rate)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="auto")
    made.add_argument("--out", type=Path, required=True, help="JSON file")
    return made


def main() -> None:
    args = parser().parse_args()
    numbers = {name: getattr(args, name) for name in ("batch", "size", "width", "learning_rate", "seed")}
    rows = []
    for name in args.only:
        settings = TrainingSettings(steps=args.steps or 1, **numbers, **VARIANTS[name])
        photos = spread(find_photos(args.images), args.train_limit), spread(find_photos(args.test), args.limit)
        job = Job(name, settings, args.vae, *photos, args.family, args.noise_std, args.seconds, args.device)
        rows.append(in_its_own_process(job))
        write_text(args.out, json.dumps(rows, indent=2))
        print(row_text(rows[-1]), flush=True)


if __name__ == "__main__":
    run_script(main)
