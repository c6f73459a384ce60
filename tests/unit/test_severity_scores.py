"""What a severity encoder learns, and how it is judged."""

import math

import numpy as np
import pytest
import torch

from adapt_diffuse.autoencoder import encode_raw
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.degradation.families import GaussianBlurFamily
from adapt_diffuse.severity.evaluation import correlations
from adapt_diffuse.severity.losses import error_variance, nll_terms, paper_terms
from tests.models import drawn_batch, tiny_severity_encoder
from tests.severity_scores import evaluate


def encode_of(encoder, autoencoder):
    return lambda image: encoder.space.from_raw(encode_raw(autoencoder, image * 2 - 1))


# Losses


def latents(seed=0, count=3):
    return torch.randn(count, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_target_is_the_unbiased_variance_of_the_error():
    error = (latents(0) - latents(1)).flatten(1).numpy()
    assert np.allclose(error_variance(latents(0), latents(1)), error.var(axis=1, ddof=1), rtol=1e-14)
    assert error_variance(latents(0) + 3, latents(0)).abs().max() < 1e-14  # an offset is no spread


def test_the_paper_terms_are_the_papers():
    z_hat, z0, variance_hat = latents(0), latents(1), torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    terms = paper_terms(z_hat, variance_hat, z0)
    variance = error_variance(z_hat, z0)
    assert torch.allclose(terms.reconstruction, ((z_hat - z0) ** 2).mean((1, 2, 3)), rtol=1e-14)
    assert torch.allclose(terms.sigma, (variance - variance_hat) ** 2, rtol=1e-14)


def test_the_likelihood_is_lowest_at_the_true_sigma():
    z_hat, z0 = latents(0), latents(1)
    true = error_variance(z_hat, z0).sqrt()
    sigma = true.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nll_terms(z_hat, sigma, z0).sigma.sum(), sigma)
    assert float(slope.abs().max()) < 1e-12
    at_truth = nll_terms(z_hat, true, z0).sigma
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert bool((nll_terms(z_hat, factor * true, z0).sigma > at_truth).all())


def test_the_likelihood_is_gaussian():
    z_hat, z0, sigma = latents(0), latents(1), torch.tensor([0.7, 1.0, 2.0], dtype=torch.float64)
    error = z_hat - z0
    centred = (error - error.mean((1, 2, 3), keepdim=True)).flatten(1)
    d = centred.shape[1]
    density = torch.distributions.Normal(0.0, sigma[:, None]).log_prob(centred).sum(1)
    # the unbiased variance divides by d - 1, and the constant log(2 pi) / 2 is left out
    expected = -density / d - math.log(2 * math.pi) / 2 + error_variance(z_hat, z0) / sigma**2 / (2 * d)
    assert torch.allclose(nll_terms(z_hat, sigma, z0).sigma, expected, rtol=1e-12)


def test_the_sigma_term_of_the_likelihood_does_not_move_z_hat():
    z_hat = latents(0).requires_grad_()
    sigma = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(nll_terms(z_hat, sigma, latents(1)).sigma.sum(), z_hat, allow_unused=True)
    assert gradient is None
    (gradient,) = torch.autograd.grad(paper_terms(z_hat, sigma**2, latents(1)).sigma.sum(), z_hat)
    assert float(gradient.abs().max()) > 0  # v is not detached in the published loss


# Scores


def test_correlations_are_pearsons_and_spearmans():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(50, generator=generator, dtype=torch.float64)
    b = a**3 + 0.1 * torch.rand(50, generator=generator, dtype=torch.float64)
    pearson, spearman = correlations(a, b)
    ranks = [np.argsort(np.argsort(values.numpy())) for values in (a, b)]
    assert pearson == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-12)
    assert spearman == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-12)
    assert correlations(a, -(a**5))[1] == pytest.approx(-1, rel=1e-12)


@pytest.mark.parametrize("other", [[1.0, 1.0, 1.0], None])
def test_a_correlation_with_nothing_is_nan(other):
    a = torch.tensor([1.0, 2.0, 3.0]) if other else torch.tensor([1.0, 2.0])
    values = correlations(a, torch.tensor(other) if other else a)
    assert all(math.isnan(value) for value in values)


def test_scores_follow_from_their_definition():
    encoder, autoencoder = tiny_severity_encoder()
    family = GaussianBlurFamily(2.0, 2.0, 0.0)
    scores = evaluate(encoder, encode_of(encoder, autoencoder), family, drawn_batch(5), seed=0)
    z_hat, sigma_hat = encoder(GaussianBlur(2.0)(drawn_batch(5)))
    with torch.no_grad():
        z0 = encoder.space.from_raw(encode_raw(autoencoder, drawn_batch(5) * 2 - 1))
    true = (z_hat - z0).flatten(1).std(1)
    assert scores.latent_rmse == pytest.approx(float((z_hat - z0).square().mean().sqrt()), rel=1e-5)
    assert scores.sigma_ratio == pytest.approx(float((sigma_hat / true).mean()), rel=1e-5)
    assert math.isnan(scores.pearson_level)  # all have the same level


def test_scores_follow_from_the_seed():
    encoder, autoencoder = tiny_severity_encoder()
    first = evaluate(encoder, encode_of(encoder, autoencoder), GaussianBlurFamily(), drawn_batch(4), seed=1)
    assert (
        first.latent_rmse
        == evaluate(encoder, encode_of(encoder, autoencoder), GaussianBlurFamily(), drawn_batch(4), seed=1).latent_rmse
    )
    assert (
        first.latent_rmse
        != evaluate(encoder, encode_of(encoder, autoencoder), GaussianBlurFamily(), drawn_batch(4), seed=2).latent_rmse
    )
