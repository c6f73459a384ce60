"""Single degradations: what each does, against independent references."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapt_diffuse.degradation import (
    Downscale,
    Fading,
    GaussianBlur,
    Jpeg,
    KernelBlur,
    LowResolution,
    MissingBox,
    MissingPixels,
    MotionBlur,
    Noise,
    RandomMissingPixels,
    ScalableMask,
    chain,
    for_each,
    parse_degradation,
    randn,
    resize,
)
from adapt_diffuse.degradation.base import Placed
from adapt_diffuse.degradation.families import MissingPixelsFamily
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.images import smaller
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.severity.calibration import calibrate
from tests.models import drawn_photo

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


# Downscale


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
def test_area_downscale_is_the_mean_of_blocks(factor):
    image = photo((2, 3, 3 * factor, 4 * factor), 0)
    blocks = image.reshape(2, 3, 3, factor, 4, factor).mean((3, 5))
    assert float((Downscale(factor, "area")(image) - blocks).abs().max()) < 1e-14


def test_the_last_block_of_an_odd_side_is_filled_up_by_reflection():
    image = torch.tensor([1.0, 3.0, 5.0, 9.0, 2.0]).double().reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert Downscale(2, "area")(image)[0, 0, 0].tolist() == pytest.approx([2, 7, 5.5], abs=1e-12)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_bicubic_downscale_is_torchs_inside(factor):
    image = photo((1, 3, 9 * factor, 8 * factor), 1)
    oracle = F.interpolate(image, (9, 8), mode="bicubic", antialias=True, align_corners=False)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert float((Downscale(factor)(image)[inside] - oracle[inside]).abs().max()) < 1e-12


@given(
    factor=st.integers(1, 6),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    name=st.sampled_from(["area", "bicubic"]),
)
def test_downscale_rounds_sizes_up_and_keeps_constants(factor, height, width, name):
    operator = Downscale(factor, name)
    flat = torch.full((1, 3, height, width), 0.37, dtype=torch.float64)
    y = operator(flat)
    assert y.shape == (1, 3, -(-height // factor), -(-width // factor))
    assert float((y - 0.37).abs().max()) < 1e-14
    assert float((operator.start_image(y) - 0.37).abs().max()) < 1e-14
    assert float((LowResolution(factor, name)(flat) - 0.37).abs().max()) < 1e-13


@pytest.mark.parametrize("name", ["area", "bicubic"])
@pytest.mark.parametrize("size", [(24, 36), (13, 17)])
def test_low_resolution_is_a_downscale_enlarged_again(name, size):
    image, factors = photo((3, 3, *size), 2), [2, 3, 1]
    result = LowResolution(torch.tensor(factors), name)(image)
    for index, factor in enumerate(factors):
        small = Downscale(factor, name)
        large = small.start_image(small(image[index : index + 1]))
        assert float((result[index] - large[0, :, : size[0], : size[1]]).abs().max()) < 1e-12


def test_a_small_photo_is_restored_to_the_image_it_was(prior, encoder):
    y = photo((2, 3, 12, 9), 0)
    operator = Downscale(2, noise_std=0.05)
    result = restore(y, operator, prior, None, generators_for(0, 2), encoder)
    assert result.image.shape == (2, 3, 24, 18)
    assert result.severity.photo_size == (24, 18)
    expected = (y - operator(result.image)).flatten(1).norm(dim=1) / (0.05 * (3 * 12 * 9) ** 0.5)
    assert torch.allclose(result.residual, expected, rtol=1e-9)


# JPEG


def saved(picture, quality):
    """The picture through Pillow's JPEG with 4:2:0 chroma."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=2)
    return torch.from_numpy(np.asarray(Image.open(file), dtype=np.float64) / 255).permute(2, 0, 1)[None]


@pytest.mark.parametrize("size", [(96, 128), (61, 45)])
@pytest.mark.parametrize(("quality", "share"), [(5, 0.35), (10, 0.45), (30, 0.25), (50, 0.3), (75, 0.3), (95, 0.27)])
def test_jpeg_comes_close_to_pillows(size, quality, share):
    picture = drawn_photo(3, *size)
    image = torch.from_numpy(picture / 255.0).permute(2, 0, 1)[None]
    expected = saved(picture, quality)
    result = Jpeg(quality)(image)
    # the codec rounds softly: its error may be a part of the error that the compression itself makes
    assert float((result - expected).norm()) < share * float((expected - image).norm())
    # and it makes the same error, not another one of that size
    errors = torch.stack([(result - image).flatten(), (expected - image).flatten()])
    assert float(torch.corrcoef(errors)[0, 1]) > 0.9


def test_jpeg_stays_in_range():
    # full contrast: its ripples reach beyond black and white
    image = (photo((1, 3, 32, 32), 0) > 0.5).double()
    result = Jpeg(10)(image)
    assert float(result.min()) == 0 and float(result.max()) == 1


def test_worse_quality_is_worse():
    image = torch.from_numpy(drawn_photo(0) / 255.0).permute(2, 0, 1)[None]
    errors = [float((Jpeg(quality)(image) - image).norm()) for quality in (5, 20, 50, 80, 100)]
    assert errors == sorted(errors, reverse=True)


# Missing pixels


def test_a_box_is_lost_where_it_is_asked_for():
    observed = MissingBox(2, 3, top=1, left=4).observed(torch.ones(1, 3, 5, 8))
    expected = torch.ones(1, 3, 5, 8)
    expected[..., 1:3, 4:7] = 0
    assert torch.equal(observed, expected)


def test_a_drawn_box_is_anywhere_in_the_photo():
    places = set()
    for seed in range(200):
        lost = MissingBox(2, 2, seed=seed).observed(torch.ones(1, 1, 4, 5))[0, 0] == 0
        rows, columns = torch.nonzero(lost).unbind(1)
        assert len(rows) == 4 and rows.max() - rows.min() == columns.max() - columns.min() == 1
        places.add((int(rows.min()), int(columns.min())))
    assert places == {(top, left) for top in range(3) for left in range(4)}


@pytest.mark.parametrize("size", [(20, 30), (8, 12), (13, 20)])
def test_a_mask_is_made_smaller_with_its_photo_and_loses_whatever_was_touched(size):
    kept = torch.ones(1, 1, 40, 60)
    kept[..., 10:17, 20:31] = kept[..., 33, 50] = 0
    mask = ScalableMask(kept)
    lost = mask.observed(torch.ones(1, 1, *size)) == 0
    assert torch.equal(mask.observed(torch.ones(1, 1, 40, 60)), kept)
    touched = F.adaptive_max_pool2d(1 - kept, size) > 0
    around = F.max_pool2d(touched.float(), 5, 1, 2) > 0  # as far as the bicubic filter reaches
    assert bool((lost | ~touched).all()) and bool((around | ~lost).all())
    with pytest.raises(AdaptDiffuseError, match="The mask is 60 x 40"):
        mask(torch.ones(1, 3, 20, 31))


@pytest.mark.parametrize("side", [160, 120, 80, 55])
def test_no_kept_pixel_of_a_photo_made_smaller_shows_what_was_lost(side):
    kept = torch.ones(1, 1, 240, 200)
    kept[..., 100:104] = kept[..., 50:170, 30:31] = kept[..., 30:60, 150:180] = 0
    photo = torch.rand(1, 3, 240, 200, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    before, white, black = (smaller(photo * kept + tone * (1 - kept), side) for tone in (0.5, 1.0, 0.0))
    mask = ScalableMask(kept)
    for scratched in (white, black):
        assert float((mask(scratched) - mask(before)).abs().max()) <= 0.5 / 255
    assert float(mask.count(before)) > 0.75 * before.numel()


@pytest.mark.parametrize("masks", [0, 2, 5])
def test_masks_for_another_number_of_photos_are_told_how_many(masks):
    lost = MissingPixels(torch.ones(masks, 1, 4, 6))
    with pytest.raises(AdaptDiffuseError) as caught:
        lost(torch.zeros(3, 3, 4, 6))
    assert f"6 x 4 ({masks} of them)" in str(caught.value)
    assert str(caught.value).endswith("give one mask for all photos, or one per photo.")


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


@pytest.mark.parametrize(
    "name", ["lens-blur", "motion-blur", "camera-blur", "jpeg", "noise", "gaussian-blur", "missing-pixels"]
)
def test_what_all_photos_share_is_not_made_again_for_some(name):
    operator = parse_degradation(name, 0.05)
    assert operator.select(torch.tensor([0, 2])) is operator


def test_masks_kernels_and_fadings_that_all_photos_share_are_not_made_again_for_some():
    for operator in (MissingPixels(torch.ones(1, 1, 4, 4)), KernelBlur(torch.ones(3, 3)), Fading.of(0.3)):
        assert operator.select(torch.tensor([1])) is operator
    own = MotionBlur(torch.tensor([3.0]), torch.tensor([10.0, 70.0]))  # one length, an angle for each
    assert own.select(torch.tensor([1])).angle.tolist() == [70.0]


def test_a_photo_that_is_lost_whole_is_one_sentence():
    kept = torch.ones(1, 1, 4, 4)
    kept[..., :2] = 0
    nothing = chain(MissingPixels(kept), MissingPixels(1 - kept, 0.05))
    with pytest.raises(AdaptDiffuseError, match="Every pixel of a photo is lost"):
        Measurement.of(torch.ones(1, 3, 4, 4), nothing)
    one_of_two = chain(MissingPixels(kept), MissingPixels(torch.cat([kept, 1 - kept])))
    with pytest.raises(AdaptDiffuseError, match="Every pixel of a photo is lost"):
        Measurement.of(torch.ones(2, 3, 4, 4), one_of_two)


@pytest.mark.parametrize(
    "degradation",
    [
        KernelBlur(torch.ones(2, 3, 3)),
        GaussianBlur(torch.tensor([1.0, 2.0])),
        chain(GaussianBlur(torch.tensor([1.0, 2.0])), Noise(0.1)),
    ],
)
def test_numbers_for_fewer_photos_than_there_are_is_one_sentence(degradation):
    for use in (
        lambda: Measurement.of(torch.ones(3, 3, 8, 8), degradation),
        lambda: calibrate(torch.ones(3, 3, 8, 8), degradation, lambda image: image, count=3),
        lambda: degradation.select(torch.tensor([0, 2])),
    ):
        with pytest.raises(AdaptDiffuseError, match="numbers for 2 photos, and there are 3: give one, or one per"):
            use()
    with pytest.raises(AdaptDiffuseError, match="2 degradations for 3 photos"):
        for_each([Noise(0.1), Noise(0.2)]).select(torch.tensor([0, 2]))


@pytest.mark.parametrize(
    "text",
    [
        "gaussian-blur:std=1", "lens-blur:radius=2", "motion-blur:length=3", "camera-blur:extent=3",
        "downscale:factor=2", "film-damage:scratches=0,dust=0,fade=0.2",
    ],
)  # fmt: skip
def test_numbers_are_brought_to_a_device_once(text, monkeypatch):
    brought = []
    like = Placed.like
    monkeypatch.setattr(Placed, "like", lambda self, image: brought.append(like(self, image)) or brought[-1])
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator())
    with torch.inference_mode():
        operator = parse_degradation(text, 0.05)
        first = operator(image)
        operator(image.double())
    kept = len({id(one) for one in brought})
    for photo in (image, image.double()):
        leaf = photo.clone().requires_grad_()
        again = operator(leaf)
        again.sum().backward()
        assert again.dtype == photo.dtype and float((first - again.detach()).abs().max()) < 1e-5
    assert len(brought) >= 4 and len({id(one) for one in brought}) == kept


def test_photos_that_leave_a_batch_bring_their_matrices_along(monkeypatch):
    made = []
    original = resize._down_and_up
    monkeypatch.setattr(resize, "_down_and_up", lambda *args: made.append(args) or original(*args))
    blur, image = LowResolution(torch.tensor([2, 4, 2])), torch.rand(3, 3, 9, 7, generator=torch.Generator())
    whole = blur(image)
    assert len(made) == 2 * 2
    part = blur.select(torch.tensor([1, 2]))(image[1:])
    assert len(made) == 4 and torch.allclose(part, whole[1:], rtol=0, atol=1e-6)


def test_a_mask_stays_on_the_callers_device():
    operator = MissingPixels(torch.tensor([[1.0, 0.0]])[None, None])
    assert operator(torch.zeros(1, 3, 1, 2, device="meta")).device.type == "meta"
    assert operator.mask.device.type == "cpu"
    assert operator(torch.ones(1, 3, 1, 2)).flatten().tolist() == [1, 0] * 3
