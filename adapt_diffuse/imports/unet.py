"""The denoiser of a latent diffusion model: CompVis/latent-diffusion's UNetModel, without conditioning.

The architecture follows from the weights' names and shapes, except for the number of attention heads and the order of
their channels, which a config.yaml declares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import AdaptDiffuseError
from ..hosts.diffusers import HEADS
from .declared import Attention
from .parts import GROUPS, Part, count, linear, renamed

FIRST, MIDDLE, LAST = "input_blocks.0.0.weight", "middle_block.0.in_layers.2.weight", "out.2.weight"

RULES = (
    (r"^time_embed\.0\.", "time_embedding.linear_1."),
    (r"^time_embed\.2\.", "time_embedding.linear_2."),
    (r"^input_blocks\.0\.0\.", "conv_in."),
    (r"^out\.0\.", "conv_norm_out."),
    (r"^out\.2\.", "conv_out."),
    (r"^middle_block\.0\.", "mid_block.resnets.0."),
    (r"^middle_block\.1\.", "mid_block.attentions.0."),
    (r"^middle_block\.2\.", "mid_block.resnets.1."),
    (r"\.in_layers\.0\.", ".norm1."),
    (r"\.in_layers\.2\.", ".conv1."),
    (r"\.emb_layers\.1\.", ".time_emb_proj."),
    (r"\.out_layers\.0\.", ".norm2."),
    (r"\.out_layers\.3\.", ".conv2."),
    (r"\.skip_connection\.", ".conv_shortcut."),
    (r"\.downsamplers\.0\.op\.", ".downsamplers.0.conv."),
    (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)


@dataclass(frozen=True)
class Layout:
    """How the numbered blocks are arranged: ``levels`` scales of ``layers`` residual blocks on the way down.

    On the way up there is one block more per scale; the last of a scale ends with the enlargement, as its third module
    where the scale attends and as its second where it does not.
    """

    levels: int
    layers: int

    def place(self, key: str) -> str:
        """``key`` with diffusers' place of the module instead of "input_blocks.n.m" or "output_blocks.n.m"."""
        if found := re.match(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.*)", key):
            side, block, module, rest = found[1], int(found[2]), int(found[3]), found[4]
            if side == "input" and block > 0:
                level, index = divmod(block - 1, self.layers + 1)
                kind = "downsamplers.0" if index == self.layers else self._kind(module, rest, index)
                return f"down_blocks.{level}.{kind}.{rest}"
            if side == "output":
                level, index = divmod(block, self.layers + 1)
                return f"up_blocks.{level}.{self._kind(module, rest, index)}.{rest}"
        return key

    @staticmethod
    def _kind(module: int, rest: str, index: int) -> str:
        if module == 0:
            return f"resnets.{index}"
        return f"attentions.{index}" if rest.startswith(("norm.", "qkv.", "proj_out.")) else "upsamplers.0"


def convert_unet(state: dict[str, Tensor], attention: Attention, sample_size: int | None, source: str | Path) -> Part:
    """A diffusers UNet2DModel from UNetModel's own names.

    Args:
        state: without the prefix "model.diffusion_model.".
        attention: what the weights do not tell of the attention.
        sample_size: side of the latents it was trained on, where known.

    Raises:
        AdaptDiffuseError: a conditional model, or weights of another architecture.
    """
    if any(".transformer_blocks." in key or key.startswith("label_emb.") for key in state):
        raise AdaptDiffuseError(f"{source} holds a conditional model (text or classes); only unconditional ones work.")
    tensors: dict[str, Tensor] = {}
    try:
        layout = _layout(state)
        config = _config(state, layout, attention)
        for key, value in state.items():
            name = renamed(layout.place(key), RULES)
            tensors |= _attention(name, value, attention) if ".attentions." in name else {name: value}
    except (KeyError, IndexError, RuntimeError) as error:
        raise AdaptDiffuseError(f"{source} has no denoiser of a known kind ({error}).") from None
    part = Part({**config, "sample_size": sample_size}, tensors)
    part.check(source)
    return part


def _attention(name: str, value: Tensor, attention: Attention) -> dict[str, Tensor]:
    """One weight or bias of an attention, with queries, keys and values apart; each head's channels together."""
    if ".qkv." not in name:
        return {name: linear(value)}
    channels = value.shape[0] // 3
    heads = 1 if attention.split_first else attention.heads_of(channels)
    apart = linear(value).unflatten(0, (heads, 3, channels // heads))
    return {
        name.replace(".qkv.", f".to_{which}."): apart[:, index].flatten(0, 1).clone()
        for index, which in enumerate("qkv")
    }


def _layout(state: dict[str, Tensor]) -> Layout:
    enlargements = {
        found[1] for key in state if (found := re.match(r"output_blocks\.(\d+)\.[12]\.(conv|in_layers)\.", key))
    }
    levels = len(enlargements) + 1
    layers = count(state, r"output_blocks\.(\d+)\.") // levels - 1
    if layers < 1:
        raise KeyError("output_blocks")
    return Layout(levels, layers)


def _config(state: dict[str, Tensor], layout: Layout, attention: Attention) -> dict[str, Any]:
    firsts = [1 + level * (layout.layers + 1) for level in range(layout.levels)]
    attends = [f"input_blocks.{first}.1.qkv.weight" in state for first in firsts]
    widths = [state[f"input_blocks.{first}.0.in_layers.2.weight"].shape[0] for first in firsts]
    residual = any(re.match(r"output_blocks\.\d+\.[12]\.in_layers\.", key) for key in state)
    scale_shift = state["middle_block.0.emb_layers.1.weight"].shape[0] == 2 * state[MIDDLE].shape[0]
    down, up = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if residual else ("DownBlock2D", "UpBlock2D")
    attending = {width for width, attended in zip(widths, attends, strict=True) if attended} | {widths[-1]}
    return {
        "_class_name": "UNet2DModel",
        "in_channels": state[FIRST].shape[1],
        "out_channels": state[LAST].shape[0],
        "block_out_channels": widths,
        "layers_per_block": layout.layers,
        "down_block_types": ["AttnDownBlock2D" if attended else down for attended in attends],
        "up_block_types": ["AttnUpBlock2D" if attended else up for attended in reversed(attends)],
        "downsample_type": "resnet" if residual else "conv",
        "upsample_type": "resnet" if residual else "conv",
        "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
        "time_embedding_type": "positional",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "norm_num_groups": GROUPS,
        "attn_norm_num_groups": GROUPS,
        "norm_eps": 1e-5,
        "act_fn": "silu",
        **_heads(attending, attention),
    }


def _heads(widths: set[int], attention: Attention) -> dict[str, Any]:
    """The heads as diffusers has them: so many channels each. The same number of heads everywhere is our own key."""
    sizes = {width // attention.heads_of(width) for width in widths}
    if len(sizes) == 1:
        return {"attention_head_dim": sizes.pop()}
    return {"attention_head_dim": None, HEADS: attention.heads}
