"""The noise of the steps of a guided sampler, photo by photo."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..restore import generators_for


def step_generators(seed: int | None, indices: Sequence[int], like: Tensor) -> list[torch.Generator]:
    """One CPU generator per image, past the draw that the host has used for the start noise of the same seed.

    A photo restored here gets the numbers that ``restore`` gives it outside the host.
    """
    made = [generators_for((seed or 0) + index, 1)[0] for index in indices]
    for generator in made:
        torch.randn(like.shape[1:], generator=generator)
    return made


def noise_numbers(indices: Sequence[int] | None, count: int) -> list[int]:
    """The numbers of ``count`` latents: ``indices``, or 0, 1, ..., continued as Repeat Latent Batch does."""
    numbers = list(indices or range(count))
    offset = max(numbers) - min(numbers) + 1
    return [numbers[i % len(numbers)] + i // len(numbers) * offset for i in range(count)]
