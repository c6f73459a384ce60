"""What a restoration costs, counted in passes per image and in seconds."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from .guidance_vae import Calls
from .prior import Codec, LatentPrior


@dataclass
class Cost:
    """Passes, summed over the images of a batch (a batch of four through the denoiser counts four).

    Those of a guidance VAE, which stands in for the model's own in the data term, are counted apart as ``guide_...``.
    """

    denoiser_forwards: int = 0
    denoiser_backwards: int = 0
    decoder_forwards: int = 0
    decoder_backwards: int = 0
    encoder_passes: int = 0
    encoder_backwards: int = 0
    guide_decoder_forwards: int = 0
    guide_decoder_backwards: int = 0
    guide_encoder_passes: int = 0
    guide_encoder_backwards: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))


class CountedPrior:
    """A prior that counts its passes in ``cost``, backwards included, whoever calls it."""

    def __init__(self, prior: LatentPrior):
        self.prior = prior
        self.cost = Cost()

    @property
    def sigmas(self) -> Tensor:
        return self.prior.sigmas

    @property
    def multiple(self) -> int:
        return self.prior.multiple

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        self._count("denoiser_forwards", x)
        return self._watch(self.prior.denoise(x, sigma), "denoiser_backwards")

    def encode(self, image: Tensor) -> Tensor:
        return self._encode(self.prior, "", image)

    def decode(self, z0: Tensor) -> Tensor:
        return self._decode(self.prior, "", z0)

    @property
    def guide(self) -> Codec:
        own = getattr(self.prior, "agreement", None) is None
        guide, whose = self.prior.guide, "" if own else "guide_"
        return Calls(partial(self._encode, guide, whose), partial(self._decode, guide, whose))

    def _encode(self, codec: Codec, whose: str, image: Tensor) -> Tensor:
        self._count(f"{whose}encoder_passes", image)
        return self._watch(codec.encode(image), f"{whose}encoder_backwards")

    def _decode(self, codec: Codec, whose: str, z0: Tensor) -> Tensor:
        self._count(f"{whose}decoder_forwards", z0)
        return self._watch(codec.decode(z0), f"{whose}decoder_backwards")

    def _count(self, counter: str, batch: Tensor) -> None:
        setattr(self.cost, counter, getattr(self.cost, counter) + len(batch))

    def _watch(self, output: Tensor, counter: str) -> Tensor:
        """Count one backward per image each time a gradient arrives at ``output``."""
        if output.requires_grad:

            def arrived(gradient: Tensor) -> None:
                self._count(counter, gradient)

            output.register_hook(arrived)
        return output


def peak_memory() -> float | None:
    """Peak memory in MiB: of the GPU's allocator where torch has used one, else of this process; None on Windows.

    It is the highest since the process began, not that of one restoration.
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
