"""Tiny latent diffusion models in the layout of CompVis/latent-diffusion, with a forward pass of their own.

Written from the published architecture (Rombach et al. 2022) in functional operations on named weights: whoever runs a
forward pass for the first time draws the weights, by their names and in their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Weights:
    """Weights by name, drawn as float32 when first asked for. On the "meta" device they have shapes only."""

    values: dict[str, Tensor] = field(default_factory=dict)
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    device: str = "cpu"

    def get(self, name: str, *shape: int, mean: float = 0.0, std: float = 0.1) -> Tensor:
        if name not in self.values:
            if self.device == "meta":
                self.values[name] = torch.empty(shape, device="meta")
            else:
                self.values[name] = mean + std * torch.randn(shape, generator=self.generator)
        return self.values[name]

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        weight = self.get(f"{name}.weight", x.shape[1], mean=1.0, std=0.3)
        return F.group_norm(x, 32, weight.to(x), self.get(f"{name}.bias", x.shape[1]).to(x), eps)

    def conv(self, name: str, x: Tensor, out: int, kernel: int = 3, stride: int = 1, padding: int = -1) -> Tensor:
        weight = self.get(f"{name}.weight", out, x.shape[1], kernel, kernel, std=(x.shape[1] * kernel**2) ** -0.5)
        padding = kernel // 2 if padding < 0 else padding
        return F.conv2d(x, weight.to(x), self.get(f"{name}.bias", out).to(x), stride, padding)

    def linear(self, name: str, x: Tensor, out: int) -> Tensor:
        weight = self.get(f"{name}.weight", out, x.shape[1], std=x.shape[1] ** -0.5)
        return F.linear(x, weight.to(x), self.get(f"{name}.bias", out).to(x))

    def conv1d(self, name: str, x: Tensor, out: int) -> Tensor:
        weight = self.get(f"{name}.weight", out, x.shape[1], 1, std=2 * x.shape[1] ** -0.5)
        return F.conv1d(x, weight.to(x), self.get(f"{name}.bias", out).to(x))


@dataclass(frozen=True)
class FirstStage:
    """Hyperparameters by the meaning they have in ddconfig; ``codes`` is 0 for AutoencoderKL."""

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    latent: int = 3
    width: int = 3
    codes: int = 16
    attending: tuple[int, ...] = ()
    middle_attention: bool = True

    def encode(self, w: Weights, x: Tensor, prefix: str = "") -> Tensor:
        """The raw latent of an image on [-1, 1]: before quantisation, or the mean."""
        return self.moments(w, x, prefix)[:, : self.width]

    def moments(self, w: Weights, x: Tensor, prefix: str = "") -> Tensor:
        double = 1 if self.codes else 2
        h = w.conv(f"{prefix}encoder.conv_in", x, self.channels)
        for level, multiplier in enumerate(self.multipliers):
            for block in range(self.blocks):
                name = f"{prefix}encoder.down.{level}"
                h = self._resnet(w, f"{name}.block.{block}", h, self.channels * multiplier)
                if level in self.attending:
                    h = self._attention(w, f"{name}.attn.{block}", h)
            if level < len(self.multipliers) - 1:
                h = w.conv(f"{name}.downsample.conv", F.pad(h, (0, 1, 0, 1)), h.shape[1], stride=2, padding=0)
        h = self._middle(w, f"{prefix}encoder.mid", h)
        h = F.silu(w.norm(f"{prefix}encoder.norm_out", h, 1e-6))
        h = w.conv(f"{prefix}encoder.conv_out", h, double * self.latent)
        return w.conv(f"{prefix}quant_conv", h, double * self.width, 1)

    def decode(self, w: Weights, z: Tensor) -> Tensor:
        """The image on [-1, 1] of a raw latent, quantised where there are codes."""
        if self.codes:
            book = w.get("quantize.embedding.weight", self.codes, self.width, std=1.0).to(z)
            rows = z.movedim(1, -1).reshape(-1, self.width)
            nearest = (rows[:, None] - book[None]).square().sum(2).argmin(1)
            z = book[nearest].reshape(*z.movedim(1, -1).shape).movedim(-1, 1)
        h = w.conv("post_quant_conv", z, self.latent, 1)
        h = w.conv("decoder.conv_in", h, self.channels * self.multipliers[-1])
        h = self._middle(w, "decoder.mid", h)
        for level in reversed(range(len(self.multipliers))):
            for block in range(self.blocks + 1):
                name = f"decoder.up.{level}"
                h = self._resnet(w, f"{name}.block.{block}", h, self.channels * self.multipliers[level])
                if level in self.attending:
                    h = self._attention(w, f"{name}.attn.{block}", h)
            if level > 0:
                h = w.conv(f"{name}.upsample.conv", F.interpolate(h, scale_factor=2, mode="nearest"), h.shape[1])
        return w.conv("decoder.conv_out", F.silu(w.norm("decoder.norm_out", h, 1e-6)), 3)

    def _middle(self, w: Weights, name: str, h: Tensor) -> Tensor:
        h = self._resnet(w, f"{name}.block_1", h, h.shape[1])
        if self.middle_attention:
            h = self._attention(w, f"{name}.attn_1", h)
        return self._resnet(w, f"{name}.block_2", h, h.shape[1])

    def _resnet(self, w: Weights, name: str, x: Tensor, out: int) -> Tensor:
        h = w.conv(f"{name}.conv1", F.silu(w.norm(f"{name}.norm1", x, 1e-6)), out)
        h = w.conv(f"{name}.conv2", F.silu(w.norm(f"{name}.norm2", h, 1e-6)), out)
        return h + (x if x.shape[1] == out else w.conv(f"{name}.nin_shortcut", x, out, 1))

    def _attention(self, w: Weights, name: str, x: Tensor) -> Tensor:
        h, channels = w.norm(f"{name}.norm", x, 1e-6), x.shape[1]
        q, k, v = (w.conv(f"{name}.{which}", h, channels, 1).flatten(2) for which in "qkv")
        attends = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(channels), 2)
        return x + w.conv(f"{name}.proj_out", (v @ attends.transpose(1, 2)).reshape(x.shape), channels, 1)


@dataclass(frozen=True)
class Denoiser:
    """Hyperparameters by the names that they have in unet_config; ``heads`` counts where ``head_channels`` is 0."""

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 3)
    blocks: int = 1
    latent: int = 3
    attention_resolutions: tuple[int, ...] = (2, 4)
    head_channels: int = 32
    heads: int = 0
    new_order: bool = False
    scale_shift: bool = False
    residual: bool = False

    def __call__(self, w: Weights, x: Tensor, timesteps: Tensor) -> Tensor:
        half = self.channels // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angles = timesteps[:, None].float() * frequencies
        emb = w.linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], 1).to(x), 4 * self.channels)
        emb = w.linear("time_embed.2", F.silu(emb), 4 * self.channels)
        h = w.conv("input_blocks.0.0", x, self.channels)
        kept, number, last = [h], 0, len(self.multipliers) - 1
        for level, multiplier in enumerate(self.multipliers):
            for _ in range(self.blocks):
                number += 1
                h = self._resnet(w, f"input_blocks.{number}.0", h, emb, multiplier * self.channels)
                if 2**level in self.attention_resolutions:
                    h = self._attention(w, f"input_blocks.{number}.1", h)
                kept.append(h)
            if level < last:
                number += 1
                if self.residual:
                    h = self._resnet(w, f"input_blocks.{number}.0", h, emb, h.shape[1], change="down")
                else:
                    h = w.conv(f"input_blocks.{number}.0.op", h, h.shape[1], stride=2)
                kept.append(h)
        h = self._resnet(w, "middle_block.0", h, emb, h.shape[1])
        h = self._resnet(w, "middle_block.2", self._attention(w, "middle_block.1", h), emb, h.shape[1])
        number = -1
        for level in reversed(range(last + 1)):
            for block in range(self.blocks + 1):
                number, module = number + 1, 1
                name = f"output_blocks.{number}"
                out = self.multipliers[level] * self.channels
                h = self._resnet(w, f"{name}.0", torch.cat([h, kept.pop()], 1), emb, out)
                if 2**level in self.attention_resolutions:
                    h, module = self._attention(w, f"{name}.1", h), 2
                if level > 0 and block == self.blocks:
                    h = self._enlarge(w, f"{name}.{module}", h, emb)
        return w.conv("out.2", F.silu(w.norm("out.0", h, 1e-5)), self.latent)

    def _enlarge(self, w: Weights, name: str, h: Tensor, emb: Tensor) -> Tensor:
        if self.residual:
            return self._resnet(w, name, h, emb, h.shape[1], change="up")
        return w.conv(f"{name}.conv", F.interpolate(h, scale_factor=2, mode="nearest"), h.shape[1])

    def _resnet(self, w: Weights, name: str, x: Tensor, emb: Tensor, out: int, change: str = "") -> Tensor:
        h = F.silu(w.norm(f"{name}.in_layers.0", x, 1e-5))
        if change == "up":
            h, x = (F.interpolate(each, scale_factor=2, mode="nearest") for each in (h, x))
        elif change == "down":
            h, x = (F.avg_pool2d(each, 2) for each in (h, x))
        h = w.conv(f"{name}.in_layers.2", h, out)
        time = w.linear(f"{name}.emb_layers.1", F.silu(emb), (2 if self.scale_shift else 1) * out)[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, 1)
            h = w.norm(f"{name}.out_layers.0", h, 1e-5) * (1 + scale) + shift
        else:
            h = w.norm(f"{name}.out_layers.0", h + time, 1e-5)
        h = w.conv(f"{name}.out_layers.3", F.silu(h), out)
        return h + (x if x.shape[1] == out else w.conv(f"{name}.skip_connection", x, out, 1))

    def _attention(self, w: Weights, name: str, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        heads = channels // self.head_channels if self.head_channels else self.heads
        qkv = w.conv1d(f"{name}.qkv", w.norm(f"{name}.norm", x, 1e-5).flatten(2), 3 * channels)
        each = channels // heads
        if self.new_order:
            parts = qkv.reshape(batch, 3, heads, each, -1).unbind(1)
        else:
            parts = qkv.reshape(batch, heads, 3, each, -1).unbind(2)
        q, k, v = parts
        attends = torch.softmax(torch.einsum("bhct,bhcs->bhts", q, k) / math.sqrt(each), 3)
        mixed = torch.einsum("bhts,bhcs->bhct", attends, v).reshape(batch, channels, -1)
        return x + w.conv1d(f"{name}.proj_out", mixed, channels).reshape(x.shape)


def ldm_betas(start: float = 0.0015, end: float = 0.0195, count: int = 1000) -> Tensor:
    """The "linear" schedule of the published models, as their checkpoints keep it."""
    return (torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2).float()


@dataclass(frozen=True)
class Model:
    """A whole model: its two networks, and their weights. ``averaged`` are those of the running average."""

    stage: FirstStage
    denoiser: Denoiser
    first_stage: Weights
    weights: Weights
    averaged: Weights

    @classmethod
    def draw(cls, stage: FirstStage, denoiser: Denoiser, device: str = "cpu") -> Model:
        first_stage, weights, averaged = (
            Weights(generator=torch.Generator().manual_seed(seed), device=device) for seed in range(3)
        )
        with torch.no_grad(), torch.device(device):
            stage.decode(first_stage, stage.encode(first_stage, torch.zeros(1, 3, 16, 16)))
            for each in (weights, averaged):
                denoiser(each, torch.zeros(1, denoiser.latent, 16, 16), torch.zeros(1))
        return cls(stage, denoiser, first_stage, weights, averaged)

    def state_dict(self, betas: Tensor | None = None, ema: bool = True) -> dict[str, Tensor]:
        """Named as in a published checkpoint, with what training leaves there besides."""
        betas = ldm_betas() if betas is None else betas
        state = {"betas": betas, "alphas_cumprod": torch.cumprod(1 - betas, 0), "logvar": torch.zeros(len(betas))}
        state |= {f"model.diffusion_model.{name}": value for name, value in self.weights.values.items()}
        if ema:
            state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
            for name, value in self.averaged.values.items():
                state["model_ema.diffusion_model" + name.replace(".", "")] = value
        state |= {f"first_stage_model.{name}": value for name, value in self.first_stage.values.items()}
        return {**state, "first_stage_model.loss.logvar": torch.zeros(())}


def declared(model: Model, **params: Any) -> str:
    """The config.yaml of a model."""
    import yaml

    denoiser = model.denoiser
    unet = {
        "image_size": 16,
        "in_channels": denoiser.latent,
        "model_channels": denoiser.channels,
        "use_new_attention_order": denoiser.new_order,
        "num_head_channels" if denoiser.head_channels else "num_heads": denoiser.head_channels or denoiser.heads,
    }
    return yaml.safe_dump({"model": {"params": {**params, "unet_config": {"params": unet}}}})
