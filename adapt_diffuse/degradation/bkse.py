"""The learned nonlinear blur of the paper, for those who have its weights (Tran et al. 2021, "bkse").

Their generator G blurs a sharp image as a latent code says; the paper draws the code as 1.2 N(0, 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AdaptDiffuseError
from .base import Dense, SameSize, check_noise_std, in_float, randn

Weights = Mapping[str, Tensor]
CODE_STD = 1.2
# the same seed for code and noise would draw both from the same numbers
CODE_SEED = 7_000_003
UNET = "adapter.model."


def blur_with_code(weights: Weights, image: Tensor, code: Tensor) -> Tensor:
    """G(image, code): ``image`` (B, 3, H, W) on [0, 1], H and W multiples of ``grid``; ``code`` (B, c, H/grid, W/grid).

    The layout is the published one; how many blocks and levels there are is read from the weights' names.
    """
    x = image
    for layer, stride in ((0, 1), (2, 2), (4, 2)):
        x = F.leaky_relu(_conv(weights, f"feature_extractor.{layer}", x, stride), 0.1)
    x, _ = _blocks(weights, "feature_extractor", 6, x)
    x = _unet(weights, UNET, x, code)
    x, layer = _blocks(weights, "recon_trunk", 0, x)
    for upsampling in (layer, layer + 3):
        x = F.leaky_relu(F.pixel_shuffle(_conv(weights, f"recon_trunk.{upsampling}", x), 2), 0.1)
    x = F.leaky_relu(_conv(weights, f"recon_trunk.{layer + 6}", x), 0.1)
    return image + _conv(weights, f"recon_trunk.{layer + 8}", x)


def _conv(weights: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, 1)


def _blocks(weights: Weights, part: str, layer: int, x: Tensor) -> tuple[Tensor, int]:
    """All residual blocks of ``part`` from ``layer`` on, and the layer after the last."""
    while f"{part}.{layer}.conv1.weight" in weights:
        inner = F.relu(_conv(weights, f"{part}.{layer}.conv1", x))
        x = x + _conv(weights, f"{part}.{layer}.conv2", inner)
        layer += 1
    return x, layer


def _unet(weights: Weights, name: str, x: Tensor, code: Tensor) -> Tensor:
    """One level of the adapter's U-Net around the next; the code joins at the bottom."""
    outermost = name == UNET
    if not outermost:
        x = F.leaky_relu(x, 0.2)  # the skip carries the activated features: published modules work in place
    down = F.conv2d(x, weights[f"{name}down.{0 if outermost else 1}.weight"], None, 2, 1)
    below = f"{name}submodule."
    inner = _unet(weights, below, down, code) if _has(weights, below) else torch.cat([down, code], 1)
    up = F.conv_transpose2d(F.relu(inner), weights[f"{name}up.1.weight"], weights.get(f"{name}up.1.bias"), 2, 1)
    return up.tanh() if outermost else torch.cat([up, x], 1)


def _has(weights: Weights, name: str) -> bool:
    return f"{name}down.1.weight" in weights


def code_layout(weights: Weights) -> tuple[int, int]:
    """How many numbers a code has at each place, and the grid: one place for so many pixels in each direction."""
    name, grid = UNET, 8
    while _has(weights, f"{name}submodule."):
        name, grid = f"{name}submodule.", 2 * grid
    return weights[f"{name}down.{0 if name == UNET else 1}.weight"].shape[0], grid


class LearnedBlur(Dense, SameSize):
    """The learned blur with the random code of a seed, the same for all photos of one size.

    Photos are padded by reflection to the generator's grid (128 pixels); one of 256 x 256 has the published code of
    512 x 2 x 2 numbers. The result is cut off at [0, 1].

    Args:
        weights: the state dict of the published KernelWizard.
        seed: of the code.
        noise_std: standard deviation of the noise on [0, 1] images.
    """

    def __init__(self, weights: Weights, seed: int = 0, noise_std: float = 0.0):
        self.seed, self.noise_std = seed, check_noise_std(noise_std)
        self._weights = dict(weights)
        self._channels, self._grid = code_layout(self._weights)

    @classmethod
    def load(cls, path: Path, seed: int = 0, noise_std: float = 0.0) -> LearnedBlur:
        """The learned blur in the published file (GOPRO_wVAE.pth, REDS_wVAE.pth).

        Raises:
            AdaptDiffuseError: a file that is missing, or no such checkpoint.
        """
        if not path.is_file():
            raise AdaptDiffuseError(
                f"There is no file {path}: the learned blur needs the weights of blur-kernel-space-exploring."
            )
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            named = {name.removeprefix("module."): value.detach().float() for name, value in loaded.items()}
            weights = {name: value for name, value in named.items() if not name.startswith("kernel_extractor.")}
            cls(weights)(torch.zeros(1, 3, 1, 1))
        except Exception as error:
            raise AdaptDiffuseError(
                f"{path} is no checkpoint of blur-kernel-space-exploring ({type(error).__name__})."
            ) from error
        return cls(weights, seed, noise_std)

    def code(self, height: int, width: int) -> Tensor:
        """(1, c, h, w) float32: the code for padded photos of ``height`` x ``width``."""
        generator = torch.Generator().manual_seed(self.seed + CODE_SEED)
        shape = (1, self._channels, height // self._grid, width // self._grid)
        return CODE_STD * randn(shape, torch.zeros(()), generator)

    def __call__(self, image: Tensor) -> Tensor:
        from ..padding import pad_to_multiple  # that module needs this package

        height, width = image.shape[2:]
        padded = pad_to_multiple(in_float(image), self._grid)
        code = self.code(padded.shape[2], padded.shape[3]).to(padded).expand(len(padded), -1, -1, -1)
        blurred = blur_with_code(self._weights_for(padded), padded, code)
        return blurred[:, :, :height, :width].clamp(0, 1).to(image.dtype)

    def select(self, indices: Tensor) -> LearnedBlur:
        return self

    def _weights_for(self, image: Tensor) -> Weights:
        first = next(iter(self._weights.values()))
        if first.device != image.device or first.dtype != image.dtype:
            # float32 holds the published values exactly, so going to float64 and back loses nothing
            self._weights = {name: value.to(image) for name, value in self._weights.items()}
        return self._weights
