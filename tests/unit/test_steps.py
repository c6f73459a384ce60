"""What a choice looks at: the steps of each photo's damage, however they were put together."""

from __future__ import annotations

import pytest
import torch

from adapt_diffuse.defaults import BENT, default_solver, kind_of, make_solver
from adapt_diffuse.degradation import (
    Downscale,
    FilmDamage,
    GaussianBlur,
    Jpeg,
    LinearDegradation,
    Marks,
    MissingBox,
    MissingPixels,
    MotionBlur,
    Noise,
    RandomMissingPixels,
    ScalableMask,
    chain,
    for_each,
    loses_pixels,
    noise_levels,
    steps_of,
)
from adapt_diffuse.degradation.base import dot, require_linear
from adapt_diffuse.degradation.film import Fading
from adapt_diffuse.degradation.levels import at_strength
from adapt_diffuse.degradation.mixed import MixedFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.restore import generators_for
from adapt_diffuse.severity.choice import covers

BLUR, JPEG, BOX, NOISE = GaussianBlur(1.0, 0.05), Jpeg(30.0, 0.05), MissingBox(2, 2, 1, 1), Noise(0.05)
LOST = MissingPixels(torch.tensor([[1.0, 0.0], [1.0, 1.0]])[None, None], 0.05)
MOTION = chain(MotionBlur(3.0), NOISE)
# what each pair of degradations is to physics, and to every choice
SAME = [
    (chain(BLUR, NOISE), BLUR),
    (chain(NOISE, BLUR), BLUR),
    (chain(LOST, NOISE), LOST),
    (chain(chain(NOISE, BOX), NOISE), BOX),
    (chain(NOISE, NOISE), NOISE),
    (chain(JPEG, NOISE), JPEG),
    (for_each([BLUR, BLUR]), BLUR),
    (for_each([LOST, chain(LOST, NOISE)]), LOST),
    (for_each([chain(NOISE, NOISE)]), NOISE),
    (for_each([JPEG, JPEG]), JPEG),
    (chain(for_each([BLUR, MOTION]), BOX), chain(BLUR, BOX)),
]


@pytest.mark.parametrize(("written", "plain"), SAME)
def test_noise_and_the_form_of_a_batch_change_no_choice(written, plain):
    assert default_solver(written) == default_solver(plain)
    assert kind_of(written) == kind_of(plain)
    for name in ("default", "ldps", "resample"):
        assert make_solver(name, written) == make_solver(name, plain)


def test_every_photo_has_its_steps_without_noise():
    assert steps_of(NOISE) == [(NOISE,)]
    assert steps_of(chain(chain(BLUR, NOISE), BOX)) == [(BLUR, BOX)]
    batch = chain(for_each([chain(BLUR, JPEG), NOISE, BOX]), NOISE)
    assert steps_of(batch) == [(BLUR, JPEG), (NOISE,), (BOX,)]
    assert steps_of(chain(NOISE, batch)) == [(BLUR, JPEG), (NOISE,), (BOX,)]


@pytest.mark.parametrize(
    ("degradation", "kind"),
    [
        (chain(BLUR, BOX), "missing"),
        (chain(BLUR, RandomMissingPixels(0.5)), "missing"),
        (chain(BOX, Fading.of(0.3)), "missing"),
        (chain(BOX, BLUR), "blur"),
        (chain(LOST, Downscale(2)), "blur"),
        (chain(JPEG, BLUR), "blur"),
        (for_each([BOX, chain(BLUR, LOST)]), "missing"),
        (for_each([BOX, BLUR]), "blur"),  # whose steps are the smaller ones
    ],
)
def test_numbers_are_those_of_lost_pixels_where_pixels_are_unobserved(degradation, kind):
    assert kind_of(degradation) == kind


def test_pixels_are_lost_where_the_chain_says_that_they_are_unobserved():
    for chained in (chain(BLUR, BOX), chain(BOX, BLUR), chain(BOX, NOISE), chain(BLUR, JPEG), chain(BOX, Fading.of())):
        some = bool((chained.observed(torch.ones(1, 3, 6, 6)) == 0).any())
        assert all(loses_pixels(steps) for steps in steps_of(chained)) == some


@pytest.mark.parametrize(
    ("degradation", "name", "iterations"),
    [
        (chain(BLUR, BOX), "diffpir", 2),
        (chain(BOX, BLUR), "latino", None),
        (for_each([BLUR, MOTION]), "latino", None),
        (for_each([BLUR, NOISE]), "diffpir", 2),
        (for_each([BLUR, BOX]), "diffpir", 2),
        (for_each([BLUR, JPEG]), "diffpir", BENT),
        (FilmDamage(Marks(1, 1), Fading.of(0.2)), "diffpir", BENT),
    ],
)
def test_the_solver_of_a_batch_works_for_every_photo_of_it(degradation, name, iterations):
    assert default_solver(degradation) == name
    assert getattr(make_solver("default", degradation), "iterations", None) == iterations


def test_a_batch_is_linear_where_all_of_its_photos_are():
    linear = for_each([BLUR, MOTION, BOX])
    bent = for_each([JPEG, BLUR, MOTION])
    assert require_linear(linear, "LATINO") is linear
    assert isinstance(chain(linear, BOX), LinearDegradation)
    assert isinstance(bent.select(torch.tensor([2, 1])), LinearDegradation)
    assert not isinstance(bent.select(torch.tensor([0, 1])), LinearDegradation)
    with pytest.raises(AdaptDiffuseError, match="linear degradations only"):
        require_linear(bent, "LATINO")


def test_the_adjoint_of_a_batch_is_that_of_each_photo():
    batch = for_each([BLUR, MOTION, BOX])
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 3, 7, 6, generator=generator, dtype=torch.float64)
    assert float((dot(batch(x), y) - dot(x, batch.adjoint(y))).abs().max()) < 1e-12
    with pytest.raises(AdaptDiffuseError, match="3 degradations for 2 photos"):
        batch.adjoint(y[:2])


def test_a_mixed_draw_without_jpeg_is_linear():
    drawn, _ = MixedFamily().sample((24, 3, 16, 16), generators_for(0, 24))
    straight = [isinstance(one, LinearDegradation) for one in drawn.degradations]
    assert 0 < sum(straight) < 24 and not isinstance(drawn, LinearDegradation)
    assert isinstance(drawn.select(torch.tensor(straight).nonzero().flatten()), LinearDegradation)


def test_a_batch_is_strengthened_photo_by_photo():
    stronger = at_strength(for_each([GaussianBlur(2.0, 0.03), Noise(0.1)]), 1.5)
    assert float(steps_of(stronger)[0][0].std) == 3.0
    assert noise_levels(stronger, 2).tolist() == pytest.approx([0.03, 0.15], rel=1e-6)


def test_an_encoder_covers_a_batch_that_it_covers_photo_by_photo():
    photo, mixed = torch.zeros(2, 3, 12, 12), MixedFamily()
    inside = [chain(BLUR, NOISE), chain(JPEG, BLUR), NOISE]
    for first in inside:
        for second in inside:
            assert covers(mixed, for_each([first, second]), photo)
        for outside in (GaussianBlur(9.0, 0.05), chain(BOX, NOISE), chain(BLUR, Noise(0.5))):
            assert not covers(mixed, outside, photo)
            assert not covers(mixed, for_each([first, outside]), photo)


@pytest.mark.parametrize(
    "nothing",
    [
        MissingBox(0, 0, noise_std=0.05),
        MissingBox(3, 0, noise_std=0.05),
        RandomMissingPixels(0.0, noise_std=0.05),
        ScalableMask(torch.ones(1, 1, 4, 6), 0.05),
        MissingPixels(torch.ones(2, 1, 4, 6), 0.05),
        Marks(0, 0, noise_std=0.05),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_loses_nothing_is_noise(nothing):
    assert kind_of(nothing) == "blur" and default_solver(nothing) == default_solver(NOISE)
    ((step,),) = steps_of(nothing)
    assert isinstance(step, Noise) and step.noise_std == 0.05
    assert steps_of(chain(BLUR, nothing)) == steps_of(chain(nothing, BLUR)) == [(BLUR,)]
    assert default_solver(chain(BLUR, nothing)) == "latino"
    assert kind_of(chain(nothing, BOX)) == "missing"
