"""Properties of every degradation that the package offers, by name or drawn from a family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from adapt_diffuse.degradation import (
    DEGRADATIONS,
    FAMILIES,
    Degradation,
    LinearDegradation,
    measure,
    parse_degradation,
)
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from tests.randomness import untouched_random_state

Shape = tuple[int, int, int, int]
NOISE_STD = 0.05


@dataclass(frozen=True)
class Entry:
    """One kind of degradation: how the tests make it for a batch of photos, and whether its A is linear."""

    make: Callable[[Shape, int, Path], Degradation]
    linear: bool = True


def named(text: str) -> Entry:
    return Entry(lambda shape, seed, folder: parse_degradation(text, NOISE_STD))


def drawn(name: str, linear: bool = True) -> Entry:
    return Entry(lambda shape, seed, folder: FAMILIES[name]().sample(shape, generators_for(seed, shape[0]))[0], linear)


def mask_file(shape: Shape, seed: int, folder: Path) -> Degradation:
    kept = np.random.default_rng(seed).random(shape[2:]) < 0.4
    kept[0, 0] = True
    path = folder / f"mask-{shape[2]}-{shape[3]}-{seed}.png"
    Image.fromarray((kept * 255).astype(np.uint8)).save(path)
    return parse_degradation(f"mask:file={path}", NOISE_STD)


# a degradation or a family without a line here fails test_every_degradation_is_tested
REGISTRY: dict[str, Entry] = {
    "gaussian-blur": named("gaussian-blur:std=1.7"),
    "missing-pixels": named("missing-pixels:drop=0.6,seed=3"),
    "mask": Entry(mask_file),
    "family gaussian-blur": drawn("gaussian-blur"),
    "family missing-pixels": drawn("missing-pixels"),
}
LINEAR = [name for name, entry in REGISTRY.items() if entry.linear]

every = pytest.mark.parametrize("name", REGISTRY)
every_linear = pytest.mark.parametrize("name", LINEAR)
shapes = st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 21), st.integers(1, 21))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


def photo(shape: Shape, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def signed(shape: Shape, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_degradation_is_tested():
    assert set(REGISTRY) == set(DEGRADATIONS) | {f"family {name}" for name in FAMILIES}


@every
def test_the_interface_is_complete(name, folder):
    entry = REGISTRY[name]
    operator = entry.make((2, 3, 8, 8), 0, folder)
    assert isinstance(operator, Degradation)
    assert isinstance(operator, LinearDegradation) == entry.linear
    assert operator.noise_std == NOISE_STD


@every_linear
@given(shape=shapes, seed=seeds)
def test_adjoint_is_the_transpose_borders_included(name, folder, shape, seed):
    operator = REGISTRY[name].make(shape, seed, folder)
    image = photo(shape, seed).requires_grad_()
    y = operator(image)
    cotangent = signed(tuple(y.shape), seed + 1)
    (product,) = torch.autograd.grad(y, image, cotangent)
    adjoint = operator.adjoint(cotangent)
    assert float((adjoint - product).norm()) <= 1e-6 * float(product.norm())
    assert float((adjoint - product).abs().max()) < 1e-12


@every_linear
@given(shape=shapes, seed=seeds, a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_linear_operators_are_linear(name, folder, shape, seed, a, b):
    operator = REGISTRY[name].make(shape, seed, folder)
    first, second = signed(shape, seed), signed(shape, seed + 1)
    together = operator(a * first + b * second)
    assert float((together - (a * operator(first) + b * operator(second))).abs().max()) < 1e-12


@every
@pytest.mark.parametrize("size", [(1, 1), (5, 4)])
def test_derivatives_are_right(name, folder, size):
    operator = REGISTRY[name].make((2, 3, *size), 1, folder)
    assert torch.autograd.gradcheck(operator, photo((2, 3, *size), 2).requires_grad_())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtype_is_kept(name, folder, dtype):
    operator = REGISTRY[name].make((2, 3, 9, 7), 0, folder)
    image = photo((2, 3, 9, 7), 0, dtype)
    y = measure(image, operator, generators_for(0, 2))
    results = [operator(image), y, operator.observed(y)]
    if isinstance(operator, LinearDegradation):
        results.append(operator.adjoint(y))
    assert {result.dtype for result in results} == {dtype}
    assert {result.shape for result in results} == {image.shape}


@every
def test_low_precision_stays_close(name, folder):
    operator = REGISTRY[name].make((2, 3, 9, 7), 0, folder)
    exact = operator(photo((2, 3, 9, 7), 0))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        assert float((operator(photo((2, 3, 9, 7), 0, dtype)).double() - exact).abs().max()) < tolerance


@every
@given(shape=shapes, seed=seeds)
def test_a_seed_decides_the_measurement(name, folder, shape, seed):
    image = photo(shape, 0)
    operator = REGISTRY[name].make(shape, 1, folder)
    again = REGISTRY[name].make(shape, 1, folder)
    y = measure(image, operator, generators_for(seed, len(image)))
    assert torch.equal(y, measure(image, again, generators_for(seed, len(image))))
    assert not torch.equal(y, measure(image, operator, generators_for(seed + 1000, len(image))))


@every
@given(shape=shapes, seed=seeds)
def test_a_batch_equals_its_photos_one_by_one(name, folder, shape, seed):
    image = photo(shape, seed)
    operator = REGISTRY[name].make(shape, seed, folder)
    y = measure(image, operator, generators_for(seed, len(image)))
    for index in range(len(image)):
        part = operator.select(torch.tensor([index]))
        alone = measure(image[index : index + 1], part, generators_for(seed + index, 1))
        assert torch.allclose(alone[0], y[index], rtol=0, atol=1e-14)
        assert float(part.count(alone)) == float(operator.count(y)[index])


@every
def test_select_takes_images_in_the_order_asked(name, folder):
    shape = (3, 3, 8, 9)
    operator = REGISTRY[name].make(shape, 4, folder)
    image = photo(shape, 4)
    order = torch.tensor([2, 0])
    part = operator.select(order)
    assert torch.allclose(part(image[order]), operator(image)[order], rtol=0, atol=1e-14)
    assert part.noise_std == operator.noise_std


@every
@given(shape=shapes, seed=seeds)
def test_nothing_of_the_caller_is_changed(name, folder, shape, seed):
    image = photo(shape, seed)
    kept = image.clone()
    with untouched_random_state():
        operator = REGISTRY[name].make(shape, seed, folder)
        y = measure(image, operator, generators_for(seed, len(image)))
        measured = y.clone()
        operator.observed(y)
        operator.count(y)
        if isinstance(operator, LinearDegradation):
            operator.adjoint(y)
    assert torch.equal(image, kept)
    assert torch.equal(y, measured)


@every
@given(shape=shapes, seed=seeds)
def test_count_is_the_number_of_observed_values(name, folder, shape, seed):
    operator = REGISTRY[name].make(shape, seed, folder)
    observed = operator.observed(torch.ones(shape))
    assert set(observed.unique().tolist()) <= {0.0, 1.0}
    assert operator.count(observed).tolist() == observed.flatten(1).sum(1).tolist()
    assert torch.equal(operator.observed(observed), observed)


@every
@given(shape=shapes, seed=seeds)
def test_unobserved_values_may_hold_anything(name, folder, shape, seed):
    operator = REGISTRY[name].make(shape, seed, folder)
    image = photo(shape, seed)
    y = measure(image, operator, generators_for(seed, len(image)))
    lost = operator.observed(torch.ones(shape)) == 0
    for rubbish in (float("nan"), float("inf"), 7.0):
        measurement = Measurement.of(torch.where(lost, rubbish, y), operator)
        assert torch.equal(measurement.y, y)
        assert torch.equal(measurement.residual(image)[lost], torch.zeros(int(lost.sum()), dtype=torch.float64))


@every
def test_noise_has_the_stated_level(name, folder):
    # seeds 0 and 3: those of the operators above, whose own draws must not tell anything about the noise
    shape = (2, 3, 128, 128)
    operator = REGISTRY[name].make(shape, 0, folder)
    image = photo(shape, 0)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 3)]
    noise = measure(image, operator, generators) - operator(image)
    for entries, mask in zip(noise, operator.observed(torch.ones(shape)) > 0, strict=True):
        count = int(mask.sum())
        # four standard errors of a sample's standard deviation and mean
        assert abs(float(entries[mask].std()) / NOISE_STD - 1) < 4 / (2 * count) ** 0.5
        assert abs(float(entries[mask].mean())) < 4 * NOISE_STD / count**0.5
        assert float(entries[~mask].abs().sum()) == 0


@every
def test_a_measurement_without_noise_is_the_operator(name, folder):
    operator = REGISTRY[name].make((1, 3, 6, 6), 0, folder)
    operator.noise_std = 0.0
    image = photo((1, 3, 6, 6), 0)
    assert torch.equal(measure(image, operator, generators_for(0, 1)), operator(image))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU on this machine.")
@every
def test_a_gpu_measures_what_the_cpu_measures(name, folder):
    operator = REGISTRY[name].make((2, 3, 33, 21), 0, folder)
    image = photo((2, 3, 33, 21), 0)
    y = measure(image, operator, generators_for(3, 2))
    on_gpu = measure(image.cuda(), operator, generators_for(3, 2))
    assert float((on_gpu.cpu() - y).abs().max()) < 1e-12
    assert operator.count(on_gpu).tolist() == operator.count(y).tolist()
