"""A small network that refines the frozen encoding of a damaged photo into z_hat and sigma_hat."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import AdaptDiffuseError
from ..latent_space import LatentSpace
from ..padding import pad_to_multiple
from .encoder import Encode, LogSigmaHead, Severity

GROUPS = 8
MAX_LEVELS = 4


class SeverityRefiner(nn.Module):
    """The error of an autoencoder's own encoding of a damaged photo, by a U-Net on the latent grid, and its size.

    Nothing passes a gradient through the autoencoder, which stays as it is: any ``encode`` will do. There is no
    attention, so photos may have any size.

    Args:
        space: the latent space of the encoding.
        photo: whether the network sees the damaged photo too, folded to the latent grid; it tells noise and lost
            pixels, which an encoder smears.
        width: features at the latent's own resolution, a multiple of 16; each coarser level has half as many more.
        levels: resolutions, from 1 to 4; each halves the one before.
    """

    def __init__(self, space: LatentSpace, photo: bool = True, width: int = 96, levels: int = 3):
        super().__init__()
        if width < 16 or width % 16 or not 1 <= levels <= MAX_LEVELS:
            limits = f"a multiple of 16 and its levels 1 to {MAX_LEVELS}"
            raise AdaptDiffuseError(f"A refiner's width must be {limits}, not {width} and {levels}.")
        self.space = space
        self.photo, self.width, self.levels = photo, width, levels
        self.notes: dict[str, Any] = {}  # of the checkpoint: "family", "training", "validation"
        widths = [width * (level + 2) // 2 for level in range(levels)]
        self.enter = nn.Conv2d(space.channels, width, 3, padding=1)
        self.fold = nn.Conv2d(3 * space.factor**2, width, 1) if photo else None
        self.down = nn.ModuleList(Stage(size, 1 if level == 0 else 2) for level, size in enumerate(widths))
        self.halve = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in zip(widths, widths[1:], strict=False)
        )
        self.widen = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(Stage(size, 1 if level == 0 else 2) for level, size in enumerate(widths[:-1]))
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = nn.Conv2d(width, space.channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]
        self.head = LogSigmaHead(width)

    def forward(self, encoding: Tensor, photo: Tensor, cells: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """z_hat (B, C, h, w) and sigma_hat (B,), model's scale.

        Args:
            encoding: (B, C, h, w) of the damaged photo, model's scale.
            photo: (B, 3, H, W) on [0, 1], with ``H = h * factor`` and ``W = w * factor``.
            cells: rows and columns of the latent that are photo and not padding, which sigma_hat looks at alone.
        """
        x = self.enter(encoding)
        if self.fold is not None:
            x = x + self.fold(F.pixel_unshuffle(photo * 2 - 1, self.space.factor))
        skips = []
        for stage, halve in zip(self.down, self.halve, strict=False):
            x = stage(x)
            skips.append(x)
            x = halve(x)
        x = self.down[-1](x)
        for stage, widen, skip in zip(self.up[::-1], self.widen[::-1], skips[::-1], strict=True):
            larger = F.interpolate(widen(x), scale_factor=2, mode="nearest")
            x = stage(skip + larger[:, :, : skip.shape[2], : skip.shape[3]])
        z_hat = encoding + self.leave(F.silu(self.norm(x)))
        rows, columns = cells or x.shape[2:]
        return z_hat, self.head(x[:, :, :rows, :columns], z_hat)

    @torch.no_grad()
    def predict(self, photo: Tensor, multiple: int = 1, encode: Encode | None = None) -> Severity:
        """The severity of photos (B, 3, H, W) on [0, 1] of any size.

        The photo is padded by reflection to multiples of the autoencoder's factor and of ``multiple`` pixels.

        Args:
            encode: the autoencoder's encoding of images (B, 3, H, W) on [0, 1], in the model's scale.

        Raises:
            AdaptDiffuseError: there is no ``encode``, or it belongs to another latent space.
        """
        if encode is None:
            raise AdaptDiffuseError("This severity encoder refines the VAE's own encoding: give it the VAE as well.")
        factor = self.space.factor
        padded = pad_to_multiple(photo, math.lcm(factor, multiple))
        encoding = encode(padded)
        expected = (len(padded), self.space.channels, padded.shape[2] // factor, padded.shape[3] // factor)
        if encoding.shape != expected:
            raise AdaptDiffuseError(
                f"The VAE makes latents of {tuple(encoding.shape[1:])} where the severity encoder expects "
                f"{expected[1:]}: load a severity encoder trained for this VAE."
            )
        cells = (-(-photo.shape[2] // factor), -(-photo.shape[3] // factor))
        parameter = next(self.parameters())  # after encode, for which a host may have moved it
        z_hat, sigma_hat = self(encoding.to(parameter), padded.to(parameter), cells)
        return Severity(z_hat.to(photo), sigma_hat.cpu().to(photo.dtype), (photo.shape[2], photo.shape[3]))


class Stage(nn.Sequential):
    """Residual blocks of one resolution."""

    def __init__(self, width: int, blocks: int):
        super().__init__(*(Residual(width) for _ in range(blocks)))


class Residual(nn.Module):
    """Two 3 x 3 convolutions, each behind a normalisation, added to what enters."""

    def __init__(self, width: int):
        super().__init__()
        self.first_norm, self.second_norm = nn.GroupNorm(GROUPS, width), nn.GroupNorm(GROUPS, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.second_norm(self.first(F.silu(self.first_norm(x))))))
