"""PSNR and SSIM against scikit-image, HaarPSI and GMSD against piq and NumPy, one number per photo."""

import importlib
import importlib.util
import math
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import convolve2d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.metrics import gmsd, haarpsi, psnr, ssim

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
    assert haarpsi(image, image).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert gmsd(image, image).tolist() == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 7), (11, 11), (11, 12)])
def test_small_photos_have_a_similarity_too(size):
    image, reference = pair(2, *size, 0)
    values = ssim(image, reference)
    assert bool(((values >= -1) & (values < 1)).all())
    assert bool((psnr(image, reference) > 5).all())


@pytest.fixture
def piq_metric(monkeypatch):
    """A metric of piq by name, not through its door: that asks for torchvision, which these metrics do not need."""
    found = importlib.util.find_spec("piq")
    if found is None:
        pytest.skip("piq is missing: pip install piq.")
    package = types.ModuleType("piq")
    package.__path__ = list(found.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "piq", package)
    yield lambda name: getattr(importlib.import_module(f"piq.{name}"), name)
    for name in [name for name in sys.modules if name.startswith("piq.")]:
        del sys.modules[name]


@pytest.mark.parametrize("size", [(1, 16, 16), (3, 32, 48), (2, 33, 40), (2, 37, 51)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_haarpsi_and_gmsd_are_piqs(piq_metric, size, noise):
    image, reference = pair(*size, 0, noise)
    clamped = image.clamp(0, 1)
    for metric, name in ((haarpsi, "haarpsi"), (gmsd, "gmsd")):
        expected = piq_metric(name)(clamped, reference, reduction="none").tolist()
        assert metric(image, reference).tolist() == pytest.approx(expected, rel=1e-9)


def same(photo, kernel):
    """The middle of a convolution with zeros outside; of an even kernel, the middle that lies further in."""
    height, width = kernel.shape
    top, left = height // 2, width // 2
    return convolve2d(photo, kernel)[top : top + photo.shape[0], left : left + photo.shape[1]]


def numpy_haarpsi(image, reference):
    """The formula of the paper, photo by photo and pixel by pixel."""

    def parts(photo):
        r, g, b = 255 * photo
        y = 0.299 * r + 0.587 * g + 0.114 * b
        i = 0.5959 * r - 0.2746 * g - 0.3213 * b
        q = 0.2115 * r - 0.5227 * g + 0.3112 * b
        y, i, q = (same(plane, np.ones((2, 2)) / 4)[::2, ::2] for plane in (y, i, q))
        edges = []
        for j in (1, 2, 3):
            haar = np.outer(np.repeat([1, -1], 2 ** (j - 1)), np.ones(2**j)) / 2**j
            edges.append((np.abs(same(y, haar)), np.abs(same(y, haar.T))))
        return edges, [np.abs(same(plane, np.ones((2, 2)) / 4)) for plane in (i, q)]

    def alike(a, b):
        return (2 * a * b + 30) / (a**2 + b**2 + 30)

    def logistic(values):
        return 1 / (1 + np.exp(-4.2 * values))

    (edges_a, colours_a), (edges_b, colours_b) = parts(image), parts(reference)
    weights = [np.maximum(edges_a[2][k], edges_b[2][k]) for k in (0, 1)]
    locals_ = [(alike(edges_a[0][k], edges_b[0][k]) + alike(edges_a[1][k], edges_b[1][k])) / 2 for k in (0, 1)]
    weights.append((weights[0] + weights[1]) / 2)
    locals_.append((alike(colours_a[0], colours_b[0]) + alike(colours_a[1], colours_b[1])) / 2)
    mean = sum((logistic(a) * w).sum() for a, w in zip(locals_, weights, strict=True)) / sum(w.sum() for w in weights)
    return (np.log(mean / (1 - mean)) / 4.2) ** 2


@given(size=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)), seed=seeds)
def test_haarpsi_is_the_papers_formula(size, seed):
    image, reference = pair(*size, seed)
    expected = [numpy_haarpsi(a.clamp(0, 1).numpy(), b.numpy()) for a, b in zip(image, reference, strict=True)]
    assert haarpsi(image, reference).tolist() == pytest.approx(expected, rel=1e-9)


def test_gmsd_of_a_flat_photo_follows_from_its_definition():
    """Without edges inside, the similarity is 1 but where the zeros outside make one; T = 170 / 255^2."""
    light, dark = torch.full((1, 3, 16, 16), 0.8), torch.full((1, 3, 16, 16), 0.4)
    padded = np.pad(np.ones((8, 8)), 1)
    slope_x = sum(padded[row : row + 8, 2:] - padded[row : row + 8, :-2] for row in range(3)) / 3
    slope = np.hypot(slope_x, slope_x.T)
    t = 170 / 255**2
    alike = (2 * 0.8 * 0.4 * slope**2 + t) / ((0.8**2 + 0.4**2) * slope**2 + t)
    assert float(gmsd(light, dark)) == pytest.approx(alike.std(), rel=1e-6)


def test_black_photos_are_equal():
    black = torch.zeros(2, 3, 16, 16)
    assert haarpsi(black, black).tolist() == [1, 1]
    assert gmsd(black, black).tolist() == [0, 0]
    white = torch.stack([black[0], black[1] + 1])
    assert haarpsi(black, white)[0] == 1
    assert haarpsi(black, white)[1] < 0.3


@pytest.mark.parametrize("metric", [haarpsi, gmsd])
def test_a_batch_is_its_photos_one_by_one(metric):
    image, reference = pair(3, 20, 26, 0)
    alone = torch.cat([metric(a[None], b[None]) for a, b in zip(image, reference, strict=True)])
    assert torch.allclose(metric(image, reference), alone, rtol=1e-12)


@pytest.mark.parametrize("metric", [haarpsi, gmsd])
def test_perceptual_metrics_need_three_colours(metric):
    with pytest.raises(AdaptDiffuseError, match="three colours"):
        metric(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16))


def test_more_noise_is_worse():
    noises = (0.02, 0.1, 0.3)
    for metric in (psnr, ssim, haarpsi):
        values = [float(metric(*pair(1, 32, 32, 0, noise))) for noise in noises]
        assert values == sorted(values, reverse=True)
    values = [float(gmsd(*pair(1, 32, 32, 0, noise))) for noise in noises]
    assert values == sorted(values)


def test_values_outside_the_range_count_as_clipped():
    image, reference = pair(1, 16, 16, 0)
    for metric in (psnr, ssim, haarpsi, gmsd):
        assert metric(image * 2, reference).tolist() == metric((image * 2).clamp(0, 1), reference).tolist()


def test_eight_bit_photos_are_compared_in_double_precision():
    reference = torch.zeros(1, 3, 16, 16)
    reference[:, :, 0, 0] = 1 / 255
    assert float(psnr(reference, torch.zeros_like(reference))) == pytest.approx(10 * math.log10(255**2 * 256), rel=1e-6)


def test_photos_of_different_shapes_are_refused():
    for metric in (psnr, ssim, haarpsi, gmsd):
        with pytest.raises(AdaptDiffuseError, match="differ in shape"):
            metric(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
