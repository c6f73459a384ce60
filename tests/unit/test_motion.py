"""Blur by moving cameras, in values and in light, against independent references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from adapt_diffuse.degradation import (
    CameraBlur,
    MotionBlur,
)
from adapt_diffuse.degradation.kernel_blur import filter_plane, filter_plane_adjoint, path_kernel, shake_path

seeds = st.integers(0, 2**32 - 1)


def photo(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def impulse(operator, size=61):
    """What the operator makes of a point in the middle."""
    image = torch.zeros(1, 3, size, size, dtype=torch.float64)
    image[..., size // 2, size // 2] = 1
    return operator(image)[0, 0]


@given(height=st.integers(1, 12), width=st.integers(1, 12), radius=st.integers(0, 9), seed=seeds)
def test_a_kernel_in_the_plane_is_scipys_convolution(height, width, radius, seed):
    image, side = photo((2, 3, height, width), seed), 2 * radius + 1
    kernels = photo((2, side, side), seed + 1)
    blurred = filter_plane(image, kernels)
    for plane, kernel, expected in zip(blurred, kernels, image, strict=True):
        for channel in range(3):
            oracle = ndimage.convolve(expected[channel].numpy(), kernel.numpy(), mode="mirror")
            assert np.abs(plane[channel].numpy() - oracle).max() < 1e-11


def test_a_kernel_in_the_plane_is_deepinvs_blur():
    physics = pytest.importorskip("deepinv").physics
    image, kernel, y = photo((2, 3, 24, 20), 0), photo((1, 5, 5), 1), photo((2, 3, 24, 20), 2)
    blur = physics.Blur(filter=kernel[None], padding="reflect").double()
    assert float((filter_plane(image, kernel) - blur.A(image)).abs().max()) < 1e-12
    assert float((filter_plane_adjoint(y, kernel) - blur.A_adjoint(y)).abs().max()) < 1e-12


@pytest.mark.parametrize("length", [0.0, 0.7, 1.0, 4.0, 9.0, 12.3])
def test_motion_along_a_row_spreads_a_point_evenly(length):
    # what each pixel's tent gathers of a point that moves evenly from -length / 2 to length / 2
    steps = (np.arange(200_000) + 0.5) / 200_000 * length - length / 2
    expected = [np.clip(1 - np.abs(column - steps), 0, None).mean() for column in range(-30, 31)]
    row = impulse(MotionBlur(length, 0.0))
    assert np.abs(row[30].numpy() - expected).max() < 1e-5
    assert float(row.sum()) == pytest.approx(1, abs=1e-12)
    assert float(row[30].sum()) == pytest.approx(1, abs=1e-12)
    assert float((impulse(MotionBlur(length, 90.0)) - row.T).abs().max()) < 1e-12


@pytest.mark.parametrize("angle", [15.0, 45.0, 100.0, 170.0])
def test_motion_has_its_direction_anticlockwise(angle):
    kernel = impulse(MotionBlur(40.0, angle)).numpy()
    down, right = np.mgrid[-30:31, -30:31]
    covariance = [[(kernel * a * b).sum() for b in (right, -down)] for a in (right, -down)]
    _, vectors = np.linalg.eigh(covariance)
    found = np.rad2deg(np.arctan2(vectors[1, 1], vectors[0, 1])) % 180
    assert abs(found - angle) < 0.2
    # a line of length L has the variance L^2 / 12; sharing among pixels adds at most a quarter in either direction
    assert 40**2 / 12 - 0.01 < np.trace(covariance) < 40**2 / 12 + 0.5


def test_motion_of_no_length_is_the_photo():
    image = photo((1, 3, 5, 7), 0)
    assert torch.equal(MotionBlur(0.0, 77.0)(image), image)


# Camera shake


@given(extent=st.floats(0, 40), seed=seeds)
def test_a_shake_stays_within_its_extent_and_keeps_its_middle(extent, seed):
    path = shake_path(torch.tensor([extent], dtype=torch.float64), torch.Generator().manual_seed(seed))
    assert float(path.norm(dim=-1).max()) == pytest.approx(extent / 2, abs=1e-12)
    assert float(path.mean(1).abs().max()) < 1e-12
    # smooth: no step is longer than a few times the mean one
    steps = path.diff(dim=1).norm(dim=-1)
    assert float(steps.max()) <= 12 * float(steps.mean()) + 1e-12
    kernel = path_kernel(path)[0]
    axis = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    assert float(kernel.min()) >= 0
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert float((kernel.sum(1) @ axis).abs()) < 1e-10 and float((kernel.sum(0) @ axis).abs()) < 1e-10


def test_a_seed_decides_the_shake():
    first, again, other = (impulse(CameraBlur.seeded(15.0, seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 0.1


@pytest.mark.parametrize("gain", [0.7, 1.2, 4.0])
def test_camera_blur_is_a_blur_of_light(gain):
    image = photo((1, 3, 13, 17), 3) * 1.4 - 0.2
    kernel = photo((1, 5, 5), 4) / 12
    value = image.numpy()
    # the sRGB curve of IEC 61966-2-1, its straight part going on below 0
    light = np.where(value > 0.04045, ((np.maximum(value, 0.04045) + 0.055) / 1.055) ** 2.4, value / 12.92)
    blurred = np.stack([ndimage.convolve(plane, kernel[0].numpy(), mode="mirror") for plane in light[0]])
    sensor = np.clip(gain * blurred, 0, 1)
    expected = np.where(sensor > 0.0031308, 1.055 * sensor ** (1 / 2.4) - 0.055, 12.92 * sensor)
    result = CameraBlur(kernel, gain)(image)[0].numpy()
    assert np.abs(result - expected).max() < 1e-12
    assert (result > 1 - 1e-12).sum() == (gain * blurred >= 1).sum()


def test_a_steady_camera_is_the_identity_with_slope_one():
    image = torch.cat([torch.linspace(0, 0.999, 200), torch.tensor([0.04045, 1e-9])]).double().reshape(1, 1, 1, -1)
    image.requires_grad_()
    result = CameraBlur.seeded(0.0, gain=1.0)(image)
    (slope,) = torch.autograd.grad(result.sum(), image)
    assert float((result - image).detach().abs().max()) < 1e-7
    # the standard's two pieces meet with slopes that differ a little
    assert float((slope - 1).abs().max()) < 0.03


def test_highlights_saturate():
    image = torch.full((1, 3, 4, 4), 0.95, dtype=torch.float64)
    assert float((CameraBlur.seeded(3.0, gain=1.5)(image) - 1).abs().max()) < 1e-14
    assert float((CameraBlur.seeded(3.0, gain=1.0)(image) - 0.95).abs().max()) < 1e-7
