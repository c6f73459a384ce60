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
    noise_levels,
    parse_degradation,
)
from adapt_diffuse.detail import with_detail
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from tests.learned_blur import save_learned_blur
from tests.randomness import untouched_random_state

Shape = tuple[int, int, int, int]
NOISE_STD = 0.05


@dataclass(frozen=True)
class Entry:
    """One kind of degradation: how the tests make it for a batch of photos, and what to expect of it."""

    make: Callable[[Shape, int, Path], Degradation]
    linear: bool = True
    own_noise: bool = False  # a random noise_std for each photo, instead of NOISE_STD


def named(text: str, linear: bool = True) -> Entry:
    return Entry(lambda shape, seed, folder: parse_degradation(text, NOISE_STD), linear)


def drawn(name: str, linear: bool = True, own_noise: bool = False) -> Entry:
    def make(shape: Shape, seed: int, folder: Path) -> Degradation:
        return FAMILIES[name]().sample(shape, generators_for(seed, shape[0]))[0]

    return Entry(make, linear, own_noise)


def mask_file(shape: Shape, seed: int, folder: Path) -> Degradation:
    lost = np.random.default_rng(seed).random(shape[2:]) < 0.6
    lost[0, 0] = False
    path = folder / f"mask-{shape[2]}-{shape[3]}-{seed}.png"
    Image.fromarray((lost * 255).astype(np.uint8)).save(path)
    return parse_degradation(f"mask:file={path}", NOISE_STD)


def box(shape: Shape, seed: int, folder: Path) -> Degradation:
    return parse_degradation(f"missing-box:height={shape[2] // 2},width={shape[3] // 2},seed={seed}", NOISE_STD)


def kernel_file(shape: Shape, seed: int, folder: Path) -> Degradation:
    path = folder / f"kernel-{seed}.png"
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 5), np.uint8)).save(path)
    return parse_degradation(f"kernel-blur:file={path}", NOISE_STD)


CHAINS = {
    "blur, then lost pixels": named("gaussian-blur:std=1.2|missing-pixels:drop=0.4,seed=1"),
    "lost pixels, then blur": named("missing-pixels:drop=0.4,seed=1|motion-blur:length=3,angle=70"),
    "small, then lost pixels": named("motion-blur:length=3|downscale:factor=2,filter=area|missing-pixels:drop=0.4"),
    "small, then JPEG": named("downscale:factor=2|jpeg:quality=40", linear=False),
}


def learned_blur(shape: Shape, seed: int, folder: Path) -> Degradation:
    path = folder / "bkse.pth"
    if not path.exists():
        save_learned_blur(path)
    return parse_degradation(f"bkse:file={path},seed={seed}", NOISE_STD)


# a degradation or a family without a line here fails test_every_degradation_is_tested
REGISTRY: dict[str, Entry] = {
    "gaussian-blur": named("gaussian-blur:std=1.7"),
    "lens-blur": named("lens-blur:radius=2.6"),
    "motion-blur": named("motion-blur:length=6.3,angle=30"),
    "camera-blur": named("camera-blur:extent=7,seed=3", linear=False),
    "kernel-blur": Entry(kernel_file),
    "bkse": Entry(learned_blur, linear=False),
    "missing-pixels": named("missing-pixels:drop=0.6,seed=3"),
    "missing-box": Entry(box),
    "mask": Entry(mask_file),
    "film-damage": named("film-damage:scratches=2,dust=3,fade=0.4,cast=0.5,gamma=1.3,seed=3", linear=False),
    "downscale": named("downscale:factor=3"),
    "jpeg": named("jpeg:quality=25", linear=False),
    "noise": named("noise"),
    "family gaussian-blur": drawn("gaussian-blur"),
    "family motion-blur": drawn("motion-blur"),
    "family camera-blur": drawn("camera-blur", linear=False),
    "family missing-pixels": drawn("missing-pixels"),
    "family missing-box": drawn("missing-box"),
    "family film-damage": drawn("film-damage", linear=False),
    "family downscale": drawn("downscale"),
    "family jpeg": drawn("jpeg", linear=False),
    "family noise": drawn("noise", own_noise=True),
    "family mixed": drawn("mixed", linear=False, own_noise=True),
    **CHAINS,
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


def whole_image(operator: Degradation, image: Tensor) -> Shape:
    """The shape of the images that ``operator`` measures as it measures ``image``, with no border cut short."""
    return (len(image), 3, *operator.image_size(*operator(image).shape[2:]))


def test_every_degradation_is_tested():
    assert set(REGISTRY) == set(DEGRADATIONS) | {f"family {name}" for name in FAMILIES} | set(CHAINS)


@every
def test_the_interface_is_complete(name, folder):
    entry = REGISTRY[name]
    operator = entry.make((2, 3, 8, 8), 0, folder)
    assert isinstance(operator, Degradation)
    assert isinstance(operator, LinearDegradation) == entry.linear
    levels = noise_levels(operator, 2).tolist()
    if entry.own_noise:
        assert 0 < min(levels) < max(levels) <= 0.2
    else:
        assert levels == [NOISE_STD] * 2


@every
@given(shape=shapes, seed=seeds)
def test_sizes_agree(name, folder, shape, seed):
    operator = REGISTRY[name].make(shape, seed, folder)
    y = operator(photo(shape, seed))
    whole = whole_image(operator, photo(shape, seed))
    assert operator(photo(whole, seed)).shape == y.shape
    assert operator.start_image(y).shape == whole
    # only where a factor does not divide the side is the whole image larger
    assert all(0 <= large - side < 3 for large, side in zip(whole[2:], shape[2:], strict=True))


@every_linear
@given(shape=shapes, seed=seeds)
def test_adjoint_is_the_transpose_borders_included(name, folder, shape, seed):
    operator = REGISTRY[name].make(shape, seed, folder)
    image = photo(whole_image(operator, photo(shape, seed)), seed).requires_grad_()
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
@pytest.mark.parametrize("value", [-0.5, 0.0, 1.0, 1.5])
def test_derivatives_are_finite_at_black_at_white_and_beyond(name, folder, value):
    operator = REGISTRY[name].make((2, 3, 9, 7), 1, folder)
    image = torch.full((2, 3, 9, 7), value, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(operator(image).sum(), image)
    assert bool(torch.isfinite(gradient).all())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtype_is_kept(name, folder, dtype):
    operator = REGISTRY[name].make((2, 3, 9, 7), 0, folder)
    image = photo((2, 3, 9, 7), 0, dtype)
    y = measure(image, operator, generators_for(0, 2))
    images, measurements = [operator.start_image(y)], [operator(image), y, operator.observed(y)]
    if isinstance(operator, LinearDegradation):
        images.append(operator.adjoint(y))
    assert {result.dtype for result in images + measurements} == {dtype}
    assert {result.shape for result in images} == {whole_image(operator, image)}
    assert len({result.shape for result in measurements}) == 1


@every
def test_low_precision_stays_close(name, folder):
    operator = REGISTRY[name].make((2, 3, 9, 7), 0, folder)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        image = photo((2, 3, 9, 7), 0, dtype)
        # the same photo, rounded: what a nonlinear operator makes of the rounding is not its error
        assert float((operator(image).double() - operator(image.double())).abs().max()) < tolerance


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
    assert noise_levels(part, 2).tolist() == noise_levels(operator, 3)[order].tolist()


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
        operator.start_image(y)
        if isinstance(operator, LinearDegradation):
            operator.adjoint(y)
    assert torch.equal(image, kept)
    assert torch.equal(y, measured)


@every
@given(shape=shapes, seed=seeds)
def test_count_is_the_number_of_observed_values(name, folder, shape, seed):
    operator = REGISTRY[name].make(shape, seed, folder)
    observed = operator.observed(torch.ones_like(operator(photo(shape, seed))))
    assert set(observed.unique().tolist()) <= {0.0, 1.0}
    assert operator.count(observed).tolist() == observed.flatten(1).sum(1).tolist()
    assert torch.equal(operator.observed(observed), observed)


@every
@given(shape=shapes, seed=seeds)
def test_unobserved_values_may_hold_anything(name, folder, shape, seed):
    operator = REGISTRY[name].make(shape, seed, folder)
    image = photo(shape, seed)
    y = measure(image, operator, generators_for(seed, len(image)))
    lost = operator.observed(torch.ones_like(y)) == 0
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
    observed = operator.observed(torch.ones_like(noise)) > 0
    for entries, mask, level in zip(noise, observed, noise_levels(operator, 2).tolist(), strict=True):
        count = int(mask.sum())
        # four standard errors of a sample's standard deviation and mean
        assert abs(float(entries[mask].std()) / level - 1) < 4 / (2 * count) ** 0.5
        assert abs(float(entries[mask].mean())) < 4 * level / count**0.5
        assert float(entries[~mask].abs().sum()) == 0


@every
def test_the_residual_of_the_truth_is_the_noise(name, folder):
    operator = REGISTRY[name].make((2, 3, 90, 60), 0, folder)
    image = photo((2, 3, 90, 60), 0)
    measurement = Measurement.of(measure(image, operator, generators_for(5, 2)), operator)
    count = measurement.count()
    for part, ratio in enumerate(measurement.residual_ratio(image).tolist()):
        assert abs(ratio - 1) < 4 / (2 * float(count[part])) ** 0.5


@every
def test_a_measurement_without_noise_is_the_operator(name, folder):
    operator = REGISTRY[name].make((1, 3, 6, 6), 0, folder)
    operator.noise_std = 0.0
    image = photo((1, 3, 6, 6), 0)
    assert torch.equal(measure(image, operator, generators_for(0, 1)), operator(image))


@every
def test_its_photos_give_detail_back_each_as_it_would_alone(name, folder):
    shape = (2, 3, 26, 22)
    operator = REGISTRY[name].make(shape, 0, folder)
    _, _, *size = whole_image(operator, photo(shape, 0))
    truth = torch.nn.functional.interpolate(photo((2, 3, 7, 6), 0), size, mode="bilinear")
    measurement = Measurement.of(measure(truth, operator, generators_for(5, 2)), operator)
    restored = truth.mean((2, 3), keepdim=True).expand_as(truth)
    detailed = with_detail(restored, measurement)
    assert float((detailed - truth).square().mean()) < float((restored - truth).square().mean())
    for index in (0, 1):
        one = torch.tensor([index])
        alone = with_detail(restored[one], measurement.select(one))
        assert float((detailed[one] - alone).abs().max()) < 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU on this machine.")
@every
def test_a_gpu_measures_what_the_cpu_measures(name, folder):
    operator = REGISTRY[name].make((2, 3, 33, 21), 0, folder)
    image = photo((2, 3, 33, 21), 0)
    y = measure(image, operator, generators_for(3, 2))
    on_gpu = measure(image.cuda(), operator, generators_for(3, 2))
    assert float((on_gpu.cpu() - y).abs().max()) < 1e-12
    assert operator.count(on_gpu).tolist() == operator.count(y).tolist()
