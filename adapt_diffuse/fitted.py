"""An autoencoder's passes, and their gradients, in the memory that there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .errors import AdaptDiffuseError
from .memory import Machine, checkpointed, kept_bytes
from .tiling import Run, Tile, TileLayout, Units, pull_back, stitch, tile_sizes

Result = TypeVar("Result")

SMALLEST_TILE = 16  # latent positions
OVERLAP = 0.25  # of a tile
PROBE = 8  # latent positions along the side of what is run to see what a pass keeps
# of the free memory, for one pass: its graph stays while the data term, and the encoder's pass, want theirs
SHARE = 0.6
# of what a pass keeps for its gradient: with what it works on besides; with its blocks recomputed; without a gradient
WITH_GRADIENT, CHECKPOINTED, WITHOUT_GRADIENT = 1.4, 0.6, 0.4


@dataclass(frozen=True)
class Rung:
    """One way to run a pass; each takes less memory than the one before.

    Attributes:
        bytes: that it takes, by an estimate.
        tile: side of the tiles in latent positions; 0 runs the image whole.
        kept: the graph is kept from forward to backward, for the whole batch; False runs again for the backward pass,
            one image after the other, and keeps nothing in between.
        checkpointed: the network's blocks are recomputed one by one in the backward pass.
    """

    bytes: float
    tile: int = 0
    kept: bool = False
    checkpointed: bool = False


class FittedPass:
    """A differentiable pass of an autoencoder, its decoder's or its encoder's, that finds out how it fits the memory.

    As a whole where that fits, and then exactly the plain pass. Otherwise one image after the other, with the blocks
    of the network recomputed for the gradient; at last in tiles, each half as long as the one before, and with their
    blocks recomputed before they are halved. A size that ran out of memory is not tried again. The gradient is that of
    the pass as it ran: of the stitched image, for tiles.

    Tiles change what a network makes whose layers look at the whole picture (attention and group norms, as in the
    autoencoders of Stable Diffusion and Flux), away from the seams too.

    Args:
        run: the pass, on (B, C, h, w); where its result has no gradient although it should, it raises.
        network: that it runs.
        units: values per latent position in what goes in and comes out.
        machine: whose memory it uses.
        what: "decoder" or "encoder", for messages.
        tile: side of the tiles in pixels; 0 decides by the free memory.
    """

    def __init__(self, run: Run, network: nn.Module, units: Units, machine: Machine, what: str, tile: int = 0):
        self.run, self.network, self.units, self.machine, self.what = run, network, units, machine, what
        self._first_tile = max(round(tile / max(units)), SMALLEST_TILE) if tile else 0
        self._kept_bytes: float | None = None
        # what passes with a gradient, and passes without, must stay below
        self._limits: dict[bool, float] = {}
        self._tiles: tuple[object, list[Tile]] = (None, [])

    def __call__(self, source: Tensor) -> Tensor:
        """``run(source)``, in the memory that there is.

        Raises:
            AdaptDiffuseError: the smallest tile does not fit.
        """
        if differentiated(source):
            return _Guided.apply(source, self)
        return self.attempt(source, False, lambda rung: self.forward(source, rung))

    def rung(self, source: Tensor, guided: bool) -> Rung:
        """How a pass on ``source`` runs: the first way that fits, or the last."""
        rungs = self.rungs(source, guided)
        if guided not in self._limits:
            free = None if self._first_tile or len(rungs) == 1 else self.machine.free()
            self._limits[guided] = math.inf if free is None else SHARE * free
        return next((rung for rung in rungs if rung.bytes < self._limits[guided]), rungs[-1])

    def rungs(self, source: Tensor, guided: bool) -> list[Rung]:
        """The ways to run a pass on ``source``, the costliest first."""
        units = self.units
        height, width = source.shape[2] // units.source, source.shape[3] // units.source
        longest, each = max(height, width), self._bytes_per_position(source)
        if not each or (height * units.source, width * units.source) != source.shape[2:]:
            return [Rung(0, kept=True)]
        if not guided:
            each *= WITHOUT_GRADIENT / WITH_GRADIENT
        rungs = [Rung(each * len(source) * height * width, kept=True)]
        if guided:
            rungs.append(Rung(each * CHECKPOINTED / WITH_GRADIENT * height * width, checkpointed=True))
        if SMALLEST_TILE <= self._first_tile < longest:
            rungs = []
        sizes = [self._first_tile] if not rungs else []
        sizes += [size for size in tile_sizes(longest, SMALLEST_TILE) if not sizes or size < sizes[0]]
        for size in sizes:
            cost = each * min(size, height) * min(size, width)
            # estimates may be wrong: a smaller piece is worth a try after a larger one has failed
            rungs.append(Rung(min(cost, 0.9 * rungs[-1].bytes) if rungs else cost, size))
            if guided:
                rungs.append(Rung(rungs[-1].bytes * CHECKPOINTED / WITH_GRADIENT, size, checkpointed=True))
        return rungs

    def attempt(self, source: Tensor, guided: bool, work: Callable[[Rung], Result]) -> Result:
        """``work`` with the rung that fits, with the next one as often as memory runs out."""
        while True:
            rung = self.rung(source, guided)
            try:
                return work(rung)
            except Exception as error:
                if not self.machine.ran_out(error):
                    raise
            # not inside the except clause: its traceback holds on to what filled the memory
            self.step_down(source, guided, rung)

    def step_down(self, source: Tensor, guided: bool, failed: Rung) -> None:
        """Never again try ``failed``, or what takes as much. Raises AdaptDiffuseError where nothing takes less."""
        self.machine.release()
        if failed == self.rungs(source, guided)[-1]:
            tile = failed.tile or max(source.shape[2:]) // self.units.source
            raise AdaptDiffuseError(
                f"The memory does not even hold the {self.what} on the smallest tile ({tile * max(self.units)} pixels"
                "): restore a smaller photo, connect a tiny autoencoder as guidance_vae, or close other programs."
            )
        self._limits[guided] = failed.bytes

    def forward(self, source: Tensor, rung: Rung) -> Tensor:
        """The pass without a gradient."""
        self.machine.check()
        if rung.kept:
            return self.run(source)
        return torch.cat([stitch(self._checked, one, self._cut(one, rung)) for one in source.split(1)])

    def backward(self, source: Tensor, gradient: Tensor, rung: Rung) -> Tensor:
        """The gradient with respect to ``source``, image by image and tile by tile, all of it computed anew."""
        tiles = self._cut(source, rung)
        pairs = zip(source.split(1), gradient.split(1), strict=True)
        with checkpointed(self.network) if rung.checkpointed else nullcontext():
            return torch.cat([pull_back(self._checked, one, slope, tiles) for one, slope in pairs])

    def _checked(self, part: Tensor) -> Tensor:
        self.machine.check()
        return self.run(part)

    def _cut(self, source: Tensor, rung: Rung) -> list[Tile]:
        height, width = (side // self.units.source for side in source.shape[2:])
        tile = rung.tile or max(height, width)
        layout = TileLayout(height, width, tile, round(OVERLAP * tile))
        key = layout, source.dtype, source.device
        if self._tiles[0] != key:
            self._tiles = key, layout.tiles(self.units, source)
        return self._tiles[1]

    def _bytes_per_position(self, source: Tensor) -> float:
        """Bytes that a pass with its gradient takes for each latent position, from a run on a small source."""
        if self._kept_bytes is None:
            side = PROBE * self.units.source
            probe = source.new_zeros(1, source.shape[1], side, side)
            self._kept_bytes = WITH_GRADIENT * kept_bytes(self.run, probe, self.network) / PROBE**2
        return self._kept_bytes


def differentiated(source: Tensor) -> bool:
    """Whether a gradient with respect to ``source`` will be asked for."""
    return torch.is_grad_enabled() and source.requires_grad


class _Guided(torch.autograd.Function):
    """A ``FittedPass`` whose backward pass runs in the memory that there is, too."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, fitted: FittedPass) -> Tensor:
        def work(rung: Rung) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
            if not rung.kept:
                return fitted.forward(source.detach(), rung), None
            with torch.enable_grad():
                inner = source.detach().requires_grad_()
                output = fitted.run(inner)
            return output.detach(), (inner, output)

        ctx.fitted = fitted
        ctx.save_for_backward(source)
        result, ctx.graph = fitted.attempt(source, True, work)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (source,) = ctx.saved_tensors
        fitted, graph, ctx.graph = ctx.fitted, ctx.graph, None
        if graph is not None:
            rung = fitted.rung(source, True)
            inner, output = graph
            try:
                return torch.autograd.grad(output, inner, gradient)[0], None
            except Exception as error:
                if not fitted.machine.ran_out(error):
                    raise
            del graph, output  # that is what filled the memory
            fitted.step_down(source, True, rung)
        return fitted.attempt(source, True, lambda rung: fitted.backward(source, gradient, rung)), None
