"""Gradients, costs and whole runs of the solvers on the toy model, in float64."""

import pytest
import torch

from adapt_diffuse.cost import Cost, CountedPrior
from adapt_diffuse.degradation import GaussianBlur, MissingPixels, RandomMissingPixels, measure
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.guidance import data_gradient, safe_norm, size_factor
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import descend
from adapt_diffuse.solvers import LDPS, SOLVERS, solve
from tests.randomness import untouched_random_state
from tests.reference import ToyPrior, relative_error, toy_weights

PRIOR = ToyPrior(toy_weights(seed=2))
LEVELS = PRIOR.sigmas[::60]  # a coarse schedule, so that whole runs take milliseconds
STARTS = (float(PRIOR.sigmas[80]), float(PRIOR.sigmas[999]), float(PRIOR.sigmas[400]))
THROUGH = ("denoiser", "decoder")
PHOTO = (61, 58)  # not a multiple of 4: the latent stands for a padded photo
LATENT = (4, 16, 15)


def scene(count=3, task="blur", seed=0):
    """Latents at STARTS, and the measurement of a photo that the toy decoder can make."""
    generator = torch.Generator().manual_seed(seed)
    z_true = torch.randn(count, *LATENT, generator=generator, dtype=torch.float64)
    target = PRIOR.decode(z_true)[:, :, : PHOTO[0], : PHOTO[1]]
    if task == "blur":
        degradation = GaussianBlur(torch.linspace(0.5, 2.0, count), noise_std=0.05)
    else:
        mask = torch.rand(count, 1, *PHOTO, generator=generator) < 0.3
        degradation = MissingPixels(mask.float(), noise_std=0.05)
    measurement = Measurement.of(measure(target, degradation, generators_for(seed, count)), degradation)
    eps = torch.randn(count, *LATENT, generator=generator, dtype=torch.float64)
    sigma = torch.tensor(STARTS[:count], dtype=torch.float64)
    return z_true + sigma.reshape(-1, 1, 1, 1) * eps, sigma, measurement


def schedules(count=3):
    return [descend(start, LEVELS) for start in STARTS[:count]]


def run(solver, task="blur", seed=0, callback=None, prior=PRIOR):
    x, _, measurement = scene(task=task)
    return solve(solver, prior, measurement, x, schedules(), generators_for(seed, 3), callback)


def data_term(measurement, z0):
    """|y' - A'(D(z0))| per image, written down again: y' and A' on [-1, 1] images."""
    image = 2 * PRIOR.decode(z0)[:, :, : PHOTO[0], : PHOTO[1]] - 1
    difference = (2 * measurement.y - 1) - (2 * measurement.degradation((image + 1) / 2) - 1)
    return measurement.degradation.observed(difference).flatten(1).norm(dim=1)


# Gradients


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

    assert torch.allclose(guidance.norm, term(source), rtol=1e-12, atol=0)
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
    assert not any(value.requires_grad for value in (guidance.z0, guidance.gradient, guidance.norm))
    assert x.grad is None


@pytest.mark.parametrize("through", THROUGH)
def test_a_perfect_fit_has_no_gradient_and_no_nan(through):
    x, sigma, _ = scene()
    blur = GaussianBlur(1.0)
    exact = blur(PRIOR.decode(PRIOR.denoise(x, sigma)))
    measurement = Measurement.of(exact, blur)
    guidance = data_gradient(PRIOR, measurement, x, sigma, through)
    assert torch.equal(guidance.gradient, torch.zeros_like(x))
    assert guidance.norm.tolist() == [0, 0, 0]
    noise = torch.zeros_like(x)
    moved, z0 = LDPS(eta=5.0, through=through).step(x, sigma, sigma * 0, PRIOR, measurement, noise)
    assert torch.equal(moved, z0)


def test_one_perfect_photo_does_not_touch_its_neighbours():
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    norm = safe_norm(values)
    (gradient,) = torch.autograd.grad(norm.sum(), values)
    assert norm.tolist() == [5, 0]
    assert torch.allclose(gradient, torch.tensor([[0.6, 0.8], [0.0, 0.0]], dtype=torch.float64))


class OverflowingPrior(ToyPrior):
    def decode(self, z0):
        return super().decode(z0) * torch.inf


@pytest.mark.parametrize("through", THROUGH)
def test_a_gradient_that_is_not_finite_stops_the_run(through):
    x, sigma, measurement = scene()
    with pytest.raises(AdaptDiffuseError, match="gradient of the data term is not finite"):
        data_gradient(OverflowingPrior(toy_weights(2)), measurement, x, sigma, through)


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
    scaled, _ = LDPS(eta=3.0).step(x, sigma, sigma / 2, PRIOR, measurement, noise)
    for index in range(3):
        bare = LDPS(eta=3.0 * float(factor[index]), normalise=False)
        expected, _ = bare.step(x, sigma, sigma / 2, PRIOR, measurement, noise)
        assert torch.allclose(scaled[index], expected[index], rtol=1e-12, atol=1e-12)


def test_the_step_is_linear_in_eta():
    x, sigma, measurement = scene()
    noise = torch.zeros_like(x)
    still, once, twice = (LDPS(eta=eta).step(x, sigma, sigma / 2, PRIOR, measurement, noise)[0] for eta in (0, 1, 2))
    assert torch.allclose(twice - still, 2 * (once - still), rtol=1e-9, atol=1e-12)
    assert float((once - still).norm()) > 1e-3


# Whole runs


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_batch_with_different_starts_equals_one_by_one(name, task, through):
    solver = SOLVERS[name](eta=2.0, through=through)
    x, _, measurement = scene(task=task)
    together = solve(solver, PRIOR, measurement, x, schedules(), generators_for(5, 3))
    for index in range(3):
        chosen = torch.tensor([index])
        alone = solve(
            solver,
            PRIOR,
            measurement.select(chosen),
            x[chosen],
            [schedules()[index]],
            generators_for(5 + index, 1),
        )
        assert relative_error(together[chosen], alone) < 1e-10


def test_images_with_the_same_start_stay_apart():
    x, _, measurement = scene()
    twins = torch.cat([x[:1], x[:1]])
    both = measurement.select(torch.tensor([0, 0]))
    z0 = solve(LDPS(eta=2.0), PRIOR, both, twins, [schedules()[0]] * 2, generators_for(0, 2))
    assert float((z0[0] - z0[1]).abs().max()) > 1e-3  # their noise differs
    same = [torch.Generator().manual_seed(9) for _ in range(2)]
    z0 = solve(LDPS(eta=2.0), PRIOR, both, twins, [schedules()[0]] * 2, same)
    assert relative_error(z0[0], z0[1]) < 1e-12


@pytest.mark.parametrize("through", THROUGH)
def test_a_seed_decides_the_run(through):
    solver = LDPS(eta=2.0, through=through)
    assert torch.equal(run(solver, seed=3), run(solver, seed=3))
    assert not torch.equal(run(solver, seed=3), run(solver, seed=4))


def test_a_run_changes_nothing_of_the_caller():
    x, _, measurement = scene()
    table = schedules()
    kept = x.clone(), measurement.y.clone(), [schedule.clone() for schedule in table]
    with untouched_random_state():
        z0 = solve(LDPS(eta=2.0), PRIOR, measurement, x, table, generators_for(0, 3))
    assert torch.equal(x, kept[0])
    assert torch.equal(measurement.y, kept[1])
    assert all(torch.equal(a, b) for a, b in zip(table, kept[2], strict=True))
    assert not z0.requires_grad
    assert torch.is_grad_enabled()


class Stop(Exception):
    """Raised by a callback."""


def test_a_callback_that_raises_ends_the_run_and_changes_nothing():
    x, _, measurement = scene()
    kept = x.clone(), measurement.y.clone()
    seen = []

    def callback(step, steps, x, z0, sigma):
        seen.append(step)
        if step == 2:
            raise Stop

    with pytest.raises(Stop):
        solve(LDPS(eta=2.0), PRIOR, measurement, x, schedules(), generators_for(0, 3), callback)
    assert seen == [0, 1, 2]
    assert torch.equal(x, kept[0])
    assert torch.equal(measurement.y, kept[1])
    assert torch.is_grad_enabled()


def test_a_callback_sees_every_step_and_who_takes_part():
    lengths = [len(schedule) - 1 for schedule in schedules()]
    steps_seen, last = [], []

    def callback(step, steps, x, z0, sigma):
        taking_part = [index for index, length in enumerate(lengths) if steps - step <= length]
        expected = [float(schedules()[index][step - steps - 1]) for index in taking_part]
        assert sigma.tolist() == expected
        assert x.shape == z0.shape == (len(taking_part), *LATENT)
        assert steps == max(lengths)
        steps_seen.append(step)
        last.append((x.clone(), z0.clone()))

    result = run(LDPS(eta=2.0), callback=callback)
    assert steps_seen == list(range(max(lengths)))
    assert torch.equal(last[-1][0], result)


def test_what_a_callback_does_to_its_tensors_does_not_reach_the_run():
    def spoil(step, steps, x, z0, sigma):
        for value in (x, z0, sigma):
            value.fill_(torch.nan)

    assert torch.equal(run(LDPS(eta=2.0), callback=spoil), run(LDPS(eta=2.0)))


@pytest.mark.parametrize("through", THROUGH)
def test_the_data_term_draws_the_result_to_the_photo(through):
    _, _, measurement = scene()
    guided = data_term(measurement, run(LDPS(eta=4.0, through=through)))
    unguided = data_term(measurement, run(LDPS(eta=0.0, through=through)))
    # the toy prior knows no photos, so from high levels little is gained
    assert bool((guided < 0.96 * unguided).all())
    assert float(guided[0]) < 0.55 * float(unguided[0])


def test_unguided_runs_do_not_depend_on_the_photo():
    x, _, measurement = scene()
    other = Measurement(1 - measurement.y, measurement.degradation)
    assert torch.equal(run(LDPS(eta=0.0)), solve(LDPS(eta=0.0), PRIOR, other, x, schedules(), generators_for(0, 3)))


# Costs


@pytest.mark.parametrize("through", THROUGH)
def test_a_run_costs_one_pass_of_each_kind_per_step_and_image(through):
    counted = CountedPrior(PRIOR)
    run(LDPS(eta=2.0, through=through), prior=counted)
    steps = sum(len(schedule) - 1 for schedule in schedules())
    assert counted.cost == Cost(
        denoiser_forwards=steps,
        denoiser_backwards=steps if through == "denoiser" else 0,
        decoder_forwards=steps,
        decoder_backwards=steps,
        encoder_passes=0,
    )


def test_counting_changes_nothing():
    assert torch.equal(run(LDPS(eta=2.0), prior=CountedPrior(PRIOR)), run(LDPS(eta=2.0)))


def test_encoder_passes_and_sums_are_counted():
    counted = CountedPrior(PRIOR)
    image = torch.zeros(3, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(counted.encode(image), PRIOR.encode(image))
    counted.decode(torch.zeros(2, 4, 2, 2, dtype=torch.float64))
    assert counted.cost == Cost(encoder_passes=3, decoder_forwards=2)
    assert counted.cost + Cost(1, 2, 3, 4, 5) == Cost(1, 2, 5, 4, 8)
    assert torch.equal(counted.sigmas, PRIOR.sigmas)
    assert counted.multiple == PRIOR.multiple


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


def test_padding_of_the_image_is_outside_the_residual():
    x, _, measurement = scene()
    image = PRIOR.decode(PRIOR.denoise(x, torch.tensor(STARTS, dtype=torch.float64)))
    spoiled = image.clone()
    spoiled[:, :, PHOTO[0] :] = torch.nan
    spoiled[:, :, :, PHOTO[1] :] = torch.nan
    assert torch.equal(measurement.residual(spoiled), measurement.residual(image))
    assert measurement.residual(image).shape == (3, 3, *PHOTO)
