"""Our sigma-form steps equal the papers' variance-preserving formulas, written down here a second time.

Independent of the package: the DDPM step of Ho et al. 2020 (eq. 6, 7 and 11), Latent-DPS of Rout et al. 2023, a blur
made of scipy's matrices, the way back of ReSample's fits (Song et al. 2024, eq. 11), and the start rule of Fabian et
al. 2024 as a loop.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from adapt_diffuse.degradation import GaussianBlur, MissingPixels
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import match_level, vp_sigmas
from adapt_diffuse.solvers import LDPS, State, ddim_step, solve
from adapt_diffuse.solvers.resample import stochastic_resample
from tests.reference import ToyPrior, relative_error, toy_weights

WEIGHTS = toy_weights(seed=11)
ABAR = WEIGHTS["alphas_cumprod"]
LEVELS = torch.tensor([999, 300, 1])  # one per image of the batch
SIZE = 16  # of the latents
STD = 1.3


def vp_mean(z, level):
    """z0 from the VP latent z at integer levels (B,)."""
    abar = ABAR[level].reshape(-1, 1, 1, 1)
    hidden = torch.tanh(F.conv2d(z, WEIGHTS["W1"], padding=1) + torch.cos(level.double() / 100).reshape(-1, 1, 1, 1))
    eps = F.conv2d(hidden, WEIGHTS["W2"], padding=1)
    return (z - (1 - abar).sqrt() * eps) / abar.sqrt()


def ddpm_step(z, z0, level, noise):
    """From level to level - 1; level 0 goes to the clean latent."""
    abar = ABAR[level].reshape(-1, 1, 1, 1)
    previous = torch.where(level > 0, ABAR[(level - 1).clamp_min(0)], 1.0).reshape(-1, 1, 1, 1)
    alpha = abar / previous
    beta = 1 - alpha
    mean = previous.sqrt() * beta / (1 - abar) * z0 + alpha.sqrt() * (1 - previous) / (1 - abar) * z
    return mean + (beta * (1 - previous) / (1 - abar)).sqrt() * noise


def vp_decode(z0):
    """On [-1, 1]."""
    return torch.tanh(F.interpolate(F.conv2d(z0, WEIGHTS["Wd"], padding=1), scale_factor=4, mode="nearest"))


def blur_matrix(size):
    columns = ndimage.gaussian_filter1d(np.eye(size), STD, axis=0, mode="mirror", truncate=6)
    return torch.from_numpy(columns)


def signed_operator(task, mask):
    """A' on [-1, 1] images, and where it observes."""
    if task == "mask":
        return lambda image: image * mask
    matrix = blur_matrix(4 * SIZE)
    return lambda image: matrix @ image @ matrix.T


def ldps_step(z, level, noise, eta, y, operator, observed):
    z = z.clone().requires_grad_()
    z0 = vp_mean(z, level)
    residual = (y - operator(vp_decode(z0))) * observed
    (gradient,) = torch.autograd.grad(residual.flatten(1).norm(dim=1).sum(), z)
    with torch.no_grad():
        return ddpm_step(z, z0, level, noise) - eta * gradient


@pytest.fixture(scope="module")
def scene():
    """VP latents at LEVELS, noise, a target on [-1, 1] and a mask."""
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(3, 4, SIZE, SIZE, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, 4, SIZE, SIZE, generator=generator, dtype=torch.float64)
    target = torch.rand(3, 3, 4 * SIZE, 4 * SIZE, generator=generator, dtype=torch.float64) * 2 - 1
    mask = (torch.rand(1, 1, 4 * SIZE, 4 * SIZE, generator=generator) < 0.3).double()
    return z, noise, target, mask


def in_sigma_form(z, level):
    sigmas = vp_sigmas(ABAR)
    following = torch.where(level > 0, sigmas[(level - 1).clamp_min(0)], 0.0)
    return z / ABAR[level].reshape(-1, 1, 1, 1).sqrt(), sigmas[level], following


def in_vp_form(x, sigma):
    return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2).sqrt()


def measured(task, target, mask):
    """The measurement in our form and in the formulas' form (y', A', observed)."""
    operator = signed_operator(task, mask)
    y = operator(target)
    if task == "blur":
        return Measurement.of((y + 1) / 2, GaussianBlur(STD)), (y, operator, torch.ones_like(y))
    return Measurement.of((y + 1) / 2, MissingPixels(mask)), (y, operator, mask)


@pytest.mark.parametrize("level", [LEVELS, torch.tensor([0, 0, 0]), torch.tensor([500, 0, 999])])
def test_ddim_step_is_the_ddpm_step(scene, level):
    z, noise, _, _ = scene
    x, sigma, sigma_next = in_sigma_form(z, level)
    z0 = ToyPrior(WEIGHTS).denoise(x, sigma)
    expected_z0 = vp_mean(z, level)
    assert relative_error(z0, expected_z0) < 1e-9
    x_next = ddim_step(x, z0, sigma, sigma_next, noise)
    assert relative_error(in_vp_form(x_next, sigma_next), ddpm_step(z, expected_z0, level, noise)) < 1e-9


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("eta", [0.0, 1.0, 7.0])
def test_ldps_step_is_the_published_one(scene, task, eta):
    z, noise, target, mask = scene
    measurement, published = measured(task, target, mask)
    x, sigma, sigma_next = in_sigma_form(z, LEVELS)
    solver = LDPS(eta=eta, normalise=False)
    x_next, z0 = solver.step(State(x, lambda: noise), sigma, sigma_next, ToyPrior(WEIGHTS), measurement)
    assert relative_error(z0, vp_mean(z, LEVELS)) < 1e-9
    assert relative_error(in_vp_form(x_next, sigma_next), ldps_step(z, LEVELS, noise, eta, *published)) < 1e-9


def test_a_whole_descent_is_the_published_loop(scene):
    z, _, target, mask = scene
    measurement, published = measured("mask", target, mask)
    top = 24
    schedule = torch.cat([vp_sigmas(ABAR)[: top + 1].flip(0), torch.zeros(1, dtype=torch.float64)])
    x, _, _ = in_sigma_form(z, torch.full((3,), top))
    solver = LDPS(eta=2.0, normalise=False)
    ours = solve(solver, ToyPrior(WEIGHTS), measurement, x, [schedule] * 3, generators_for(7, 3))

    generators = generators_for(7, 3)
    for level in range(top, -1, -1):
        noise = torch.stack([torch.randn(z.shape[1:], generator=generator) for generator in generators]).double()
        z = ldps_step(z, torch.full((3,), level), noise, 2.0, *published)
    assert relative_error(ours, z) < 1e-9


def published_resample(fitted, z_next, level, noise, gamma):
    abar, previous = (ABAR[index].reshape(-1, 1, 1, 1) for index in (level, level - 1))
    variance = gamma * (1 - previous) / abar * (1 - abar / previous)
    mean = (variance * abar.sqrt() * fitted + (1 - abar) * z_next) / (variance + 1 - abar)
    return mean + (variance * (1 - abar) / (variance + 1 - abar)).sqrt() * noise


@pytest.mark.parametrize("gamma", [0.5, 40.0, 2000.0])
def test_a_fit_goes_back_as_published(scene, gamma):
    fitted, noise, _, _ = scene
    x_next = fitted.flip(0) + noise.flip(1)
    _, sigma, sigma_next = in_sigma_form(fitted, LEVELS)
    found = stochastic_resample(fitted, x_next, sigma, sigma_next, noise, gamma)
    expected = published_resample(fitted, in_vp_form(x_next, sigma_next), LEVELS, noise, gamma)
    assert relative_error(in_vp_form(found, sigma_next), expected) < 1e-12


def test_the_last_fit_is_given_back_without_noise(scene):
    fitted, noise, _, _ = scene
    _, sigma, sigma_next = in_sigma_form(fitted, torch.tensor([0, 0, 0]))
    assert torch.equal(stochastic_resample(fitted, 2 * noise, sigma, sigma_next, noise, 40.0), fitted)


@given(std=st.floats(0, 8), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_blur_is_scipys_at_every_size(std, height, width, seed):
    image = np.random.default_rng(seed).random((height, width))
    expected = ndimage.gaussian_filter(image, std, mode="mirror", truncate=6)
    blurred = GaussianBlur(std)(torch.from_numpy(image)[None, None].expand(1, 3, -1, -1))
    assert np.abs(blurred.numpy() - expected).max() < 1e-12


@given(st.lists(st.floats(0.0, 1e4), min_size=1, max_size=6))
def test_start_rule_is_the_brute_force_search(sigma_hats):
    abar = ABAR[::50]
    ratios = (abar / (1 - abar)).tolist()
    found = []
    for sigma_hat in sigma_hats:
        # outside the schedule the nearest end is meant: 1 / sigma_hat^2 itself would overflow
        wanted = min(max(sigma_hat, (1 / ratios[0]) ** 0.5), (1 / ratios[-1]) ** 0.5) ** -2
        distances = [abs(wanted - ratio) for ratio in ratios]
        found.append(distances.index(min(distances)))
    assert match_level(torch.tensor(sigma_hats, dtype=torch.float64), vp_sigmas(abar)).tolist() == found
