"""One ComfyUI for the tests of nodes, with odd models and photos in its folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.comfyui import REPOSITORY, ComfyServer, find_comfyui
from tests.graph import KINDS, Graph


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    if isinstance(found := find_comfyui(), str):
        pytest.skip(found)
    server = ComfyServer(tmp_path_factory.mktemp("comfyui"))
    for kind in KINDS:
        write_model(server.base / "models" / "diffusers" / f"tiny {kind}", kind)
    write_photos(server.base / "input")
    whole = (REPOSITORY / "weights" / "severity-flowers-128-gaussian-blur.safetensors").read_bytes()
    encoders = server.base / "models" / "severity_encoders"
    (encoders / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (encoders / "no encoder.safetensors").write_bytes(
        (REPOSITORY / "weights" / "flowers-128" / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    )
    with server:
        yield server


def write_model(folder: Path, kind: str) -> None:
    """A diffusers latent diffusion model with random weights; each kind of autoencoder with its own conventions."""
    import diffusers

    torch.manual_seed(0)
    if kind == "AutoencoderKL":
        autoencoder = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(16, 16), latent_channels=4, norm_num_groups=8, scaling_factor=0.5, shift_factor=0.1,
        )  # fmt: skip
    elif kind == "VQModel":
        autoencoder = diffusers.VQModel(
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 16, 16), latent_channels=3, vq_embed_dim=3, num_vq_embeddings=32,
            norm_num_groups=8, scaling_factor=1.0,
        )  # fmt: skip
    elif kind == "AutoencoderTiny":
        autoencoder = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(16, 16, 16), decoder_block_out_channels=(16, 16, 16),
            num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), latent_channels=4,
        )  # fmt: skip
    else:
        autoencoder = diffusers.AutoencoderDC(
            latent_channels=8, encoder_block_types="ResBlock", decoder_block_types="ResBlock",
            encoder_block_out_channels=(16, 32), decoder_block_out_channels=(16, 32),
            encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), scaling_factor=0.4,
        )  # fmt: skip
    channels = autoencoder.config.get("vq_embed_dim") or autoencoder.config.latent_channels
    unet = diffusers.UNet2DModel(
        sample_size=16, in_channels=channels, out_channels=channels, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )  # fmt: skip
    prediction = "v_prediction" if kind in ("AutoencoderKL", "AutoencoderTiny") else "epsilon"
    scheduler = diffusers.DDPMScheduler(beta_schedule="scaled_linear", prediction_type=prediction)
    autoencoder.save_pretrained(folder / ("vqvae" if kind == "VQModel" else "vae"))
    unet.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")


def write_photos(folder: Path) -> None:
    """Photos of odd sizes and modes, all of the flower."""
    flower = Image.open(REPOSITORY / "assets" / "flower.jpg").convert("RGB")
    small = flower.resize((64, 64), Image.Resampling.BOX)
    small.save(folder / "small.png")
    small.rotate(90).save(folder / "turned.png")
    flower.resize((61, 45), Image.Resampling.BOX).save(folder / "odd.png")
    small.convert("L").save(folder / "grey.png")
    clear = np.full((64, 64, 1), 255, np.uint8)
    clear[20:40, 20:44] = 0
    Image.fromarray(np.concatenate([np.asarray(small), clear], 2), "RGBA").save(folder / "holes.png")


@pytest.fixture
def graph() -> Graph:
    return Graph()
