"""Random crops of photos, at the photos' own scale and of more of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_diffuse.photo_crops import PhotoCrops

SIZE = 32


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Two photos of 48 x 80 px whose red is the column and whose green is the row, in shares of the photo."""
    folder = tmp_path_factory.mktemp("photos")
    rows, columns = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 80), indexing="ij")
    picture = np.stack([columns, rows, np.full_like(rows, 128)], axis=-1).round().astype(np.uint8)
    paths = [folder / "one.png", folder / "two.png"]
    for path in paths:
        Image.fromarray(picture).save(path)
    return PhotoCrops(paths, SIZE)


def rows_shown(batch):
    """How many of a photo's rows each crop shows, told from its green."""
    green = batch[:, 1].mean(dim=2)
    return (green[:, -1] - green[:, 0]) * 47 * SIZE / (SIZE - 1)


def test_crops_are_of_the_photos_own_scale(crops):
    batch = crops.random(32, np.random.default_rng(0))
    assert batch.shape == (32, 3, SIZE, SIZE)
    assert rows_shown(batch) == pytest.approx(torch.full((32,), float(SIZE)), abs=0.3)


def test_scaled_crops_show_anything_from_their_own_size_to_the_shorter_side(crops):
    batch = crops.random(256, np.random.default_rng(0), scaled=1.0)
    shown = rows_shown(batch)
    assert batch.shape == (256, 3, SIZE, SIZE) and batch.min() >= 0 and batch.max() <= 1
    assert shown.min() == pytest.approx(SIZE, abs=1) and shown.max() == pytest.approx(48, abs=1)
    assert shown.mean() == pytest.approx((SIZE + 48) / 2, abs=1)
    red = batch[:, 0].mean(dim=1)  # squares stay squares: as many columns as rows
    wide = (red[:, -1] - red[:, 0]).abs() * 79 * SIZE / (SIZE - 1)
    assert wide == pytest.approx(shown, abs=1)


def test_the_share_of_scaled_crops_is_the_one_asked_for(crops):
    shown = rows_shown(crops.random(400, np.random.default_rng(1), scaled=0.25))
    assert ((shown - SIZE) > 0.7).double().mean() == pytest.approx(0.25 * 16 / 17, abs=0.06)


def test_half_of_the_crops_are_mirrored(crops):
    red = crops.random(400, np.random.default_rng(2), scaled=0.5)[:, 0].mean(dim=1)
    assert (red[:, 0] > red[:, -1]).double().mean() == pytest.approx(0.5, abs=0.07)


def test_the_same_numbers_draw_the_same_crops(crops):
    one, two = (crops.random(8, np.random.default_rng(3), scaled=0.5) for _ in range(2))
    assert torch.equal(one, two)
