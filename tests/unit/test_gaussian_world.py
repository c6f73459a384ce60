"""The solvers in a world where the posterior is known: what is exact, what is biased, and in which direction."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from adapt_diffuse.degradation import GaussianBlur, MissingPixels
from adapt_diffuse.fit import anchor_weight, curvature, fit_latent, slope
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.prior import LatentPrior
from adapt_diffuse.restore import generators_for
from adapt_diffuse.solvers import DCDP, LATINO, MPGD, SOLVERS, FlowDPS, LatentDAPS, LatentDiffPIR, State, solve
from adapt_diffuse.solvers.base import noise_source
from adapt_diffuse.start import StartSettings
from benchmarks import oracle
from benchmarks.oracle import contestants, damages, run
from tests.gaussian_world import Deviation, ExactSolver, Gaussian, Unguided, exact_mean, pixel_world, tiny_world

WORLD, UNIT = tiny_world(), tiny_world(unit=True)
DAMAGES = damages((3, 4, 4))
EVERY_LEVEL = StartSettings()
on_every_damage = pytest.mark.parametrize("damage", DAMAGES)


def rows(count, world=WORLD, seed=0):
    """Latents (count, C, h, w) that are nothing in particular."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *world.latent_shape, generator=generator, dtype=torch.float64)


def sampled(solver, world, measurement, start, seed=10_000):
    return solve(solver, world, measurement, start.x, start.schedules, generators_for(seed, len(start.x)))


# The world


def test_the_world_is_a_prior_and_its_autoencoder_loses_nothing():
    prior: LatentPrior = WORLD
    z = rows(3)
    assert float((prior.encode(prior.decode(z)) - z).abs().max()) < 1e-12
    assert prior.decode(z).shape == (3, 3, 4, 4)
    assert prior.multiple == 2
    spread = WORLD.latents.axes[0]
    assert float(spread[0]) == pytest.approx(10**-0.7)
    assert float(spread[-1]) == pytest.approx(10**0.3)
    off_diagonal = WORLD.latents.covariance - torch.diag(WORLD.latents.covariance.diag())
    assert float(off_diagonal.abs().max()) > 0.1


@pytest.mark.parametrize("level", [0.05, 1.0, 80.0])
def test_the_denoiser_is_the_posterior_mean(level):
    x, (mean, covariance) = rows(2), (WORLD.latents.mean, WORLD.latents.covariance)
    kalman = covariance @ torch.linalg.inv(covariance + level**2 * torch.eye(8, dtype=torch.float64))
    expected = mean + (x.flatten(1) - mean) @ kalman.mT
    found = WORLD.denoise(x, torch.full((2,), level, dtype=torch.float64))
    assert float((found.flatten(1) - expected).abs().max()) < 1e-12


@on_every_damage
@pytest.mark.parametrize("world", [WORLD, UNIT], ids=["correlated", "unit"])
def test_the_posterior_is_the_conditional_of_the_joint(damage, world):
    measurement = world.measured(DAMAGES[damage], 1)
    found, seen = world.posterior(measurement), world.seen(DAMAGES[damage])
    mean, covariance = world.latents.mean, world.latents.covariance
    noise = 0.1**2 * torch.eye(len(seen), dtype=torch.float64)
    gain = covariance @ seen.mT @ torch.linalg.inv(seen @ covariance @ seen.mT + noise)
    surprise = measurement.residual(world.decode(mean.reshape(1, *world.latent_shape))).flatten()
    assert float((found.mean - (mean + gain @ surprise)).abs().max()) < 1e-12
    assert float((found.covariance - (covariance - gain @ seen @ covariance)).abs().max()) < 1e-12


def test_latents_lie_in_their_posteriors_as_they_should():
    white = []
    for seed in range(150):
        measurement = WORLD.measured(DAMAGES["missing-pixels"], 1, seed)
        truth = WORLD.posterior(measurement)
        eps = torch.randn(1, 8, generator=torch.Generator().manual_seed(seed)).double()
        white.append(truth.whitened(WORLD.latents.draw(eps)))  # the latent that was measured
    deviation = Deviation.of(torch.cat(white), Gaussian(torch.zeros(8).double(), torch.eye(8).double()))
    assert float(deviation.errors.abs().max()) < 3


def test_deviations_are_told_from_the_truth():
    truth = WORLD.posterior(WORLD.measured(DAMAGES["gaussian-blur"], 1))
    eps = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = Deviation.of(truth.draw(eps), truth)
    assert float(exact.errors.abs().max()) < 3
    assert exact.rms_bias < 2 / 4000**0.5
    _, directions = truth.axes
    moved = Deviation.of(truth.draw(1.2 * eps) + 0.5 * truth.axes[0][3].sqrt() * directions[:, 3], truth)
    assert moved.ratio.tolist() == pytest.approx((1.44 * exact.ratio).tolist())
    assert moved.bias.tolist() == pytest.approx((1.2 * exact.bias + 0.5 * torch.eye(8)[3]).tolist())


# Exact samplers


def test_the_deterministic_sampler_gives_the_priors_variances():
    # x = mean + an axis: what becomes of it is the factor by which the spread along that axis shrinks
    variances, directions = WORLD.latents.axes
    measurement = WORLD.measured(DAMAGES["gaussian-blur"], 8)
    start = WORLD.from_noise(8, EVERY_LEVEL)
    x = (WORLD.latents.mean + directions.mT).reshape(start.x.shape)
    z = solve(Unguided(0.0), WORLD, measurement, x, start.schedules, generators_for(0, 8)).flatten(1)
    factors = (z - WORLD.latents.mean) @ directions
    assert float((factors - torch.diag(factors.diag())).abs().max()) < 1e-12
    found = factors.diag() ** 2 * (variances + start.sigma[0] ** 2)
    # a thousand Euler steps lose a few percent, and no sampling error hides it
    assert bool(((found / variances) > 0.94).all())
    assert bool(((found / variances) < 1.0).all())


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_unguided_samples_are_the_priors(eta):
    start = WORLD.from_noise(192, EVERY_LEVEL)
    z = sampled(Unguided(eta), WORLD, WORLD.measured(DAMAGES["gaussian-blur"], 192), start)
    assert float(Deviation.of(z, WORLD.latents).errors.abs().max()) < 3


@pytest.mark.slow
@on_every_damage
def test_guidance_with_the_right_weights_samples_the_posterior(damage):
    measurement = WORLD.measured(DAMAGES[damage], 192)
    z = sampled(ExactSolver(WORLD), WORLD, measurement, WORLD.from_noise(192, EVERY_LEVEL))
    assert float(Deviation.of(z, WORLD.posterior(measurement)).errors.abs().max()) < 3


def test_langevin_dynamics_have_the_law_of_their_own_discretisation():
    # near the posterior of z given x and y, wider by what steps of this length add: 1 / (1 - length curvature / 2)
    count, steps, rate, noise = 256, 60, 0.2, 0.3
    measurement = UNIT.measured(GaussianBlur(1.0, noise), count)
    x, sigma = rows(1).expand(count, -1, -1, -1), torch.full((count,), 0.5, dtype=torch.float64)
    anchor, weight = UNIT.denoise(x, sigma), anchor_weight(measurement, sigma)
    residual, pull = slope(UNIT, measurement, anchor)
    length = rate / (float(curvature(UNIT, measurement, anchor, residual, pull)[0]) + float(weight[0]))
    truth = UNIT.posterior(measurement, x[:1], 0.5)
    forgets = 1 - length * noise**2 / truth.axes[0]
    wider = (1 - forgets ** (2 * steps)) / (1 - (1 - forgets) / 2)
    away = forgets**steps * truth.whitened(anchor[:1].flatten(1))[0]
    state = State(x, noise_source(x, generators_for(3, count)))
    z = LatentDAPS(ode_steps=1, iterations=steps, rate=rate).fit(state, anchor, sigma, UNIT, measurement)
    white = (truth.whitened(z.flatten(1)) - away) / wider.sqrt()
    normal = Gaussian(torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64))
    assert float(Deviation.of(white, normal).errors.abs().max()) < 3
    assert float(wider.max()) > 1.05


# The fit of the estimate


@on_every_damage
def test_a_fit_is_the_posterior_mean_where_the_anchor_is_exact(damage):
    x, sigma = rows(2) * 2, torch.full((2,), 1.5, dtype=torch.float64)
    measurement = UNIT.measured(DAMAGES[damage], 2)
    expected = exact_mean(UNIT, measurement, x, sigma)
    weight = anchor_weight(measurement, sigma)
    fitted = fit_latent(UNIT, measurement, UNIT.denoise(x, sigma), weight, iterations=16, tau=0.0)
    assert float((fitted - expected).abs().max()) < 1e-7
    solver = LatentDiffPIR(trust=1.0, iterations=16, discrepancy=False)
    state = State(x, lambda: torch.zeros_like(x))
    _, estimate = solver.step(state, sigma, sigma / 2, UNIT, measurement)
    assert float((estimate - expected).abs().max()) < 1e-7


def test_a_fit_stops_at_the_noise():
    measurement = UNIT.measured(DAMAGES["gaussian-blur"], 1)
    truth = UNIT.posterior(measurement).mean.reshape(1, *UNIT.latent_shape)
    none = torch.zeros(1, dtype=torch.float64)
    stopped = fit_latent(UNIT, measurement, truth + 1, none, iterations=40)
    patient = fit_latent(UNIT, measurement, truth + 1, none, iterations=40, tau=0.0)
    ratios = [float(measurement.residual_ratio(UNIT.decode(z))) for z in (truth + 1, stopped, patient)]
    assert ratios[0] > 1 >= ratios[1] > ratios[2]


@pytest.mark.parametrize(
    "solver", [LATINO(), LatentDiffPIR(), DCDP(), MPGD(), FlowDPS()], ids=lambda s: type(s).__name__
)
@on_every_damage
def test_an_estimate_that_explains_the_photo_is_a_fixed_point(damage, solver):
    z0, sigma = rows(2), torch.tensor([0.3, 4.0], dtype=torch.float64)
    degradation = DAMAGES[damage]
    measurement = Measurement.of(degradation(WORLD.decode(z0)), degradation)
    state = State(z0, lambda: torch.zeros_like(z0))
    assert float((solver.fit(state, z0, sigma, WORLD, measurement) - z0).abs().max()) < 1e-10


@on_every_damage
def test_the_proximal_solver_goes_to_the_data_as_the_trust_falls(damage):
    z0, sigma = rows(1), torch.tensor([1.0], dtype=torch.float64)
    measurement = WORLD.measured(DAMAGES[damage], 1)
    state = State(z0, lambda: torch.zeros_like(z0))
    moved = [LATINO(trust=t).fit(state, z0, sigma, WORLD, measurement) for t in (1e6, 10.0, 1.0, 0.1)]
    misfits = [float(measurement.residual(WORLD.decode(z)).norm()) for z in moved]
    assert misfits == sorted(misfits, reverse=True)
    assert float((moved[0] - z0).abs().max()) < 1e-4


# The solvers as the tool runs them

SPARSE = ("diffpir", "latino", "mpgd")


@on_every_damage
@pytest.mark.parametrize("name", SPARSE)
def test_from_the_adaptive_start_solvers_that_fit_are_too_sure_and_near(name, damage):
    row = run(contestants()[name], damage, "adaptive", 96)
    ratio = torch.tensor(row["variance_ratio"])
    # three standard errors of a mean of eight ratios of 96 samples
    assert float(ratio.mean()) < 1 - 3 * (2 / 95 / 8) ** 0.5
    assert row["rms_bias"] < 1.0


@on_every_damage
def test_few_steps_of_the_exact_solver_cost_spread_and_no_bias(damage):
    row = run(contestants()["exact-sparse"], damage, "noise", 192)
    assert row["rms_bias"] < 3 / (8 * 192) ** 0.5 + 0.1
    assert 0.6 < sum(row["variance_ratio"]) / 8 < 0.95


def test_every_solver_is_compared():
    assert set(contestants()) == {"unguided", "exact", "exact-spread", "exact-sparse", *SOLVERS}
    pixels = pixel_world()
    assert contestants()["dps"].world.latent_shape == pixels.image_shape
    assert isinstance(damages(pixels.image_shape)["missing-pixels"], MissingPixels)


def test_the_script_prints_a_line_for_each_solver_and_damage(tmp_path, monkeypatch, capsys):
    out = tmp_path / "oracle.json"
    arguments = ["oracle", "--samples", "4", "--solvers", "latino,exact-sparse", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    oracle.main()
    found = json.loads(out.read_text())
    assert [(row["damage"], row["solver"], row["start"]) for row in found] == [
        (damage, solver, start)
        for damage in DAMAGES
        for solver in ("latino", "exact-sparse")
        for start in ("noise", "adaptive")
    ]
    for row in found:
        rms = sum(value**2 for value in row["bias"]) / len(row["bias"])
        assert row["rms_bias"] == pytest.approx(rms**0.5)
        assert row["samples"] == 4
        assert len(row["variance_ratio"]) == 8
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 4
    first = found[0]
    assert printed[2].startswith(f"| gaussian-blur | latino | {first['steps']} | {first['rms_bias']:.2f} | ")
