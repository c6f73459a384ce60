"""Decompositions are made once for each parameter and size, whoever needs them."""

from __future__ import annotations

import pytest
import torch

from adapt_diffuse.degradation import Downscale, GaussianBlur, LowResolution, Noise, chain, for_each, separable
from adapt_diffuse.degradation.prox import prox
from adapt_diffuse.hosts.comfy_copy import fresh
from adapt_diffuse.measurement import Measurement
from tests.unit.test_degradations import photo

ONE, TWO = torch.tensor([0]), torch.tensor([1, 0])


@pytest.fixture
def made(monkeypatch):
    """The shapes of all matrices that were decomposed."""
    shapes = []
    whole = separable.Axis.of

    def counted(matrix, dtype):
        shapes.append(tuple(matrix.shape))
        return whole(matrix, dtype)

    monkeypatch.setattr(separable.Axis, "of", counted)
    return shapes


def step(operator, count=1, size=(9, 12)):
    """A proximal step on ``count`` photos."""
    x0 = photo((count, 3, *size), 0)
    y = operator(photo((count, 3, *size), 1))
    return prox(operator, x0, y, 0.1)


@pytest.mark.parametrize(
    "operator", [GaussianBlur(1.5), LowResolution(3), Downscale(3)], ids=lambda one: type(one).__name__
)
def test_an_operator_of_one_parameter_is_every_photos_own(operator, made):
    assert operator.select(TWO) is operator
    assert chain(operator, Noise(0.1)).select(ONE).parts[0] is operator
    for _ in range(2):
        step(operator.select(ONE))
        step(operator.select(TWO), 2)
    assert len(made) == 2
    step(operator, size=(9, 15))
    assert len(made) == 3


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [(GaussianBlur, [0.75, 2.0, 0.75]), (LowResolution, [2, 3, 2])],
    ids=["blur", "low resolution"],
)
def test_a_parameter_is_decomposed_once_however_the_photos_are_put_together(kind, parameters, made):
    operator = kind(torch.tensor(parameters))
    whole = step(operator, 3)
    assert len(made) == 2 * 2  # two sides for each of two parameters
    part = operator.select(TWO)
    step(part, 2)
    assert len(made) == 4
    assert torch.equal(step(part.select(ONE)), step(operator.select(torch.tensor([1]))))
    assert len(made) == 4
    each = for_each([kind(one) for one in parameters])
    assert float((step(each, 3) - whole).abs().max()) < 1e-12


def test_photos_of_equal_parameters_share_a_decomposition(made):
    equal = GaussianBlur(torch.tensor([1.5, 1.5]))
    assert float((step(equal, 2) - step(GaussianBlur(1.5), 2)).abs().max()) == 0
    assert equal.spectra.axis(9, torch.zeros(1)).u.shape[0] == 1
    assert made == [(9, 9), (12, 12)] * 2 + [(9, 9)]  # and one for float32


def test_a_fresh_copy_has_new_tensors_and_the_decompositions_that_are_there(made):
    with torch.inference_mode():  # as the nodes of a host make it
        blur = chain(GaussianBlur(torch.tensor([0.7, 2.0])), Noise(0.05))
        measurement = Measurement.of(photo((2, 3, 9, 12), 0), blur)
    steps = []
    for _ in range(3):  # runs of one workflow
        clean = fresh(measurement)
        assert not clean.y.is_inference() and clean.y.data_ptr() != measurement.y.data_ptr()
        copied = clean.degradation.parts[0]
        assert not copied.std.is_inference() and not copied._taps.like(clean.y).is_inference()
        quiet = Measurement(clean.y, copied)
        steps.append(prox(quiet.degradation, torch.zeros_like(clean.y), clean.y, 0.1))
    assert len(made) == 4
    assert torch.equal(steps[0], steps[1]) and torch.equal(steps[0], steps[2])
    axis = copied.spectra.axis(9, clean.y)
    assert axis is not blur.parts[0].spectra.axis(9, clean.y)  # what is on a GPU goes with the run


def test_a_folder_of_photos_of_many_sizes_does_not_fill_the_memory(made):
    operator = LowResolution(torch.tensor([2, 3]))
    for width in range(12, 40):
        step(operator, 2, (9, width))
    kept = operator.spectra._made
    assert len({size for _, size, _ in kept}) == separable.SIZES == 4
    assert {size for _, size, _ in kept} >= {38, 39} and len(kept) == 2 * separable.SIZES
    assert len({size for size, *_ in operator.spectra._placed}) == separable.SIZES
