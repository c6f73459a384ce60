"""What an estimate says of photos whose damage is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from adapt_diffuse.degradation import Degradation, GaussianBlur, LinearDegradation, Noise, PerImage, measure
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.estimate import Damage, describe_estimate, estimate_damage, load_estimator, refine
from adapt_diffuse.estimate.checkpoint import BUNDLED, new_estimator, save_estimator
from adapt_diffuse.estimate.damage import quality_to_scale
from adapt_diffuse.estimate.estimate import ROUNDING, estimate_of
from adapt_diffuse.estimate.losses import negative_log_likelihood
from adapt_diffuse.estimate.network import Gaussian, Readings, harmonics, scale_to_quality
from adapt_diffuse.estimate.refine import golden_section, huber
from adapt_diffuse.estimate.simulate import DamageRange, damaged, found, saved
from adapt_diffuse.estimate.statistics import QUALITIES, SPECTRUM, block_traces, statistics_of, window_powers
from adapt_diffuse.estimate.training import Examples, calibrate, draw_examples, mirrored, scaled_errors
from adapt_diffuse.restore import generators_for
from tests.damages import damage_of, estimate, scene
from tests.randomness import untouched_random_state

needs_weights = pytest.mark.skipif(not BUNDLED.is_file(), reason="The bundled estimator is absent.")


# Damage


def test_what_is_absent_is_not_in_the_chain():
    only_noise = damage_of(noise_std=0.03).degradation()
    assert isinstance(only_noise, Noise) and only_noise.noise_std == 0.03
    blur = damage_of(std=1.5, noise_std=0.02).degradation()
    assert isinstance(blur, GaussianBlur) and blur.noise_std == 0.02
    chain = damage_of(length=5, angle=20, factor=2, noise_std=0.04).degradation()
    assert isinstance(chain, LinearDegradation) and chain.noise_std == 0.04
    assert not isinstance(damage_of(std=1, quality=30).degradation(), LinearDegradation)


def test_a_batch_has_a_chain_for_each_photo():
    both = Damage(
        *(
            torch.cat([a, b])
            for a, b in zip(vars(damage_of(std=1)).values(), vars(damage_of(quality=20)).values(), strict=True)
        )
    )  # noqa: E501
    operator = both.degradation()
    assert isinstance(operator, PerImage) and isinstance(operator, Degradation)
    photo = scene().repeat(2, 1, 1, 1)
    assert torch.equal(operator(photo)[:1], damage_of(std=1).degradation()(photo[:1]))
    assert torch.equal(operator(photo)[1:], damage_of(quality=20).degradation()(photo[:1]))


def test_the_ranges_draw_every_kind_of_damage_and_none():
    drawn = DamageRange().draw(2000, torch.Generator().manual_seed(0))
    assert not bool(((drawn.std > 0) & (drawn.length > 0)).any())
    for there, share in (
        (drawn.std > 0, 0.4),
        (drawn.length > 0, 0.25),
        (drawn.factor > 1, 0.4),
        (drawn.quality < 100, 0.5),
        (drawn.noise_std > 0, 0.8),
    ):
        assert float(there.double().mean()) == pytest.approx(share, abs=0.05)
    assert set(drawn.factor.tolist()) == {1, 2, 3, 4}
    assert float(drawn.std[drawn.std > 0].min()) >= 0.4 and float(drawn.std.max()) <= 5


def test_simulated_damage_is_the_operator_s_plus_noise():
    photo, truth = scene(), damage_of(std=1.2, factor=2, noise_std=0.0)
    with untouched_random_state():
        hurt = damaged(photo, truth, torch.Generator().manual_seed(1))
    # but for the rounding to 8 bit
    assert float((hurt - truth.degradation()(photo).clamp(0, 1)).abs().max()) <= 0.5 / 255 + 1e-6


def test_the_noise_of_found_photos_is_what_is_left_of_it_in_them():
    count = 60
    photos = 0.4 + 0.2 * scene(side=40).expand(count, -1, -1, -1)
    drawn = DamageRange().draw(count, torch.Generator().manual_seed(1))
    noisy, quiet = (replace(drawn, noise_std=torch.full((count,), level).double()) for level in (0.05, 0.0))
    with untouched_random_state():
        hurt, left = found(photos, noisy, torch.Generator().manual_seed(2))
    clean, nothing = found(photos, quiet, torch.Generator().manual_seed(2))
    assert nothing.noise_std.tolist() == [0.0] * count and torch.equal(left.std, drawn.std)
    change = (hurt - clean).double()
    measured = change.square().mean((1, 2, 3)).sqrt()
    assert torch.allclose(measured, left.noise_std, rtol=0.02, atol=1e-3)  # but for the rounding to 8 bit
    # without compression after it all of it is left, but for what sepia takes; compression changes that
    assert float(left.noise_std[drawn.quality == 100].max()) < 0.052
    assert len({round(level, 6) for level in left.noise_std[drawn.quality < 100].tolist()}) > 10
    grey = hurt.diff(dim=1).abs().amax((1, 2, 3)) < 1e-6
    alike = change.diff(dim=1).abs().amax((1, 2, 3)) < 1.1 / 255
    assert 2 <= int(grey.sum()) < int(alike.sum()) < count / 2


# Statistics


def test_a_spectrum_of_white_noise_is_flat_at_its_variance():
    noise = 0.1 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    powers = window_powers(noise)
    assert powers.shape[1:] == SPECTRUM[1:]
    assert float(powers[:, 2:, 2:].mean()) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("quality", [12, 30, 60])
@pytest.mark.parametrize("corner", [(0, 0), (3, 6)])
def test_the_tables_of_jpeg_are_recognised_wherever_its_blocks_begin(quality, corner):
    photo = saved(scene(side=136), quality)[0, :, corner[0] :, corner[1] :]
    _, _, sure, fits, *_ = block_traces(luminance(photo))
    assert QUALITIES[int(fits.argmax())] == pytest.approx(quality, abs=2)
    assert float(fits.max()) > 0.5
    assert float(sure) > float(block_traces(luminance(scene(side=136)[0]))[2])


def luminance(photo: torch.Tensor) -> torch.Tensor:
    return 0.299 * photo[0] + 0.587 * photo[1] + 0.114 * photo[2]


@pytest.mark.parametrize("size", [(1, 1), (5, 90), (64, 64), (65, 130)])
def test_any_size_has_statistics_and_a_batch_those_of_its_photos(size):
    photo = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    both, alone = statistics_of(photo), statistics_of(photo[1:])
    assert both.spectra.shape == (2, *SPECTRUM)
    assert bool(torch.isfinite(both.spectra).all()) and bool(torch.isfinite(both.numbers).all())
    assert torch.equal(both.spectra[1], alone.spectra[0]) and torch.equal(both.numbers[1], alone.numbers[0])


def test_a_photo_on_its_head_has_the_mirrored_spectrum():
    generator = torch.Generator().manual_seed(3)
    example = draw_examples(scene(side=136), DamageRange(gaussian=0, motion=1, low=0, jpeg=0), generator)
    upside = mirrored(example, torch.tensor([True]))
    assert float(upside.damage.angle) == pytest.approx(180 - float(example.damage.angle))
    photo = scene(1, 64)
    flipped = Examples(statistics_of(photo.flip(2)), example.damage)
    again = mirrored(Examples(statistics_of(photo), example.damage), torch.tensor([True]))
    assert torch.allclose(again.statistics.spectra, flipped.statistics.spectra, atol=1e-3)


def test_profiles_tell_the_direction_of_a_motion():
    rows = harmonics()
    assert rows.shape == (224, SPECTRUM[1] * SPECTRUM[2])
    found = []
    for angle in (10.0, 100.0):
        blurred = damage_of(length=9, angle=angle).degradation()(scene(side=160))
        plain = statistics_of(scene(side=160)).spectra[0, 0] - statistics_of(blurred).spectra[0, 0]
        profile = (rows @ plain.flatten()).reshape(32, 7)[6:24].mean(0)
        found.append(math.degrees(math.atan2(float(profile[2]), float(profile[1]))) / 2)
    assert abs((found[0] - found[1] + 90) % 180 - 90) > 75


# The network


def readings(count: int = 1, **given: torch.Tensor) -> Readings:
    one = Gaussian(torch.zeros(count), torch.full((count,), math.log(0.1)))
    direction = Gaussian(torch.tensor([[0.0, 1.0]]).repeat(count, 1), torch.full((count, 1), math.log(0.1)))
    plain = {"blur": torch.zeros(count, 3), "factor": torch.zeros(count, 4), "jpeg": torch.zeros(count)}
    normal = {name: one for name in ("log_std", "log_length", "log_scale", "log_noise")}
    return Readings(**(plain | normal | {"direction": direction} | given))


def test_readings_become_numbers_with_their_uncertainty():
    said = estimate_of(
        readings(
            blur=torch.tensor([[-9.0, -9.0, 9.0]]),
            factor=torch.tensor([[0.0, 0.0, 9.0, 0.0]]),
            jpeg=torch.tensor([9.0]),
            log_length=Gaussian(torch.tensor([math.log(8.0)]), torch.tensor([math.log(0.25)])),
            log_noise=Gaussian(torch.tensor([math.log(0.054)]), torch.tensor([math.log(0.1)])),
        )
    )
    damage = said.damage
    assert (float(damage.std), float(damage.factor)) == (0, 3)
    assert float(damage.length) == pytest.approx(8) and float(said.length_error) == pytest.approx(2)
    assert float(damage.angle) == pytest.approx(45) and float(said.angle_error) == pytest.approx(2.86, abs=0.01)
    assert float(damage.quality) == pytest.approx(50, abs=1e-4)
    assert float(damage.noise_std) == pytest.approx(0.05) and float(said.noise_error) == pytest.approx(
        math.hypot(0.0054, ROUNDING)
    )
    nothing = estimate_of(readings(blur=torch.tensor([[9.0, 0.0, 0.0]]), factor=torch.tensor([[9.0, 0.0, 0.0, 0.0]]),
                                   jpeg=torch.tensor([-9.0]),
                                   log_noise=Gaussian(torch.tensor([-6.0]), torch.tensor([-2.0]))))  # fmt: skip
    assert isinstance(nothing.degradation(), Noise)
    assert float(nothing.damage.noise_std) == pytest.approx(ROUNDING)


def test_the_scale_of_the_tables_and_back():
    quality = torch.arange(1, 100).double()
    assert torch.allclose(scale_to_quality(quality_to_scale(quality)), quality)
    assert quality_to_scale(torch.tensor([10.0, 50.0, 90.0])).tolist() == pytest.approx([5, 1, 0.2])


def test_the_loss_is_least_at_the_truth():
    truth = damage_of(std=1.0, quality=50, noise_std=0.996)
    right = readings(blur=torch.tensor([[-9.0, 9.0, -9.0]]), factor=torch.tensor([[9.0, -9, -9, -9]]),
                     jpeg=torch.tensor([9.0]))  # fmt: skip
    best = sum(negative_log_likelihood(right, truth).values())
    off = Gaussian(torch.full((1,), 0.05), torch.full((1,), math.log(0.1)))
    for name in ("log_std", "log_scale", "log_noise"):
        worse = negative_log_likelihood(replace(right, **{name: off}), truth)
        assert float(sum(worse.values()) - best) == pytest.approx(0.125, abs=1e-6)  # (0.05 / 0.1)^2 / 2
    absent = negative_log_likelihood(replace(right, log_length=off, direction=readings().direction), truth)
    assert float(sum(absent.values()) - best) == pytest.approx(0, abs=1e-6)


def test_calibration_makes_two_of_three_errors_small():
    generator = torch.Generator().manual_seed(0)
    examples = draw_examples(scene(side=104).repeat(40, 1, 1, 1), DamageRange(), generator)
    estimator = new_estimator(hidden=8).eval()
    estimator.set_scale(examples.statistics)
    calibrate(estimator, examples)
    errors = scaled_errors(estimator(estimator.features(examples.statistics)), examples.damage)
    assert float((errors["log_noise"].abs() <= 1).double().mean()) == pytest.approx(0.68, abs=0.03)


def test_an_estimator_survives_its_file(tmp_path):
    estimator = new_estimator(hidden=8, seed=3).eval()
    save_estimator(tmp_path / "e.safetensors", estimator, {"training": {"examples": 1}})
    with untouched_random_state():
        again = load_estimator(tmp_path / "e.safetensors")
    photo = scene()
    assert torch.allclose(again.predict(photo).log_noise.mean, estimator.predict(photo).log_noise.mean, atol=1e-2)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_file_that_is_no_estimator_is_one_sentence(tmp_path):
    from adapt_diffuse.checkpoints import write_safetensors

    path = tmp_path / "other.safetensors"
    write_safetensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(AdaptDiffuseError, match="is not an estimator of degradations"):
        load_estimator(path)
    with pytest.raises(AdaptDiffuseError, match="There is no file"):
        load_estimator(tmp_path / "none.safetensors")


@pytest.mark.parametrize("photo", [torch.zeros(1, 3, 0, 4), torch.full((1, 3, 8, 8), float("nan"))])
def test_a_photo_that_says_nothing_is_one_sentence(photo):
    with pytest.raises(AdaptDiffuseError, match=r"The photo has (no pixels|pixels that are NaN)"):
        estimate_damage(photo, new_estimator(hidden=8))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_flat_border_is_no_part_of_the_photo(value):
    """What is left begins at a whole block of JPEG."""
    photo = torch.rand(1, 3, 96, 112, generator=torch.Generator().manual_seed(0))
    estimator = new_estimator(hidden=8).eval()

    def framed(left, right, top, bottom):
        return torch.nn.functional.pad(photo, (left, right, top, bottom), value=value)

    for border, cut in [((0, 0, 0, 0), (0, 0, 0, 0)), ((16, 8, 24, 8), (0, 0, 0, 0)), ((3, 0, 0, 9), (5, 0, 0, 7))]:
        found = estimate_damage(framed(*border), estimator)
        left, right, top, bottom = cut
        expected = estimate_damage(photo[:, :, top : 96 - bottom, left : 112 - right], estimator)
        assert found.damage.noise_std == expected.damage.noise_std and found.blurred == expected.blurred
    both = torch.cat([framed(16, 8, 24, 8), framed(8, 16, 8, 24)])
    found, alone = estimate_damage(both, estimator), estimate_damage(photo, estimator)
    assert len(found) == 2 and found.blurred.tolist() == [float(alone.blurred)] * 2


@pytest.mark.parametrize("photo", [torch.full((1, 3, 80, 80), 0.7), torch.zeros(1, 3, 64, 100)])
def test_in_a_photo_of_one_colour_nothing_is_found(photo):
    found = estimate_damage(photo, new_estimator(hidden=8))
    assert bool(found.damage.nothing) and describe_estimate(found).startswith("nothing found")
    little = photo.clone()
    little[:, :, 20:60, 20:60] = torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    assert bool(estimate_damage(little, new_estimator(hidden=8)).damage.nothing)


@pytest.mark.parametrize("size", [(63, 300), (300, 63), (8, 8), (1, 100)])
def test_a_photo_that_is_too_small_to_tell_is_one_sentence(size):
    with pytest.raises(AdaptDiffuseError, match=f"too small to tell .*: {min(size)} pixels, where 64 are needed"):
        estimate_damage(torch.full((1, 3, *size), 0.5), new_estimator(hidden=8))


# In words


def test_an_estimate_in_words():
    said = estimate(
        damage_of(std=1.84, quality=35.2, noise_std=0.041), std_error=0.3, quality_error=8, noise_error=0.01
    )
    assert describe_estimate(said) == "blurred with std 1.8 ± 0.3 pixels, JPEG quality 35 ± 8, noise 0.04 ± 0.01"
    doubtful = estimate(damage_of(length=9, angle=30, factor=2), blurred=0.6, angle_error=4, length_error=2)
    assert describe_estimate(doubtful) == (
        "blurred by a motion of 9 ± 2 pixels at 30 ± 4 degrees (not sure: 60 %), made smaller by 2 and enlarged again"
    )
    assert describe_estimate(estimate(damage_of(noise_std=0.009))).startswith("nothing found: neither blur, JPEG nor")


# Refining


def test_golden_section_finds_the_minimum():
    assert golden_section(lambda x: (x - 1.3) ** 2, 0.0, 5.0) == pytest.approx(1.3, abs=0.03)
    assert golden_section(lambda x: x, 0.0, 1.0) < 0.01


def test_huber_is_the_square_of_small_errors_and_grows_slowly():
    small = torch.full((1, 3, 4, 4), 0.01)
    assert huber(small, 0.05) == pytest.approx(1e-4)
    assert huber(torch.full((1, 3, 4, 4), 10.0), 0.05) == pytest.approx(2 * 0.1 * 10 - 0.01, rel=1e-5)


@pytest.mark.parametrize(
    ("truth", "guess", "name"),
    [
        ({"std": 1.5}, {"std": 1.9}, "std"),
        ({"length": 8.0, "angle": 40.0}, {"length": 8.0, "angle": 52.0}, "angle"),
        ({"quality": 30.0}, {"quality": 40.0}, "quality"),
    ],
)
def test_the_true_photo_leads_back_to_the_true_operator(truth, guess, name):
    photo, damage = scene(), damage_of(**truth, noise_std=0.02)
    y = measure(photo, damage.degradation(), generators_for(0, 1))
    said = estimate(damage_of(**guess, noise_std=0.05), std_error=0.4, angle_error=10.0, quality_error=8.0)
    better = refine(y, photo, said).damage
    reach = {"std": 0.05, "angle": 1.0, "quality": 1.0}[name]
    assert float(getattr(better, name)) == pytest.approx(truth[name], abs=reach)
    assert float(better.noise_std) == pytest.approx(0.02, rel=0.1)


def test_a_refined_number_stays_near_its_estimate():
    y = damaged(scene(), damage_of(std=3.0, noise_std=0.02), torch.Generator().manual_seed(0))
    better = refine(y, scene(), estimate(damage_of(std=1.0, noise_std=0.02), std_error=0.1)).damage
    assert float(better.std) == pytest.approx(1.2, abs=0.01)


def test_refining_wants_images_of_one_size():
    with pytest.raises(AdaptDiffuseError, match="as many restored ones of the same size"):
        refine(scene(), scene(side=64), estimate(damage_of()))


# The bundled estimator


@needs_weights
def test_the_bundled_estimator_tells_noise_and_jpeg_and_blur_apart():
    estimator = load_estimator()
    assert sum(parameter.numel() for parameter in estimator.parameters()) < 400_000
    from adapt_diffuse.commands.demo import demo_photo

    photo = demo_photo()
    generator = torch.Generator().manual_seed(0)
    levels = []
    for noise_std in (0.01, 0.03, 0.1):
        said = estimate_damage(damaged(photo, damage_of(noise_std=noise_std), generator), estimator)
        levels.append(float(said.damage.noise_std))
        assert levels[-1] == pytest.approx(noise_std, rel=0.25, abs=0.007)
    assert levels == sorted(levels)
    compressed = [
        float(estimate_damage(damaged(photo, damage_of(quality=quality), generator), estimator).damage.quality)
        for quality in (10, 30, 70)
    ]
    assert compressed == sorted(compressed) and compressed[0] < 20 and compressed[2] < 90
    blurred = estimate_damage(damaged(photo, damage_of(std=2.5, noise_std=0.005), generator), estimator)
    assert float(blurred.damage.std) == pytest.approx(2.5, rel=0.35)


@needs_weights
@pytest.mark.parametrize("colour", ["one grain for all channels", "grey", "sepia"])
@pytest.mark.parametrize("quality", [None, 92])
def test_the_bundled_estimator_sees_the_grain_of_old_photos(colour, quality):
    from adapt_diffuse.commands.demo import demo_photo

    estimator, photo = load_estimator(), demo_photo()
    if colour != "one grain for all channels":
        photo = luminance(photo[0]).expand(1, 3, -1, -1)
    tone = torch.tensor([1, 0.92, 0.75] if colour == "sepia" else [1.0, 1.0, 1.0])[:, None, None]
    for noise_std in (0.03, 0.1):
        grain = noise_std * torch.randn(1, 1, *photo.shape[2:], generator=torch.Generator().manual_seed(0))
        found = (tone * (photo + grain)).clamp(0, 1)
        said = estimate_damage(found if quality is None else saved(found, quality), estimator)
        assert float(said.damage.noise_std) == pytest.approx(noise_std, rel=0.3)
