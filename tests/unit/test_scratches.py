"""Scratches and dust are found, and nothing where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_diffuse.checkpoints import write_safetensors
from adapt_diffuse.degradation.defects import Mark, marks_mask
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.scratch_network import load_network, new_network, save_network
from adapt_diffuse.scratches import STRIP, find_scratches, hysteresis, mark_logits, narrow
from tests.command_line import call, one_sentence
from tests.randomness import untouched_random_state

SIZE = 72
MARKS = [
    Mark(36.0, 20.0, 0.05, 60.0, 2.0, 2.0, 1.0),  # a scratch along the film
    Mark(30.0, 50.0, 1.2, 30.0, 1.5, 0.0, 0.5),
    Mark(60.0, 60.0, 0.0, 4.0, 3.5, 0.0, 0.5),  # a speck
]


def smooth_photo() -> torch.Tensor:
    """A photo without edges (1, 3, 72, 72), with a little noise."""
    down, right = torch.meshgrid(torch.arange(SIZE) / SIZE, torch.arange(SIZE) / SIZE, indexing="ij")
    planes = torch.stack([0.3 + 0.4 * down, 0.6 - 0.3 * right, 0.4 + 0.2 * down * right])[None]
    return planes + 0.01 * torch.randn(planes.shape, generator=torch.Generator().manual_seed(0))


def scratched(tone: float) -> tuple[torch.Tensor, torch.Tensor]:
    lost = marks_mask(SIZE, SIZE, MARKS) == 0
    return torch.where(lost, tone, smooth_photo()), lost


@pytest.mark.parametrize("tone", [0.05, 0.95])
def test_light_and_dark_marks_are_found_where_they_are(tone):
    photo, lost = scratched(tone)
    mask = find_scratches(photo) > 0
    near = torch.nn.functional.max_pool2d(lost.float(), 5, 1, 2) > 0
    assert float((mask & lost).sum() / lost.sum()) > 0.75
    assert float((mask & ~near).sum() / mask.sum()) < 0.05


def test_nothing_is_found_where_there_is_nothing():
    assert float(find_scratches(smooth_photo()).sum()) == 0
    assert float(find_scratches(torch.full((1, 3, 20, 30), 0.5)).sum()) == 0
    edge = torch.zeros(1, 3, 48, 48)
    edge[..., 24:] = 1
    assert float(find_scratches(edge).mean()) < 0.02


def test_wider_things_belong_to_the_picture():
    photo = smooth_photo()
    photo[..., 20:44, 20:44] = 0.95
    assert float(find_scratches(photo, width=4)[..., 26:38, 26:38].sum()) == 0


def test_more_sensitivity_finds_more():
    photo = scratched(0.95)[0] + 0.15 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    masks = [find_scratches(photo, value) > 0 for value in (0.0, 0.4, 0.8, 1.0)]
    areas = [int(mask.sum()) for mask in masks]
    assert areas == sorted(areas) and areas[0] < areas[-1]
    assert all(bool((more | ~less).all()) for less, more in zip(masks, masks[1:], strict=False))


def test_a_batch_equals_its_photos_one_by_one():
    batch = torch.cat([scratched(0.05)[0], scratched(0.95)[0]])
    kept = batch.clone()
    assert torch.equal(find_scratches(batch), torch.cat([find_scratches(one) for one in batch.split(1)]))
    assert torch.equal(batch, kept)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (7, 7)])
def test_any_size_has_a_mask(size):
    assert find_scratches(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))).shape == (2, 1, *size)


def test_a_large_photo_is_looked_at_in_strips_as_at_once():
    photo = torch.rand(1, 3, STRIP + 90, 24, generator=torch.Generator().manual_seed(0))
    network = new_network(2)
    with torch.no_grad():
        assert torch.allclose(mark_logits(photo, 4, network), network(photo), atol=1e-5)


def test_wide_marks_are_looked_for_in_smaller_photos():
    photo = smooth_photo()
    sizes = []

    class Seen(torch.nn.Module):
        def forward(self, photo):
            sizes.append(tuple(photo.shape[2:]))
            return torch.full_like(photo[:, :1], float(len(sizes)))

    for width, wanted in ((8, [72]), (9, [72, 36]), (64, [72, 36, 18, 9])):
        sizes.clear()
        logits = mark_logits(photo, width, Seen())
        assert [side for side, _ in sizes] == wanted and logits.shape == (1, 1, SIZE, SIZE)
        assert torch.equal(logits, torch.full_like(logits, float(len(wanted))))  # the highest counts


def test_what_a_disc_fits_into_is_too_wide():
    found = np.zeros((40, 40), bool)
    found[18:23] = True  # a line of five pixels
    found[5:35, 5:35] |= np.hypot(*np.mgrid[-15:15, -15:15]) < 10
    kept = narrow(found, 8.0)
    assert not kept[15:26, 15:26].any()
    assert kept[18:23, :5].all() and kept[18:23, 35:].all()
    assert np.array_equal(narrow(found, 30.0), found)


def test_parts_without_a_seed_and_single_pixels_are_no_marks():
    score = np.full((9, 9), -5.0, np.float32)
    score[1, 1:5], score[1, 2] = 1.0, 3.0
    score[5, 1:5] = 1.0
    score[8, 8] = 3.0
    found = hysteresis(score, 0.0, 2.0)
    assert found[1, 1:5].all() and found.sum() == 4


def test_a_network_survives_its_file(tmp_path):
    made = new_network(2, seed=3)
    save_network(tmp_path / "n.safetensors", made, {"training": {"steps": 1}})
    with untouched_random_state():
        again = load_network(tmp_path / "n.safetensors")
    photo = smooth_photo()
    with torch.no_grad():
        assert torch.allclose(again(photo), made(photo), atol=1e-2)
    write_safetensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(AdaptDiffuseError, match="is not a network for scratches"):
        load_network(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ((1.5, 4), "The sensitivity must be between 0 and 1, not 1.5."),
        ((float("nan"), 4), "The sensitivity must be between 0 and 1, not nan."),
        ((0.5, 0), "The largest width must be between 1 and 64 pixels, not 0."),
        ((0.5, 65), "The largest width must be between 1 and 64 pixels, not 65."),
    ],
)
def test_a_bad_number_is_one_sentence(numbers, sentence):
    with pytest.raises(AdaptDiffuseError, match=sentence):
        find_scratches(torch.zeros(1, 3, 4, 4), *numbers)


def test_the_command_writes_masks_for_the_degradation_mask(tmp_path, capsys):
    photo, lost = scratched(0.95)
    (tmp_path / "photos").mkdir()
    pixels = (photo[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "old.png")
    assert call("find-scratches", tmp_path / "photos", "--out", tmp_path / "masks") == 0
    mask = np.asarray(Image.open(tmp_path / "masks" / "old.png").convert("L")) > 127
    assert mask[lost[0, 0].numpy()].mean() > 0.75
    assert "% of the photo" in capsys.readouterr().out
    assert call("find-scratches", tmp_path / "photos", "--out", tmp_path / "masks", "--width", "99") == 2
    assert "The largest width must be" in one_sentence(capsys)
