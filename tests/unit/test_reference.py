"""Our code reproduces the released implementation's steps at 1e-9 (float64)."""

import pytest
import torch

from adapt_diffuse.degradation import GaussianBlur, MissingPixels
from adapt_diffuse.degradation.blur import gaussian_taps
from adapt_diffuse.degradation.missing import kept_pixels
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.schedule import match_level, vp_sigmas
from adapt_diffuse.severity.losses import error_variance, paper_terms
from adapt_diffuse.solvers import GMLDPS, LDPS, PSLD, ReSample, State, ddim_step
from adapt_diffuse.solvers.resample import stochastic_resample
from tests.reference import ABSENT, ToyPrior, find_vectors, load_vectors, relative_error

LEVELS = (50, 136, 300)


@pytest.fixture(scope="module")
def vectors():
    path = find_vectors()
    if path is None:
        pytest.skip(ABSENT)
    return load_vectors(path)


@pytest.fixture(scope="module")
def prior(vectors):
    return ToyPrior(vectors)


def measurement(vectors, task):
    degradation = GaussianBlur(2.0) if task == "blur" else MissingPixels(vectors["masks"][2][None, None])
    # the vectors hold y' on [-1, 1]; a lost pixel is 0 there and stays out of the residual either way
    return Measurement.of((vectors[f"y_{task}"] + 1) / 2, degradation)


def step_inputs(vectors, task, level):
    abar = vectors["alphas_cumprod"]
    x = vectors[f"{task}_{level}_z"] / abar[level].sqrt()
    sigmas = vp_sigmas(abar)
    return x, sigmas[level : level + 1], sigmas[level - 1 : level], vectors[f"{task}_{level}_noise"]


def to_vp(x, sigma):
    return x / (1 + sigma**2).sqrt()


def test_blur_forward(vectors):
    for std, expected in zip(vectors["blur_stds"], vectors["blur_outputs"], strict=True):
        assert relative_error(GaussianBlur(float(std))(vectors["image01"]), expected) < 1e-9


def test_blur_kernel(vectors):
    taps = gaussian_taps(torch.tensor([1.5]))[0]
    kernel = vectors["blur_kernel_std1.5"]
    inner = kernel[30 - len(taps) // 2 : 31 + len(taps) // 2, 30 - len(taps) // 2 : 31 + len(taps) // 2]
    assert relative_error(torch.outer(taps, taps), inner) < 1e-9
    assert kernel.sum() - inner.sum() == 0


def test_masks(vectors):
    # the severity t of the released code loses 80 % of the pixels at most
    for t, expected in zip(vectors["mask_ts"], vectors["masks"], strict=True):
        assert torch.equal(kept_pixels(vectors["mask_uniform"][None, None], 0.8 * t)[0, 0].to(expected), expected)


def test_measurements(vectors):
    target = vectors["target01"]
    assert relative_error(2 * GaussianBlur(2.0)(target) - 1, vectors["y_blur"]) < 1e-9
    mask = vectors["masks"][2][None, None]
    kept = mask.bool().expand_as(target)
    assert relative_error((2 * MissingPixels(mask)(target) - 1)[kept], vectors["y_mask"][kept]) < 1e-9


def test_start_rule(vectors):
    index = match_level(vectors["start_var"].sqrt(), vp_sigmas(vectors["alphas_cumprod"]))
    assert torch.equal(index, vectors["start_index"])


def test_severity_targets(vectors):
    z_hat, z0, variance_hat = vectors["sev_z_hat"], vectors["sev_z0"], vectors["sev_var_pred"]
    terms = paper_terms(z_hat, variance_hat, z0)
    assert relative_error(error_variance(z_hat, z0), vectors["sev_var_target"]) < 1e-9
    assert relative_error(terms.reconstruction, vectors["sev_recon_term"]) < 1e-9
    assert relative_error(terms.sigma, vectors["sev_var_term"]) < 1e-9


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("level", LEVELS)
def test_unguided_step(vectors, prior, task, level):
    x, sigma, sigma_next, noise = step_inputs(vectors, task, level)
    z0 = prior.denoise(x, sigma)
    assert relative_error(z0, vectors[f"{task}_{level}_z0_pred"]) < 1e-9
    x_next = ddim_step(x, z0, sigma, sigma_next, noise)
    assert relative_error(to_vp(x_next, sigma_next), vectors[f"{task}_{level}_z_next"]) < 1e-9


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("eta", [1, 7])
def test_ldps_step(vectors, prior, task, level, eta):
    x, sigma, sigma_next, noise = step_inputs(vectors, task, level)
    solver = LDPS(eta=eta, normalise=False)
    x_next, _ = solver.step(State(x, lambda: noise), sigma, sigma_next, prior, measurement(vectors, task))
    assert relative_error(to_vp(x_next, sigma_next), vectors[f"{task}_{level}_ldps{eta}"]) < 1e-9


@pytest.mark.parametrize("task", ["blur", "mask"])
@pytest.mark.parametrize("level", LEVELS)
def test_gml_dps_step(vectors, prior, task, level):
    x, sigma, sigma_next, noise = step_inputs(vectors, task, level)
    solver = GMLDPS(eta=3, gamma=0.05, normalise=False)
    x_next, _ = solver.step(State(x, lambda: noise), sigma, sigma_next, prior, measurement(vectors, task))
    assert relative_error(to_vp(x_next, sigma_next), vectors[f"{task}_{level}_gml"]) < 1e-9


@pytest.mark.parametrize("level", LEVELS)
def test_psld_step(vectors, prior, level):
    x, sigma, sigma_next, noise = step_inputs(vectors, "mask", level)
    solver = PSLD(eta=2, gamma=0.2, normalise=False)
    x_next, _ = solver.step(State(x, lambda: noise), sigma, sigma_next, prior, measurement(vectors, "mask"))
    assert relative_error(to_vp(x_next, sigma_next), vectors[f"mask_{level}_psld"]) < 1e-9


@pytest.mark.parametrize("task", ["blur", "mask"])
def test_resample_fit_in_latents(vectors, prior, task):
    # the vectors stop at a mean squared residual of 0.01 on [-1, 1] images; their proximal term is zero
    noisy = measurement(vectors, task)
    noisy.degradation.noise_std = 0.05
    fitted = ReSample(proximal=0).fit(prior, noisy, vectors[f"{task}_resample_z0"], sigma=0.5)
    assert relative_error(fitted, vectors[f"{task}_resample_z0_star"]) < 1e-9


@pytest.mark.parametrize("task", ["blur", "mask"])
def test_stochastic_resample(vectors, task):
    _, sigma, sigma_next, _ = step_inputs(vectors, task, 136)
    x_next = vectors[f"{task}_136_z_next"] * (1 + sigma_next**2).sqrt()
    noise = vectors[f"{task}_resample_noise"]
    x = stochastic_resample(vectors[f"{task}_resample_z0_star"], x_next, sigma, sigma_next, noise, gamma=400)
    assert relative_error(to_vp(x, sigma_next), vectors[f"{task}_resample_out"]) < 1e-9
