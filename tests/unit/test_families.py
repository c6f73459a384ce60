"""Random families of degradations: what each draws, and refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_diffuse.degradation import (
    FAMILIES,
    GaussianBlur,
    Jpeg,
    LowResolution,
    MissingPixels,
    MotionBlur,
    Noise,
    family_from_json,
    family_to_json,
)
from adapt_diffuse.degradation.families import (
    CameraBlurFamily,
    DownscaleFamily,
    FilmDamageFamily,
    GaussianBlurFamily,
    JpegFamily,
    MissingBoxFamily,
    MissingPixelsFamily,
    MotionBlurFamily,
    NoiseFamily,
)
from adapt_diffuse.degradation.mixed import MixedFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.restore import generators_for
from tests.randomness import untouched_random_state

seeds = st.integers(0, 2**32 - 1)


def photo(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", FAMILIES)
@given(count=st.integers(1, 5), seed=seeds)
def test_a_family_draws_each_photo_from_its_own_generator(name, count, seed):
    shape = (count, 3, 6, 5)
    image = photo(shape, 0)
    with untouched_random_state():
        operator, level = FAMILIES[name]().sample(shape, generators_for(seed, count))
    assert level.shape == (count,)
    assert level.dtype == torch.float64
    for index in range(count):
        part, alone = FAMILIES[name]().sample((1, *shape[1:]), generators_for(seed + index, 1))
        assert alone.tolist() == level[index : index + 1].tolist()
        assert torch.allclose(part(image[index : index + 1])[0], operator(image)[index], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("family", "low", "high"),
    [
        (GaussianBlurFamily(), 0.3, 3.0),
        (GaussianBlurFamily(2.0, 2.0), 2.0, 2.0),
        (MissingPixelsFamily(), 0.7, 0.8),
        (MotionBlurFamily(), 1.0, 20.0),
        (CameraBlurFamily(), 1.0, 20.0),
        (MissingBoxFamily(), 0.2, 0.6),
        (DownscaleFamily(), 2, 4),
        (JpegFamily(), 50, 95),
        (NoiseFamily(0.1), 0.1, 0.2),
    ],
)
def test_levels_fill_the_familys_range(family, low, high):
    _, level = family.sample((2000, 3, 1, 1), torch.Generator().manual_seed(0))
    assert low <= float(level.min()) <= low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) <= float(level.max()) <= high
    assert abs(float(level.mean()) - (low + high) / 2) <= 0.03 * (high - low)


def test_the_level_is_what_the_operator_does():
    blur, std = GaussianBlurFamily().sample((3, 3, 24, 24), generators_for(0, 3))
    image = photo((3, 3, 24, 24), 0)
    assert torch.equal(blur(image), GaussianBlur(std)(image))
    missing, drop = MissingPixelsFamily().sample((3, 3, 200, 200), generators_for(0, 3))
    lost = 1 - missing.count(torch.ones(3, 1, 200, 200)) / 200**2
    assert float((lost - drop).abs().max()) < 4 * 0.5 / 200


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_every_factor_is_drawn_as_often(factor):
    _, level = DownscaleFamily().sample((3000, 3, 1, 1), torch.Generator().manual_seed(0))
    # four standard errors of a share of one third
    assert abs(float((level == factor).double().mean()) - 1 / 3) < 4 * (2 / 9 / 3000) ** 0.5


def test_the_mixed_family_mixes():
    operator, level = MixedFamily().sample((400, 3, 4, 4), torch.Generator().manual_seed(0))
    parts = [{type(part) for part in getattr(one, "parts", (one,))} for one in operator.degradations]
    for kind, share in (
        (GaussianBlur, 0.25),
        (MotionBlur, 0.25),
        (LowResolution, 0.375),  # a quarter of the strengths leaves the size as it is
        (Jpeg, 0.5),
        (MissingPixels, 0.5),
        (Noise, 1.0),
    ):
        found = sum(kind in kinds for kinds in parts) / 400
        assert abs(found - share) <= 4 * (share * (1 - share) / 400) ** 0.5
    assert 0 < float(level.min()) < 0.3 and 3 < float(level.max()) <= 5
    # more stages, higher level
    stages = torch.tensor([float(len(kinds)) for kinds in parts])
    assert float(torch.corrcoef(torch.stack([stages, level.float()]))[0, 1]) > 0.7


def test_the_level_of_the_mixed_family_is_the_sum_of_its_strengths():
    family = MixedFamily(2.0, 10.0, 3, 40.0, 0.4, 0.2)
    operator, level = family.sample((60, 3, 64, 64), torch.Generator().manual_seed(0))
    strength = {
        GaussianBlur: lambda part: float(part.std) / 2,
        MotionBlur: lambda part: float(part.length) / 10,
        LowResolution: lambda part: (float(part.factor) - 1) / 2,
        Jpeg: lambda part: (100 - float(part.quality)) / 60,
        Noise: lambda part: float(part.noise_std) / 0.2,
    }
    factors = set()
    for one, whole in zip(operator.degradations, level.tolist(), strict=True):
        parts = {type(part): part for part in getattr(one, "parts", (one,))}
        lost = parts.pop(MissingPixels, None)
        told = sum(strength[kind](part) for kind, part in parts.items())
        if lost is None:
            assert told == pytest.approx(whole, abs=1e-12)
        else:  # a pixel is lost or not: the share is the strength's only about
            told += float(1 - lost.mask.double().mean()) / 0.4
            assert told == pytest.approx(whole, abs=5 * 0.5 / 64 / 0.4)
        factors.add(float(parts[LowResolution].factor) if LowResolution in parts else 1.0)
    assert factors == {1.0, 2.0, 3.0}


def test_noise_of_the_mixed_family_is_uniform_up_to_its_most():
    operator, _ = MixedFamily(noise_std=0.2).sample((500, 3, 1, 1), torch.Generator().manual_seed(0))
    assert 0 <= float(operator.noise_std.min()) < 0.005 and 0.195 < float(operator.noise_std.max()) <= 0.2
    assert abs(float(operator.noise_std.mean()) - 0.1) < 4 * 0.2 / (12 * 500) ** 0.5


@pytest.mark.parametrize(
    "family",
    [
        GaussianBlurFamily(0.5, 1.5, 0.02),
        MissingPixelsFamily(0.1, 0.2, 0.0),
        MotionBlurFamily(2.0, 3.0, 0.01),
        CameraBlurFamily(2.0, 3.0, 1.5, 0.01),
        MissingBoxFamily(0.1, 0.2, 0.03),
        DownscaleFamily(2, 3, 0.02),
        JpegFamily(10, 20, 0.02),
        NoiseFamily(0.1, 0.3),
        MixedFamily(1.0, 2.0, 3, 40.0, 0.2, 0.01),
        FilmDamageFamily(0.1, 0.2, 0.3, 1.1, 2, 3, 1.0, 0.01),
    ],
)
def test_a_family_survives_json(family):
    assert family_from_json(family_to_json(family)) == family


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"name": "rust"},
            "Unknown degradation family 'rust'; there are gaussian-blur, motion-blur, camera-blur, missing-pixels, "
            "missing-box, downscale, jpeg, noise, mixed, film-damage.",
        ),
        ({}, "Unknown degradation family 'None'"),
        (
            {"name": "gaussian-blur", "drop": 1},
            "'gaussian-blur' does not have one of the options drop: it has std_min, std_max, noise_std.",
        ),
        (
            {"name": "gaussian-blur", "std_min": -1.0},
            "std_min and std_max must rise between 0 and 50, not be -1 and 3.",
        ),
        ({"name": "gaussian-blur", "std_max": 51.0}, "std_min and std_max must rise"),
        ({"name": "gaussian-blur", "std_min": float("nan")}, "std_min and std_max must rise"),
        ({"name": "gaussian-blur", "std_min": 2.0, "std_max": 1.0}, "std_min and std_max must rise"),
        ({"name": "gaussian-blur", "noise_std": -0.1}, "noise_std must be between 0 and 1"),
        (
            {"name": "missing-pixels", "drop_max": 1.2},
            "drop_min and drop_max must rise between 0 and 0.99, not be 0.7 and 1.2.",
        ),
        ({"name": "missing-pixels", "drop_min": -0.2}, "drop_min and drop_max must rise"),
        ({"name": "motion-blur", "length_max": 101.0}, "length_min and length_max must rise between 0 and 100"),
        ({"name": "camera-blur", "extent_min": 30.0}, "extent_min and extent_max must rise between 0 and 100"),
        ({"name": "camera-blur", "gain": 0.0}, "gain must be between 0.1 and 8, not 0."),
        ({"name": "missing-box", "side_max": 1.0}, "side_min and side_max must rise between 0 and 0.99"),
        ({"name": "downscale", "factor_min": 0}, "factor_min and factor_max must rise between 1 and 16"),
        ({"name": "downscale", "factor_min": 2.5}, "factor_min and factor_max must be whole numbers."),
        ({"name": "jpeg", "quality_max": 101.0}, "quality_min and quality_max must rise between 1 and 100"),
        ({"name": "noise", "noise_min": 0.3}, "noise_min must be between 0 and noise_std, not 0.3."),
        ({"name": "noise", "noise_std": 1.3}, "noise_std must be between 0 and 1"),
        ({"name": "mixed", "factor_max": 1}, "factor_max must be between 2 and 16, not 1."),
        ({"name": "mixed", "factor_max": 2.5}, "factor_max must be a whole number, not 2.5."),
        ({"name": "mixed", "quality_min": 0.0}, "quality_min must be between 1 and 99, not 0."),
    ],
)
def test_a_family_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        family_from_json(values)
    assert sentence in str(caught.value)
