"""One degradation after the other, and another one for each photo."""

from __future__ import annotations

import pytest
import torch

from adapt_diffuse.degradation import (
    Degradation,
    Downscale,
    GaussianBlur,
    Jpeg,
    LinearDegradation,
    MissingBox,
    MissingPixels,
    MotionBlur,
    Noise,
    RandomMissingPixels,
    chain,
    for_each,
    measure,
    noise_levels,
    parse_degradation,
)
from adapt_diffuse.detail import with_detail
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.finish import match_colours, paste_known
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for


def photo(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(shape):
    return GaussianBlur(2.0)(photo(shape, 0))


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


def test_the_first_comes_first():
    blur, jpeg = GaussianBlur(1.5), Jpeg(20)
    image = photo((2, 3, 20, 18), 0)
    assert torch.equal(chain(blur, jpeg)(image), jpeg(blur(image)))
    assert not torch.allclose(chain(blur, jpeg)(image), blur(jpeg(image)))


def test_text_makes_the_same_chain():
    image = photo((1, 3, 20, 18), 0)
    parsed = parse_degradation("gaussian-blur:std=2 | downscale:factor=2|jpeg:quality=30", 0.05)
    assert torch.equal(parsed(image), Jpeg(30)(Downscale(2)(GaussianBlur(2.0)(image))))
    assert parsed.noise_std == 0.05


@pytest.mark.parametrize("nested", [False, True])
def test_the_noise_is_that_of_the_last(nested):
    first, second, third = GaussianBlur(1.0, 0.3), MotionBlur(2.0, 0.0, 0.2), Noise(0.1)
    made = chain(first, chain(second, third)) if nested else chain(chain(first, second), third)
    assert made.noise_std == 0.1
    image = ones(2, 3, 90, 90) / 2
    assert float((measure(image, made, generators_for(0, 2)) - made(image)).std()) == pytest.approx(0.1, rel=0.02)


def test_a_chain_is_linear_where_all_of_it_is():
    linear = chain(GaussianBlur(1.0), MissingBox(1, 1))
    assert isinstance(linear, LinearDegradation)
    assert isinstance(chain(linear, Downscale(2)), LinearDegradation)
    for other in (chain(linear, Jpeg(50)), chain(Jpeg(50), linear), for_each([linear, Jpeg(50)])):
        assert isinstance(other, Degradation) and not isinstance(other, LinearDegradation)


def test_only_what_no_blur_has_smeared_is_unobserved():
    box, blur, noise = MissingBox(2, 2, 1, 1), GaussianBlur(0.5), Noise(0.1)
    lost = box.observed(ones(1, 3, 6, 6))
    assert torch.equal(chain(blur, box).observed(ones(1, 3, 6, 6)), lost)
    assert torch.equal(chain(box, blur).observed(ones(1, 3, 6, 6)), ones(1, 3, 6, 6))
    assert torch.equal(chain(box, noise).observed(ones(1, 3, 6, 6)), lost)
    assert torch.equal(chain(chain(box, blur), noise).observed(ones(1, 3, 6, 6)), ones(1, 3, 6, 6))
    both = chain(box, RandomMissingPixels(0.5, 1)).observed(ones(1, 3, 6, 6))
    assert torch.equal(both, lost * RandomMissingPixels(0.5, 1).observed(ones(1, 3, 6, 6)))
    assert chain(box, noise).count(ones(2, 3, 6, 6)).tolist() == [96, 96]


def test_sizes_go_through_a_chain():
    twice = chain(Downscale(2), chain(Downscale(3), RandomMissingPixels(0.3, 1)))
    y = twice(photo((1, 3, 24, 35), 0))
    assert y.shape == (1, 3, 4, 6)
    assert twice.image_size(4, 6) == (24, 36)
    assert torch.equal(twice.start_image(y), Downscale(2).start_image(Downscale(3).start_image(y)))


def test_each_photo_gets_its_own():
    image = photo((3, 3, 16, 14), 0)
    ones_of = [Noise(0.1), chain(GaussianBlur(1.0), Noise(0.2)), MissingBox(3, 4, 2, 2, noise_std=0.3)]
    operator = for_each(ones_of)
    for index, one in enumerate(ones_of):
        alone = image[index : index + 1]
        assert torch.equal(operator(image)[index : index + 1], one(alone))
        assert torch.equal(
            operator.observed(ones(3, 3, 16, 14))[index : index + 1], one.observed(torch.ones_like(alone))
        )
    assert operator.count(image).tolist() == [672, 672, 672 - 36]
    assert noise_levels(operator, 3).tolist() == [0.1, 0.2, 0.3]
    assert noise_levels(operator.select(torch.tensor([2, 0])), 2).tolist() == [0.3, 0.1]
    ratio = Measurement.of(measure(image, operator, generators_for(0, 3)), operator).residual_ratio(image)
    assert float((ratio - 1).abs().max()) < 4 / (2 * 600) ** 0.5


def test_a_chain_keeps_each_photos_noise_and_numbers():
    made = chain(GaussianBlur(torch.tensor([0.5, 1.0, 2.0])), Noise(torch.tensor([0.1, 0.2, 0.3])))
    part = made.select(torch.tensor([2, 0]))
    image = photo((2, 3, 9, 9), 0)
    assert noise_levels(part, 2).tolist() == pytest.approx([0.3, 0.1], rel=1e-6)
    assert torch.allclose(part(image), GaussianBlur(torch.tensor([2.0, 0.5]))(image), rtol=0, atol=1e-14)


def test_what_follows_or_precedes_a_photos_own_damage_leaves_it_that_of_the_photo_alone():
    box, blur, jpeg, noise = MissingBox(3, 4, 2, 2), GaussianBlur(0.8), Jpeg(15), Noise(0.02)
    image = smooth((2, 3, 20, 18))
    for first, second, apart in (
        (box, for_each([blur, noise]), [chain(box, blur), chain(box, noise)]),
        (for_each([jpeg, blur]), noise, [chain(jpeg, noise), chain(blur, noise)]),
        (for_each([jpeg, blur]), for_each([box, noise]), [chain(jpeg, box), chain(blur, noise)]),
    ):
        whole = chain(first, second)
        measurement = Measurement.of(measure(image, whole, generators_for(0, 2)), whole)
        together = with_detail(0.9 * image, measurement)
        for index, one in enumerate(apart):
            alone = Measurement.of(measure(image[index : index + 1], one, generators_for(index, 1)), one)
            assert torch.equal(alone.y, measurement.y[index : index + 1])
            assert float(alone.count()) == float(measurement.count()[index])
            detailed = with_detail(0.9 * image[index : index + 1], alone)
            assert torch.allclose(detailed, together[index : index + 1], rtol=0, atol=1e-6)


def test_a_chain_of_photos_own_damage_is_for_as_many_photos():
    with pytest.raises(AdaptDiffuseError, match="2 degradations for 3 photos"):
        chain(for_each([Noise(0.1)] * 2), for_each([Noise(0.1)] * 3))


def test_known_pixels_are_pasted_through_pointwise_chains_alone():
    image = photo((1, 3, 6, 6), 0)
    box = chain(MissingBox(2, 2, 1, 1), Noise(0.1))
    measurement = Measurement.of(measure(photo((1, 3, 6, 6), 1), box, generators_for(0, 1)), box)
    pasted = paste_known(image, measurement)
    lost = box.observed(torch.ones_like(image)) == 0
    assert torch.equal(pasted, torch.where(lost, image, measurement.y))
    mask = MissingPixels(torch.tensor([[1.0, 0.0], [1.0, 1.0]])[None, None])
    for blurred in (chain(GaussianBlur(1.0), MissingBox(2, 2, 1, 1)), chain(Downscale(3), mask)):
        with pytest.raises(AdaptDiffuseError, match="missing pixels and nothing else"):
            paste_known(image, Measurement.of(blurred(image), blurred))


def test_colours_are_matched_on_the_small_photo():
    image = photo((1, 3, 8, 8), 0)
    y = Downscale(2)(image) + torch.tensor([0.1, 0.0, -0.05]).reshape(1, 3, 1, 1)
    matched = match_colours(image, Measurement.of(y, Downscale(2)))
    assert torch.allclose((matched - image).mean((2, 3)), torch.tensor([[0.1, 0.0, -0.05]]).double(), atol=1e-7)


def test_an_image_that_is_too_small_for_its_photo_is_one_sentence():
    measurement = Measurement.of(photo((1, 3, 4, 6), 0), Downscale(2))
    with pytest.raises(AdaptDiffuseError, match="an image of 12 x 8, but what was restored has 6 x 4"):
        measurement.residual(photo((1, 3, 4, 6), 1))


def test_what_was_lost_stays_lost_under_fading_that_lifts_black():
    faded = parse_degradation("missing-pixels:drop=0.5|film-damage:scratches=0,dust=0,fade=0.5", 0.05)
    image = photo((1, 3, 16, 14), 0)
    lost = faded.observed(torch.ones_like(image)) == 0
    measurement = Measurement.of(measure(image, faded, generators_for(0, 1)), faded)
    assert bool(lost.any()) and float(measurement.residual(image)[lost].abs().max()) == 0
    assert float(measurement.residual_ratio(image)) == pytest.approx(1, abs=4 / (2 * int((~lost).sum())) ** 0.5)
    assert float((match_colours(image, measurement) - image).abs().max()) < 0.05
    assert float(measurement.start_image()[lost].abs().max()) == 0


def test_photos_that_do_not_share_a_size_are_one_sentence():
    with pytest.raises(AdaptDiffuseError, match="made smaller by different factors"):
        for_each([Downscale(2), GaussianBlur(1.0)])
    assert for_each([Downscale(2), Downscale(2)])(photo((2, 3, 8, 6), 0)).shape == (2, 3, 4, 3)
