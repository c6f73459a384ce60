"""Train the bundled autoencoder (a diffusers AutoencoderDC, f4, 4 channels) on crops of a folder of photos.

    python -m training.train_autoencoder --images PHOTOS --out runs/vae --minutes 20
    python -m training.train_autoencoder --images PHOTOS --like runs/vae --out runs/tiny --minutes 15

The loss is the mean absolute error plus half of that of the image gradients; a little noise on the latents keeps the
decoder smooth. Writes config.json and safetensors, with the scale that gives the latents unit variance, into
``--out``. ``--like`` makes a tiny autoencoder of the same latent space, for the data term (``--guidance-vae``): it
learns what the other one encodes a photo to, and what that one decodes latents to, noisy ones too. Runs on a CPU or on
one GPU.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC
from torch import Tensor

from adapt_diffuse.errors import run_script
from adapt_diffuse.images import find_photos
from adapt_diffuse.photo_crops import PhotoCrops

LATENT_NOISE = 0.02
LARGEST_NOISE = 0.5  # on a tiny autoencoder's latents: a solver asks it about estimates that are far off
WIDTHS, TINY_WIDTHS = (32, 64, 128), (16, 32, 64)


def new_autoencoder(widths: tuple[int, int, int]) -> AutoencoderDC:
    """The bundled architecture: purely convolutional, 1.7 M parameters, a quarter of that with the tiny widths."""
    return AutoencoderDC(
        latent_channels=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(0, 1, 2),
        decoder_layers_per_block=(0, 1, 2),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        upsample_block_type="pixel_shuffle",
        downsample_block_type="pixel_unshuffle",
    )


def reconstruction_loss(image: Tensor, target: Tensor) -> Tensor:
    error = image - target
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    return error.abs().mean() + 0.5 * (across + down)


def own_loss(autoencoder: AutoencoderDC, crops: Tensor) -> Tensor:
    """What an autoencoder loses of crops (B, 3, H, W) on [-1, 1]."""
    latent = autoencoder.encode(crops).latent
    noisy = latent + LATENT_NOISE * latent.detach().std() * torch.randn_like(latent)
    return reconstruction_loss(autoencoder.decode(noisy).sample, crops)


def likeness_loss(tiny: AutoencoderDC, full: AutoencoderDC, crops: Tensor) -> Tensor:
    """How far a tiny autoencoder is from a full one, in what they encode crops and decode noisy latents to."""
    with torch.no_grad():
        latent = full.encode(crops).latent
        spread = latent.std()
        level = LARGEST_NOISE * torch.rand(len(crops), 1, 1, 1, device=crops.device)
        noisy = latent + level * spread * torch.randn_like(latent)
        target = full.decode(noisy).sample
    encoded = (tiny.encode(crops).latent - latent).abs().mean() / spread
    return reconstruction_loss(tiny.decode(noisy).sample, target) + encoded


def train(args: argparse.Namespace) -> AutoencoderDC:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    photos = PhotoCrops(find_photos(args.images), args.size)
    full = AutoencoderDC.from_pretrained(args.like).requires_grad_(False).eval().to(device) if args.like else None
    widths = TINY_WIDTHS if args.like else WIDTHS
    autoencoder = AutoencoderDC.from_pretrained(args.init) if args.init else new_autoencoder(widths)
    autoencoder.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=args.lr, weight_decay=0.0)
    begin, step, progress = time.monotonic(), 0, 0.0
    while progress < 1:
        progress = (time.monotonic() - begin) / (60 * args.minutes)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * max(0.02, 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        crops = photos.random(args.batch, rng).to(device) * 2 - 1
        loss = likeness_loss(autoencoder, full, crops) if full else own_loss(autoencoder, crops)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step} minutes {progress * args.minutes:.1f} loss {loss.item():.4f}", flush=True)
    if full:  # the latents have one scale, so that either may stand for the other
        autoencoder.register_to_config(scaling_factor=full.config.scaling_factor)
        return autoencoder
    with torch.no_grad():
        latents = autoencoder.encode(photos.random(256, rng).to(device) * 2 - 1).latent
    autoencoder.register_to_config(scaling_factor=float(1 / latents.std()))
    return autoencoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--init", help="diffusers folder of an AutoencoderDC to start from")
    parser.add_argument("--like", help="diffusers folder of an AutoencoderDC whose latent space a tiny one shall share")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--size", type=int, default=64, help="side of the crops in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args).save_pretrained(args.out)


if __name__ == "__main__":
    run_script(main)
