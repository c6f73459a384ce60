"""The proximal step of every linear degradation, against dense solves in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapt_diffuse.degradation import (
    Degradation,
    Downscale,
    GaussianBlur,
    LowResolution,
    MissingPixels,
    MotionBlur,
    Noise,
    chain,
    for_each,
    measure,
    separable,
)
from adapt_diffuse.degradation.base import ProximalDegradation
from adapt_diffuse.degradation.prox import conjugate_gradients, prox
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.restore import generators_for
from tests.randomness import untouched_random_state
from tests.unit.test_degradations import LINEAR, REGISTRY, Entry, named, photo, seeds, signed, whole_image


def one_each(shape, seed, folder) -> Degradation:
    kinds = [GaussianBlur(0.8), chain(MotionBlur(3.0, 20.0), Noise(0.1)), Noise(0.2)]
    return for_each([kinds[(index + seed) % 3] for index in range(shape[0])])


EXTRA = {
    "area": named("downscale:factor=3,filter=area"),
    "low resolution by area": Entry(lambda shape, seed, folder: LowResolution(3, "area")),
    "blur, then noise": named("gaussian-blur:std=0.9|noise"),
    "noise and noise": named("noise|noise"),
    "lost pixels, then noise": named("missing-pixels:drop=0.4,seed=1|noise"),
    "one each": Entry(one_each),
    "mild blur": named("gaussian-blur:std=0.4|missing-pixels:drop=0.2,seed=2"),
}
ENTRIES = {name: REGISTRY[name] for name in LINEAR} | EXTRA
# closed forms; the others are found by conjugate gradients
CLOSED = {
    "gaussian-blur", "missing-pixels", "missing-box", "mask", "downscale", "noise",
    "family gaussian-blur", "family missing-pixels", "family missing-box", "family downscale", "family noise",
    "area", "low resolution by area",
}  # fmt: skip
# whose singular values are none or far from none: a weight of 0 has an answer that rounding does not blow up
TAME = ["noise", "missing-pixels", "missing-box", "mask", "area", "downscale", "small, then lost pixels", "mild blur"]

every = pytest.mark.parametrize("name", ENTRIES)
shapes = st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 7), st.integers(1, 7))
exponents = st.lists(st.floats(-3, 2), min_size=3, max_size=3)
EXACT = {"tolerance": 1e-13, "iterations": 1000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


def problem(name, folder, shape, seed):
    """An operator, an image to stay near to, and a measurement of another image."""
    operator = ENTRIES[name].make(shape, seed, folder)
    whole = whole_image(operator, photo(shape, seed))
    y = measure(photo(whole, seed), operator, generators_for(seed, shape[0]))
    return operator, photo(whole, seed + 1), y


def matrix(operator: Degradation, index: int, size) -> Tensor:
    """(m, n) of the operator of one image, one channel: column by column, unobserved rows zero."""
    count = size[0] * size[1]
    columns = torch.eye(count, dtype=torch.float64).reshape(count, 1, *size).expand(-1, 3, -1, -1)
    each = operator.select(torch.full((count,), index))
    return each.observed(each(columns))[:, 0].flatten(1).mT


def dense(operator, x0, y, weights) -> Tensor:
    """The proximal step by a dense solve; the nearest of the best for weight 0."""
    found = []
    for index, weight in enumerate(weights):
        a = matrix(operator, index, x0.shape[2:])
        start, target = x0[index].flatten(1).mT, y[index].flatten(1).mT
        if weight > 0:
            step = torch.linalg.solve(
                a.mT @ a + weight * torch.eye(a.shape[1], dtype=a.dtype), a.mT @ (target - a @ start)
            )
        else:
            step = torch.linalg.pinv(a, rtol=1e-10) @ (target - a @ start)
        found.append((start + step).mT.reshape(x0.shape[1:]))
    return torch.stack(found)


def test_which_have_a_closed_form(folder):
    made = {name: entry.make((2, 3, 8, 8), 0, folder) for name, entry in ENTRIES.items()}
    assert {name for name, operator in made.items() if isinstance(operator, ProximalDegradation)} == CLOSED


@every
@settings(max_examples=10)
@given(shape=shapes, seed=seeds, exponents=exponents)
def test_equals_a_dense_solve(name, folder, shape, seed, exponents):
    operator, x0, y = problem(name, folder, shape, seed)
    weights = 10 ** torch.tensor(exponents[: len(x0)], dtype=torch.float64)
    found = prox(operator, x0, y, weights, **EXACT)
    assert float((found - dense(operator, x0, y, weights)).abs().max()) < 1e-8


@pytest.mark.parametrize("name", TAME)
@settings(max_examples=10)
@given(shape=shapes, seed=seeds)
def test_weight_zero_gives_the_nearest_of_the_best(name, folder, shape, seed):
    operator, x0, y = problem(name, folder, shape, seed)
    found = prox(operator, x0, y, 0, **EXACT)
    assert float((found - dense(operator, x0, y, [0.0] * len(x0))).abs().max()) < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_zero_leaves_alone_what_a_blur_erased(dtype):
    x0, blur = photo((1, 3, 24, 24), 1).to(dtype), GaussianBlur(3.0)
    found = prox(blur, x0, blur(photo((1, 3, 24, 24), 2).to(dtype)), 0)
    # without noise the fit is as good as rounding allows, and no rounding error has been blown up
    assert float((blur(found) - blur(photo((1, 3, 24, 24), 2).to(dtype))).abs().max()) < 40 * torch.finfo(dtype).eps
    assert float((found - x0).abs().max()) < 3


@every
def test_a_photo_of_ordinary_size_satisfies_the_first_order_condition(name, folder):
    operator, x0, y = problem(name, folder, (2, 3, 33, 46), 3)
    weights = torch.tensor([0.01, 0.4], dtype=torch.float64)
    x = prox(operator, x0, y, weights, **EXACT).requires_grad_()
    misfit = 0.5 * operator.observed(y - operator(x)).square().sum()
    (slope,) = torch.autograd.grad(misfit, x)
    assert float((slope + weights.reshape(-1, 1, 1, 1) * (x.detach() - x0)).abs().max()) < 1e-10


@every
@settings(max_examples=10)
@given(shape=shapes, seed=seeds)
def test_a_batch_equals_its_photos_one_by_one(name, folder, shape, seed):
    operator, x0, y = problem(name, folder, shape, seed)
    weights = torch.tensor([0.05, 3.0, 0.4], dtype=torch.float64)[: len(x0)]
    together = prox(operator, x0, y, weights)
    for index in range(len(x0)):
        chosen = torch.tensor([index])
        alone = prox(operator.select(chosen), x0[chosen], y[chosen], float(weights[index]))
        assert torch.allclose(alone[0], together[index], rtol=0, atol=1e-12)


@every
def test_dtype_is_kept_and_low_precision_stays_close(name, folder):
    operator, x0, y = problem(name, folder, (2, 3, 9, 12), 0)
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        found = prox(operator, x0.to(dtype), y.to(dtype), 0.1, tolerance=1e-6)
        assert found.dtype == dtype
        # of the rounded inputs: what the step makes of their rounding is not its error
        exact = prox(operator, x0.to(dtype).double(), y.to(dtype).double(), 0.1, **EXACT)
        assert float((found.double() - exact).abs().max()) < tolerance


@every
def test_nothing_of_the_caller_is_changed_and_unobserved_values_may_hold_anything(name, folder):
    operator, x0, y = problem(name, folder, (2, 3, 9, 12), 0)
    kept = x0.clone(), y.clone()
    x0.requires_grad_()
    with untouched_random_state():
        found = prox(operator, x0, y, 0.1)
    assert not found.requires_grad
    assert torch.equal(x0, kept[0])
    assert torch.equal(y, kept[1])
    lost = operator.observed(torch.ones_like(y)) == 0
    assert torch.equal(prox(operator, x0, torch.where(lost, torch.nan, y), 0.1), found)


@every
def test_padding_stays_as_it_is(name, folder):
    operator, x0, y = problem(name, folder, (2, 3, 9, 12), 0)
    padded = torch.nn.functional.pad(x0, (0, 3, 0, 5), value=7.0)
    found = prox(operator, padded, y, 0.1)
    assert torch.equal(found[:, :, : x0.shape[2], : x0.shape[3]], prox(operator, x0, y, 0.1))
    assert bool((found[:, :, x0.shape[2] :] == 7).all())
    assert bool((found[:, :, :, x0.shape[3] :] == 7).all())


@every
def test_a_smaller_weight_fits_better_and_moves_further(name, folder):
    operator, x0, y = problem(name, folder, (1, 3, 9, 12), 0)
    found = [prox(operator, x0, y, weight) for weight in (1e-2, 1e-1, 1.0, 10.0)]
    misfits = [float(operator.observed(y - operator(x)).norm()) for x in (*found, x0)]
    moves = [float((x - x0).norm()) for x in found]
    assert misfits == sorted(misfits)
    assert moves == sorted(moves, reverse=True)
    assert float((prox(operator, x0, y, 1e9) - x0).abs().max()) < 1e-8


@pytest.mark.parametrize("name", [name for name, entry in REGISTRY.items() if not entry.linear])
def test_nonlinear_degradations_are_refused(name, folder):
    operator = REGISTRY[name].make((2, 3, 16, 16), 0, folder)
    y = operator(photo((2, 3, 16, 16), 0))
    x0 = photo((2, 3, *operator.image_size(*y.shape[2:])), 1)
    with pytest.raises(AdaptDiffuseError, match="linear degradations only"):
        prox(operator, x0, y, 0.1)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), torch.tensor([0.1, -1.0])])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(AdaptDiffuseError, match="weight of a proximal step must be between 0 and"):
        prox(Noise(), photo((2, 3, 4, 4), 0), photo((2, 3, 4, 4), 1), weight)


@pytest.mark.parametrize("sizes", [((2, 3, 4, 4), (1, 3, 4, 4)), ((1, 3, 4, 3), (1, 3, 4, 4))])
def test_sizes_that_do_not_belong_together_are_refused(sizes):
    with pytest.raises(AdaptDiffuseError, match="A proximal step needs an image of 4 x 4"):
        prox(Noise(), photo(sizes[0], 0), photo(sizes[1], 1), 1.0)
    with pytest.raises(AdaptDiffuseError, match="and 3 weights"):
        prox(Noise(), photo((2, 3, 4, 4), 0), photo((2, 3, 4, 4), 1), torch.ones(3))
    with pytest.raises(AdaptDiffuseError, match="The mask is 5 x 4"):
        prox(MissingPixels(torch.ones(1, 1, 4, 5)), photo((1, 3, 4, 4), 0), photo((1, 3, 4, 4), 1), 1.0)


# Conjugate gradients


def test_conjugate_gradients_need_no_more_steps_than_there_are_eigenvalues():
    values = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)[torch.arange(48) % 3].reshape(1, 3, 4, 4)
    b = signed((1, 3, 4, 4), 0)
    assert float((conjugate_gradients(lambda x: values * x, b, 0.0, 3) - b / values).abs().max()) < 1e-13
    assert float((conjugate_gradients(lambda x: values * x, b, 0.0, 2) - b / values).abs().max()) > 1e-3


def test_an_image_that_has_converged_does_not_move():
    scale = torch.cat([torch.ones(1, 3, 4, 4), 1 + torch.rand(1, 3, 4, 4, generator=generators_for(0, 1)[0])]).double()
    b = signed((2, 3, 4, 4), 0)
    calls = []

    def apply(x):
        calls.append(x)
        return scale * x

    found = conjugate_gradients(apply, b, 1e-9, 100)
    assert 6 < len(calls) < 20
    assert torch.equal(found[0], b[0])  # one step solves it, the other image takes many
    assert float((scale * found - b).flatten(1).norm(dim=1).max()) <= 1e-8 * float(b.norm())


def test_the_error_is_within_the_stated_bound():
    blur, weight = MotionBlur(5.0, 30.0), 0.01
    x0, y = photo((1, 3, 20, 20), 0), photo((1, 3, 20, 20), 1)
    exact = prox(blur, x0, y, weight, **EXACT)
    for tolerance in (1e-1, 1e-3, 1e-5):
        error = float((prox(blur, x0, y, weight, tolerance=tolerance) - exact).norm() / (exact - x0).norm())
        assert 0 < error < tolerance * (1.5 + weight) / weight


def test_the_iterations_are_bounded_and_nothing_to_do_takes_none():
    blur, x0 = MotionBlur(9.0, 30.0), photo((1, 3, 20, 20), 0)
    y = photo((1, 3, 20, 20), 1)
    assert torch.equal(prox(blur, x0, y, 0.1, iterations=0), x0)
    assert torch.equal(prox(blur, x0, blur(x0), 0.0), x0)
    calls = []
    conjugate_gradients(lambda x: calls.append(0) or x, torch.zeros(1, 3, 2, 2))
    assert calls == []


def test_tiny_values_do_not_break_it():
    for size in (1e-17, 1e-22, 1e-30):  # the squares are below float32's smallest, with their tolerance or alone
        b = torch.full((1, 3, 2, 2), size)
        found = conjugate_gradients(lambda x: 1e-3 * x, b)
        assert bool(torch.isfinite(found).all())
        assert float(found.abs().max()) <= 1001 * size


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU on this machine.")
@every
def test_a_gpu_finds_what_the_cpu_finds(name, folder):
    operator, x0, y = problem(name, folder, (2, 3, 33, 21), 0)
    here = prox(operator, x0, y, torch.tensor([0.1, 0.4]), **EXACT)
    there = prox(operator, x0.cuda(), y.cuda(), torch.tensor([0.1, 0.4], device="cuda"), **EXACT)
    assert there.device.type == "cuda"
    assert float((there.cpu() - here).abs().max()) < 1e-9


def test_downscaling_by_one_is_noise_alone():
    x0, y = photo((1, 3, 5, 6), 0), photo((1, 3, 5, 6), 1)
    for operator in (Downscale(1), Downscale(1, "area"), LowResolution(1), GaussianBlur(0.0), MotionBlur(0.0)):
        assert float((prox(operator, x0, y, 0.3) - prox(Noise(), x0, y, 0.3)).abs().max()) < 1e-12


def test_photos_too_large_to_decompose_take_conjugate_gradients(monkeypatch):
    x0, y, blur = photo((2, 3, 9, 12), 0), photo((2, 3, 9, 12), 1), GaussianBlur(1.5)
    closed = prox(blur, x0, y, 0.1)
    monkeypatch.setattr(separable, "LONGEST", 11)
    monkeypatch.setattr(separable.Spectra, "axis", None)
    assert float((prox(blur, x0, y, 0.1, **EXACT) - closed).abs().max()) < 1e-9
    assert 0 < float((prox(blur, x0, y, 0.1, tolerance=0.1) - closed).abs().max()) < 0.5
