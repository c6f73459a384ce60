"""PSNR and SSIM against scikit-image, one number per photo."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.metrics import psnr, ssim

sizes = st.tuples(st.integers(1, 4), st.integers(12, 40), st.integers(12, 40))
seeds = st.integers(0, 2**32 - 1)


def pair(count, height, width, seed, noise=0.1):
    generator = torch.Generator().manual_seed(seed)
    reference = torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64)
    image = reference + noise * torch.randn(reference.shape, generator=generator, dtype=torch.float64)
    return image, reference


@given(size=sizes, seed=seeds)
def test_psnr_is_scikit_images_for_every_photo(size, seed):
    image, reference = pair(*size, seed)
    expected = [
        peak_signal_noise_ratio(b.numpy(), a.clamp(0, 1).numpy(), data_range=1)
        for a, b in zip(image, reference, strict=True)
    ]
    assert psnr(image, reference).tolist() == pytest.approx(expected, rel=1e-12)


@given(size=sizes, seed=seeds)
def test_ssim_is_scikit_images_for_every_photo(size, seed):
    image, reference = pair(*size, seed)
    expected = [
        structural_similarity(
            b.numpy(),
            a.clamp(0, 1).numpy(),
            data_range=1,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(image, reference, strict=True)
    ]
    assert ssim(image, reference).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 7), (11, 11), (11, 12), (64, 64)])
def test_equal_photos_of_any_size_are_perfect(size):
    image, _ = pair(2, *size, 0)
    assert psnr(image, image).tolist() == [math.inf, math.inf]
    assert ssim(image, image).tolist() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 7), (11, 11), (11, 12)])
def test_small_photos_have_a_similarity_too(size):
    image, reference = pair(2, *size, 0)
    values = ssim(image, reference)
    assert bool(((values >= -1) & (values < 1)).all())
    assert bool((psnr(image, reference) > 5).all())


def test_more_noise_is_worse():
    scores = [[float(metric(*pair(1, 32, 32, 0, noise))) for noise in (0.02, 0.1, 0.3)] for metric in (psnr, ssim)]
    assert all(values == sorted(values, reverse=True) for values in scores)


def test_values_outside_the_range_count_as_clipped():
    image, reference = pair(1, 16, 16, 0)
    assert psnr(image * 2, reference).tolist() == psnr((image * 2).clamp(0, 1), reference).tolist()


def test_eight_bit_photos_are_compared_in_double_precision():
    reference = torch.zeros(1, 3, 16, 16)
    reference[:, :, 0, 0] = 1 / 255
    assert float(psnr(reference, torch.zeros_like(reference))) == pytest.approx(10 * math.log10(255**2 * 256), rel=1e-6)


def test_photos_of_different_shapes_are_refused():
    for metric in (psnr, ssim):
        with pytest.raises(AdaptDiffuseError, match="differ in shape"):
            metric(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
