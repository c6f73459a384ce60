"""The severity encoder's network (Fabian et al. 2024, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoencoder import LatentEncoder
from ..latent_space import LatentSpace
from ..padding import pad_to_multiple

SMALLEST = 1e-12  # variance: the root's slope at 0 has no bound
HeadName = Literal["log-sigma", "paper"]
Encode = Callable[[Tensor], Tensor]  # images (B, 3, H, W) on [0, 1] to latents in the model's scale, without gradient


@dataclass(frozen=True)
class Severity:
    """What a severity encoder says of a batch of photos.

    Attributes:
        z_hat: (B, C, h, w) estimate of the clean latent, in the model's scale.
        sigma_hat: (B,) standard deviation of its error, in the model's scale; on the CPU.
        photo_size: (height, width) in pixels that the latent stands for, without padding.
    """

    z_hat: Tensor
    sigma_hat: Tensor
    photo_size: tuple[int, int]


class SeverityModel(Protocol):
    """Whatever tells the severity of photos."""

    def predict(self, photo: Tensor, multiple: int = 1, encode: Encode | None = None) -> Severity:
        """The severity of photos (B, 3, H, W) on [0, 1] of any size, padded to multiples of ``multiple`` pixels.

        Args:
            encode: the autoencoder's encoding, for those that need it.
        """
        ...


class LogSigmaHead(nn.Module):
    """sigma_hat from the encoder's features: their mean and spread over the photo, then a small perceptron."""

    def __init__(self, features: int, width: int = 64):
        super().__init__()
        self.project = nn.Conv2d(features, width, 1)
        self.hidden = nn.Linear(2 * width, width)
        self.log_sigma = nn.Linear(width, 1)
        nn.init.zeros_(self.log_sigma.weight)
        nn.init.constant_(self.log_sigma.bias, math.log(0.5))

    def forward(self, features: Tensor, z_hat: Tensor) -> Tensor:
        local = F.silu(self.project(features)).flatten(2)
        pooled = torch.cat([local.mean(2), local.std(2, unbiased=False)], 1)
        return self.log_sigma(F.silu(self.hidden(pooled)))[:, 0].exp()


class PaperHead(nn.Module):
    """The published head: a 1 x 1 convolution on z_hat, squared and averaged, is the variance."""

    def __init__(self, channels: int):
        super().__init__()
        self.std_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor, z_hat: Tensor) -> Tensor:
        variance = self.std_conv(z_hat).square().flatten(1).mean(1)
        return variance.clamp_min(SMALLEST).sqrt()


class SeverityEncoder(nn.Module):
    """A copy of the autoencoder's encoder, fine-tuned on damaged photos, with a head that predicts sigma_hat.

    Args:
        encoder: the copy; it is trained, so it must not be shared with an autoencoder in use.
        space: the latent space of the autoencoder.
        head: "log-sigma" (a perceptron on pooled encoder features) or "paper".
    """

    def __init__(self, encoder: LatentEncoder, space: LatentSpace, head: HeadName = "log-sigma"):
        super().__init__()
        self.encoder = encoder
        self.space = space
        self.head_name: HeadName = head
        self.notes: dict[str, Any] = {}  # of the checkpoint: "family", "training", "validation"
        self.head: nn.Module
        if head == "paper":
            self.head = PaperHead(space.channels)
        else:
            self.head = LogSigmaHead(feature_channels(encoder.last_layer))

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        """z_hat (B, C, h, w) and sigma_hat (B,), model's scale, of photos (B, 3, H, W) on [0, 1].

        H and W must be multiples of the autoencoder's factor.
        """
        captured: list[Tensor] = []
        handle = self.encoder.last_layer.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            z_hat = self.space.from_raw(self.encoder(photo * 2 - 1))
        finally:
            handle.remove()
        return z_hat, self.head(captured[0], z_hat)

    @torch.no_grad()
    def predict(self, photo: Tensor, multiple: int = 1, encode: Encode | None = None) -> Severity:
        """The severity of photos (B, 3, H, W) on [0, 1] of any size; it encodes by itself, so ``encode`` is not needed.

        The photo is padded by reflection to multiples of the autoencoder's factor and of ``multiple`` pixels.
        """
        padded = pad_to_multiple(photo, math.lcm(self.space.factor, multiple))
        parameter = next(self.parameters())
        z_hat, sigma_hat = self(padded.to(parameter))
        return Severity(z_hat.to(photo), sigma_hat.cpu().to(photo.dtype), (photo.shape[2], photo.shape[3]))


def feature_channels(layer: nn.Module) -> int:
    channels = getattr(layer, "in_channels", None)
    assert isinstance(channels, int), "the encoder's last layer is a convolution"
    return channels
