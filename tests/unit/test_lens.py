"""Blur by a lens that is out of focus, and by kernels of one's own, against independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import integrate, ndimage

from adapt_diffuse.defaults import default_solver, kind_of
from adapt_diffuse.degradation import (
    GaussianBlur,
    KernelBlur,
    LensBlur,
    MotionBlur,
    Noise,
    chain,
    for_each,
    parse_degradation,
)
from adapt_diffuse.degradation.kernel import centred_kernel
from adapt_diffuse.degradation.lens import disk_kernel
from adapt_diffuse.errors import AdaptDiffuseError

seeds = st.integers(0, 2**32 - 1)
radii = st.floats(0, 50)


def photo(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def disk(radius):
    return disk_kernel(torch.tensor([radius], dtype=torch.float64))[0]


def share(radius, row, column):
    """The part of a disk that lies in a pixel, by adaptive quadrature of its chords."""

    def chord(x):
        half = math.sqrt(max(radius**2 - x**2, 0))
        return max(min(row + 0.5, half) - max(row - 0.5, -half), 0)

    kinks = [math.sqrt(radius**2 - edge**2) for edge in (row - 0.5, row + 0.5) if abs(edge) < radius]
    inside = [x for x in (*kinks, radius) if column - 0.5 < x < column + 0.5]
    return integrate.quad(chord, column - 0.5, column + 0.5, points=inside or None)[0] / (math.pi * radius**2)


@pytest.mark.parametrize("radius", [0.6, 1.0, 1.5, 2.3, 4.0, 7.77])
def test_a_pixel_gets_its_exact_share_of_the_disk(radius):
    kernel = disk(radius)
    middle = len(kernel) // 2
    for row in range(middle + 1):
        for column in range(middle + 1):
            assert float(kernel[middle + row, middle + column]) == pytest.approx(share(radius, row, column), abs=1e-9)


@given(radius=radii)
def test_a_disk_is_round_and_even_and_as_large_as_it_says(radius):
    kernel = disk(radius)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12) and float(kernel.min()) >= 0
    assert len(kernel) == 2 * math.ceil(max(radius - 0.5, 0)) + 1
    assert torch.allclose(kernel, kernel.T, rtol=0, atol=1e-14)
    assert torch.allclose(kernel, kernel.flip(0), rtol=0, atol=1e-14)
    axis = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    # a disk's variance is radius^2 / 4 in each direction; rounding positions to pixels adds a twelfth to a wide one
    variance = float(kernel.sum(0) @ axis**2)
    assert abs(variance - radius**2 / 4) < 0.15
    if radius > 2:
        assert abs(variance - radius**2 / 4 - 1 / 12) < 0.055


@pytest.mark.parametrize("radius", [0.0, 0.2, 0.5])
def test_a_disk_within_a_pixel_leaves_the_photo(radius):
    image = photo((1, 3, 5, 7), 0)
    assert torch.equal(LensBlur(radius)(image), image)


@given(height=st.integers(1, 12), width=st.integers(1, 12), radius=st.floats(0, 9), seed=seeds)
def test_lens_blur_is_scipys_convolution_by_the_disk(height, width, radius, seed):
    image = photo((1, 3, height, width), seed)
    blurred, kernel = LensBlur(radius)(image), disk(radius).numpy()
    for plane, expected in zip(blurred[0], image[0], strict=True):
        assert np.abs(plane.numpy() - ndimage.convolve(expected.numpy(), kernel, mode="mirror")).max() < 1e-12


def test_a_light_becomes_a_spot_with_an_edge_where_a_gaussian_has_none():
    image = torch.zeros(1, 3, 31, 31, dtype=torch.float64)
    image[..., 15, 15] = 1
    spot = LensBlur(6.0)(image)[0, 0, 15]
    soft = GaussianBlur(3.0)(image)[0, 0, 15]
    assert float(spot[10:21].max() - spot[10:21].min()) < 1e-12 and float(spot[:9].max()) == 0
    assert float(soft[15] / soft[10]) > 3 and float(soft[8]) > 0


# Kernels of one's own


@given(height=st.integers(1, 12), width=st.integers(1, 12), side=st.integers(1, 9), seed=seeds)
def test_a_symmetric_kernel_is_scipys_convolution_odd_or_even(height, width, side, seed):
    image, kernel = photo((1, 3, height, width), seed), photo((side, side), seed + 1)
    kernel = kernel + kernel.flip(0, 1)  # whose centre of mass is its middle
    blurred = KernelBlur(kernel)(image)
    for plane, expected in zip(blurred[0], image[0], strict=True):
        oracle = ndimage.convolve(expected.numpy(), (kernel / kernel.sum()).numpy(), mode="mirror")
        assert np.abs(plane.numpy() - oracle).max() < 1e-12


@given(seed=seeds, top=st.integers(0, 5), left=st.integers(0, 5))
def test_black_around_a_kernel_and_its_brightness_change_nothing(seed, top, left):
    image, kernel = photo((1, 3, 9, 7), seed), photo((4, 5), seed + 1) + 0.01
    wide = torch.nn.functional.pad(kernel, (left, 7 - left, top, 6 - top))
    first, second = KernelBlur(kernel)(image), KernelBlur(0.3 * wide)(image)
    assert float((first - second).abs().max()) < 1e-12


@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=seeds)
def test_a_kernel_is_placed_unchanged_with_its_centre_of_mass_in_the_middle(height, width, seed):
    kernel = photo((1, height, width), seed) ** 4 + 1e-9
    placed = centred_kernel(kernel)[0]
    assert placed.shape[0] == placed.shape[1] and placed.shape[0] % 2 == 1
    axis = torch.arange(len(placed), dtype=torch.float64) - len(placed) // 2
    assert abs(float(placed.sum(1) @ axis)) <= 0.5 + 1e-5 and abs(float(placed.sum(0) @ axis)) <= 0.5 + 1e-5
    rows, columns = (placed.sum(axis).nonzero().flatten() for axis in (1, 0))
    cut = placed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert torch.allclose(cut, kernel[0] / kernel.sum(), rtol=1e-12, atol=0)


def test_a_point_becomes_the_kernel_and_not_its_mirror_image():
    kernel = torch.tensor([[0.0, 1.0, 0.0], [0.0, 8.0, 2.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    image = torch.zeros(1, 3, 7, 9, dtype=torch.float64)
    image[..., 3, 4] = 1
    assert torch.allclose(KernelBlur(kernel)(image)[0, 0, 2:5, 3:6], kernel / 12, rtol=0, atol=1e-15)


def test_each_photo_may_have_its_kernel():
    image, kernels = photo((2, 3, 9, 7), 0), photo((2, 4, 4), 1)
    together = KernelBlur(kernels)(image)
    for index in (0, 1):
        alone = KernelBlur(kernels[index])(image[index : index + 1])
        assert torch.allclose(together[index], alone[0], rtol=0, atol=1e-13)
    with pytest.raises(AdaptDiffuseError, match="2 kernels for 3 photos"):
        KernelBlur(kernels)(photo((3, 3, 9, 7), 0))


@pytest.mark.parametrize("where", [torch.float16, torch.float32, torch.float64])
def test_a_kernel_is_not_kept_but_copied(where):
    kernel = torch.ones(3, 3, dtype=where)
    blur, image = KernelBlur(kernel), photo((1, 3, 6, 6), 0)
    before = blur(image)
    kernel.zero_()
    assert torch.equal(blur(image), before) and torch.equal(blur.select(torch.tensor([0]))(image), before)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LensBlur(-1.0), "The lens blur's radius in pixels must be between 0 and 50, not -1."),
        (lambda: LensBlur(50.5), "must be between 0 and 50, not 50.5."),
        (lambda: LensBlur(torch.tensor([1.0, float("nan")])), "must be between 0 and 50, not nan."),
        (lambda: LensBlur(1.0, -0.1), "noise_std must be between 0 and 1"),
        (lambda: KernelBlur(torch.zeros(3, 3)), "The blur's kernel is black"),
        (lambda: KernelBlur(torch.stack([torch.ones(3, 3), torch.zeros(3, 3)])), "The blur's kernel is black"),
        (lambda: KernelBlur(torch.tensor([[1.0, -0.1]])), "must hold numbers of 0 or more"),
        (lambda: KernelBlur(torch.tensor([[1.0, float("nan")]])), "must hold numbers of 0 or more"),
        (lambda: KernelBlur(torch.tensor([[1.0, float("inf")]])), "must hold numbers of 0 or more"),
        (lambda: KernelBlur(torch.ones(102, 3)), "is 3 x 102 pixels, and at most 101 x 101 are possible"),
        (lambda: KernelBlur(torch.ones(4)), "must have the shape (height, width) or (photos, height, width), not (4,)"),
        (lambda: KernelBlur(torch.ones(0, 3, 3)), "must have the shape"),
        (lambda: KernelBlur(torch.ones(3, 3), 1.5), "noise_std must be between 0 and 1"),
        (lambda: parse_degradation("kernel-blur", 0.0), "The degradation kernel-blur needs a file"),
    ],
)
def test_a_bad_parameter_is_one_sentence(make, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        make()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_the_largest_that_are_allowed_are_taken():
    assert KernelBlur(torch.ones(101, 101))(torch.ones(1, 3, 4, 4)).shape == (1, 3, 4, 4)
    assert KernelBlur(torch.nn.functional.pad(torch.ones(101, 3), (200, 200, 9, 9))).kernel.shape == (1, 101, 3)


def test_names_take_a_radius_or_a_picture_by_its_luminance(tmp_path):
    assert parse_degradation("lens-blur:radius=4.5", 0.1).radius.tolist() == [4.5]
    values = np.zeros((3, 4, 3), np.uint8)
    values[1, 1], values[1, 2], values[2, 1] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(values).save(tmp_path / "psf.png")
    blur = parse_degradation(f"kernel-blur:file={tmp_path / 'psf.png'}", 0.1)
    assert blur.noise_std == 0.1
    assert blur.kernel.tolist() == [[pytest.approx([0.299, 0.587], abs=1e-6), pytest.approx([0.114, 0], abs=1e-6)]]


@pytest.mark.parametrize("blur", [LensBlur(3.0, 0.05), KernelBlur(torch.ones(4, 4), 0.05)])
def test_they_are_restored_as_other_blurs_are(blur):
    for whole in (blur, chain(blur, Noise(0.05)), for_each([blur, MotionBlur(4.0)])):
        assert default_solver(whole) == "latino" and kind_of(whole) == "blur"
