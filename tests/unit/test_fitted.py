"""Passes that find out how they fit the memory, on machines whose memory is made up."""

import math
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch

from adapt_diffuse.autoencoder import CLASSES, decode_raw, downsampling, encode_raw, latent_channels
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.fitted import SMALLEST_TILE, FittedPass, Rung
from adapt_diffuse.memory import LocalMachine, blocks_of, checkpointed, kept_bytes, out_of_memory
from adapt_diffuse.tiling import Units
from tests.kept import counted
from tests.models import tiny_autoencoder
from tests.reference import relative_error

every_kind = pytest.mark.parametrize("kind", CLASSES)
parts = pytest.mark.parametrize("part", ["decoder", "encoder"])
CPU = torch.device("cpu")


@dataclass
class MadeUp:
    """A machine with so much free memory; ``limit`` positions at once, and no more, are what its networks bear."""

    bytes: float | None = None
    limit: float = math.inf
    asked: int = 0
    released: int = 0
    checks: int = 0
    tried: list[int] = field(default_factory=list)

    def free(self):
        self.asked += 1
        return self.bytes

    def ran_out(self, error):
        return isinstance(error, torch.cuda.OutOfMemoryError)

    def release(self):
        self.released += 1

    def check(self):
        self.checks += 1

    def spend(self, positions):
        """What a network does with so many latent positions at once."""
        self.tried.append(positions)
        if positions > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class OnItsWayBack(torch.autograd.Function):
    """The identity; its gradient takes memory."""

    @staticmethod
    def forward(ctx, source, machine, positions):
        ctx.machine, ctx.positions = machine, positions
        return source.view_as(source)

    @staticmethod
    def backward(ctx, gradient):
        ctx.machine.spend(ctx.positions)
        return gradient, None, None


@cache
def autoencoder_of(kind):
    return tiny_autoencoder(kind).double()


def fitted(kind="AutoencoderDC", part="decoder", machine=None, tile=0, where="nowhere"):
    """A pass of a tiny autoencoder, in float64; ``machine`` bears its limit "forward" or "backward"."""
    autoencoder = autoencoder_of(kind)
    factor = downsampling(autoencoder)
    machine = machine or MadeUp()
    units = Units(1, factor) if part == "decoder" else Units(factor, 1)

    def run(source):
        positions = source.shape[0] * source.shape[2] * source.shape[3] // units.source**2
        if where == "forward":
            machine.spend(positions)
        made = decode_raw(autoencoder, source) if part == "decoder" else encode_raw(autoencoder, source)
        return OnItsWayBack.apply(made, machine, positions) if where == "backward" else made

    return FittedPass(run, autoencoder, units, machine, part, tile)


def source_for(passing, height=36, width=20, count=1):
    unit = passing.units.source
    channels = latent_channels(passing.network) if passing.what == "decoder" else 3
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, channels, height * unit, width * unit, generator=generator, dtype=torch.float64)


def result_and_gradient(run, source):
    source = source.clone().requires_grad_()
    made = run(source)
    weights = torch.linspace(-1, 1, made.numel(), dtype=torch.float64).reshape(made.shape)
    (gradient,) = torch.autograd.grad((made * weights).sum(), source)
    return made.detach(), gradient


# With enough memory


@parts
@every_kind
def test_with_enough_memory_it_is_the_plain_pass_to_the_last_bit(kind, part):
    passing = fitted(kind, part)
    source = source_for(passing, 10, 8, count=2)
    with torch.no_grad():
        plain = passing.run(source)
        assert torch.equal(passing(source), plain)
    found, expected = result_and_gradient(passing, source), result_and_gradient(passing.run, source)
    assert torch.equal(found[0], plain)
    assert torch.equal(found[1], expected[1])


def test_a_gradient_can_be_asked_for_twice():
    passing = fitted()
    source = source_for(passing, 8, 8).requires_grad_()
    total = passing(source).square().sum()
    first, second = (torch.autograd.grad(total, source, retain_graph=True)[0] for _ in range(2))
    assert relative_error(second, first) < 1e-12


def test_nothing_is_kept_once_the_gradient_is_there():
    passing = fitted()
    with counted(passing.network) as kept:
        result_and_gradient(passing, source_for(passing))
        assert kept.peak > 0
    assert kept.now == 0


# With less


@every_kind
def test_recomputed_blocks_give_the_same_gradient_and_keep_less(kind):
    passing = fitted(kind)
    source = source_for(passing)
    plain = passing.rungs(source, True)[0]
    small = fitted(kind, machine=MadeUp(bytes=plain.bytes))
    assert small.rung(source, True).checkpointed
    before = [vars(block).get("forward") for block in blocks_of(small.network)]
    with counted(passing.network) as much:
        expected = result_and_gradient(passing, source)
    with counted(small.network) as little:
        found = result_and_gradient(small, source)
    assert relative_error(found[0], expected[0]) < 1e-12
    assert relative_error(found[1], expected[1]) < 1e-9
    assert little.peak < 0.75 * much.peak
    assert [vars(block).get("forward") for block in blocks_of(small.network)] == before


@every_kind
def test_tiles_keep_a_quarter_at_most(kind):
    whole, tiled = fitted(kind), fitted(kind, tile=SMALLEST_TILE * downsampling(autoencoder_of(kind)))
    source = source_for(whole, 48, 40)
    with counted(whole.network) as much:
        result_and_gradient(whole, source)
    with counted(tiled.network) as little:
        result_and_gradient(tiled, source)
    assert little.peak < much.peak / 4


@parts
def test_a_batch_in_tiles_is_its_images_one_by_one(part):
    passing = fitted(part=part, tile=64)
    source = source_for(passing, count=2)
    together = result_and_gradient(passing, source)
    plain = result_and_gradient(passing.run, source)
    assert relative_error(together[0], plain[0]) > 1e-6  # tiles show
    with torch.no_grad():
        alone = torch.cat([passing(source[i : i + 1]) for i in range(2)])
    assert torch.equal(together[0], alone)


def test_the_free_memory_decides_and_is_asked_once():
    passing = fitted()
    source = source_for(passing, 80, 20)
    rungs = passing.rungs(source, True)
    assert [rung.tile for rung in rungs] == [0, 0, 64, 64, 32, 32, 16, 16]
    assert [rung.kept for rung in rungs] == [True] + 7 * [False]
    assert [rung.bytes for rung in rungs] == sorted((rung.bytes for rung in rungs), reverse=True)
    assert [rung.checkpointed for rung in rungs] == 4 * [False, True]
    for rung in rungs:
        machine = MadeUp(bytes=rung.bytes / 0.599)  # a share of it may be used
        chosen = fitted(machine=machine)
        assert chosen.rung(source, True) == rung
        assert chosen.rung(source, True) == rung
        assert machine.asked == 1
    assert fitted(machine=MadeUp(bytes=1.0)).rung(source, True) == rungs[-1]


def test_without_a_gradient_larger_pieces_fit():
    passing = fitted()
    source = source_for(passing, 80, 20)
    machine = MadeUp(bytes=2 * passing.rungs(source, False)[0].bytes)
    small = fitted(machine=machine)
    assert small.rung(source, False).kept
    assert small.rung(source, True).tile == 64 and small.rung(source, True).checkpointed


def test_a_tile_that_is_asked_for_is_taken_whatever_the_memory():
    machine = MadeUp(bytes=1.0)
    passing = fitted(machine=machine, tile=32 * 4)
    assert passing.rung(source_for(passing, 80, 20), True).tile == 32
    assert machine.asked == 0
    assert passing.rung(source_for(passing, 20, 20), True) == fitted().rung(source_for(passing, 20, 20), True)


def test_the_estimate_follows_what_is_really_kept():
    passing = fitted()
    for height in (24, 48):
        source = source_for(passing, height, 32)
        with counted(passing.network) as kept:
            result_and_gradient(passing, source)
        assert passing.rungs(source, True)[0].bytes == pytest.approx(1.4 * kept.peak, rel=0.2)


# When it runs out


@parts
@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(("limit", "tile"), [(32 * 20, 32), (SMALLEST_TILE**2, SMALLEST_TILE)])
def test_memory_that_runs_out_halves_the_tile_and_is_remembered(part, where, limit, tile):
    machine = MadeUp(limit=limit)
    passing = fitted(part=part, machine=machine, where=where)
    source = source_for(passing, 80, 20)
    found = result_and_gradient(passing, source)
    assert passing.rung(source, True).tile == tile
    assert machine.released == [rung.tile for rung in passing.rungs(source, True)].index(tile)
    expected = result_and_gradient(fitted(part=part, tile=tile * 4), source)
    if where == "forward":  # else the result was there before the memory ran out
        assert torch.equal(found[0], expected[0])
    again = result_and_gradient(passing, source)
    assert torch.equal(again[0], expected[0])
    for gradient in (found[1], again[1]):
        assert relative_error(gradient, expected[1]) < 1e-12
    machine.tried.clear()
    result_and_gradient(passing, source)
    assert max(machine.tried) <= limit


def test_passes_without_a_gradient_find_their_own_size():
    machine = MadeUp(limit=36 * 20)
    passing = fitted(machine=machine, where="forward")
    with torch.no_grad():
        passing(source_for(passing))
        assert machine.released == 0
        passing(source_for(passing, 80, 20))
    assert passing.rung(source_for(passing, 80, 20), False).tile == 32
    assert passing.rung(source_for(passing), True).kept


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_machine_too_small_for_the_smallest_tile_says_what_to_change(where):
    passing = fitted(machine=MadeUp(limit=SMALLEST_TILE**2 - 1), where=where)
    with pytest.raises(AdaptDiffuseError, match="decoder on the smallest tile.*64 pixels.*smaller photo.*guidance_vae"):
        result_and_gradient(passing, source_for(passing))


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_other_errors_are_not_taken_for_a_lack_of_memory(where):
    machine = MadeUp(limit=0)
    machine.ran_out = lambda error: False
    passing = fitted(machine=machine, where=where)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        result_and_gradient(passing, source_for(passing))
    assert machine.released == 0


def test_the_user_is_heard_before_every_tile_on_both_ways():
    machine = MadeUp()
    passing = fitted(machine=machine, tile=64)
    source = source_for(passing).requires_grad_()
    made = passing(source)
    tiles = 3 * 2
    assert machine.checks == 1 + tiles
    made.sum().backward()
    assert machine.checks == 1 + 2 * tiles

    class Stop(Exception):
        """What a host raises."""

    def stop():
        raise Stop

    made = passing(source)
    machine.check = stop
    with pytest.raises(Stop):
        made.sum().backward()
    with pytest.raises(Stop):
        passing(source)


# The machine's own


def test_out_of_memory_is_told_from_other_errors():
    assert out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("expected scalar type Half"))
    assert not out_of_memory(ValueError("out of memory"))


def test_this_machine_tells_its_memory():
    free = LocalMachine(CPU).free()
    assert free is None or 2**20 < free < 2**50
    assert LocalMachine(torch.device("meta")).free() is None


def test_weights_are_not_counted_as_kept():
    with torch.random.fork_rng():
        network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.Tanh()).double().requires_grad_(False)
    source = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert kept_bytes(network, source, network) == 2 * 8 * source.numel()  # what goes in, and what tanh makes


@every_kind
def test_blocks_are_found_and_given_back_after_an_error(kind):
    autoencoder = autoencoder_of(kind)
    blocks = list(blocks_of(autoencoder.decoder))
    assert len(blocks) >= 2
    inside = {id(module) for block in blocks for module in block.modules() if module is not block}
    assert not inside & {id(block) for block in blocks}
    with pytest.raises(KeyError), checkpointed(autoencoder):
        assert all("forward" in vars(block) for block in blocks)
        raise KeyError
    assert not any("forward" in vars(block) for block in blocks)


def test_a_rung_of_an_image_off_the_grid_is_the_plain_pass():
    passing = fitted(part="encoder", machine=MadeUp(bytes=1.0))
    assert passing.rungs(torch.zeros(1, 3, 33, 32, dtype=torch.float64), False) == [Rung(0, kept=True)]
