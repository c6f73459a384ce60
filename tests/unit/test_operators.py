"""Single degradations and families: what each does, takes and refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapt_diffuse.degradation import (
    FAMILIES,
    GaussianBlur,
    MissingPixels,
    RandomMissingPixels,
    family_from_json,
    family_to_json,
    parse_degradation,
    randn,
)
from adapt_diffuse.degradation.families import GaussianBlurFamily, MissingPixelsFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from tests.randomness import untouched_random_state

seeds = st.integers(0, 2**32 - 1)


def photo(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(std=st.floats(0, 6), height=st.integers(1, 20), width=st.integers(1, 20))
def test_blur_keeps_a_constant_photo(std, height, width):
    flat = torch.full((1, 3, height, width), 0.37, dtype=torch.float64)
    assert float((GaussianBlur(std)(flat) - 0.37).abs().max()) < 1e-14


def test_blur_of_std_zero_is_the_photo():
    image = photo((1, 3, 5, 7), 0)
    assert torch.equal(GaussianBlur(0.0)(image), image)


@given(st.lists(st.floats(0, 4), min_size=1, max_size=4))
def test_blur_takes_one_std_per_photo(stds):
    image = photo((len(stds), 3, 11, 6), 1)
    together = GaussianBlur(torch.tensor(stds, dtype=torch.float64))(image)
    for index, std in enumerate(stds):
        alone = GaussianBlur(std)(image[index : index + 1])[0]
        assert float((together[index] - alone).abs().max()) < 1e-14


def test_a_tensor_of_stds_can_be_changed_afterwards():
    std = torch.tensor([1.0], dtype=torch.float64)
    operator = GaussianBlur(std)
    image = photo((1, 3, 8, 8), 0)
    before = operator.select(torch.tensor([0]))(image)
    std.fill_(3.0)
    assert torch.equal(operator.select(torch.tensor([0]))(image), before)


def test_lost_pixels_lose_all_channels():
    observed = RandomMissingPixels(0.5, seed=1).observed(torch.ones(1, 3, 32, 32))
    assert torch.equal(observed[:, :1].expand_as(observed), observed)


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.75, 0.99])
def test_the_asked_fraction_of_pixels_is_lost(drop):
    kept = RandomMissingPixels(drop, seed=5).count(torch.ones(1, 1, 200, 200))
    assert abs(1 - float(kept) / 200**2 - drop) <= 4 * (drop * (1 - drop)) ** 0.5 / 200


def test_a_mask_follows_from_its_seed_and_the_photos_size():
    ones = torch.ones(1, 3, 40, 40)
    assert torch.equal(RandomMissingPixels(0.5, 1).observed(ones), RandomMissingPixels(0.5, 1).observed(ones))
    assert not torch.equal(RandomMissingPixels(0.5, 1).observed(ones), RandomMissingPixels(0.5, 2).observed(ones))
    operator = RandomMissingPixels(0.5, 1)
    assert operator.observed(torch.ones(1, 3, 7, 9)).shape == (1, 3, 7, 9)
    assert torch.equal(operator.observed(ones), RandomMissingPixels(0.5, 1).observed(ones))


@pytest.mark.parametrize("seed", range(20))
def test_even_one_pixel_is_kept(seed):
    assert float(RandomMissingPixels(0.99, seed).count(torch.ones(1, 1, 1, 1))) == 1
    operator, _ = MissingPixelsFamily().sample((2, 3, 1, 1), generators_for(seed, 2))
    assert operator.count(torch.ones(2, 1, 1, 1)).tolist() == [1, 1]


def test_the_callers_mask_can_be_changed_afterwards():
    mask = torch.ones(1, 1, 4, 4)
    operator = MissingPixels(mask)
    mask.zero_()
    assert float(operator.count(torch.ones(1, 3, 4, 4))) == 48


# Families


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
    [(GaussianBlurFamily(), 0.3, 3.0), (GaussianBlurFamily(2.0, 2.0), 2.0, 2.0), (MissingPixelsFamily(), 0.7, 0.8)],
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


@pytest.mark.parametrize("family", [GaussianBlurFamily(0.5, 1.5, 0.02), MissingPixelsFamily(0.1, 0.2, 0.0)])
def test_a_family_survives_json(family):
    assert family_from_json(family_to_json(family)) == family


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "rust"}, "Unknown degradation family 'rust'; there are gaussian-blur, missing-pixels."),
        ({}, "Unknown degradation family 'None'"),
        ({"name": "gaussian-blur", "drop": 1}, "'gaussian-blur' does not have one of the options ['drop']."),
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
    ],
)
def test_a_family_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        family_from_json(values)
    assert sentence in str(caught.value)


# Bad parameters


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GaussianBlur(-0.1), "The blur's std must be between 0 and 50 pixels, not -0.1."),
        (lambda: GaussianBlur(50.5), "The blur's std must be between 0 and 50 pixels, not 50.5."),
        (lambda: GaussianBlur(float("nan")), "The blur's std must be between 0 and 50 pixels, not nan."),
        (lambda: GaussianBlur(torch.tensor([1.0, 99.0])), "The blur's std must be between 0 and 50 pixels"),
        (lambda: GaussianBlur(1.0, noise_std=-0.05), "noise_std must be between 0 and 1"),
        (lambda: GaussianBlur(1.0, noise_std=float("nan")), "noise_std must be between 0 and 1"),
        (lambda: GaussianBlur(1.0, noise_std=12.75), "noise_std must be between 0 and 1"),
        (lambda: RandomMissingPixels(1.0), "must be between 0 and 0.99, not 1."),
        (lambda: RandomMissingPixels(-0.1), "must be between 0 and 0.99, not -0.1."),
        (lambda: RandomMissingPixels(float("nan")), "must be between 0 and 0.99, not nan."),
        (lambda: RandomMissingPixels(0.5, noise_std=-1.0), "noise_std must be between 0 and 1"),
        (lambda: MissingPixels(torch.zeros(1, 1, 4, 4)), "The mask keeps no pixel at all"),
        (lambda: MissingPixels(torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)), "The mask keeps no pixel at all"),
        (lambda: MissingPixels(torch.ones(4, 4)), "must have the shape (batch, 1, height, width), not (4, 4)."),
        (lambda: MissingPixels(torch.ones(1, 3, 4, 4)), "must have the shape (batch, 1, height, width)"),
        (lambda: MissingPixels(torch.ones(1, 1, 4, 4), noise_std=2.0), "noise_std must be between 0 and 1"),
    ],
)
def test_a_bad_parameter_is_one_sentence(make, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        make()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_size_names_both_sizes():
    operator = MissingPixels(torch.ones(1, 1, 4, 6))
    for use in (operator, operator.observed, operator.adjoint, operator.count):
        with pytest.raises(AdaptDiffuseError, match="mask is 6 x 4 .* photo is 7 x 5"):
            use(torch.ones(1, 3, 5, 7))


def test_masks_for_another_number_of_photos_are_refused():
    with pytest.raises(AdaptDiffuseError, match="2 of them.*3 of them"):
        MissingPixels(torch.ones(2, 1, 4, 4))(torch.ones(3, 3, 4, 4))


def test_stds_for_another_number_of_photos_are_refused():
    with pytest.raises(AdaptDiffuseError, match="2 stds.*3 photos"):
        GaussianBlur(torch.tensor([1.0, 2.0]))(torch.ones(3, 3, 4, 4))


# Degradations by name


def test_names_take_options_and_defaults(tmp_path):
    blur = parse_degradation("gaussian-blur:std=1.5", 0.1)
    assert (blur.std.tolist(), blur.noise_std) == ([1.5], 0.1)
    assert parse_degradation("gaussian-blur", 0.0).std.tolist() == [3.0]
    missing = parse_degradation("missing-pixels:drop=0.25,seed=7", 0.0)
    assert (missing.drop, missing.seed) == (0.25, 7)
    assert parse_degradation("missing-pixels:seed=7", 0.0).drop == 0.75
    Image.new("L", (5, 3), 255).save(tmp_path / "a=b.png")
    mask = parse_degradation(f"mask:file={tmp_path / 'a=b.png'}", 0.0)
    assert tuple(mask.mask.shape) == (1, 1, 3, 5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rust", "Unknown degradation 'rust'; there are gaussian-blur, missing-pixels, mask."),
        ("", "Unknown degradation ''"),
        ("gaussian-blur:std", "'std' in 'gaussian-blur:std' should be key=value."),
        ("gaussian-blur:std=wide", "'wide' in 'gaussian-blur:std=wide' is not a number."),
        ("gaussian-blur:angle=3", "'gaussian-blur' does not have one of the options in 'gaussian-blur:angle=3'."),
        ("gaussian-blur:noise_std=0.1", "'gaussian-blur' does not have one of the options"),
        ("gaussian-blur:std=-3", "must be between 0 and 50 pixels, not -3"),
        ("gaussian-blur:std=nan", "must be between 0 and 50 pixels, not nan"),
        ("missing-pixels:drop=1", "must be between 0 and 0.99, not 1."),
        ("missing-pixels:seed=1e30", "The seed of missing-pixels must be a whole number from 0 on, not 1e+30."),
        ("missing-pixels:seed=inf", "The seed of missing-pixels must be a whole number from 0 on, not inf."),
        ("missing-pixels:seed=1.5", "The seed of missing-pixels must be a whole number from 0 on, not 1.5."),
        ("mask", "The degradation mask needs a file"),
        ("mask:file=/nowhere/mask.png", "/nowhere/mask.png cannot be read as an image"),
    ],
)
def test_a_name_that_cannot_be_is_one_sentence(text, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        parse_degradation(text, 0.05)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_noise_is_the_same_in_every_precision():
    shape, like = (2, 3, 4, 4), torch.zeros(1, dtype=torch.float64)
    double = randn(shape, like, generators_for(0, 2))
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(randn(shape, like.to(dtype), generators_for(0, 2)), double.to(dtype))


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (torch.zeros(0, 3, 4, 4), "The photo has no pixels"),
        (torch.zeros(1, 3, 0, 4), "The photo has no pixels"),
        (torch.zeros(3, 4, 4), "The photo has no pixels"),
        (torch.full((1, 3, 4, 4), torch.nan), "NaN or infinite"),
        (torch.full((1, 3, 4, 4), torch.inf), "NaN or infinite"),
    ],
)
def test_a_photo_that_cannot_be_restored_is_one_sentence(bad, sentence):
    with pytest.raises(AdaptDiffuseError, match=sentence):
        Measurement.of(bad, GaussianBlur(1.0))


def test_a_mask_keeps_what_is_above_a_half():
    mask = torch.tensor([0.0, 0.4, 0.5, 0.6, 1.0]).reshape(1, 1, 1, 5)
    assert MissingPixels(mask).observed(torch.ones(1, 1, 1, 5)).flatten().tolist() == [0, 0, 0, 1, 1]
    assert MissingPixels(mask > 0.5).count(torch.ones(1, 3, 1, 5)).tolist() == [6]
