"""Fits, renoising and schedules of the solvers of few steps, against what can be computed exactly."""

from dataclasses import replace

import pytest
import torch

from adapt_diffuse.degradation import CameraBlur, GaussianBlur, MissingPixels, noise_levels
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.fit import QUANTISATION, anchor_weight, curvature, fit_latent, noise_floor, slope
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import CLEAN, octaves
from adapt_diffuse.solvers import DCDP, LATINO, MPGD, FlowDPS, LatentDAPS, LatentDiffPIR, State
from adapt_diffuse.solvers.decoupled import ChurnedSolver, renoise
from tests.reference import ToyPrior, relative_error
from tests.toy_scene import PRIOR, scene

DECOUPLED = [LatentDiffPIR(), LATINO(), MPGD(2.0), FlowDPS(2.0), LatentDAPS(), DCDP()]
by_name = pytest.mark.parametrize("solver", DECOUPLED, ids=lambda solver: type(solver).__name__)
SEEN = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1]).reshape(1, 1, 3, 3)
SEEN_VALUES = SEEN.expand(1, 3, 3, 3).flatten().bool()


class LinearPrior(ToyPrior):
    """A decoder that is a matrix (27, n), of images of 3 x 3: what a fit should be is then a solve."""

    def __init__(self, matrix, latent):
        self.matrix, self.latent, self.sigmas = matrix, latent, PRIOR.sigmas

    def decode(self, z0):
        return (z0.flatten(1) @ self.matrix.T).reshape(-1, 3, 3, 3)

    def encode(self, image):
        return (image.flatten(1) @ torch.linalg.pinv(self.matrix).T).reshape(-1, *self.latent)

    def denoise(self, x, sigma):
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


class CurvedPrior(LinearPrior):
    """A decoder that saturates at a tenth, so that no latent brings the image near a photo that is far."""

    def decode(self, z0):
        return torch.tanh(super().decode(z0)) / 10


class LossyPrior(LinearPrior):
    """An encoder that is no inverse: another matrix, (n, 27)."""

    def __init__(self, matrix, latent, encoder):
        super().__init__(matrix, latent)
        self.encoder = encoder

    def encode(self, image):
        return (image.flatten(1) @ self.encoder.T).reshape(-1, *self.latent)


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_scene(count=2, noise_std=0.05):
    """A prior, anchors (count, 2, 3, 3), and the measurement of photos of which SEEN is seen."""
    prior = LinearPrior(numbers(27, 18, seed=7) / 3, (2, 3, 3))
    y = numbers(count, 3, 3, 3, seed=3).sigmoid()
    return prior, numbers(count, 2, 3, 3, seed=4), Measurement.of(y, MissingPixels(SEEN, noise_std))


def exact(prior, anchor, measurement, weight):
    """The minimum of 1/2 |y - A D z|^2 + w/2 |z - anchor|^2 by a dense solve."""
    matrix, rows = prior.matrix[SEEN_VALUES], []
    for one, y, w in zip(anchor.flatten(1), measurement.y.flatten(1)[:, SEEN_VALUES], weight, strict=True):
        normal = matrix.T @ matrix + w * torch.eye(len(one), dtype=torch.float64)
        rows.append(torch.linalg.solve(normal, matrix.T @ y + w * one))
    return torch.stack(rows).reshape(anchor.shape)


def test_a_fit_is_the_dense_solve_where_decoder_and_damage_are_linear():
    prior, anchor, measurement = linear_scene()
    weight = torch.tensor([0.02, 0.5], dtype=torch.float64)
    found = fit_latent(prior, measurement, anchor, weight, iterations=60, tau=0.0)
    assert relative_error(found - anchor, exact(prior, anchor, measurement, weight) - anchor) < 1e-9


def test_one_iteration_is_the_exact_line_search():
    prior, anchor, measurement = linear_scene(1)
    _, pull = slope(prior, measurement, anchor)

    def objective(length):
        z = anchor + length * pull
        return float(measurement.residual(prior.decode(z)).square().sum() + 0.1 * (z - anchor).square().sum())

    found = fit_latent(prior, measurement, anchor, torch.tensor([0.1]).double(), iterations=1, tau=0.0)
    length = float(((found - anchor) * pull).sum() / (pull * pull).sum())
    assert relative_error(found, anchor + length * pull) < 1e-12
    assert objective(length) < min(objective(0.999 * length), objective(1.001 * length))


def test_a_step_of_a_fit_ends_at_four_trial_steps():
    """Where the decoder saturates on the way, the parabola through both ends goes on for long."""
    plain, anchor, near = linear_scene()
    prior, measurement = CurvedPrior(plain.matrix, plain.latent), Measurement.of(near.y + 4, near.degradation)
    residual, pull = slope(prior, measurement, anchor)
    steepness = pull.square().sum((1, 2, 3)) / residual.square().sum((1, 2, 3))
    weight = steepness * torch.tensor([0, 1e-4])
    trial = (1 / (steepness + weight)).reshape(-1, 1, 1, 1)
    change = residual - measurement.residual(prior.decode(anchor + trial * pull))
    bend = change.square().sum((1, 2, 3)) + weight * (trial * pull).square().sum((1, 2, 3))
    assert bool(((residual * change).sum((1, 2, 3)) / bend > 5).all())
    found = fit_latent(prior, measurement, anchor, weight, iterations=1, tau=0.0)
    assert relative_error(found - anchor, 4 * trial * pull) < 1e-12


def test_a_slope_is_the_gradient_and_a_curvature_that_along_a_direction():
    prior, anchor, measurement = linear_scene()
    residual, pull = slope(prior, measurement, anchor)
    assert relative_error(pull.flatten(1), (residual.flatten(1) * SEEN_VALUES) @ prior.matrix) < 1e-12
    image = (pull.flatten(1) @ prior.matrix.T) * SEEN_VALUES
    expected = image.square().sum(1) / pull.flatten(1).square().sum(1)
    assert relative_error(curvature(prior, measurement, anchor, residual, pull).flatten(), expected) < 1e-9


def test_a_fit_lowers_its_objective_behind_a_curved_decoder():
    x, sigma, measurement = scene()
    starts = torch.tensor([0, 2])  # at pure noise, the third's level, the toy's tanh is flat
    x, sigma, measurement = x[starts], sigma[starts], measurement.select(starts)
    weight = anchor_weight(measurement, sigma)

    def objective(z):
        misfit = measurement.residual(PRIOR.decode(z)).flatten(1).square().sum(1)
        return misfit + weight * (z - x).flatten(1).square().sum(1)

    before = objective(x)
    for iterations in (1, 2, 5):
        after = objective(fit_latent(PRIOR, measurement, x, weight, iterations, tau=0.0))
        assert bool((after < before).all())
        before = after


def test_a_fit_leaves_what_is_at_the_noise_already():
    x, sigma, measurement = scene()
    loud = Measurement(measurement.y, GaussianBlur(1.0, 0.9))
    weight = anchor_weight(loud, sigma)
    assert torch.equal(fit_latent(PRIOR, loud, x, weight, 3), x)
    assert not torch.equal(fit_latent(PRIOR, loud, x, weight, 3, tau=0.0), x)


@pytest.mark.parametrize("tau", [1.0, 0.0])
def test_a_perfect_fit_stays(tau):
    prior, anchor, measurement = linear_scene()
    perfect = Measurement.of(prior.decode(anchor), measurement.degradation)
    found = fit_latent(prior, perfect, anchor, torch.zeros(2, dtype=torch.float64), 3, tau)
    assert relative_error(found, anchor) < 1e-12


def test_no_photo_has_less_noise_than_eight_bits():
    assert noise_floor(linear_scene(noise_std=0.0)[2]).tolist() == [QUANTISATION] * 2
    measurement = linear_scene(noise_std=0.05)[2]
    assert torch.equal(noise_floor(measurement), noise_levels(measurement.degradation, 2))
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    expected = 3 * 0.05**2 * (1 + sigma**2) / sigma**2
    assert relative_error(anchor_weight(measurement, sigma, 3.0), expected) < 1e-12


@pytest.mark.parametrize("churn", [0.0, 0.3, 1.0])
def test_renoised_latents_have_the_level_that_they_should(churn):
    z0, found, fresh = numbers(3, 2, 8, 64, 64, seed=0)
    sigma = torch.tensor([0.5, 3.0], dtype=torch.float64)
    x = renoise(z0, found, fresh, sigma, torch.full_like(sigma, churn))
    assert torch.allclose((x - z0).flatten(1).std(1), sigma, rtol=0.02)
    correlation = ((x - z0) * found).flatten(1).mean(1) / sigma
    assert torch.allclose(correlation, torch.full_like(sigma, (1 - churn) ** 0.5), atol=0.02)


@by_name
def test_the_share_of_fresh_noise_is_churn_where_a_solver_has_one(solver):
    sigma = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64)
    constant = isinstance(solver, ChurnedSolver)
    assert constant == hasattr(solver, "churn") == ("churn" in solver.__dataclass_fields__)
    share = replace(solver, churn=0.3).churn_at(sigma) if constant else solver.churn_at(sigma)
    assert share.tolist() == ([0.3] * 3 if constant else [1.0, 1 / 1.5, 0.25])


@by_name
def test_the_last_step_gives_the_fit_itself(solver):
    x, sigma, measurement = scene()
    state = State(x, lambda: torch.ones_like(x))
    moved, fitted = solver.step(state, sigma, torch.zeros_like(sigma), PRIOR, measurement)
    assert torch.equal(moved, fitted)
    assert float((fitted - PRIOR.denoise(x, sigma)).abs().max()) > 1e-6


@by_name
def test_a_step_puts_back_the_noise_between_x_and_the_posterior_mean(solver):
    x, sigma, measurement = scene()
    solver = replace(solver, churn=0.3) if isinstance(solver, ChurnedSolver) else solver
    fresh, sigma_next = numbers(*x.shape, seed=6), sigma / 3
    moved, fitted = solver.step(State(x, lambda: fresh), sigma, sigma_next, PRIOR, measurement)
    found = (x - PRIOR.denoise(x, sigma)) / sigma.reshape(-1, 1, 1, 1)
    share = torch.full_like(sigma, 0.3) if isinstance(solver, ChurnedSolver) else 1 / (1 + sigma_next)
    kept, drawn, level = (values.reshape(-1, 1, 1, 1) for values in ((1 - share) ** 0.5, share**0.5, sigma_next))
    assert relative_error(moved, fitted + level * (kept * found + drawn * fresh)) < 1e-12


@pytest.mark.parametrize("iterations", [1, 3])
def test_flow_dps_is_normalised_gradients_weighed_by_the_time_of_the_flow(iterations):
    prior, z0, measurement = linear_scene()
    sigma = torch.tensor([0.25, 4.0], dtype=torch.float64)
    matrix, y = prior.matrix[SEEN_VALUES], measurement.y.flatten(1)[:, SEEN_VALUES]
    length = 2 * 6.0 * (len(matrix) / (3 * 256 * 256)) ** 0.5  # 2: of images on [-1, 1]
    z = z0.flatten(1)
    for _ in range(iterations):
        misfit = y - z @ matrix.T
        z = z + length * (misfit @ matrix) / misfit.norm(dim=1, keepdim=True)
    time = torch.tensor([0.2, 0.8], dtype=torch.float64).reshape(-1, 1, 1, 1)
    found = FlowDPS(6.0, iterations).fit(State(z0, torch.Tensor), z0, sigma, prior, measurement)
    assert relative_error(found - z0, time * (z.reshape(z0.shape) - z0)) < 1e-12


@pytest.mark.parametrize("trust", [0.5, 4.0])
def test_diffpir_is_the_dense_solve_that_trust_weighs(trust):
    prior, anchor, measurement = linear_scene()
    sigma = torch.tensor([0.3, 0.8], dtype=torch.float64)
    solver = LatentDiffPIR(trust, iterations=60, discrepancy=False)
    found = solver.fit(State(anchor, torch.Tensor), anchor, sigma, prior, measurement)
    expected = exact(prior, anchor, measurement, trust * 0.05**2 * (1 + sigma**2) / sigma**2)
    assert relative_error(found - anchor, expected - anchor) < 1e-9


@pytest.mark.parametrize("correct", [True, False])
def test_latino_takes_out_what_the_autoencoder_loses_unless_told_not_to(correct):
    prior, z0, measurement = linear_scene()
    lossy = LossyPrior(prior.matrix, prior.latent, numbers(18, 27, seed=8) / 3)
    sigma = torch.tensor([0.4, 0.8], dtype=torch.float64)
    image = prior.decode(z0)
    spread = image.flatten(1).std(1) / z0.flatten(1).std(1)
    weight = (2.0 * 0.05**2 * (1 + sigma**2) / sigma**2 / spread**2).reshape(-1, 1, 1, 1)
    nearest = torch.where(SEEN.bool(), (measurement.y + weight * image) / (1 + weight), image)
    expected = z0 + lossy.encode(nearest - image) if correct else lossy.encode(nearest)
    solver = LATINO(trust=2.0, correct=correct)
    found = solver.fit(State(z0, torch.Tensor), z0, sigma, lossy, measurement)
    assert relative_error(found, expected) < 1e-12
    assert relative_error(lossy.encode(image), z0) > 0.1


def test_latino_is_the_fit_in_latents_where_the_autoencoder_is_a_rotation():
    _, _, measurement = linear_scene()
    prior = LinearPrior(torch.linalg.qr(numbers(27, 27, seed=1))[0], (3, 3, 3))
    anchor, sigma = numbers(2, 3, 3, 3, seed=2), torch.tensor([0.4, 0.8], dtype=torch.float64)
    contrast = prior.decode(anchor).flatten(1).std(1) / anchor.flatten(1).std(1)
    expected = exact(prior, anchor, measurement, anchor_weight(measurement, sigma) / contrast**2)
    for correct in (True, False):
        found = LATINO(correct=correct).fit(State(anchor, torch.Tensor), anchor, sigma, prior, measurement)
        assert relative_error(found - anchor, expected - anchor) < 1e-9


def test_latino_refuses_what_is_not_linear():
    x, sigma, measurement = scene()
    bent = Measurement(measurement.y, CameraBlur.seeded(5.0, 0, 1.2, 0.05))
    with pytest.raises(AdaptDiffuseError, match="linear degradations only"):
        LATINO().step(State(x, lambda: torch.zeros_like(x)), sigma, sigma / 2, PRIOR, bent)


@pytest.mark.parametrize("trust", [0.5, 4.0])
def test_latent_daps_without_heat_finds_the_estimate_that_trust_weighs(trust):
    prior, anchor, measurement = linear_scene()
    sigma = torch.tensor([0.3, 0.8], dtype=torch.float64)
    still = State(anchor, lambda: torch.zeros_like(anchor))
    found = LatentDAPS(ode_steps=1, iterations=2500, trust=trust).fit(still, anchor, sigma, prior, measurement)
    expected = exact(prior, anchor, measurement, anchor_weight(measurement, sigma, trust))
    assert relative_error(found - anchor, expected - anchor) < 1e-2


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_flow_of_latent_daps_is_eulers_in_equal_ratios(steps):
    """Of latents that are standard normal: each step multiplies x by a number, and so does the end."""
    prior, x, _ = linear_scene()
    sigma = torch.tensor([0.7, 9.0], dtype=torch.float64)
    factors = []
    for start in sigma.tolist():
        ratio, level, factor = (float(prior.sigmas[0]) / start) ** (1 / steps), start, 1.0
        for _ in range(steps - 1):
            factor *= (1 + level * ratio * level) / (1 + level**2)
            level *= ratio
        factors.append(factor / (1 + level**2))
    found = LatentDAPS(ode_steps=steps).flow(x, prior.denoise(x, sigma), sigma, prior)
    assert relative_error(found, torch.tensor(factors, dtype=torch.float64).reshape(-1, 1, 1, 1) * x) < 1e-12


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_a_fit_of_dcdp_ends_at_tau_times_the_noise(tau):
    _, _, measurement = linear_scene()
    prior = LinearPrior(numbers(27, 27, seed=7) / 3, (3, 3, 3))  # which reaches every photo
    sigma, anchor = torch.ones(2, dtype=torch.float64), numbers(2, 3, 3, 3, seed=4)
    found = {}
    for iterations in range(1, 40):
        z = DCDP(iterations, tau=tau).fit(State(anchor, torch.Tensor), anchor, sigma, prior, measurement)
        found[iterations] = measurement.residual_ratio(prior.decode(z))
    assert bool((found[39] <= tau).all()) and torch.equal(found[39], found[38])
    for index in range(2):
        first = min(iterations for iterations, ratio in found.items() if float(ratio[index]) <= tau)
        assert first > 1 and float(found[first][index]) == float(found[39][index])


def test_latent_daps_samples_the_gaussian_that_it_should():
    prior, anchor, measurement = linear_scene(1)
    many = Measurement(measurement.y.expand(400, -1, -1, -1), measurement.degradation)
    anchors, sigma = anchor.expand(400, -1, -1, -1), torch.full((400,), 0.5, dtype=torch.float64)
    (generator,) = generators_for(0, 1)

    def draw():
        return torch.randn(anchors.shape, generator=generator, dtype=torch.float64)

    solver = LatentDAPS(ode_steps=1, iterations=3000, rate=0.1)
    found = solver.fit(State(anchors, draw), anchors, sigma, prior, many).flatten(1)
    weight = anchor_weight(measurement, sigma[:1])
    matrix = prior.matrix[SEEN_VALUES]
    precision = (matrix.T @ matrix + weight * torch.eye(18, dtype=torch.float64)) / 0.05**2
    std = torch.linalg.inv(precision).diagonal().sqrt()
    expected = exact(prior, anchor, measurement, weight).flatten()
    assert float(((found.mean(0) - expected) / std).abs().max()) < 0.3
    assert float((found.std(0) / std).log().abs().max()) < 0.3


@pytest.mark.parametrize("start", [0.11, 0.4, 0.83, 14.6])
@pytest.mark.parametrize("density", [0.5, 1.0, 3.0, 6.0])
def test_octaves_fall_by_equal_ratios_and_end_clean(start, density):
    levels = octaves(start, density)
    assert levels[0] == start
    assert levels[-1] == 0
    assert float(levels[-2]) == pytest.approx(CLEAN, rel=1e-12)
    ratios = levels[:-2] / levels[1:-1]
    assert torch.allclose(ratios, ratios[:1].expand_as(ratios), rtol=1e-9)
    assert 1 < float(ratios[0]) <= 2 ** (1 / density) * (1 + 1e-9)


def test_an_easy_start_is_a_single_step():
    for start in (CLEAN, 0.5 * CLEAN, 1e-3):
        assert octaves(start, 3.0).tolist() == [start, 0.0]
    assert len(octaves(2 * CLEAN, 1.0)) == 3
