"""Put trained weights into ``weights/``: float16, without private metadata, and write the manifest.

    python -m training.export --vae runs/vae --tiny runs/tiny --prior runs/prior --encoders runs/severity-*.safetensors
    python -m training.export --estimator runs/degradation-estimator.safetensors
    python -m training.export --scratches runs/scratches.safetensors

Parts that are not named stay as they are. ``manifest.json`` lists every file with its sha256, what it is, and the
command that made it; PHOTOS are of flowers, MORE of everything.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from adapt_diffuse.autoencoder import read_config
from adapt_diffuse.bundled import MODEL_NAME, WEIGHTS, sha256_of
from adapt_diffuse.checkpoints import WEIGHTS as WEIGHTS_FILE
from adapt_diffuse.checkpoints import read_safetensors, write_safetensors
from adapt_diffuse.errors import run_script

MODEL = WEIGHTS / MODEL_NAME
ESTIMATOR, SCRATCHES = "degradation-estimator", "scratches"

WHAT = {
    "vae": (
        "autoencoder, AutoencoderDC f4 c4, images on [-1, 1]",
        "python -m training.train_autoencoder --images PHOTOS --out runs/vae --minutes 20",
    ),
    "tiny": (
        "tiny autoencoder of the same latents, AutoencoderDC, for --guidance-vae",
        "python -m training.train_autoencoder --images PHOTOS --like weights/flowers-128/vae --out runs/tiny "
        "--minutes 12",
    ),
    "unet": (
        "diffusion model, UNet2DModel on 32 x 32 latents, v prediction",
        "python -m training.train_prior --images PHOTOS --autoencoder weights/flowers-128/vae --out runs/first "
        "--prediction epsilon --autocast, 2427 steps; then --init runs/first/unet --prediction v_prediction "
        "--out runs/second, 3230 steps; then --init runs/second/unet --out runs/prior --scaled 0.5 --power 1.2 "
        "--lr 4e-4 --autocast --compile --minutes 88, 5590 steps",
    ),
    "scheduler": ("noise schedule of the diffusion model (the LDM schedule, 1000 levels)", "as unet"),
    "severity": (
        "severity encoder, copy of the autoencoder's encoder with a log-sigma head",
        "python -m adapt_diffuse train-severity --images PHOTOS --out runs/{name} --family {family} --steps {steps} "
        "--learning-rate {rate:g} --validate-every {every}{init}",
    ),
    "refiner": (
        "severity encoder for the latents of {vae}, refines the VAE's own encoding of the damaged photo",
        "python -m adapt_diffuse train-severity --vae {tiny}_encoder.safetensors --images MORE --out runs/{name} "
        "--family mixed --noise-std 0.1 --reuse 6 --learning-rate 8e-4 --validate-every {every} --steps {steps}{init}",
    ),
    "estimator": (
        "estimator of an unknown photo's degradation, for every autoencoder",
        "python -m training.train_estimator --images PHOTOS MORE --out runs/degradation-estimator.safetensors "
        "--examples {steps}",
    ),
    SCRATCHES: (
        "network that tells scratches and dust from what a photo shows",
        "python -m training.train_scratches --images MORE --out runs/scratches.safetensors, {steps} minutes in all: "
        "17, then 7 with --init and --rate 3e-3",
    ),
}


# in the names of refiners: the tiny autoencoder that they were trained with, and whose latents they are for
REFINED = {
    "sd1": ("taesd", "Stable Diffusion 1.x and 2.x"),
    "sdxl": ("taesdxl", "SDXL"),
    "sd3": ("taesd3", "Stable Diffusion 3 and 3.5"),
    "flux1": ("taef1", "Flux.1"),
}
FIRST = "sd1"  # the others begin with its weights


def export_part(source: Path, target: Path) -> None:
    """A diffusers model folder with float16 weights."""
    tensors, _ = read_safetensors(source / WEIGHTS_FILE)
    half = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    for key, value in half.items():
        if not bool(torch.isfinite(value).all()):
            raise SystemExit(f"{source}: {key} overflows float16.")
    write_safetensors(target / WEIGHTS_FILE, half, {"format": "pt"})
    config = {key: value for key, value in read_config(source / "config.json").items() if key != "_name_or_path"}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_encoder(source: Path) -> None:
    tensors, metadata = read_safetensors(source)
    write_safetensors(WEIGHTS / source.name, {key: value.half() for key, value in tensors.items()}, metadata)


def steps_of(path: Path) -> int | None:
    """How long a file was trained: steps of a severity encoder, examples of the estimator, minutes of the network for
    scratches; None for others."""
    if not path.stem.startswith(("severity", ESTIMATOR, SCRATCHES)):
        return None
    training = json.loads(read_safetensors(path)[1]["training"])
    return training[{ESTIMATOR: "made", SCRATCHES: "minutes"}.get(path.stem, "steps")]


def rate_of(path: Path) -> float | None:
    """The learning rate of a severity encoder's training; None for other files."""
    if not path.stem.startswith("severity"):
        return None
    return float(json.loads(read_safetensors(path)[1]["training"])["learning_rate"])


def every_of(path: Path) -> int | None:
    """Steps between the validations of a severity encoder's training; None for other files."""
    if not path.stem.startswith("severity"):
        return None
    return int(json.loads(read_safetensors(path)[1]["training"])["validate_every"])


def begun_with(path: Path) -> str:
    """The severity encoder, without "severity-", whose weights an encoder's training began with; "" where none's."""
    if refined_of(path) in REFINED:
        return "" if refined_of(path) == FIRST else f"{FIRST}-mixed"
    return f"{MODEL_NAME}-mixed" if path.stem == f"severity-{MODEL_NAME}-camera-blur" else ""


def part_of(path: Path) -> str:
    """Which of WHAT a file of ``weights/`` is."""
    if path.stem == ESTIMATOR:
        return "estimator"
    if path.stem == SCRATCHES:
        return SCRATCHES
    if refined_of(path) in REFINED:
        return "refiner"
    return "severity" if path.stem.startswith("severity") else path.parent.name


def refined_of(path: Path) -> str:
    """``sd1`` of ``severity-sd1-mixed.safetensors``."""
    return path.stem.removeprefix("severity-").partition("-")[0]


def write_manifest() -> None:
    entries = {}
    for path in sorted(p for p in WEIGHTS.rglob("*") if p.suffix in (".safetensors", ".json")):
        if path.name == "manifest.json":
            continue
        what, made_by = WHAT[part_of(path)]
        family = path.stem.removeprefix(f"severity-{MODEL_NAME}-")
        tiny, vae = REFINED.get(refined_of(path), ("", ""))
        init = f" --init runs/severity-{begun_with(path)}.safetensors" if begun_with(path) else ""
        entries[path.relative_to(WEIGHTS).as_posix()] = {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
            "what": what.format(vae=vae),
            "made_by": made_by.format(
                name=path.name,
                family=family,
                steps=steps_of(path),
                vae=vae,
                tiny=tiny,
                init=init,
                rate=rate_of(path),
                every=every_of(path),
            ),
        }
    (WEIGHTS / "manifest.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, help="folder of the autoencoder")
    parser.add_argument("--tiny", type=Path, help="folder of the tiny autoencoder of the same latents")
    parser.add_argument("--prior", type=Path, help="folder with unet and scheduler")
    parser.add_argument("--encoders", type=Path, nargs="*", default=[], help="severity encoders")
    parser.add_argument("--estimator", type=Path, help="estimator of degradations")
    parser.add_argument("--scratches", type=Path, help="network for scratches")
    args = parser.parse_args()
    if args.vae:
        export_part(args.vae, MODEL / "vae")
    if args.tiny:
        export_part(args.tiny, MODEL / "tiny")
    if args.prior:
        export_part(args.prior / "unet", MODEL / "unet")
        (MODEL / "scheduler").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(args.prior / "scheduler/scheduler_config.json", MODEL / "scheduler/scheduler_config.json")
    for encoder in args.encoders:
        export_encoder(encoder)
    for other in filter(None, (args.estimator, args.scratches)):
        export_encoder(other)
    write_manifest()


if __name__ == "__main__":
    run_script(main)
