"""Train a diffusion prior (a diffusers UNet2DModel) on the latents of a folder of photos, or on the photos themselves.

    python -m training.train_prior --images PHOTOS --autoencoder weights/flowers-128/vae --out runs/prior --minutes 60
    python -m training.train_prior --images PHOTOS --size 64 --out runs/pixels --minutes 30

Writes ``unet/`` and ``scheduler/`` (the averaged weights, a diffusers folder) and ``state.pt`` (to resume) into
``--out`` every few minutes; without ``--autoencoder``, for DPS in the benchmark, ``model_index.json`` too. Runs on a
CPU or on one GPU; run it again with the same ``--out`` to go on.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderDC, DDPMScheduler, UNet2DModel
from safetensors import safe_open
from torch import Tensor

from adapt_diffuse.checkpoints import write_safetensors, write_text, write_whole
from adapt_diffuse.errors import AdaptDiffuseError, run_script
from adapt_diffuse.images import find_photos
from adapt_diffuse.photo_crops import PhotoCrops, digest_of

CROPS = ("size", "crops_per_photo", "scaled", "seed")  # options that the crops depend on
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}


def new_unet(latent_channels: int, sample_size: int) -> UNet2DModel:
    """The bundled prior's architecture: 10.7 M parameters, attention at the two coarser scales."""
    return UNet2DModel(
        sample_size=sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=2,
        block_out_channels=(64, 128, 192),
        attention_head_dim=32,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )


def new_pixel_unet(sample_size: int) -> UNet2DModel:
    """A model of pixels that a CPU can train: 5 M parameters, no attention, so that it runs at other sizes as well."""
    return UNet2DModel(
        sample_size=sample_size,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(32, 64, 128, 192),
        down_block_types=("DownBlock2D",) * 4,
        up_block_types=("UpBlock2D",) * 4,
        add_attention=False,
    )


def latent_batches(args: argparse.Namespace, device: str, rng: np.random.Generator) -> Iterator[Tensor]:
    """Batches (B, C, h, w) of the latents of ``encode_crops``, for ever."""
    latents = encode_crops(args, device)
    print(f"{len(latents)} latents of {tuple(latents.shape[1:])}, std {latents.float().std():.3f}", flush=True)
    for indices in epochs(len(latents), args.batch, rng):
        yield latents[indices]


def pixel_batches(args: argparse.Namespace, rng: np.random.Generator) -> Iterator[Tensor]:
    """Batches (B, 3, size, size) of random crops on [-1, 1], for ever."""
    photos = PhotoCrops(find_photos(args.images), args.size)
    while True:
        yield photos.random(args.batch, rng, args.scaled) * 2 - 1


def new_model(args: argparse.Namespace, batch: Tensor) -> UNet2DModel:
    """A model with fresh weights for batches like this one."""
    return new_unet(batch.shape[1], batch.shape[2]) if args.autoencoder else new_pixel_unet(args.size)


@torch.no_grad()
def encode_crops(args: argparse.Namespace, device: str) -> Tensor:
    """Latents (N, C, h, w), float16, in the model's scale: ``--crops-per-photo`` random crops of every photo.

    They are kept beside the model, and encoded anew where another command asked for them.
    """
    kept = args.out / "latents.safetensors"
    paths = find_photos(args.images)
    made_with = {name: str(getattr(args, name)) for name in CROPS}
    made_with |= {"photos": digest_of(paths), "autoencoder": content_of(args.autoencoder)}
    if kept.exists():
        with safe_open(kept, "pt") as file:
            if file.metadata() == made_with:
                return file.get_tensor("latents")
        print("other crops than those of the latents that are kept: encoding anew", flush=True)
    autoencoder = AutoencoderDC.from_pretrained(args.autoencoder).eval()
    autoencoder.to(device, memory_format=torch.channels_last)
    photos = PhotoCrops(paths, args.size)
    rng = np.random.default_rng(args.seed)
    latents = []
    for _ in range(math.ceil(len(photos) * args.crops_per_photo / 16)):
        crops = photos.random(16, rng, args.scaled).to(device) * 2 - 1
        latents.append((autoencoder.encode(crops).latent * autoencoder.config.scaling_factor).half().cpu())
    encoded = torch.cat(latents)
    write_safetensors(kept, {"latents": encoded}, made_with)
    return encoded


def content_of(folder: str) -> str:
    """A digest of the files of a diffusers folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).iterdir() if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def training_loss(
    unet: UNet2DModel, scheduler: DDPMScheduler, clean: Tensor, autocast: bool, power: float = 1.5
) -> Tensor:
    """Mean squared error of the prediction at timesteps stratified over the batch.

    The LDM schedule spends half of its levels above sigma 2.7, where a restoration never starts: the power draws
    the lower levels more often (1.5: 40 % of the draws from the lowest quarter; 1: all alike, for better samples).
    """
    batch = len(clean)
    strata = ((torch.randperm(batch) + torch.rand(batch)) / batch) ** power
    timesteps = (strata * scheduler.config.num_train_timesteps).long().to(clean.device)
    noise = torch.randn_like(clean)
    noisy = scheduler.add_noise(clean, noise, timesteps)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(clean, noise, timesteps) if velocity else noise
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=autocast):
        prediction = unet(noisy, timesteps).sample
    return (prediction.float() - target).square().mean()


def epochs(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of indices, without replacement within an epoch, for ever."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def save(out: Path, average: UNet2DModel, scheduler: DDPMScheduler, pixels: bool, state: dict) -> None:
    average.save_pretrained(out / "unet")
    scheduler.save_pretrained(out / "scheduler")
    if pixels:
        parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
        write_text(out / "model_index.json", json.dumps({"_class_name": "DDPMPipeline", **parts}, indent=2))
    write_whole(out / "state.pt", lambda partial: torch.save(state, partial))


def made_of(args: argparse.Namespace) -> str:
    """What must be the same for a state to be resumed."""
    autoencoder = content_of(args.autoencoder) if args.autoencoder else None
    return json.dumps({"prediction": args.prediction, "size": args.size, "autoencoder": autoencoder})


def resumed(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """The state in ``--out``; empty where there is none. Raises AdaptDiffuseError for that of another training."""
    file = args.out / "state.pt"
    if not file.exists():
        return {}
    state = torch.load(file, map_location=device, weights_only=True)
    if state.get("made_of") != made_of(args):
        raise AdaptDiffuseError(f"{file} belongs to a training with other settings; use another --out.")
    return state


def train(args: argparse.Namespace) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    state = resumed(args, device)
    step, spent = state.get("step", 0), state.get("spent", 0.0)
    torch.manual_seed(args.seed + step)  # a training that goes on sees what it has not seen yet
    rng = np.random.default_rng([args.seed, step])
    batches = latent_batches(args, device, rng) if args.autoencoder else pixel_batches(args, rng)
    scheduler = DDPMScheduler(**SCHEDULE, prediction_type=args.prediction)
    unet = UNet2DModel.from_pretrained(args.init) if args.init else new_model(args, next(batches))
    unet.to(device, memory_format=torch.channels_last).train()
    average = copy.deepcopy(unet).requires_grad_(False)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=args.lr, weight_decay=0.01, betas=(0.9, 0.99))
    if state:
        unet.load_state_dict(state["unet"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        print(f"going on from step {step}", flush=True)

    network = torch.compile(unet) if args.compile else unet
    begin, saved, losses = time.monotonic() - spent, time.monotonic(), []
    for clean in batches:
        spent = time.monotonic() - begin
        progress = min(1.0, spent / (60 * args.minutes))
        rate = args.lr * min(1.0, (step + 1) / 200) * max(0.02, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = training_loss(network, scheduler, clean.to(device, torch.float32), args.autocast, args.power)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(args.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - decay)
        losses.append(loss.item())
        if step % 100 == 0:
            print(f"step {step} minutes {spent / 60:.1f} lr {rate:.1e} loss {np.mean(losses[-500:]):.4f}", flush=True)
        if time.monotonic() - saved > 240 or progress >= 1:
            state = {"unet": unet.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"step": step, "spent": spent, "made_of": made_of(args)}
            save(args.out, average, scheduler, not args.autoencoder, state)
            saved = time.monotonic()
        if progress >= 1:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--autoencoder", help="diffusers folder of an AutoencoderDC; default: none, a model of pixels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write (and to resume from)")
    parser.add_argument("--init", help="diffusers folder of a UNet2DModel to start from")
    parser.add_argument("--prediction", choices=("v_prediction", "epsilon"), default="v_prediction")
    parser.add_argument("--minutes", type=float, default=60, help="training time; the learning rate falls to its end")
    parser.add_argument("--size", type=int, default=128, help="side of the crops in pixels")
    parser.add_argument("--crops-per-photo", type=int, default=4)
    parser.add_argument("--scaled", type=float, default=0.0, help="part of the crops that show more of their photo")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--power", type=float, default=1.5, help="draws low noise levels more often; 1: all alike")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autocast", action="store_true", help="bfloat16 arithmetic")
    parser.add_argument("--compile", action="store_true", help="torch.compile, a fifth faster on a CPU")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train(args)


if __name__ == "__main__":
    run_script(main)
