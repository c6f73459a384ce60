"""The last touch: known pixels and colours."""

from __future__ import annotations

import pytest
import torch

from adapt_diffuse.degradation import CameraBlur, Fading, FilmDamage, GaussianBlur, Marks, MissingPixels
from adapt_diffuse.degradation.chain import for_each
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.finish import feathered, keeps_pixels, match_colours, paste_known, with_known
from adapt_diffuse.measurement import Measurement


def photos() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 9, 7, generator=generator), torch.rand(2, 3, 9, 7, generator=generator)


def holes() -> MissingPixels:
    return MissingPixels(torch.rand(2, 1, 9, 7, generator=torch.Generator().manual_seed(1)).round(), 0.05)


def test_known_pixels_are_the_photos_and_lost_ones_the_restored() -> None:
    restored, photo = photos()
    lost = holes()
    pasted = paste_known(restored, Measurement.of(photo, lost))
    known = lost.mask.expand_as(photo)
    assert torch.equal(pasted[known], photo[known])
    assert torch.equal(pasted[~known], restored[~known])


def test_a_blur_has_no_known_pixels() -> None:
    restored, photo = photos()
    with pytest.raises(AdaptDiffuseError, match="missing pixels and nothing else"):
        paste_known(restored, Measurement.of(photo, GaussianBlur(1.0)))


def test_a_photo_of_another_kind_in_the_batch_is_left_to_its_restoration() -> None:
    restored, photo = photos()
    lost = holes().select(torch.tensor([0]))
    pasted = paste_known(restored, Measurement.of(photo, for_each([lost, GaussianBlur(1.0)])))
    assert torch.equal(pasted[:1], paste_known(restored[:1], Measurement.of(photo[:1], lost)))
    assert torch.equal(pasted[1], restored[1])


@pytest.mark.parametrize("degradation", [GaussianBlur(1.5, 0.05), holes()])
def test_matched_colours_leave_no_mean_residual_and_change_nothing_else(degradation: object) -> None:
    restored, photo = photos()
    measurement = Measurement.of(photo, degradation)  # type: ignore[arg-type]
    matched = match_colours(restored, measurement)
    assert measurement.residual(restored).mean((2, 3)).abs().max() > 0.01
    assert measurement.residual(matched).mean((2, 3)).abs().max() < 1e-6
    shift = matched - restored
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)


@pytest.mark.parametrize(
    "degradation",
    [
        Fading.of(0.6, 0.0, 1.0),
        FilmDamage(Marks(2, 5, 1.0), Fading.of(0.5, 0.5, 2.0)),
        CameraBlur.seeded(3.0, 0, 2.0),
        CameraBlur.seeded(3.0, 0, 0.5),
    ],
)
@pytest.mark.parametrize("off", [0.05, -0.08])
def test_colours_are_matched_through_damage_that_bends_light(degradation: object, off: float) -> None:
    image = 0.2 + 0.6 * photos()[0].repeat_interleave(2, 2).repeat_interleave(2, 3)
    measurement = Measurement.of(degradation(image), degradation)  # type: ignore[arg-type,operator]
    tint = off * torch.tensor([1.0, -0.5, 0.2]).reshape(1, 3, 1, 1)
    matched = match_colours(image + tint, measurement)
    assert measurement.residual(image + tint).mean((2, 3)).abs().max() > 0.008
    assert measurement.residual(matched).mean((2, 3)).abs().max() < 2e-4
    assert float((matched - image).abs().max()) < 0.15 * abs(off)


def hole() -> MissingPixels:
    mask = torch.ones(1, 1, 24, 30)
    mask[:, :, 10:14, 12:18] = 0
    return MissingPixels(mask)


def test_a_feathered_paste_leaves_the_hole_to_the_restoration_and_goes_over_into_the_photo() -> None:
    photo, restored = torch.ones(2, 3, 24, 30), torch.zeros(2, 3, 24, 30)
    pasted = paste_known(restored, Measurement.of(photo, hole()), feather=4)
    assert torch.equal(pasted[:, :, 10:14, 12:18], restored[:, :, 10:14, 12:18])
    assert float(pasted[:, :, :4].min()) == pytest.approx(1, abs=1e-6)
    row = pasted[0, 0, 12]  # through the middle of the hole
    assert torch.equal(row[:13], row[:13].sort(descending=True).values)
    assert torch.equal(row[17:], row[17:].sort().values)
    assert float((row[1:] - row[:-1]).abs().max()) < 0.5
    assert float(row[4]) == pytest.approx(1, abs=1e-6) and 0.3 < float(row[9]) < 0.8


def test_without_a_feather_the_same_paste_has_a_hard_edge() -> None:
    pasted = paste_known(torch.zeros(1, 3, 24, 30), Measurement.of(torch.ones(1, 3, 24, 30), hole()))
    assert pasted[0, 0, 12, 11:13].tolist() == [1, 0]


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_feathering_trusts_no_lost_pixel_and_the_whole_photo_where_none_is_lost(width: int) -> None:
    known = hole().mask
    weights = feathered(known, width)
    assert float(weights[~known].max()) < 1e-6
    assert float(weights.min()) > -1e-6 and float(weights.max()) < 1 + 1e-6
    assert torch.allclose(feathered(torch.ones_like(known), width), torch.ones(1, 1, 24, 30), atol=1e-6)


def test_single_known_pixels_are_not_pasted_by_a_feather() -> None:
    restored, photo = photos()
    lost = holes()
    assert torch.equal(paste_known(restored, Measurement.of(photo, lost), feather=4), restored)


def test_only_lost_pixels_alone_can_be_kept() -> None:
    restored, photo = photos()
    assert keeps_pixels(restored, Measurement.of(photo, holes())).tolist() == [True, True]
    assert keeps_pixels(restored, Measurement.of(photo, GaussianBlur(1.0))).tolist() == [False, False]
    assert keeps_pixels(restored, Measurement.of(photo, MissingPixels(torch.ones(1, 1, 9, 7)))).tolist() == [False] * 2
    one_of_two = torch.cat([hole().mask.float(), torch.ones(1, 1, 24, 30)])
    both = torch.rand(2, 3, 24, 30, generator=torch.Generator().manual_seed(0))
    assert keeps_pixels(both, Measurement.of(both, MissingPixels(one_of_two))).tolist() == [True, False]


@pytest.mark.parametrize(("known_pixels", "noise_std", "kept"), [
    ("auto", 0.01, True), ("auto", 0.05, False), ("keep", 0.05, True), ("restore", 0.01, False),
])  # fmt: skip
def test_a_photos_own_pixels_stay_where_they_look_better(known_pixels: str, noise_std: float, kept: bool) -> None:
    damage = MissingPixels(hole().mask.float(), noise_std)
    photo, restored = torch.ones(1, 3, 24, 30), torch.full((1, 3, 24, 30), 0.5)
    made = with_known(restored, Measurement.of(photo, damage), known_pixels)  # type: ignore[arg-type]
    assert bool((made[:, :, 0, 0] == 1).all()) == kept
    assert bool((made[:, :, 12, 14] == 0.5).all())
    blurred = Measurement.of(photo, GaussianBlur(1.0, noise_std))
    assert torch.equal(with_known(restored, blurred, known_pixels), restored)  # type: ignore[arg-type]


def test_each_photo_of_a_batch_keeps_its_pixels_as_it_would_alone() -> None:
    damages = [
        MissingPixels(hole().mask.float(), 0.01),
        MissingPixels(hole().mask.float(), 0.05),
        MissingPixels(torch.ones(1, 1, 24, 30), 0.01),
    ]
    photo, restored = torch.ones(3, 3, 24, 30), torch.full((3, 3, 24, 30), 0.5)
    together = with_known(restored, Measurement.of(photo, for_each(damages)))
    for index, damage in enumerate(damages):
        one = slice(index, index + 1)
        assert torch.equal(together[one], with_known(restored[one], Measurement.of(photo[one], damage)))
    assert [float(image[0, 0, 0]) for image in together] == [1, 0.5, 0.5]
