"""Severity without a trained encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapt_diffuse.degradation import (
    CameraBlur,
    Chain,
    Degradation,
    Downscale,
    GaussianBlur,
    Jpeg,
    LensBlur,
    LowResolution,
    MissingBox,
    MissingPixels,
    MotionBlur,
    Noise,
    RandomMissingPixels,
    chain,
    for_each,
    measure,
)
from adapt_diffuse.degradation.families import FAMILIES
from adapt_diffuse.degradation.levels import at_strength
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.restore import generators_for
from adapt_diffuse.severity.calibration import (
    Calibration,
    calibrate,
    damaged_again,
    dealt,
    encodings,
    fill_lost,
    lost_part,
    probed,
    spread,
    steady_power,
    strengths_of,
)
from adapt_diffuse.severity.calibration_photos import calibration_size, folder_views, sample_views, view
from adapt_diffuse.severity.losses import error_variance
from tests.models import draw_photos, drawn_batch


def encode(image: Tensor) -> Tensor:
    """An autoencoder whose latents are the pixels themselves, twice as large."""
    return 2 * F.pixel_unshuffle(image, 4)


def grey(count: int, spread: float = 0.1, side: int = 32) -> Tensor:
    """Photos far enough from black and white that nothing is cut off."""
    return 0.5 + spread * (drawn_batch(count, side, side) - 0.5)


def test_noise_is_told_exactly_where_latents_are_pixels() -> None:
    calibration = calibrate(grey(4), Noise(0.05), encode)
    photos = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    severity = calibration.predict(measure(photos, Noise(0.05), generators_for(0, 3)), encode=encode)
    # 12288 values: three standard errors of a standard deviation are 2 %, the calibration's own come on top
    assert severity.sigma_hat.tolist() == pytest.approx([0.1] * 3, rel=0.03)
    assert severity.z_hat.shape == (3, 48, 16, 16) and severity.photo_size == (64, 64)


@pytest.mark.parametrize(
    "degradation",
    [
        GaussianBlur(1.5, 0.02),
        RandomMissingPixels(0.6, 0, 0.02),
        MissingBox(12, 10, noise_std=0.02),
        Downscale(2, noise_std=0.01),
        chain(GaussianBlur(1.0), Jpeg(20, 0.01)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_severity_is_near_the_true_error_of_photos_not_seen_before(degradation: Degradation) -> None:
    photos = drawn_batch(10, 64, 64)
    calibration = calibrate(photos[:5], degradation, encode, multiple=8)
    y = measure(photos[5:], degradation, generators_for(3, 5))
    severity = calibration.predict(degradation.start_image(y), 8, encode)
    true = spread(severity.z_hat - encode(photos[5:]), lost_part(photos[5:], degradation))
    assert float((severity.sigma_hat / true).log().mean().abs()) < 0.25
    assert float((severity.sigma_hat / true).log().abs().max()) < 0.5


def test_a_hole_is_as_severe_in_a_large_photo_as_in_a_small_one() -> None:
    found = []
    for side in (32, 64, 128):
        hole = MissingBox(12, 10, 10, 11)
        photos = drawn_batch(8, 128, 128)[:, :, :side, :side]
        y = measure(photos[4:], hole, generators_for(3, 4))
        found.append(float(calibrate(photos[:4], hole, encode, multiple=8).predict(y, 8, encode).sigma_hat.mean()))
    assert max(found) < 2 * min(found)


def test_the_spread_over_everything_is_the_standard_deviation_of_the_error() -> None:
    error = torch.randn(3, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    everywhere = lost_part(torch.zeros(3, 3, 32, 24), GaussianBlur(1.0))
    whole = error_variance(error, torch.zeros_like(error)).sqrt()
    assert spread(error, everywhere).tolist() == pytest.approx(whole.tolist(), rel=0.01)
    part = torch.zeros(3, 1, 32, 21)
    part[:, :, :, :4] = 1
    assert spread(error, part, 4).tolist() == pytest.approx(
        error[..., :1].square().mean((1, 2, 3)).sqrt().tolist(), rel=1e-6
    )


def test_a_batch_equals_its_photos_one_by_one_and_sizes_are_padded() -> None:
    degradation = RandomMissingPixels(0.5, 0, 0.05)
    calibration = Calibration(degradation, 1.3, 1.1)
    photos = drawn_batch(2, 30, 45)
    y = measure(photos, degradation, generators_for(0, 2))
    together = calibration.predict(y, 8, encode)
    assert together.z_hat.shape == (2, 48, 8, 12) and together.photo_size == (30, 45)
    for index, photo in enumerate(y.split(1)):
        alone = calibration.predict(photo, 8, encode)
        assert torch.allclose(together.z_hat[index], alone.z_hat[0], atol=1e-6)
        assert float(together.sigma_hat[index]) == pytest.approx(float(alone.sigma_hat[0]), rel=1e-5)


@pytest.mark.parametrize("degradation", [GaussianBlur(1.0, 0.02), MissingBox(4, 4), chain(GaussianBlur(1.0), Jpeg(20))])
def test_the_encodings_of_a_calibration_are_known_beforehand(degradation: Degradation) -> None:
    asked = []

    def counted(image: Tensor) -> Tensor:
        asked.append(len(image))
        return encode(image)

    calibrate(grey(3), degradation, counted)
    assert sum(asked) == len(asked) == encodings(3, degradation)


def test_calibrating_is_reproducible() -> None:
    first, second = (calibrate(grey(2), GaussianBlur(1.0, 0.05), encode) for _ in range(2))
    assert (first.scale, first.power) == (second.scale, second.power)
    assert calibrate(grey(2), GaussianBlur(1.0, 0.05), encode, seed=9).scale != first.scale


def test_the_power_is_the_slope_where_probes_differ_and_one_where_they_do_not() -> None:
    wide = torch.linspace(-10, 10, 20, dtype=torch.float64)
    assert steady_power(torch.stack([1.7 * wide + 3, wide], 1)) == pytest.approx(1.7, abs=0.01)
    narrow = wide / 1000
    assert steady_power(torch.stack([-5 * narrow, narrow], 1)) == pytest.approx(1, abs=0.01)


def test_masks_of_a_batch_are_calibrated_in_turn() -> None:
    masks = torch.ones(2, 1, 32, 32)
    masks[0, :, 8:20, 8:20] = 0
    masks[1, :, :4] = 0
    degradation = MissingPixels(masks, 0.02)
    with pytest.raises(AdaptDiffuseError, match="2 of them"):
        calibrate(drawn_batch(3, 32, 32), MissingPixels(masks), lambda image: degradation(image))
    calibration = calibrate(drawn_batch(3, 32, 32), degradation, encode, count=2)
    severity = calibration.predict(degradation(drawn_batch(2, 32, 32)), encode=encode)
    assert bool((severity.sigma_hat > 0).all())


def test_lost_pixels_are_filled_from_their_neighbours_and_known_ones_stay() -> None:
    v, u = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 40), indexing="ij")
    ramp = torch.stack([u, v, (u + v) / 2])[None]
    degradation = RandomMissingPixels(0.7, 1)
    y = degradation(ramp)
    filled = fill_lost(y, degradation)
    known = degradation.mask(48, 40).expand_as(ramp) > 0
    assert torch.equal(filled[known], ramp[known])
    assert float((filled - ramp).abs().mean()) < 0.02
    flat = torch.full_like(ramp, 0.3)
    assert torch.allclose(fill_lost(degradation(flat), degradation), flat, atol=1e-5)
    broken = torch.where(known, ramp, float("nan"))
    assert torch.equal(fill_lost(broken, degradation), filled)
    assert fill_lost(ramp, GaussianBlur(2.0)) is ramp


def test_a_stronger_damage_is_of_the_same_kind_and_leaves_the_noise() -> None:
    blur = at_strength(GaussianBlur(2.0, 0.03), 1.5)
    assert isinstance(blur, GaussianBlur) and float(blur.std) == 3.0 and blur.noise_std == 0.03
    motion = at_strength(MotionBlur(8.0, 30.0, 0.03), 0.5)
    assert isinstance(motion, MotionBlur) and float(motion.length) == 4.0 and float(motion.angle) == 30.0
    lost = at_strength(RandomMissingPixels(0.49, 4, 0.03), 2.0)
    assert isinstance(lost, RandomMissingPixels) and lost.drop == pytest.approx(0.7) and lost.seed == 4
    jpeg = at_strength(Jpeg(20.0), 2.0)
    assert isinstance(jpeg, Jpeg) and float(jpeg.quality) == 1.0
    small = at_strength(Downscale(2, "area", 0.03), 1.4)
    assert isinstance(small, Downscale) and (small.factor, small.filter) == (3, "area")
    coarse = at_strength(LowResolution(torch.tensor([2, 12]), "area", 0.03), 1.4)
    assert isinstance(coarse, LowResolution) and (coarse.factor.tolist(), coarse.filter) == ([3, 16], "area")
    assert coarse.noise_std == 0.03
    lens = at_strength(LensBlur(torch.tensor([4.0, 40.0]), 0.03), 1.5)
    assert isinstance(lens, LensBlur) and lens.radius.tolist() == [6.0, 50.0] and lens.noise_std == 0.03
    noise = at_strength(Noise(0.4), 3.0)
    assert isinstance(noise, Noise) and float(noise.noise_std) == 1.0
    whole = at_strength(chain(GaussianBlur(2.0), Jpeg(80.0, 0.03)), 1.5)
    assert isinstance(whole, Chain) and whole.noise_std == 0.03
    assert isinstance(whole.parts[0], GaussianBlur) and float(whole.parts[0].std) == 3.0
    box = MissingBox(4, 4)
    assert at_strength(box, 2.0) is box


def test_what_cannot_be_calibrated_is_refused_in_a_sentence() -> None:
    blur = GaussianBlur(1.0, 0.05)
    with pytest.raises(AdaptDiffuseError, match="at least one undamaged photo"):
        calibrate(torch.zeros(0, 3, 8, 8), blur, encode)
    with pytest.raises(AdaptDiffuseError, match="not finite"):
        calibrate(grey(1), blur, lambda image: encode(image) * float("nan"))
    with pytest.raises(AdaptDiffuseError, match="give it the VAE"):
        Calibration(blur, 1.0, 1.0).predict(grey(1))


def test_calibration_photos_are_small_but_as_large_as_a_mask() -> None:
    assert calibration_size(GaussianBlur(2.0), 1000, 90) == (256, 90)
    masked = MissingPixels(torch.ones(3, 1, 1000, 90))
    assert calibration_size(masked, 1000, 90) == (1000, 90)
    own = for_each([GaussianBlur(2.0), masked.select(torch.tensor([1]))])
    assert calibration_size(own, 1000, 90) == (1000, 90)
    assert sample_views(40, 700).shape == (9, 3, 40, 700)
    assert sample_views(400, 700).shape == (3, 3, 400, 700)
    views = sample_views(64, 96)
    assert len({float(one.mean()) for one in views}) == 9
    assert float(views.min()) >= 0 and float(views.max()) <= 1


def test_a_view_is_a_crop_of_the_reduced_photo_and_small_photos_are_enlarged() -> None:
    photo = drawn_batch(1, 40, 60)
    assert torch.equal(view(photo, 20, 30), photo[:, :, 10:30, 15:45])
    assert torch.equal(view(photo, 40, 60, zoom=0.5), photo)
    assert view(photo, 80, 50).shape == (1, 3, 80, 50)
    assert view(photo, 10, 10, 0.25, (1.0, 1.0)).shape == (1, 3, 10, 10)


def test_photos_of_a_folder_are_spread_over_it(tmp_path: Path) -> None:
    draw_photos(tmp_path, 20, 16, 24)
    views = folder_views(tmp_path, 16, 16)
    assert views.shape == (16, 3, 16, 16)
    with pytest.raises(AdaptDiffuseError, match="no photo"):
        folder_views(tmp_path / "nothing", 16, 16)


def test_what_has_no_strength_is_measured_once() -> None:
    mask = MissingPixels(torch.ones(1, 1, 8, 8))
    for unchanged in (
        chain(mask, Noise(0.1)),
        chain(chain(Noise(0.2), MissingBox(2, 2)), Noise(0.1)),
        for_each([mask, chain(mask, Noise(0.1))]),
        chain(for_each([mask, mask]), Noise(0.1)),
    ):
        assert at_strength(unchanged, 1.4) is unchanged
        assert strengths_of(unchanged) == [1.0]
    assert strengths_of(Noise(0.1)) == strengths_of(chain(GaussianBlur(1.0), Noise(0.1))) == [0.7, 1.0, 1.4]
    stronger = at_strength(chain(chain(GaussianBlur(1.0), mask), Noise(0.1)), 1.4)
    assert isinstance(stronger, Chain) and stronger.parts[1] is mask and stronger.noise_std == 0.1


def test_each_photo_of_a_batch_has_the_law_that_its_damage_has_alone() -> None:
    each = [
        GaussianBlur(1.5, 0.02),
        MissingBox(4, 4, 2, 2, noise_std=0.02),
        LowResolution(4, noise_std=0.02),
        Noise(0.1),
    ]
    asked, photos, views = [], grey(3), drawn_batch(4, 32, 32)

    def counted(image: Tensor) -> Tensor:
        asked.append(len(image))
        return encode(image)

    mixed = for_each(each)
    made = calibrate(photos, mixed, counted, count=4)
    assert sum(asked) == encodings(3, mixed, 4) == 3 + 2 * 3 * (3 + 1 + 3 + 3)
    found = made.predict(mixed(views), 1, encode).sigma_hat
    for index, damage in enumerate(each):
        alone = calibrate(photos, damage, encode)
        assert (float(made.scale[index]), float(made.power[index])) == (alone.scale, alone.power)
        y = damage(views[index : index + 1])
        assert float(found[index]) == pytest.approx(float(alone.predict(y, 1, encode).sigma_hat[0]), rel=1e-5)


def test_every_damage_of_a_batch_is_measured_and_one_damage_is_measured_once() -> None:
    stds = torch.tensor([1.0, 2.0, 1.0, 3.0])
    views = dealt(9, GaussianBlur(stds, 0.02), 4)
    assert [{damage for _, damage in pairs} for pairs in views.values()] == [{0, 2}, {1}, {3}]
    assert [[view for view, _ in pairs] for pairs in views.values()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [len(pairs) for pairs in dealt(2, GaussianBlur(stds, 0.02), 4).values()] == [2, 2, 2]
    same = [
        GaussianBlur(1.0),
        RandomMissingPixels(0.5, 3),
        MissingBox(4, 4),
        CameraBlur.seeded(8, 1),
        Jpeg(20),
        LensBlur(3),
    ]
    for damage in same:
        (pairs,) = dealt(3, damage, 81).values()
        assert [view for view, _ in pairs] == [0, 1, 2]


def test_what_is_lost_in_the_middle_is_probed_elsewhere() -> None:
    views = sample_views(128, 128)
    for top in (40, 10):
        box = MissingBox(48, 48, top, 40, noise_std=0.0)
        lost = lost_part(views[:1], box)
        again, part = damaged_again(fill_lost(box(views[:1]), box), box)
        assert float(part.sum()) == float(lost.sum())
        assert float((part * lost).sum()) <= 0.5 * float(lost.sum())
        found = [float(probed(box(one), box, 8, encode)[1]) for one in views.split(1)]
        assert min(found) > 0.01
    pixels = RandomMissingPixels(0.75, 0, 0.05)  # of which any other place loses as many again
    y = fill_lost(pixels(views[:1]), pixels)
    assert torch.equal(damaged_again(y, pixels)[1], lost_part(y, pixels).flip(3))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_damages_of_every_family_are_told_apart_and_all_measured(name: str) -> None:
    drawn = [FAMILIES[name]().sample((4, 3, 32, 32), generators_for(3, 4))[0] for _ in range(2)]
    first, second = (dealt(9, degradation, 4) for degradation in drawn)
    assert first == second
    assert {damage for pairs in first.values() for _, damage in pairs} == {0, 1, 2, 3}
    assert all(len(pairs) >= 3 for pairs in first.values())
    pictures = ("missing-pixels", "missing-box", "camera-blur")  # masks and shakes, whose pixels do not count
    assert (len(first) == 1) == (name in pictures)
