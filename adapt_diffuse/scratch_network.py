"""The small network that tells scratches and dust from what a photo shows."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bundled import WEIGHTS
from .checkpoints import load_state, read_safetensors, write_safetensors
from .errors import AdaptDiffuseError

FORMAT = "adapt-diffuse-scratch-network/1"
BUNDLED = WEIGHTS / "scratches.safetensors"
MULTIPLE, BORDER = 4, 8  # pixels: the network's images are so many of them, and are continued at every side
AROUND = 11  # pixels across the neighbourhood that a pixel is compared with
RARE = -3.5  # the logit that training begins with: marks are rare


class ScratchNetwork(nn.Module):
    """A U-net (Ronneberger 2015) of three levels, with wide strides of its filters on the lowest for long lines.

    Args:
        width: channels at the photo's size; twice and three times as many at the half and the quarter of it.
    """

    def __init__(self, width: int = 8):
        super().__init__()
        self.width = width
        self.fine = nn.Sequential(*_conv(6, width), *_conv(width, width))
        self.middle = nn.Sequential(*_conv(width, 2 * width), *_conv(2 * width, 2 * width))
        self.coarse = nn.Sequential(
            *_conv(2 * width, 3 * width), *_conv(3 * width, 3 * width, 2), *_conv(3 * width, 3 * width, 4)
        )
        self.up_middle = nn.Sequential(*_conv(5 * width, 2 * width))
        self.up_fine = nn.Sequential(*_conv(3 * width, width))
        self.out = nn.Conv2d(width, 1, 1)
        nn.init.constant_(self.out.bias, RARE)  # type: ignore[arg-type]

    def forward(self, photo: Tensor) -> Tensor:
        """How likely a mark is there: logits (B, 1, H, W) for photos (B, 3, H, W) on [0, 1], of any size."""
        height, width = photo.shape[2:]
        right, below = (BORDER + -(side + 2 * BORDER) % MULTIPLE for side in (width, height))
        padded = F.pad(photo, (BORDER, right, BORDER, below), mode="replicate")
        # several times as fast on a CPU as planes in turn
        padded = padded.contiguous(memory_format=torch.channels_last)
        around = F.avg_pool2d(padded, AROUND, stride=1, padding=AROUND // 2, count_include_pad=False)
        fine = self.fine(torch.cat([4 * (padded - 0.5), 8 * (padded - around)], 1))
        middle = self.middle(F.avg_pool2d(fine, 2))
        coarse = self.coarse(F.avg_pool2d(middle, 2))
        middle = self.up_middle(torch.cat([middle, _doubled(coarse)], 1))
        found = self.out(self.up_fine(torch.cat([fine, _doubled(middle)], 1)))
        return found[:, :, BORDER : BORDER + height, BORDER : BORDER + width]


def _conv(inside: int, outside: int, dilation: int = 1) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(inside, outside, 3, padding=dilation, dilation=dilation)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv, nn.SiLU()


def _doubled(values: Tensor) -> Tensor:
    return F.interpolate(values, scale_factor=2.0, mode="bilinear", align_corners=False)


def save_network(path: str | Path, network: ScratchNetwork, notes: dict[str, Any]) -> None:
    """Write the network in float16, with ``notes`` (JSON values) on how it was trained.

    Raises:
        AdaptDiffuseError: a disk that refuses.
    """
    tensors = {key: value.half() for key, value in network.state_dict().items()}
    described = {key: json.dumps(value) for key, value in notes.items()}
    write_safetensors(path, tensors, {"format": FORMAT, "width": str(network.width), **described})


@cache
def load_network(path: str | Path = BUNDLED) -> ScratchNetwork:
    """A network from its file, float32, frozen, on the CPU.

    Raises:
        AdaptDiffuseError: a file that is missing, truncated, or no such network.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT or not metadata.get("width", "").isdigit():
        raise AdaptDiffuseError(
            f"{path} is not a network for scratches (its metadata says '{metadata.get('format', 'nothing')}')."
        )
    network = new_network(int(metadata["width"]))
    load_state(network, tensors, str(path))
    return network.requires_grad_(False).eval()


def new_network(width: int = 8, seed: int = 0) -> ScratchNetwork:
    """An untrained network, its weights drawn from ``seed`` without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ScratchNetwork(width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
