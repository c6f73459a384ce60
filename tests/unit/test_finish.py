"""The last touch: known pixels and colours."""

from __future__ import annotations

import pytest
import torch

from adapt_diffuse.degradation import GaussianBlur, MissingPixels
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.finish import match_colours, paste_known
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


@pytest.mark.parametrize("degradation", [GaussianBlur(1.5, 0.05), holes()])
def test_matched_colours_leave_no_mean_residual_and_change_nothing_else(degradation: object) -> None:
    restored, photo = photos()
    measurement = Measurement.of(photo, degradation)  # type: ignore[arg-type]
    matched = match_colours(restored, measurement)
    assert measurement.residual(restored).mean((2, 3)).abs().max() > 0.01
    assert measurement.residual(matched).mean((2, 3)).abs().max() < 1e-6
    shift = matched - restored
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
