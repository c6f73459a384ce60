"""ReSample's fits, in latents and in pixels, against what can be computed exactly."""

from __future__ import annotations

import pytest
import torch

from adapt_diffuse.degradation import MissingPixels
from adapt_diffuse.degradation.prox import prox
from adapt_diffuse.fit import QUANTISATION, anchor_weight, contrast
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.solvers import ReSample, resample
from tests.reference import relative_error
from tests.toy_scene import PRIOR, scene
from tests.unit.test_quick_solvers import SEEN, LinearPrior, exact, numbers

SIGMA = torch.tensor([0.5], dtype=torch.float64)
LONG = ReSample(iterations=1000, learning_rate=0.02)


def rotated(scale: float = 0.3, noise_std: float = 0.1):
    """An autoencoder that is a rotation times ``scale``, an anchor, and a photo further off than its noise."""
    prior = LinearPrior(scale * torch.linalg.qr(numbers(27, 27, seed=1))[0], (3, 3, 3))
    photo = Measurement.of(2 * numbers(1, 3, 3, 3, seed=3), MissingPixels(SEEN, noise_std))
    return prior, numbers(1, 3, 3, 3, seed=2), photo


@pytest.mark.parametrize("in_pixels", [False, True])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_a_fit_is_the_most_probable_one_near_its_anchor(scale, in_pixels):
    prior, anchor, measurement = rotated(scale, 0.3)
    found = LONG.fit(prior, measurement, anchor, float(SIGMA), in_pixels)
    weight = anchor_weight(measurement, SIGMA)
    if in_pixels:
        image = prior.decode(anchor)
        expected = prior.encode(
            prox(measurement.degradation, image, measurement.y, weight / contrast(image, anchor) ** 2)
        )
    else:
        expected = exact(prior, anchor, measurement, weight)
    assert relative_error(found - anchor, expected - anchor) < 1e-3


def test_a_fit_in_pixels_weighs_its_anchor_as_one_in_latents():
    prior, anchor, measurement = rotated(0.3, 0.3)
    found = [LONG.fit(prior, measurement, anchor, float(SIGMA), in_pixels) for in_pixels in (False, True)]
    assert relative_error(found[1] - anchor, found[0] - anchor) < 2e-2


@pytest.mark.parametrize("in_pixels", [False, True])
def test_a_photo_without_noise_has_that_of_eight_bits(in_pixels):
    prior, anchor, measurement = rotated(1.0, 0.0)
    rounded = Measurement(measurement.y, MissingPixels(SEEN, QUANTISATION))
    short = ReSample(iterations=30)
    found = short.fit(prior, measurement, anchor, 0.5, in_pixels)
    assert torch.equal(found, short.fit(prior, rounded, anchor, 0.5, in_pixels))
    near = Measurement.of(prior.decode(anchor) + 0.9 * QUANTISATION, MissingPixels(SEEN))
    assert relative_error(short.fit(prior, near, anchor, 0.5, in_pixels), anchor) < 1e-12


@pytest.mark.parametrize("in_pixels", [False, True])
def test_a_look_every_few_iterations_ends_a_fit_where_every_one_does(in_pixels, monkeypatch):
    measurement, anchor = scene()[2].select(torch.tensor([0])), scene()[0][:1]
    calls, found, residual = [], [], Measurement.residual

    def counted(self, image):
        calls[-1] += 1
        return residual(self, image)

    monkeypatch.setattr(Measurement, "residual", counted)
    for every in (1, 7, 1000):
        monkeypatch.setattr(resample, "look_every", lambda device, every=every: every)
        calls.append(0)
        found.append(ReSample(proximal=0.0, iterations=120).fit(PRIOR, measurement, anchor, 0.5, in_pixels))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert calls[0] <= calls[1] < calls[0] + 7 < 120 == calls[2]
