"""Tiny latent diffusion models with random weights, of every supported kind, in diffusers' folder format."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}


def _kl() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        shift_factor=0.1,
    )


def _vq() -> Any:
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=3,
        num_vq_embeddings=32,
        vq_embed_dim=3,
    )


def _tiny() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
    )


def _dc() -> Any:
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        latent_channels=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 16, 16),
        decoder_block_out_channels=(8, 16, 16),
        encoder_layers_per_block=(0, 1, 1),
        decoder_layers_per_block=(0, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        downsample_block_type="pixel_unshuffle",
        upsample_block_type="pixel_shuffle",
    )


AUTOENCODERS: dict[str, Callable[[], Any]] = {
    "AutoencoderKL": _kl,
    "VQModel": _vq,
    "AutoencoderTiny": _tiny,
    "AutoencoderDC": _dc,
}


def tiny_autoencoder(kind: str, seed: int = 0) -> Any:
    """An autoencoder of one of the four classes, frozen, the same for the same seed.

    Its scaling factor gives latents a spread of about 1, as that of a trained one does.
    """
    from adapt_diffuse.autoencoder import encode_raw

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        autoencoder = AUTOENCODERS[kind]().requires_grad_(False).eval()
    photo = torch.from_numpy(drawn_photo(0)).permute(2, 0, 1)[None].float() / 127.5 - 1
    autoencoder.register_to_config(scaling_factor=round(1 / float(encode_raw(autoencoder, photo).std()), 3))
    return autoencoder


def config_of(autoencoder: Any) -> dict[str, Any]:
    """What config.json says of an autoencoder."""
    return {**autoencoder.config, "_class_name": type(autoencoder).__name__}


def tiny_unet(channels: int, seed: int = 0, **options: Any) -> Any:
    """A UNet2DModel of two levels, frozen, the same for the same seed."""
    from diffusers import UNet2DModel

    settings = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        **options,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet: Any = UNet2DModel(in_channels=channels, out_channels=channels, **settings)
    return unet.requires_grad_(False).eval()


def save_model(folder: Path, kind: str = "AutoencoderDC", prediction: str = "epsilon", seed: int = 0) -> Path:
    """A whole model in diffusers' folder format: vae (vqvae for a VQModel), unet, scheduler."""
    from diffusers import DDPMScheduler

    autoencoder = tiny_autoencoder(kind, seed)
    autoencoder.save_pretrained(folder / ("vqvae" if kind == "VQModel" else "vae"))
    tiny_unet(autoencoder.config.latent_channels, seed).save_pretrained(folder / "unet")
    scheduler: Any = DDPMScheduler(prediction_type=prediction, **SCHEDULER)
    scheduler.save_pretrained(folder / "scheduler")
    return folder


def save_pixel_model(folder: Path, seed: int = 0) -> Path:
    """A model of pixels in diffusers' folder format: unet, scheduler, and the model_index.json that says so."""
    from diffusers import DDPMPipeline, DDPMScheduler

    scheduler: Any = DDPMScheduler(**SCHEDULER)
    DDPMPipeline(tiny_unet(3, seed), scheduler).save_pretrained(folder)
    return folder


def drawn_photo(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """A photo-like picture (H, W, 3), 8 bit: smooth colours, edges and some texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    values = np.empty((height, width, 3))
    for channel in range(3):
        a, b, c, d = rng.uniform(-4, 4, 4)
        values[..., channel] = 0.5 + 0.35 * np.sin(a + b * 3 * x + c * 3 * y + d * x * y * 5)
    for _ in range(4):
        u, v, radius = rng.uniform(0, 1, 3)
        disc = (x - u) ** 2 + (y - v) ** 2 < (0.05 + 0.2 * radius) ** 2
        values[disc] = 0.3 * values[disc] + 0.7 * rng.uniform(0, 1, 3)
    values += rng.normal(0, 0.02, values.shape)
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def draw_photos(folder: Path, count: int, height: int = 64, width: int = 64, seed: int = 0) -> list[Path]:
    """``count`` drawn photos as PNG files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"photo-{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(drawn_photo(seed + index, height, width)).save(path)
    return paths


def drawn_batch(count: int = 2, height: int = 32, width: int = 48) -> torch.Tensor:
    """Drawn photos (B, 3, H, W) on [0, 1], float32."""
    stack = [torch.from_numpy(drawn_photo(seed, height, width)) for seed in range(count)]
    return torch.stack(stack).permute(0, 3, 1, 2).float() / 255


def tiny_severity_encoder(kind: str = "AutoencoderDC", head: Any = "log-sigma", seed: int = 0) -> tuple[Any, Any]:
    """An untrained severity encoder, frozen, and the autoencoder that it belongs to."""
    from adapt_diffuse.autoencoder import LatentEncoder, latent_space_of
    from adapt_diffuse.severity import SeverityEncoder

    autoencoder = tiny_autoencoder(kind, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = SeverityEncoder(LatentEncoder(copy.deepcopy(autoencoder)), latent_space_of(autoencoder), head)
    return encoder.requires_grad_(False).eval(), autoencoder
