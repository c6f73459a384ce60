"""Checkpoints with random weights in the layouts that the host's loaders detect. Run inside ComfyUI (inside_tools).

What detection fixes stays as in the published models: the UNets' 320 channels, SDXL's depths of transformers, the
widths of conditioning, heads of 64 (SD 3) or 128 (Flux) channels, a VAE encoder of 128 channels. What it leaves free
is small: numbers of levels and blocks, the transformers' widths, the decoder's width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.ldm.models.autoencoder
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch

UNET: dict[str, Any] = {
    "use_checkpoint": False, "image_size": 32, "use_spatial_transformer": True, "legacy": False, "in_channels": 4,
    "out_channels": 4, "model_channels": 320, "use_temporal_resblock": False, "use_temporal_attention": False,
}  # fmt: skip
SD15_FULL = {
    "adm_in_channels": None, "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "channel_mult": [1, 2, 4, 4],
    "transformer_depth_middle": 1, "use_linear_in_transformer": False, "context_dim": 768, "num_heads": 8,
    "num_head_channels": -1,
}  # fmt: skip
SD15_SHALLOW = {
    **SD15_FULL, "num_res_blocks": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
    "channel_mult": [1, 1],
}  # fmt: skip
SDXL_NARROW = {
    "num_classes": "sequential", "adm_in_channels": 2816, "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1],
    "channel_mult": [1, 1, 1], "transformer_depth_middle": 1, "use_linear_in_transformer": True, "context_dim": 2048,
    "num_head_channels": 64,
}  # fmt: skip
VEGA_NARROW = {**SDXL_NARROW, "transformer_depth": [0, 0, 1, 1, 2, 2]}
SD3_NARROW = {
    "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None, "adm_in_channels": 2048,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}},
    "num_patches": 36864, "pos_embed_max_size": 192, "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [],
}  # fmt: skip
FLUX_NARROW = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
    "context_in_dim": 4096, "hidden_size": 256, "mlp_ratio": 4.0, "num_heads": 2, "depth": 1,
    "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "guidance_embed": True,
    "txt_ids_dims": [],
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """A kind of checkpoint.

    Attributes:
        config: name of the host's class that must detect it.
        unet: the network's configuration.
        channels: of its latents.
        text: width of the conditioning, and of its pooled part (0: none).
        together: whether model and VAE are one file, as for CheckpointLoaderSimple, or two.
        marks: further keys of the file.
    """

    config: str
    unet: dict[str, Any]
    channels: int
    text: tuple[int, int]
    together: bool = True
    marks: dict[str, Any] = field(default_factory=dict)


LAYOUTS = {
    "sd15": Layout("SD15", {**UNET, **SD15_SHALLOW}, 4, (768, 0)),
    "sdxl": Layout("SDXL", {**UNET, **SDXL_NARROW}, 4, (2048, 1280)),
    "vega-v": Layout("Segmind_Vega", {**UNET, **VEGA_NARROW}, 4, (2048, 1280), marks={"v_pred": torch.tensor([])}),
    "sd3": Layout("SD3", SD3_NARROW, 16, (4096, 2048), together=False),
    "sd35": Layout("SD3", {**SD3_NARROW, "qk_norm": "rms"}, 16, (4096, 2048), together=False),
    "flux": Layout("Flux", FLUX_NARROW, 16, (4096, 768), together=False),
    "schnell": Layout("FluxSchnell", {**FLUX_NARROW, "guidance_embed": False}, 16, (4096, 768), together=False),
    "sd15-full": Layout("SD15", {**UNET, **SD15_FULL}, 4, (768, 0)),
}


@dataclass(frozen=True)
class Files:
    """The files of a layout; ``vae`` is None where ``model`` holds it."""

    layout: Layout
    model: Path
    vae: Path | None


def save_checkpoint(name: str, folder: Path, dtype: torch.dtype = torch.float32, seed: int = 0) -> Files:
    """Draw the weights of ``LAYOUTS[name]`` and write its files."""
    layout = LAYOUTS[name]
    generator = torch.Generator().manual_seed(seed)
    config = getattr(comfy.supported_models, layout.config)({**layout.unet, "dtype": torch.float32})
    network = config.get_model({}, device="cpu").diffusion_model
    prefix = "model.diffusion_model." if layout.together else ""
    weights = drawn(network, generator, prefix, dtype)
    weights.update({key: value.clone() for key, value in layout.marks.items()})
    vae = drawn(autoencoder(layout.channels), generator, "", dtype)
    model, beside = folder / f"{name}.safetensors", folder / f"{name}-vae.safetensors"
    if layout.together:
        weights.update({f"first_stage_model.{key}": value for key, value in vae.items()})
    else:
        comfy.utils.save_torch_file(vae, str(beside))
    comfy.utils.save_torch_file(weights, str(model))
    return Files(layout, model, None if layout.together else beside)


def autoencoder(channels: int) -> torch.nn.Module:
    """A KL autoencoder as SD's (4 channels) or as SD 3's and Flux's (16, without the convolutions at the latent)."""
    encoder: dict[str, Any] = {
        "double_z": True, "z_channels": channels, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
        "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    decoder = {**encoder, "ch": 32}
    module = comfy.ldm.models.autoencoder
    if channels == 4:
        return module.AutoencoderKL(ddconfig=encoder, decoder_ddconfig=decoder, embed_dim=4)
    parts = "comfy.ldm.modules.diffusionmodules.model."
    return module.AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": parts + "Encoder", "params": encoder},
        decoder_config={"target": parts + "Decoder", "params": decoder},
    )


def drawn(network: torch.nn.Module, generator: torch.Generator, prefix: str, dtype: torch.dtype) -> dict[str, Any]:
    """A state dict of random weights with which activations keep their size."""
    weights = {}
    for key, value in network.state_dict().items():
        if value.ndim < 2:
            centre = 1.0 if key.endswith(("weight", "scale")) else 0.0
            drawn = centre + 0.05 * torch.randn(value.shape, generator=generator)
        else:
            drawn = torch.randn(value.shape, generator=generator) * (value[0].numel() ** -0.5)
        weights[prefix + key] = drawn.to(dtype)
    return weights


def load(files: Files, disable_dynamic: bool = False) -> tuple[Any, Any]:
    """MODEL and VAE by the host's own loaders."""
    if files.vae is None:
        model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(
            str(files.model), output_clip=False, disable_dynamic=disable_dynamic
        )
    else:
        model = comfy.sd.load_diffusion_model(str(files.model), disable_dynamic=disable_dynamic)
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(files.vae)))
    found = type(model.model.model_config).__name__
    assert found == files.layout.config, f"the host takes {files.model.name} for {found}"
    return model, vae


def conditioning(layout: Layout, count: int = 2) -> list[list[Any]]:
    """What a text encoder might have given: positive and negative."""
    generator = torch.Generator().manual_seed(3)
    width, pooled = layout.text
    made: list[list[Any]] = []
    for _ in range(count):
        text, more = torch.randn(1, 7, width, generator=generator), {}
        if pooled:
            more["pooled_output"] = torch.randn(1, pooled, generator=generator)
        made.append([text, more])
    return made
