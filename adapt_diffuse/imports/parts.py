"""A diffusers model as its folder holds it, and what the conversions share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..autoencoder import autoencoder_from_config
from ..checkpoints import WEIGHTS, write_safetensors, write_text
from ..errors import AdaptDiffuseError
from ..hosts.diffusers import build_unet

GROUPS = 32  # of every group norm of these models


@dataclass(frozen=True)
class Part:
    """A diffusers model.

    Attributes:
        config: of config.json, with "_class_name".
        tensors: the weights by diffusers' names.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def check(self, source: str | Path) -> None:
        """Raise AdaptDiffuseError unless the weights are those of the model that the config describes."""
        with torch.device("meta"):
            model = _build(self.config, source)
        expected = {(name, tuple(value.shape)) for name, value in model.state_dict().items()}
        found = {(name, tuple(value.shape)) for name, value in self.tensors.items()}
        if expected != found:
            name, shape = min(expected ^ found)
            which = "additional" if (name, shape) in found else "missing"
            raise AdaptDiffuseError(
                f"{source} holds an architecture that diffusers' {self.config['_class_name']} does not have "
                f"({which}: {name}, {' x '.join(map(str, shape))})."
            )

    def write(self, folder: Path) -> None:
        write_safetensors(folder / WEIGHTS, self.tensors, {"format": "pt"})
        write_text(folder / "config.json", json.dumps(self.config, indent=2) + "\n")


def _build(config: dict[str, Any], source: str | Path) -> nn.Module:
    build = build_unet if config["_class_name"] == "UNet2DModel" else autoencoder_from_config
    return build(config, source)


def renamed(key: str, rules: Sequence[tuple[str, str]]) -> str:
    """``key`` after every rule (pattern, replacement), in their order."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def count(keys: Iterable[str], pattern: str) -> int:
    """One more than the highest number that ``pattern``'s group matches at a key's beginning; 0 without a match."""
    return max((int(found[1]) + 1 for key in keys if (found := re.match(pattern, key))), default=0)


def linear(weight: Tensor) -> Tensor:
    """The weight (out, in) of a convolution with one tap, as linear layers have it; biases stay."""
    return weight.flatten(1) if weight.ndim > 2 else weight
