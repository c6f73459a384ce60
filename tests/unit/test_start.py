"""The start latents, and DDIM inversion in a world whose answer is known, in float64."""

import pytest
import torch

from adapt_diffuse.cost import CountedPrior
from adapt_diffuse.degradation import randn
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.prior import over_image
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import descend, thin, vp_sigmas
from adapt_diffuse.severity import Severity
from adapt_diffuse.solvers import ddim_step
from adapt_diffuse.start import StartSettings, ddim_inversion, flash_schedules, flash_start, noise_start
from tests.reference import ldm_alphas_cumprod, relative_error

SIGMAS = vp_sigmas(ldm_alphas_cumprod())
SIGMA_HAT = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)


class GaussianPrior:
    """Latents are standard normal, so E[z0 | x] = x / (1 + sigma^2) and the probability flow is known."""

    sigmas = SIGMAS
    multiple = 1

    def denoise(self, x, sigma):
        return x / (1 + over_image(sigma, x) ** 2)


PRIOR = GaussianPrior()


def severity(sigma_hat=SIGMA_HAT):
    z_hat = torch.randn(len(sigma_hat), 4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Severity(z_hat, sigma_hat, (5, 6))


def column(values):
    return values.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("correction", [1.0, 1.2])
@pytest.mark.parametrize("mode", ["matched", "paper", "published"])
def test_each_mode_is_its_formula(mode, correction):
    known = severity()
    start = flash_start(known, PRIOR, StartSettings(correction, mode), generators_for(3, 3))
    eps = randn(known.z_hat.shape, known.z_hat, generators_for(3, 3))
    std = column(correction**0.5 * SIGMA_HAT)
    if mode == "published":  # z is variance preserving: x = z sqrt(1 + sigma^2)
        expected = ((1 - std**2).sqrt() * known.z_hat + std * eps) * (1 + column(SIGMA_HAT) ** 2).sqrt()
    else:
        expected = known.z_hat + std * eps
    assert relative_error(start.x, expected) < 1e-12
    level = SIGMA_HAT * (correction**0.5 if mode == "matched" else 1)
    assert torch.allclose(start.sigma, level, rtol=1e-14, atol=0)
    assert [float(schedule[0]) for schedule in start.schedules] == start.sigma.tolist()
    assert start.steps.tolist() == [len(schedule) - 1 for schedule in start.schedules]


def test_the_published_start_is_refused_where_it_does_not_exist():
    known = severity(torch.tensor([0.3, 0.95, 0.4], dtype=torch.float64))
    flash_start(known, PRIOR, StartSettings(1.1, "published"), generators_for(0, 3))
    with pytest.raises(AdaptDiffuseError, match="published start does not exist"):
        flash_start(known, PRIOR, StartSettings(1.2, "published"), generators_for(0, 3))


def test_pure_noise_starts_at_the_highest_level():
    like = torch.zeros(2, 4, 3, 3, dtype=torch.float64)
    start = noise_start(like, PRIOR, StartSettings(steps=10), generators_for(7, 2))
    assert start.sigma.tolist() == [float(SIGMAS[-1])] * 2
    assert relative_error(start.x, SIGMAS[-1] * randn(like.shape, like, generators_for(7, 2))) < 1e-14
    assert start.steps.tolist() == [10, 10]


@pytest.mark.parametrize("count", [1, 3, 500, 1000, 5000])
def test_thinned_levels_are_evenly_spaced_and_end_at_the_highest(count):
    kept = thin(SIGMAS, count)
    index = torch.searchsorted(SIGMAS, kept.contiguous())
    assert torch.equal(SIGMAS[index], kept)
    assert len(set(index.diff().tolist())) <= 1
    assert len(kept) == min(count, 1000)
    assert count == 3 or float(kept[-1]) == float(SIGMAS[-1])


def test_no_count_keeps_every_level():
    assert torch.equal(thin(SIGMAS, 0), SIGMAS)


def test_half_of_the_levels_take_half_of_the_steps():
    whole, half = (flash_start(severity(), PRIOR, StartSettings(levels=n), generators_for(0, 3)) for n in (0, 500))
    assert torch.equal(whole.sigma, half.sigma)
    assert bool(((whole.steps - 2 * half.steps).abs() <= 1).all())


@pytest.mark.parametrize("levels", [0, 1, 3, 10, 300, 500])
@pytest.mark.parametrize("rounding", ["continuous", "schedule"])
def test_a_matched_start_has_the_noise_of_its_level(levels, rounding):
    known = severity(torch.tensor([0.0, 0.3, torch.inf], dtype=torch.float64))
    start = flash_start(known, PRIOR, StartSettings(1.2, rounding=rounding, levels=levels), generators_for(3, 3))
    eps = randn(known.z_hat.shape, known.z_hat, generators_for(3, 3))
    assert relative_error(start.x, known.z_hat + column(start.sigma) * eps) < 1e-12
    assert float(start.sigma[2]) == float(thin(SIGMAS, levels)[-1])


@pytest.mark.parametrize("levels", [0, 3, 500])
def test_the_papers_start_has_no_more_noise_than_the_highest_level(levels):
    top = float(thin(SIGMAS, levels)[-1])
    known = severity(torch.tensor([0.8, 0.95, 7.0], dtype=torch.float64) * top)
    start = flash_start(known, PRIOR, StartSettings(1.2, "paper", levels=levels), generators_for(3, 3))
    eps = randn(known.z_hat.shape, known.z_hat, generators_for(3, 3))
    noise = torch.tensor([1.2**0.5 * 0.8, 1.0, 1.0], dtype=torch.float64) * top
    assert relative_error(start.x, known.z_hat + column(noise) * eps) < 1e-12
    assert start.sigma.tolist() == pytest.approx([0.8 * top, 0.95 * top, top], rel=1e-12)


@pytest.mark.parametrize("levels", [1, 3, 5, 10, 500])
def test_few_levels_do_not_move_the_start(levels):
    whole, few = (flash_schedules(SIGMA_HAT, SIGMAS, StartSettings(levels=n)) for n in (0, levels))
    assert torch.equal(few[0], whole[0]) and torch.equal(few[0], SIGMA_HAT)
    known = thin(SIGMAS, levels)
    for sigma, schedule in zip(SIGMA_HAT, few[1], strict=True):
        below = known[known < sigma].flip(0)
        assert schedule.tolist() == [float(sigma), *below.tolist(), 0.0]
    rounded = [flash_schedules(SIGMA_HAT, SIGMAS, StartSettings(rounding="schedule", levels=n))[0] for n in (0, levels)]
    assert torch.equal(rounded[0], rounded[1])


# DDIM inversion


def test_inversion_follows_the_probability_flow():
    known = severity()
    schedules = [descend(float(sigma), SIGMAS) for sigma in SIGMA_HAT]
    climbed = ddim_inversion(known.z_hat, schedules, PRIOR)
    # dx / dsigma = x sigma / (1 + sigma^2), solved exactly
    exact = known.z_hat * (1 + column(SIGMA_HAT) ** 2).sqrt()
    assert relative_error(climbed, exact) < 0.01
    errors = []
    for steps in (10, 20, 40):
        even = [torch.linspace(float(s), 0, steps + 1, dtype=torch.float64) for s in SIGMA_HAT]
        errors.append(relative_error(ddim_inversion(known.z_hat, even, PRIOR), exact))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)  # of first order
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)


def test_deterministic_steps_lead_back_from_an_inversion():
    known = severity()
    schedules = [descend(float(sigma), SIGMAS) for sigma in SIGMA_HAT]
    x = ddim_inversion(known.z_hat, schedules, PRIOR)
    for index, schedule in enumerate(schedules):
        one = x[index : index + 1]
        for sigma, sigma_next in zip(schedule[:-1, None], schedule[1:, None], strict=True):
            one = ddim_step(one, PRIOR.denoise(one, sigma), sigma, sigma_next, torch.zeros_like(one), eta=0)
        assert relative_error(one, known.z_hat[index : index + 1]) < 0.01


def test_an_inversion_costs_a_denoiser_pass_a_step_and_draws_nothing():
    counted = CountedPrior(PRIOR)
    generators = generators_for(0, 3)
    before = [generator.get_state() for generator in generators]
    start = flash_start(severity(), counted, StartSettings(inversion=True), generators)
    assert counted.cost.denoiser_forwards == int(start.steps.sum())
    assert counted.cost.denoiser_backwards == 0
    assert all(torch.equal(a, g.get_state()) for a, g in zip(before, generators, strict=True))


def test_an_inverted_batch_equals_its_images():
    known = severity()
    schedules = [descend(float(sigma), SIGMAS) for sigma in SIGMA_HAT]
    kept = known.z_hat.clone()
    together = ddim_inversion(known.z_hat, schedules, PRIOR)
    assert torch.equal(known.z_hat, kept)
    for index in range(3):
        alone = ddim_inversion(known.z_hat[index : index + 1], schedules[index : index + 1], PRIOR)
        assert relative_error(together[index : index + 1], alone) < 1e-13
