"""A tiny generator in the layout of the published bkse checkpoints, as modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class Level(nn.Module):
    """A level of the U-Net; its first activation works in place, so the skip carries activated features."""

    def __init__(self, outer: int, inner: int, submodule: nn.Module | None, outermost: bool = False):
        super().__init__()
        down: list[Any] = [nn.Conv2d(outer, inner, 4, 2, 1, bias=False)]
        up: list[Any] = [nn.ReLU(True), nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1, bias=outermost)]
        self.down = nn.Sequential(*([] if outermost else [nn.LeakyReLU(0.2, True)]), *down)
        if submodule is not None:
            self.submodule = submodule
        self.up = nn.Sequential(*up, *([nn.Tanh()] if outermost else []))
        self.outermost = outermost

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        down = self.down(x)
        inner = self.submodule(down, code) if hasattr(self, "submodule") else torch.cat([down, code], 1)
        return self.up(inner) if self.outermost else torch.cat([self.up(inner), x], 1)


class Adapter(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model


class Generator(nn.Module):
    """Three levels, so that a code has a place for every 32 x 32 pixels; 8 numbers at each."""

    def __init__(self, width: int = 2, front: int = 1, back: int = 2):
        super().__init__()
        activation = nn.LeakyReLU(0.1)
        self.feature_extractor = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1), activation, nn.Conv2d(width, width, 3, 2, 1), activation,
            nn.Conv2d(width, width, 3, 2, 1), activation, *(Residual(width) for _ in range(front)),
        )  # fmt: skip
        bottom = Level(2 * width, 4 * width, None)
        self.adapter = Adapter(Level(width, width, Level(width, 2 * width, bottom), outermost=True))
        self.recon_trunk = nn.Sequential(
            *(Residual(width) for _ in range(back)), nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2),
            activation, nn.Conv2d(width, 12, 3, 1, 1), nn.PixelShuffle(2), activation, nn.Conv2d(3, 3, 3, 1, 1),
            activation, nn.Conv2d(3, 3, 3, 1, 1),
        )  # fmt: skip

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        return image + self.recon_trunk(self.adapter.model(self.feature_extractor(image), code))


def learned_blur() -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        made = Generator()
        for parameter in made.parameters():  # large enough for every part to matter
            nn.init.normal_(parameter, std=0.3)
    return made.requires_grad_(False)


def save_learned_blur(path: Path) -> None:
    """The generator as a checkpoint, with the names of one trained in parallel, and a part that is not used."""
    state = {f"module.{name}": value for name, value in learned_blur().state_dict().items()}
    torch.save({**state, "module.kernel_extractor.model.1.weight": torch.zeros(2, 4, 7, 7)}, path)
