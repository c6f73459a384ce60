"""Tiles that cover a latent grid, and a pass run through them."""

import pytest
import torch
from torch import nn

from adapt_diffuse.fitted import SMALLEST_TILE
from adapt_diffuse.tiling import TileLayout, Units, pull_back, stitch, tile_sizes
from tests.reference import relative_error

FACTOR = 4
DECODE, ENCODE = Units(1, FACTOR), Units(FACTOR, 1)
grids = pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [(40, 33, 16, 4), (16, 70, 16, 8), (17, 17, 16, 0), (5, 3, 16, 4), (64, 64, 16, 5), (1, 40, 2, 1)],
)


class LocalDecoder(nn.Module):
    """Factor 4; a position of the image sees latent positions at most two away."""

    reach = 2

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)
        self.double().requires_grad_(False)

    def forward(self, z):
        return torch.tanh(self.last(nn.functional.interpolate(torch.tanh(self.first(z)), scale_factor=FACTOR)))


class LocalEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.last = nn.Conv2d(6, 4, FACTOR, stride=FACTOR)
        self.double().requires_grad_(False)

    def forward(self, image):
        return self.last(torch.tanh(self.first(image)))


CASES = {"decoder": (LocalDecoder(), DECODE, 4), "encoder": (LocalEncoder(), ENCODE, 3)}


def inputs(name, height=40, width=33):
    """A network, its units, a source for it, and a gradient of what it makes."""
    network, units, channels = CASES[name]
    generator = torch.Generator().manual_seed(2)
    shape = (1, channels, height * units.source, width * units.source)
    source = torch.randn(shape, generator=generator, dtype=torch.float64)
    result = network(source)
    return network, units, source, torch.randn(result.shape, generator=generator, dtype=torch.float64)


def slope(run, source, gradient):
    source = source.clone().requires_grad_()
    return torch.autograd.grad(run(source), source, gradient)[0]


@grids
@pytest.mark.parametrize("units", [DECODE, ENCODE])
def test_shares_sum_to_one_everywhere(height, width, tile, overlap, units):
    layout = TileLayout(height, width, tile, overlap)
    total = torch.zeros(height * units.output, width * units.output, dtype=torch.float64)
    for piece in layout.tiles(units, total):
        total[piece.output] += piece.rows * piece.columns
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-12)


@grids
def test_tiles_cover_the_grid_in_one_size_and_overlap_as_asked(height, width, tile, overlap):
    layout = TileLayout(height, width, tile, overlap)
    for length in (height, width):
        spans = layout.spans(length)
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert {end - begin for begin, end in spans} == {min(tile, length)}
        common = [end - begin for (_, end), (begin, _) in zip(spans[:-1], spans[1:], strict=True)]
        assert all(overlap <= positions < min(tile, length) for positions in common)


def test_no_more_tiles_than_needed():
    assert TileLayout(64, 64, 16, 4).spans(64) == [(0, 16), (12, 28), (24, 40), (36, 52), (48, 64)]
    assert TileLayout(16, 16, 16, 4).spans(16) == [(0, 16)]


def test_a_tile_has_no_share_where_it_does_not_see_its_surroundings():
    shares = TileLayout(64, 64, 32, 8).shares(64, FACTOR)
    (_, first_end), (second, second_end), (third, _) = TileLayout(64, 64, 32, 8).spans(64)
    blind = 2 * FACTOR  # a quarter of the overlap
    assert float(shares[0, (first_end * FACTOR) - blind : first_end * FACTOR].max()) == 0
    assert float(shares[1, second * FACTOR : second * FACTOR + blind].max()) == 0
    assert float(shares[0, 0]) == float(shares[2, -1]) == 1  # the picture's own border is no seam
    assert second_end > third


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [33, 16])
def test_tiles_that_see_as_far_as_the_network_change_nothing(name, width):
    network, units, source, gradient = inputs(name, width=width)
    tiles = TileLayout(40, width, 16, 8).tiles(units, source)
    assert relative_error(stitch(network, source, tiles), network(source)) < 1e-12
    assert relative_error(pull_back(network, source, gradient, tiles), slope(network, source, gradient)) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_exactly_that_of_the_stitched_result(name):
    network, units, source, gradient = inputs(name)
    tiles = TileLayout(40, 33, 16, 1).tiles(units, source)  # seams that show
    stitched = slope(lambda part: stitch_with_graph(network, part, tiles), source, gradient)
    assert relative_error(stitched, slope(network, source, gradient)) > 1e-3
    assert relative_error(pull_back(network, source, gradient, tiles), stitched) < 1e-12


def stitch_with_graph(run, source, tiles):
    """The stitched result once more, in one graph: each tile padded to the whole and summed."""
    height, width = tiles[-1].output[0].stop, tiles[-1].output[1].stop
    whole = 0
    for tile in tiles:
        rows, columns = tile.output
        part = run(source[:, :, tile.source[0], tile.source[1]]) * tile.rows * tile.columns
        border = (columns.start, width - columns.stop, rows.start, height - rows.stop)
        whole = whole + nn.functional.pad(part, border)
    return whole


def test_away_from_seams_the_gradient_is_the_untiled_one():
    network, units, source, gradient = inputs("decoder", 48, 16)
    layout = TileLayout(48, 16, 32, 2)
    ((_, first_end), (second, _)) = layout.spans(48)
    found = pull_back(network, source, gradient, layout.tiles(units, source))
    difference = (found - slope(network, source, gradient)).abs().amax((0, 1, 3))
    reach = 2 * LocalDecoder.reach
    seams = torch.zeros(48, dtype=torch.bool)
    seams[second - reach : first_end + reach] = True
    assert float(difference[~seams].max()) < 1e-12
    assert 0 < int((~seams).sum()) < 48


@pytest.mark.parametrize(("longest", "expected"), [(256, [128, 64, 32, 16]), (100, [64, 32, 16]), (17, [16]), (16, [])])
def test_every_tile_to_try_is_half_of_the_last(longest, expected):
    assert list(tile_sizes(longest, SMALLEST_TILE)) == expected
