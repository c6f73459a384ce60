"""Greyscale in, greyscale out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_diffuse.degradation import GaussianBlur, MissingPixels, Noise
from adapt_diffuse.finish import match_grey
from adapt_diffuse.images import has_one_channel, read_photo, write_image
from adapt_diffuse.measurement import Measurement


def colours(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 9, 7, generator=torch.Generator().manual_seed(0))


def test_only_photos_without_colour_are_restored_without() -> None:
    photo, restored = colours(), colours().flip(3)
    photo[0] = photo[0, :1]
    made = match_grey(restored, Measurement.of(photo, GaussianBlur(1.0, 0.05)))
    assert torch.equal(made[1], restored[1])
    assert torch.equal(made[0], restored[0].mean(0, keepdim=True).expand(3, -1, -1))


def test_one_pixel_of_colour_is_colour_and_less_than_half_a_grey_level_is_none() -> None:
    restored, grey = colours(1), torch.full((1, 3, 9, 7), 0.5)
    for added, kept in ((1 / 255, True), (0.4 / 255, False)):
        photo = grey.clone()
        photo[0, 1, 3, 3] += added
        assert torch.equal(match_grey(restored, Measurement.of(photo, Noise(0.05))), restored) == kept


def test_colours_under_a_mask_do_not_count() -> None:
    photo = torch.full((1, 3, 9, 7), 0.5)
    photo[0, 0, 2, 2] = 1.0
    mask = torch.ones(1, 1, 9, 7)
    mask[0, 0, 2, 2] = 0
    made = match_grey(colours(1), Measurement.of(photo, MissingPixels(mask, 0.05)))
    assert torch.equal(made[:, 0], made[:, 2])


@pytest.mark.parametrize(
    ("mode", "one"), [("L", True), ("1", True), ("LA", True), ("I;16", True), ("RGB", False), ("RGBA", False)]
)
def test_a_file_of_one_channel_is_known(tmp_path: Path, mode: str, one: bool) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "photo.png")
    assert has_one_channel(tmp_path / "photo.png") == one
    (tmp_path / "text.png").write_text("no image")
    assert not has_one_channel(tmp_path / "text.png") and not has_one_channel(tmp_path / "none.png")


def test_a_greyscale_photo_survives_being_written_and_read(tmp_path: Path) -> None:
    Image.fromarray(np.arange(63, dtype=np.uint8).reshape(9, 7) * 4).save(tmp_path / "grey.png")
    photo = read_photo(tmp_path / "grey.png")
    write_image(tmp_path / "again.png", photo, one_channel=True)
    assert has_one_channel(tmp_path / "again.png") and torch.equal(read_photo(tmp_path / "again.png"), photo)
