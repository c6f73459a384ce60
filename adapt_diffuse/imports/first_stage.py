"""The first stage of a latent diffusion model (Rombach et al. 2022): VQModelInterface or AutoencoderKL.

The names are those of CompVis/latent-diffusion; everything of the architecture follows from the weights' shapes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import AdaptDiffuseError
from .parts import GROUPS, Part, count, linear, renamed

# besides these a checkpoint holds the discriminator and the perceptual loss of its training
KEPT = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")

RULES = (
    (r"\.(down|up)\.(\d+)\.block\.(\d+)\.", r".\1_blocks.\2.resnets.\3."),
    (r"\.(down|up)\.(\d+)\.attn\.(\d+)\.", r".\1_blocks.\2.attentions.\3."),
    (r"\.(down|up)\.(\d+)\.(down|up)sample\.", r".\1_blocks.\2.\3samplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(\.attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)


def is_quantised(state: dict[str, Tensor]) -> bool:
    return "quantize.embedding.weight" in state


def convert_first_stage(state: dict[str, Tensor], scale: float, source: str | Path) -> Part:
    """A diffusers VQModel or AutoencoderKL from the first stage's own names.

    Args:
        state: without the prefix "first_stage_model.".
        scale: from the raw latents to the model's; "scale_factor" of a checkpoint.

    Raises:
        AdaptDiffuseError: weights of another architecture.
    """
    kept = {key: value for key, value in state.items() if key.startswith(KEPT)}
    levels = count(kept, r"encoder\.down\.(\d+)\.")
    try:
        config = _config(kept, levels)
    except (KeyError, IndexError, ValueError) as error:
        raise AdaptDiffuseError(f"{source} has no first stage of a known kind ({error}).") from None
    part = Part({**config, "scaling_factor": scale}, convert_encoder_names(kept, levels))
    part.check(source)
    return part


def convert_encoder_names(state: dict[str, Tensor], levels: int = 0) -> dict[str, Tensor]:
    """Weights by diffusers' names. ``levels`` matter to a decoder, whose levels diffusers counts the other way."""
    tensors = {}
    for key, value in state.items():
        turned = re.sub(r"^decoder\.up\.(\d+)", lambda found: f"decoder.up.{levels - 1 - int(found[1])}", key)
        name = renamed(turned, RULES)
        tensors[name] = linear(value) if ".attentions." in name else value
    return tensors


def _config(state: dict[str, Tensor], levels: int) -> dict[str, Any]:
    widths = [state[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
    down = [f"encoder.down.{level}.attn.0.norm.weight" in state for level in range(levels)]
    up = [f"decoder.up.{level}.attn.0.norm.weight" in state for level in reversed(range(levels))]
    common = {
        "in_channels": state["encoder.conv_in.weight"].shape[1],
        "out_channels": state["decoder.conv_out.weight"].shape[0],
        "down_block_types": ["AttnDownEncoderBlock2D" if attends else "DownEncoderBlock2D" for attends in down],
        "up_block_types": ["AttnUpDecoderBlock2D" if attends else "UpDecoderBlock2D" for attends in up],
        "block_out_channels": widths,
        "layers_per_block": count(state, r"encoder\.down\.0\.block\.(\d+)\."),
        "act_fn": "silu",
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "norm_num_groups": GROUPS,
        "mid_block_add_attention": "encoder.mid.attn_1.norm.weight" in state,
    }
    if not is_quantised(state):
        return {"_class_name": "AutoencoderKL", **common}
    codes, width = state["quantize.embedding.weight"].shape
    return {"_class_name": "VQModel", **common, "num_vq_embeddings": codes, "vq_embed_dim": width, "norm_type": "group"}
