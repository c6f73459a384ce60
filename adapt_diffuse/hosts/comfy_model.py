"""A diffusers folder as ComfyUI's own MODEL and VAE, for every node of the host, stock KSampler included."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoencoder import decode_raw, downsampling, encode_raw, latent_channels, model_autoencoder, read_config
from ..errors import AdaptDiffuseError
from ..padding import pad_to_multiple
from ..prior import timestep_of, unknown_prediction
from ..schedule import vp_sigmas
from .comfy_memory import whole_patcher
from .diffusers import alphas_cumprod_of, load_unet

# bytes per pixel and number that a small autoencoder keeps alive; generous
ENCODE_NUMBERS, DECODE_NUMBERS = 800, 1200


class HostModel(NamedTuple):
    """MODEL, VAE and CONDITIONING as the host's sockets carry them."""

    model: Any
    vae: Any
    conditioning: list[Any]


class HostUNet(nn.Module):
    """An unconditional UNet with the call that the host makes; conditioning is accepted and ignored."""

    def __init__(self, unet: Any):
        super().__init__()
        self.unet = unet
        self.multiple = 2 ** (len(unet.config.block_out_channels) - 1)
        self.dtype = torch.float32

    def forward(self, x: Tensor, timesteps: Tensor, context: Any = None, **ignored: Any) -> Tensor:
        """x (B, C, h, w) of any size, timesteps (B,), fractional ones included."""
        height, width = x.shape[2:]
        return self.unet(pad_to_multiple(x, self.multiple), timesteps).sample[:, :, :height, :width]


class HostAutoencoder(nn.Module):
    """A diffusers autoencoder with the two calls of the host's ``first_stage_model``: [-1, 1] images, raw latents."""

    def __init__(self, autoencoder: nn.Module):
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, image: Tensor) -> Tensor:
        return encode_raw(self.autoencoder, image)

    def decode(self, latent: Tensor) -> Tensor:
        return decode_raw(self.autoencoder, latent)


def load_diffusers(folder: str | Path) -> HostModel:
    """The model in ``folder`` (``unet/``, ``scheduler/``, and ``vae/`` or ``vqvae/`` except for pixels) for the host.

    Raises:
        AdaptDiffuseError: a part that is missing, damaged or of a kind that is not supported.
    """
    folder = Path(folder)
    # normal tensors, so that the weights can stand in a graph of gradients
    with torch.inference_mode(False), torch.no_grad():
        autoencoder = model_autoencoder(folder)
        vae = make_vae(autoencoder)
        model = make_model(folder, autoencoder)
    return HostModel(model, vae, [[torch.zeros(1, 1, 1), {}]])


def make_model(folder: Path, autoencoder: Any) -> Any:
    """The host's MODEL: a ModelPatcher around a BaseModel."""
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models_base

    unet = load_unet(folder / "unet")
    if unet.config.in_channels != latent_channels(autoencoder):
        raise AdaptDiffuseError(f"The unet and the autoencoder in {folder} differ in their latent channels.")
    config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
    config.latent_format = latent_format_of(autoencoder)
    base = comfy.model_base.BaseModel(config)
    base.diffusion_model = with_host_layers(HostUNet(unet))
    base.model_sampling = sampling_of(folder / "scheduler")
    patcher = comfy.model_patcher.ModelPatcher(
        base, comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    )
    patcher.cached_patcher_init = (load_model_again, (folder,))
    return patcher


def load_model_again(folder: Path, disable_dynamic: bool = False) -> Any:
    """The MODEL on weights of its own; the host calls this where it needs a deep copy."""
    return make_model(folder, model_autoencoder(folder))


def sampling_of(folder: Path) -> Any:
    """The host's model sampling on the scheduler's own levels, with fractional timesteps between them."""
    import comfy.model_sampling

    config = read_config(folder / "scheduler_config.json")
    parameterisations = {
        "epsilon": comfy.model_sampling.EPS,
        "v_prediction": comfy.model_sampling.V_PREDICTION,
        "sample": comfy.model_sampling.X0,
    }
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in parameterisations:
        raise unknown_prediction(prediction)
    levels = vp_sigmas(alphas_cumprod_of(config))
    levels_on = functools.cache(levels.to)  # each device once

    discrete: Any = comfy.model_sampling.ModelSamplingDiscrete
    parameterisation: Any = parameterisations[prediction]

    class Sampling(discrete, parameterisation):
        def timestep(self, sigma: Tensor) -> Tensor:
            # every step asks; of the GPUs, not all have float64, and only those of CUDA can be counted on
            known = levels_on(sigma.device if sigma.device.type == "cuda" else torch.device("cpu"))
            # to the CPU first: Apple's GPUs fail, or give zeros, where one copy changes device and float64 at once
            timestep = timestep_of(sigma.detach().to(known.device).to(known), known)
            return timestep.float().to(sigma.device).reshape(sigma.shape)

    sampling = Sampling()
    sampling.set_sigmas(levels)
    sampling.num_timesteps = len(levels)
    return sampling


def latent_format_of(autoencoder: Any) -> Any:
    """The host's latent format: ``model scale = (raw - shift) * scale``, with colours for its previews."""
    import comfy.latent_formats

    scale = float(autoencoder.config.get("scaling_factor") or 1.0)
    shift = float(autoencoder.config.get("shift_factor") or 0.0)

    class AutoencoderFormat(comfy.latent_formats.LatentFormat):
        def process_in(self, latent: Tensor) -> Tensor:
            return (latent - shift) * scale

        def process_out(self, latent: Tensor) -> Tensor:
            return latent / scale + shift

    latent_format = AutoencoderFormat()
    latent_format.scale_factor = scale
    latent_format.shift_factor = shift
    latent_format.latent_channels = latent_channels(autoencoder)
    latent_format.spacial_downscale_ratio = downsampling(autoencoder)
    factors = preview_colours(autoencoder, latent_format.process_in)
    latent_format.latent_rgb_factors = factors[:-1].tolist()
    latent_format.latent_rgb_factors_bias = factors[-1].tolist()
    return latent_format


def preview_colours(autoencoder: Any, process_in: Any) -> Tensor:
    """The linear map (C + 1, 3) from a latent, and 1, to colours on [-1, 1] that fits flat patches best."""
    generator = torch.Generator().manual_seed(0)
    factor = downsampling(autoencoder)
    patches = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    image = F.interpolate(patches, scale_factor=4 * factor, mode="nearest")
    latent = F.avg_pool2d(process_in(encode_raw(autoencoder, image)), 4)[0].flatten(1).T
    known = torch.cat([latent, torch.ones(len(latent), 1)], 1)
    return torch.linalg.lstsq(known, patches[0].flatten(1).T, driver="gelsd").solution


def with_host_layers(module: nn.Module) -> nn.Module:
    """Give plain torch layers the host's classes, which know how to offload, patch and interrupt; weights stay."""
    import comfy.ops

    layers = comfy.ops.disable_weight_init
    for layer in module.modules():
        if type(layer) in (nn.Linear, nn.Conv2d, nn.GroupNorm):
            layer.__class__ = getattr(layers, type(layer).__name__)
    return module


def make_vae(autoencoder: Any) -> Any:
    """The host's VAE object around a diffusers autoencoder."""
    import comfy.model_management
    import comfy.sd

    class DiffusersVAE(comfy.sd.VAE):
        def __init__(self) -> None:
            with quiet():
                super().__init__(sd={})  # sets every default and, without weights, no network
            factor = downsampling(autoencoder)
            self.first_stage_model = HostAutoencoder(autoencoder).eval()
            self.latent_channels = latent_channels(autoencoder)
            self.downscale_ratio = self.upscale_ratio = factor
            self.working_dtypes = [torch.float32]
            self.vae_dtype = torch.float32
            self.disable_offload = True  # small, and not all of its layers can be offloaded one by one
            self.device = comfy.model_management.vae_device()
            self.output_device = comfy.model_management.intermediate_device()
            self.memory_used_encode = lambda shape, dtype: 4 * ENCODE_NUMBERS * shape[2] * shape[3]
            self.memory_used_decode = lambda shape, dtype: 4 * DECODE_NUMBERS * shape[2] * shape[3] * factor**2
            offload_device = comfy.model_management.vae_offload_device()
            self.patcher = whole_patcher(self.first_stage_model, self.device, offload_device)
            self.model_size()

    return DiffusersVAE()


class quiet:
    """The host's warning that it was given no VAE weights does not apply here."""

    def __enter__(self) -> None:
        logging.getLogger().addFilter(self.keep)

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeFilter(self.keep)

    @staticmethod
    def keep(record: logging.LogRecord) -> bool:
        return "No VAE weights detected" not in record.getMessage()
