"""Old prints: fading that can be undone, scratches and dust that follow from a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapt_diffuse.degradation import (
    FAMILIES,
    Fading,
    FilmDamage,
    LinearDegradation,
    Marks,
    MissingPixels,
    Noise,
    chain,
    measure,
    parse_degradation,
)
from adapt_diffuse.degradation.defects import Mark, draw_marks, marks_mask
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.restore import generators_for

RAMP = torch.linspace(-0.3, 1.3, 97, dtype=torch.float64).reshape(1, 1, 1, -1).repeat(1, 3, 1, 1)


@given(fade=st.floats(0, 1), cast=st.floats(-1, 1), gamma=st.floats(0.2, 5))
def test_fading_can_be_undone(fade, cast, gamma):
    fading = Fading.of(fade, cast, gamma)
    assert float((fading.invert(fading(RAMP)) - RAMP).abs().max()) < 1e-9


@given(fade=st.floats(0, 1), cast=st.floats(-1, 1), gamma=st.floats(0.2, 5))
def test_a_faded_photo_is_a_picture_still(fade, cast, gamma):
    faded = Fading.of(fade, cast, gamma)(RAMP.clamp(0, 1))
    assert float(faded.min()) >= 0 and float(faded.max()) <= 1 + 1e-12
    assert bool((faded.diff(dim=3) >= -1e-12).all())


def test_the_dials_do_what_they_say():
    black, white, middle = (torch.full((1, 3, 1, 1), value, dtype=torch.float64) for value in (0.0, 1.0, 0.5))
    assert torch.equal(Fading.of()(RAMP), RAMP)
    pale = Fading.of(fade=0.5)
    assert pale(black).flatten().tolist() == pytest.approx([0.2] * 3)
    assert pale(white).flatten().tolist() == pytest.approx([0.8] * 3)
    red, blue = Fading.of(cast=1.0)(white).flatten().tolist(), Fading.of(cast=-1.0)(white).flatten().tolist()
    assert red == pytest.approx([1.0, 0.85, 0.6]) and blue == pytest.approx(red[::-1])
    assert float(Fading.of(gamma=2.0)(middle).max()) == pytest.approx((0.52**2 - 0.02**2) / (1.02**2 - 0.02**2))


def test_a_batch_has_fadings_of_its_own():
    together = Fading.of(torch.tensor([0.1, 0.6], dtype=torch.float64), 0.3)(RAMP.repeat(2, 1, 1, 1))
    for index, fade in enumerate((0.1, 0.6)):
        assert torch.allclose(together[index], Fading.of(fade, 0.3)(RAMP)[0], rtol=0, atol=1e-14)


def test_a_start_has_its_colours_back_and_its_scratches_black():
    mask = torch.ones(1, 1, 4, 4)
    mask[..., 1, 2] = 0
    film = FilmDamage(MissingPixels(mask), Fading.of(0.5, 0.7, 1.4))
    assert not isinstance(film, LinearDegradation)
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start = film.start_image(measure(image, film, generators_for(0, 1)))
    assert float((start - mask * image).abs().max()) < 1e-12


@pytest.mark.parametrize("gamma", [2.0, 3.0])
def test_noise_in_the_shadows_of_a_start_stays_in_the_picture(gamma):
    fading = Fading.of(0.3, 0.0, gamma)
    image = torch.linspace(0, 1, 400, dtype=torch.float64).reshape(1, 1, 20, 20).expand(1, 3, -1, -1)
    for damage in (FilmDamage(Marks(0, 0), fading, 0.05), chain(fading, Noise(0.05))):
        y = measure(image, damage, generators_for(0, 1))
        start = damage.start_image(y)
        assert float(fading.invert(y).min()) < -1  # below black the curve is nearly flat
        assert float(start.min()) >= 0 and float(start.max()) <= 1
        assert float((start - image).square().mean().sqrt()) < 0.2


# Marks


def test_marks_follow_from_the_seed():
    image = torch.ones(1, 3, 40, 50)
    first = Marks(3, 20, 2.0, seed=1)(image)
    assert torch.equal(first, Marks(3, 20, 2.0, seed=1)(image))
    assert not torch.equal(first, Marks(3, 20, 2.0, seed=2)(image))
    assert torch.equal(Marks(0, 0)(image), image)


def test_a_mark_is_as_long_and_as_wide_as_it_says():
    for angle, tall, wide in ((0.0, 21, 3), (np.pi / 2, 3, 21)):
        mask = marks_mask(41, 41, [Mark(20.5, 20.5, angle, 21.0, 3.0, 0.0, 0.5)])
        rows, columns = (mask[0, 0] == 0).nonzero().unbind(1)
        assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == (tall, wide)
        assert abs(int((mask == 0).sum()) - 21 * 3) <= 6
    bent = marks_mask(41, 41, [Mark(20.5, 15.5, 0.0, 31.0, 1.0, 8.0, 0.5)])
    columns = (bent[0, 0] == 0).nonzero()[:, 1]
    assert int(columns.max() - columns.min()) == 4  # half of the bend: an arc sways to one side alone


@given(size=st.floats(1, 6), seed=st.integers(0, 99))
def test_scratches_are_long_and_thin_and_dust_is_small(size, seed):
    generator = torch.Generator().manual_seed(seed)
    marks = draw_marks(100, 80, 5, 5, size, generator)
    for scratch in marks[:5]:
        assert 15 <= scratch.length <= 120 and 0.5 * size <= scratch.width <= size
    for speck in marks[5:]:
        assert speck.length <= 20 * size and speck.width <= 4 * size


def test_a_photo_never_loses_every_pixel():
    assert marks_mask(3, 3, [Mark(1.5, 1.5, 0.0, 9.0, 9.0, 0.0, 0.5)]).sum() == 1


def test_a_mask_from_a_file_takes_the_place_of_random_marks(tmp_path):
    lost = np.zeros((6, 8), np.uint8)
    lost[2, 3] = 255
    Image.fromarray(lost).save(tmp_path / "mask.png")
    film = parse_degradation(f"film-damage:file={tmp_path / 'mask.png'},fade=0", 0.02)
    assert film.count(torch.ones(1, 3, 6, 8)).tolist() == [3 * 47]
    assert film.noise_std == 0.02
    unsaid = parse_degradation(f"film-damage:file={tmp_path / 'mask.png'}", 0.02)
    grey = torch.full((1, 3, 6, 8), 0.5)
    assert torch.equal(unsaid(grey), film(grey))  # a scratched photo need not have faded


def test_the_family_draws_what_it_says():
    film, level = FAMILIES["film-damage"](fade_min=0.2, fade_max=0.4).sample((8, 3, 64, 64), generators_for(0, 8))
    assert bool(((level >= 0.2) & (level < 0.4)).all())
    assert torch.equal(film.fading.offset[:, 0], 0.4 * level)
    lost = 1 - film.count(torch.ones(8, 3, 64, 64)) / (3 * 64 * 64)
    assert float(lost.min()) > 0 and 0.005 < float(lost.mean()) < 0.3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Fading.of(fade=1.5), "The fading must be between 0 and 1, not 1.5."),
        (lambda: Fading.of(cast=float("nan")), "The colour cast must be between -1 and 1, not nan."),
        (lambda: Fading.of(gamma=0.0), "The fading's gamma must be between 0.2 and 5, not 0."),
        (lambda: Fading(*[torch.ones(3)] * 3), "The fading's gain must be three numbers per photo, not of the shape"),
        (lambda: Fading(*[torch.ones(2, 3)] * 3)(torch.ones(3, 3, 2, 2)), "There are 2 fadings for 3 photos"),
        (lambda: Marks(-1, 0), "The number of scratches must be between 0 and 10000, not -1."),
        (lambda: Marks(0, 10**6), "The number of specks of dust must be between 0 and 10000, not 1e+06."),
        (lambda: Marks(0, 0, 0.0), "The size of scratches and dust in pixels must be between 0.5 and 100, not 0."),
        (lambda: parse_degradation("film-damage:scratches=1.5", 0.0), "number of marks of film-damage must be a whole"),
        (lambda: FAMILIES["film-damage"](gamma_max=0.5), "gamma_max must be between 1 and 5, not 0.5."),
        (lambda: FAMILIES["film-damage"](cast_max=2), "cast_max must be between 0 and 1, not 2."),
        (lambda: FAMILIES["film-damage"](dust_max=-1), "dust_max must be between 0 and 10000, not -1."),
        (lambda: FAMILIES["film-damage"](size=0), "size must be between 0.5 and 100, not 0."),
        (lambda: FAMILIES["film-damage"](size=math.nan), "size must be between 0.5 and 100, not nan."),
    ],
)
def test_a_bad_number_is_one_sentence(make, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        make()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_the_slope_at_black_is_that_beside_it():
    fading = Fading.of(0.2, 0.3, 1.4)
    near = torch.tensor([-1e-9, 0.0, 1e-9], dtype=torch.float64).reshape(3, 1, 1, 1).expand(3, 3, 1, 1)
    source = near.clone().requires_grad_()
    fading(source).sum().backward()
    assert torch.allclose(source.grad[1], source.grad[0], rtol=1e-5)
    assert torch.allclose(source.grad[1], source.grad[2], rtol=1e-5)
