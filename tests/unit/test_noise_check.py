"""Whether a photo has more noise than was said, or other damage."""

from __future__ import annotations

import pytest
import torch

from adapt_diffuse.commands.demo import demo_photo
from adapt_diffuse.degradation import (
    Degradation,
    GaussianBlur,
    Jpeg,
    MissingBox,
    Noise,
    RandomMissingPixels,
    for_each,
    measure,
)
from adapt_diffuse.estimate.checkpoint import BUNDLED
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.noise_check import misfit, unsaid_noise
from adapt_diffuse.restore import generators_for

pytestmark = pytest.mark.skipif(not BUNDLED.is_file(), reason="The bundled estimator is absent.")


def told(true: Degradation, said: Degradation) -> float:
    y = measure(demo_photo(), true, generators_for(0, 1)).clamp(0, 1)
    (found,) = unsaid_noise(Measurement.of((y * 255).round() / 255, said))
    return found


@pytest.mark.parametrize("true", [0.02, 0.03, 0.06])
def test_noise_that_was_not_said_is_told_with_its_level(true: float) -> None:
    for said in (0.0, true / 3):
        assert told(GaussianBlur(2.0, true), GaussianBlur(2.0, said)) == pytest.approx(true, rel=0.15)


def test_nothing_is_told_where_enough_was_said() -> None:
    for true in (Noise(0.03), GaussianBlur(2.0, 0.03), GaussianBlur(2.0, 0.0), Jpeg(20, 0.0)):
        for factor in (1.0, 2.0):
            said = type(true)(*([2.0] if isinstance(true, GaussianBlur) else [20] if isinstance(true, Jpeg) else []),
                              factor * float(true.noise_std))  # fmt: skip
            assert told(true, said) == 0


def test_photos_with_holes_and_tiny_ones_are_not_judged() -> None:
    assert told(RandomMissingPixels(0.5, 0, 0.05), RandomMissingPixels(0.5, 0, 0.0)) == 0
    assert unsaid_noise(Measurement.of(torch.rand(2, 3, 20, 90, generator=torch.Generator()), Noise(0.0))) == [0, 0]


def test_a_photo_with_holes_does_not_silence_the_others() -> None:
    noisy = measure(demo_photo(), Noise(0.05), generators_for(0, 1)).clamp(0, 1)
    said = for_each([MissingBox(9, 9, 30, 30), Noise(0.0), Noise(0.05)])
    found = unsaid_noise(Measurement.of(noisy.repeat(3, 1, 1, 1), said))
    assert found[0] == found[2] == 0 and found[1] == pytest.approx(0.05, rel=0.15)


@pytest.mark.parametrize("std", [1.0, 2.0])
def test_a_photo_that_the_damage_explains_is_off_by_its_noise_alone(std: float) -> None:
    photo = demo_photo()
    y = torch.cat([measure(photo, GaussianBlur(std, noise), generators_for(0, 1)) for noise in (0.02, 0.04)])
    right = misfit(photo.expand(2, -1, -1, -1), Measurement.of(y, GaussianBlur(std, 0.02)), 1.0)
    assert right == pytest.approx([0.02, 0.04], rel=0.01)
    wrong = misfit(photo, Measurement.of(y[:1], GaussianBlur(std + 2, 0.02)), 1.0)
    assert wrong[0] > 2 * right[0]


def test_detail_that_the_autoencoder_has_lost_is_no_misfit() -> None:
    photo = demo_photo()
    measurement = Measurement.of(measure(photo, Noise(0.02), generators_for(0, 1)), Noise(0.02))
    soft = GaussianBlur(1.5)(photo)
    assert misfit(soft, measurement)[0] < 0.025 < 0.03 < misfit(soft, measurement, 1.0)[0]
    assert misfit(soft, Measurement.of(measurement.y, Noise(0.0)), 1.0) == misfit(soft, measurement, 1.0)
