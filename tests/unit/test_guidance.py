"""The gradient of the data term and the residual on the toy model, in float64."""

import pytest
import torch

from adapt_diffuse.degradation import GaussianBlur, MissingPixels, RandomMissingPixels, measure
from adapt_diffuse.degradation.base import dot
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.guidance import data_gradient, descend_norm, safe_norm, size_factor
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.solvers import LDPS, SOLVERS, State, solve
from tests.reference import ToyPrior, relative_error, toy_weights
from tests.toy_scene import PHOTO, PRIOR, STARTS, THROUGH, data_term, scene, schedules


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("through", THROUGH)
def test_the_gradient_is_the_slope_of_the_data_term(task, through):
    x, sigma, measurement = scene(task=task)
    guidance = data_gradient(PRIOR, measurement, x, sigma, through)
    if through == "denoiser":
        source = x

        def term(point):
            return data_term(measurement, PRIOR.denoise(point, sigma))
    else:
        source = PRIOR.denoise(x, sigma)

        def term(point):
            return data_term(measurement, point)

    for seed in range(3):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-5
        slope = (term(source + step * direction) - term(source - step * direction)) / (2 * step)
        along = (guidance.gradient * direction).flatten(1).sum(1)
        assert relative_error(along, slope) < 1e-6


def test_the_decoder_gradient_holds_the_posterior_mean_fixed():
    x, sigma, measurement = scene()
    z0 = PRIOR.denoise(x, sigma).requires_grad_()
    (expected,) = torch.autograd.grad(data_term(measurement, z0).sum(), z0)
    guidance = data_gradient(PRIOR, measurement, x, sigma, "decoder")
    assert torch.allclose(guidance.gradient, expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(guidance.z0, z0.detach())


def test_the_denoiser_gradient_is_the_decoder_gradient_pulled_back():
    x, sigma, measurement = scene()
    decoder = data_gradient(PRIOR, measurement, x, sigma, "decoder").gradient
    source = x.clone().requires_grad_()
    (pulled,) = torch.autograd.grad(PRIOR.denoise(source, sigma), source, decoder)
    assert relative_error(data_gradient(PRIOR, measurement, x, sigma, "denoiser").gradient, pulled) < 1e-12


@pytest.mark.parametrize("through", THROUGH)
def test_nothing_of_a_gradient_keeps_a_graph(through):
    x, sigma, measurement = scene()
    x.requires_grad_()
    with torch.no_grad():
        guidance = data_gradient(PRIOR, measurement, x, sigma, through)
    assert not any(value.requires_grad for value in (guidance.z0, guidance.gradient))
    assert x.grad is None


@pytest.mark.parametrize("through", THROUGH)
def test_a_perfect_fit_has_no_gradient_and_no_nan(through):
    x, sigma, _ = scene()
    blur = GaussianBlur(1.0)
    exact = blur(PRIOR.decode(PRIOR.denoise(x, sigma)))
    measurement = Measurement.of(exact, blur)
    guidance = data_gradient(PRIOR, measurement, x, sigma, through)
    assert torch.equal(guidance.gradient, torch.zeros_like(x))
    noise = torch.zeros_like(x)
    moved, z0 = LDPS(eta=5.0, through=through).step(State(x, lambda: noise), sigma, sigma * 0, PRIOR, measurement)
    assert torch.equal(moved, z0)


def test_one_perfect_photo_does_not_touch_its_neighbours():
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    norm = safe_norm(values)
    (gradient,) = torch.autograd.grad(norm.sum(), values)
    assert norm.tolist() == [5, 0]
    assert torch.allclose(gradient, torch.tensor([[0.6, 0.8], [0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_does_not_overflow_in_half_precision(dtype):
    values = torch.full((2, 3, 40, 40), 5.0, dtype=dtype)  # whose squares add up to 120000
    values[1] = 0
    norm = safe_norm(values.requires_grad_())
    (gradient,) = torch.autograd.grad(norm.sum(), values)
    assert norm.tolist() == pytest.approx([5 * 4800**0.5, 0], rel=1e-6)
    assert gradient.dtype == dtype and float(gradient[0, 0, 0, 0]) == pytest.approx(4800**-0.5, rel=0.01)
    assert dot(values[:1], values[:1]).flatten().tolist() == [120000.0]


class OverflowingPrior(ToyPrior):
    def decode(self, z0):
        return super().decode(z0) * torch.inf


@pytest.mark.parametrize("through", THROUGH)
def test_a_gradient_that_is_not_finite_stops_the_run_at_the_next_step(through):
    x, _, measurement = scene()
    steps = []
    with pytest.raises(AdaptDiffuseError, match="latent is not finite after a guided step"):
        solve(
            LDPS(1.0, through), OverflowingPrior(toy_weights(2)), measurement, x, schedules(), generators_for(0, 3),
            lambda step, *others: steps.append(step),
        )  # fmt: skip
    assert steps == [0]


def test_a_last_step_that_is_not_finite_is_noticed_too():
    x, _, measurement = scene()
    last = [schedule[-2:] for schedule in schedules()]
    with pytest.raises(AdaptDiffuseError, match="latent is not finite after a guided step"):
        solve(LDPS(1.0), OverflowingPrior(toy_weights(2)), measurement, x, last, generators_for(0, 3))


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "dps"])
def test_every_solver_says_that_the_decoder_overflows(name):
    x, _, measurement = scene()
    with pytest.raises(AdaptDiffuseError, match="The latent is not finite after a guided step.* Use float32"):
        solve(SOLVERS[name](), OverflowingPrior(toy_weights(2)), measurement, x, schedules(), generators_for(0, 3))


# The size of a step


@pytest.mark.parametrize(
    ("degradation", "size", "expected"),
    [
        (GaussianBlur(1.0), (256, 256), 1.0),
        (GaussianBlur(1.0), (512, 512), 2.0),
        (GaussianBlur(1.0), (128, 512), 1.0),
        (MissingPixels(torch.eye(256)[None, None]), (256, 256), 1 / 16),
    ],
)
def test_the_size_factor_counts_the_measured_values(degradation, size, expected):
    measurement = Measurement.of(torch.zeros(2, 3, *size), degradation)
    assert size_factor(measurement).tolist() == [expected, expected]


def test_the_size_factor_scales_eta():
    x, sigma, measurement = scene(task="mask")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factor = size_factor(measurement)
    assert len(set(factor.tolist())) == 3
    scaled, _ = LDPS(eta=3.0).step(State(x, lambda: noise), sigma, sigma / 2, PRIOR, measurement)
    for index in range(3):
        bare = LDPS(eta=3.0 * float(factor[index]), normalise=False)
        expected, _ = bare.step(State(x, lambda: noise), sigma, sigma / 2, PRIOR, measurement)
        assert torch.allclose(scaled[index], expected[index], rtol=1e-12, atol=1e-12)


def test_a_descent_of_the_norm_is_the_gradient_of_images_from_minus_one_to_one():
    x, sigma, measurement = scene(task="mask")
    z0 = PRIOR.denoise(x, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(data_term(measurement, z0).sum(), z0)
    z0 = z0.detach()
    kept = 3 * measurement.degradation.mask.flatten(1).double().sum(1)
    length = 6.0 * (kept / (3 * 256 * 256)) ** 0.5
    moved = descend_norm(PRIOR, measurement, z0, 6.0) - z0
    assert relative_error(moved, -length.reshape(-1, 1, 1, 1) * gradient) < 1e-12


def test_the_step_is_linear_in_eta():
    x, sigma, measurement = scene()
    noise = torch.zeros_like(x)
    steps = (LDPS(eta=eta).step(State(x, lambda: noise), sigma, sigma / 2, PRIOR, measurement) for eta in (0, 1, 2))
    still, once, twice = (moved for moved, _ in steps)
    assert torch.allclose(twice - still, 2 * (once - still), rtol=1e-9, atol=1e-12)
    assert float((once - still).norm()) > 1e-3


# The residual


def test_the_residual_of_the_true_photo_is_one():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 200, 200, generator=generator, dtype=torch.float64)
    for degradation in (GaussianBlur(1.0, 0.05), RandomMissingPixels(0.7, 0, 0.05)):
        measurement = Measurement.of(measure(truth, degradation, generators_for(0, 2)), degradation)
        for ratio, count in zip(measurement.residual_ratio(truth), measurement.count(), strict=True):
            assert abs(float(ratio) - 1) < 4 / (2 * float(count)) ** 0.5


def test_the_residual_without_noise_is_infinite_and_not_nan():
    truth = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    blur = GaussianBlur(1.0)
    measurement = Measurement.of(blur(truth), blur)
    assert measurement.residual_ratio(truth + 0.1).tolist() == [torch.inf]
    assert measurement.residual_ratio(truth).tolist() == [0.0]


def test_padding_of_the_image_is_outside_the_residual():
    x, _, measurement = scene()
    image = PRIOR.decode(PRIOR.denoise(x, torch.tensor(STARTS, dtype=torch.float64)))
    spoiled = image.clone()
    spoiled[:, :, PHOTO[0] :] = torch.nan
    spoiled[:, :, :, PHOTO[1] :] = torch.nan
    assert torch.equal(measurement.residual(spoiled), measurement.residual(image))
    assert measurement.residual(image).shape == (3, 3, *PHOTO)
