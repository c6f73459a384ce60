"""What a restoration allows for in an estimate, and what of it a smaller photo keeps."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch

from adapt_diffuse.degradation import GaussianBlur, Jpeg, MotionBlur
from adapt_diffuse.estimate import Damage, Estimate, cautious
from adapt_diffuse.estimate.caution import allowance, stand_in
from adapt_diffuse.estimate.damage import FLOOR
from adapt_diffuse.images import smaller
from tests.damages import damage_of, estimate, scene


def test_nothing_is_there_where_neither_operator_nor_noise_is():
    assert bool(damage_of(noise_std=FLOOR).nothing)
    for number in ({"std": 0.5}, {"length": 3}, {"factor": 2}, {"quality": 99}, {"noise_std": 0.011}):
        assert not bool(damage_of(**number).nothing)


@pytest.mark.parametrize("damage", [{"std": 2.0}, {"length": 9.0, "angle": 30.0}])
def test_the_damage_of_a_smaller_photo_is_the_smaller_photo_s(damage):
    photo, truth = scene(side=96), damage_of(**damage)
    small = smaller(truth.degradation()(photo), 48)
    told = truth.scaled(0.5).degradation()(smaller(photo, 48))
    untold = truth.degradation()(smaller(photo, 48))
    assert float((small - told).square().mean()) < 0.1 * float((small - untold).square().mean())


def test_what_a_smaller_photo_keeps():
    every = damage_of(std=0.5, factor=4, quality=50, noise_std=0.1)
    small = every.scaled(0.5)
    assert every.scaled(1.0) is every and every.scaled(2.0) is every
    assert (float(small.std), float(small.factor), float(small.quality)) == (0, 2, 100)
    assert float(small.noise_std) == pytest.approx(math.hypot(0.04, 0.022 * 0.5**0.5))
    gone = damage_of(length=3, angle=20, factor=3).scaled(0.3)
    assert (float(gone.length), float(gone.angle), float(gone.factor)) == (0, 0, 1)
    # that is the noise which is left, to a few per cent
    noise = 0.1 * torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    left = float(smaller(0.5 + noise, 48).std())
    assert float(damage_of(noise_std=0.1).scaled(0.5).noise_std) == pytest.approx(left, rel=0.05)


def test_an_estimate_of_a_smaller_photo_is_as_unsure_in_its_pixels():
    small = estimate(damage_of(std=2), std_error=0.4, angle_error=5.0).scaled(0.5)
    assert (float(small.damage.std), float(small.std_error), float(small.angle_error)) == pytest.approx((1, 0.2, 5))


# What a restoration allows for


def test_hardly_any_noise_is_never_believed():
    sure = estimate(damage_of(std=1.5, noise_std=0.001), std_error=0.0)
    assert float(cautious(sure, scene()).noise_std) == pytest.approx(FLOOR)
    assert float(sure.damage.noise_std) == 0.001 and float(cautious(sure, scene()).std) == 1.5
    assert float(cautious(estimate(damage_of(noise_std=0.04)), scene()).noise_std) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("truth", "guess", "error"),
    [
        ({"std": 2.0}, {"std": 2.4}, {"std_error": 0.4}),
        ({"length": 8.0, "angle": 40.0}, {"length": 8.0, "angle": 48.0}, {"length_error": 0.0, "angle_error": 8.0}),
        ({"quality": 20.0}, {"quality": 26.0}, {"quality_error": 6.0}),
    ],
)
def test_the_allowance_is_about_what_the_error_of_an_estimate_does(truth, guess, error):
    photo = scene(side=160)
    y = damage_of(**truth).degradation()(photo)
    off = float((y - damage_of(**guess).degradation()(photo)).square().mean().sqrt())
    said = estimate(damage_of(**guess, noise_std=0.02), **error)
    allowed = allowance(said, y)
    assert 0.5 * off < float(allowed) < 2 * off
    assert float(cautious(said, y).noise_std) == pytest.approx(math.hypot(0.02, float(allowed)))


def test_the_allowance_is_half_of_what_changes_between_the_ends_of_the_error():
    photo = scene(side=120).double()
    sharp = stand_in(damage_of(std=2.0), photo)

    def half(one, other):
        return float((one(sharp) - other(sharp)).square().mean().sqrt()) / 2

    expected = half(GaussianBlur(2.4), GaussianBlur(1.6))
    assert float(allowance(estimate(damage_of(std=2.0), std_error=0.4), photo)) == pytest.approx(expected, rel=1e-6)
    for quality, ends in ((96.0, (99, 88)), (4.0, (12, 1))):  # no better than 99, no worse than 1
        compressed = estimate(damage_of(quality=quality), quality_error=8.0)
        sharp = stand_in(compressed.damage, photo)
        expected = half(*(Jpeg(end) for end in ends))
        assert float(allowance(compressed, photo)) == pytest.approx(expected, rel=1e-6)
    moved = estimate(damage_of(length=9.0, angle=170.0), length_error=1.5, angle_error=20.0)
    sharp = stand_in(moved.damage, photo)
    parts = [half(MotionBlur(10.5, 170.0), MotionBlur(7.5, 170.0)), half(MotionBlur(9.0, 10.0), MotionBlur(9.0, 150.0))]
    assert float(allowance(moved, photo)) == pytest.approx(math.hypot(*parts), rel=1e-6)


def test_a_blurred_photo_stands_in_for_a_sharp_one_when_smaller():
    assert stand_in(damage_of(std=3.0), scene(side=150)).shape[2:] == (50, 50)
    assert stand_in(damage_of(std=30.0), scene(side=150)).shape[2:] == (48, 48)
    assert stand_in(damage_of(quality=20), scene(side=30)).shape[2:] == (26, 26)
    assert stand_in(damage_of(quality=20), scene(side=8)).shape[2:] == (8, 8)


def test_the_allowances_of_a_batch_are_those_of_its_photos():
    said = [estimate(damage_of(std=1.5), std_error=0.3), estimate(damage_of(quality=30), quality_error=8.0)]
    photos = [scene(0), scene(1)]
    alone = [float(allowance(*pair)) for pair in zip(said, photos, strict=True)]
    damage = Damage(*(torch.cat([vars(one.damage)[field.name] for one in said]) for field in fields(Damage)))
    errors = (torch.cat([getattr(one, field.name) for one in said]) for field in fields(Estimate)[1:])
    assert allowance(Estimate(damage, *errors), torch.cat(photos)).tolist() == alone
