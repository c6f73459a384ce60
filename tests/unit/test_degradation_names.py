"""Degradations by name, and what each refuses in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_diffuse.degradation import (
    CameraBlur,
    Downscale,
    GaussianBlur,
    Jpeg,
    LowResolution,
    MissingBox,
    MissingPixels,
    MotionBlur,
    Noise,
    RandomMissingPixels,
    for_each,
    measure,
    parse_degradation,
)
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.restore import generators_for


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
        (lambda: MotionBlur(-1.0), "The motion blur's length in pixels must be between 0 and 100, not -1."),
        (lambda: MotionBlur(float("nan")), "The motion blur's length in pixels must be between 0 and 100, not nan."),
        (lambda: MotionBlur(1.0, 400.0), "The motion blur's angle in degrees must be between -360 and 360, not 400"),
        (lambda: CameraBlur.seeded(101.0), "The camera shake's extent in pixels must be between 0 and 100, not 101"),
        (lambda: CameraBlur.seeded(5.0, gain=9.0), "The camera's gain must be between 0.1 and 8, not 9."),
        (lambda: Downscale(0), "The downscale factor must be between 1 and 16, not 0."),
        (lambda: Downscale(2.5), "The downscale factor must be a whole number, not 2.5."),
        (lambda: Downscale(2, "lanczos"), "Unknown filter 'lanczos'; there are bicubic, area."),
        (lambda: LowResolution(torch.tensor([2.0, 2.5])), "The downscale factor must be a whole number"),
        (lambda: Jpeg(0.0), "The JPEG quality must be between 1 and 100, not 0."),
        (lambda: Jpeg(torch.tensor([50.0, 101.0])), "The JPEG quality must be between 1 and 100"),
        (lambda: Noise(1.5), "noise_std must be between 0 and 1"),
        (lambda: Noise(torch.tensor([0.1, -0.1])), "noise_std (images are in [0, 1]) must be between 0 and 1"),
        (lambda: MissingBox(-1, 2), "needs a height, width, top and left of 0 or more."),
        (lambda: MissingBox(5, 2)(torch.ones(1, 3, 4, 6)), "The box of missing pixels, 2 x 5 from"),
        (lambda: MissingBox(2, 2, 3, 0)(torch.ones(1, 3, 4, 6)), "2 x 2 from (0, 3) on, leaves the photo of 6 x 4"),
        (lambda: MissingBox(4, 6)(torch.ones(1, 3, 4, 6)), "The mask keeps no pixel at all"),
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


@pytest.mark.parametrize(
    ("operator", "sentence"),
    [
        (GaussianBlur(torch.tensor([1.0, 2.0])), "2 stds for 3 photos"),
        (MotionBlur(torch.tensor([1.0, 2.0])), "2 kernels for 3 photos"),
        (Jpeg(torch.tensor([10.0, 20.0])), "2 qualities for 3 photos"),
        (LowResolution(torch.tensor([2, 3])), "2 factors for 3 photos"),
        (for_each([Noise(0.1), Noise(0.2)]), "2 degradations for 3 photos"),
    ],
)
def test_numbers_for_another_number_of_photos_are_refused(operator, sentence):
    with pytest.raises(AdaptDiffuseError, match=sentence):
        operator(torch.ones(3, 3, 4, 4))


def test_noise_levels_for_another_number_of_photos_are_refused():
    with pytest.raises(AdaptDiffuseError, match="2 noise_std for 3 photos"):
        measure(torch.ones(3, 3, 4, 4), Noise(torch.tensor([0.1, 0.2])), generators_for(0, 3))


# Names


def test_names_take_options_and_defaults(tmp_path):
    blur = parse_degradation("gaussian-blur:std=1.5", 0.1)
    assert (blur.std.tolist(), blur.noise_std) == ([1.5], 0.1)
    assert parse_degradation("gaussian-blur", 0.0).std.tolist() == [3.0]
    missing = parse_degradation("missing-pixels:drop=0.25,seed=7", 0.0)
    assert (missing.drop, missing.seed) == (0.25, 7)
    assert parse_degradation("missing-pixels:seed=7", 0.0).drop == 0.75
    Image.new("L", (5, 3), 0).save(tmp_path / "a=b.png")
    mask = parse_degradation(f"mask:file={tmp_path / 'a=b.png'}", 0.0)
    assert tuple(mask.whole.mask.shape) == (1, 1, 3, 5)
    motion = parse_degradation("motion-blur:length=4,angle=15", 0.0)
    assert (motion.length.tolist(), motion.angle.tolist()) == ([4.0], [15.0])
    small = parse_degradation("downscale:factor=3,filter=area", 0.02)
    assert (small.factor, small.filter, small.noise_std) == (3, "area", 0.02)
    box = parse_degradation("missing-box:height=3,width=5,top=1", 0.0)
    assert (box.height, box.width, box.top, box.left) == (3, 5, 1, None)
    assert parse_degradation("jpeg:quality=12", 0.0).quality.tolist() == [12.0]
    assert parse_degradation("noise", 0.07).noise_std == 0.07


def test_white_in_a_mask_file_is_lost(tmp_path):
    Image.fromarray(np.array([[0, 100, 200, 255]], np.uint8)).save(tmp_path / "mask.png")
    mask = parse_degradation(f"mask:file={tmp_path / 'mask.png'}", 0.0)
    assert mask.observed(torch.ones(1, 1, 1, 4)).flatten().tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "rust",
            "Unknown degradation 'rust'; there are gaussian-blur, lens-blur, motion-blur, camera-blur, kernel-blur, "
            "bkse, missing-pixels, missing-box, mask, downscale, jpeg, noise, film-damage.",
        ),
        ("", "Unknown degradation ''"),
        ("gaussian-blur:std", "'std' in 'gaussian-blur:std' should be key=value."),
        ("gaussian-blur:std=wide", "'wide' in 'gaussian-blur:std=wide' is not a number."),
        ("gaussian-blur:angle=3", "does not have one of the options in 'gaussian-blur:angle=3': it has std."),
        ("gaussian-blur:noise_std=0.1", "'gaussian-blur' does not have one of the options"),
        ("gaussian-blur:std=-3", "must be between 0 and 50 pixels, not -3"),
        ("gaussian-blur:std=nan", "must be between 0 and 50 pixels, not nan"),
        ("missing-pixels:drop=1", "must be between 0 and 0.99, not 1."),
        ("missing-pixels:seed=1e30", "The seed of missing-pixels must be a whole number from 0 on, not 1e+30."),
        ("missing-pixels:seed=inf", "The seed of missing-pixels must be a whole number from 0 on, not inf."),
        ("missing-pixels:seed=1.5", "The seed of missing-pixels must be a whole number from 0 on, not 1.5."),
        ("mask", "The degradation mask needs a file"),
        ("bkse", "The degradation bkse needs a file"),
        ("bkse:file=/nowhere/GOPRO.pth", "There is no file /nowhere/GOPRO.pth: the learned blur needs the weights"),
        ("downscale:factor=2.5", "The factor of downscale must be a whole number from 0 on, not 2.5."),
        ("downscale:filter=sinc", "Unknown filter 'sinc'; there are bicubic, area."),
        ("missing-box:top=-1", "The place of missing-box must be a whole number from 0 on, not -1."),
        ("missing-box:height=nan", "The side of missing-box must be a whole number from 0 on, not nan."),
        ("camera-blur:seed=0.5", "The seed of camera-blur must be a whole number from 0 on, not 0.5."),
        ("noise:std=1", "'noise' does not have one of the options in 'noise:std=1': it has none."),
        ("auto", "auto is of restore alone, which estimates the damage: name one here."),
        ("gaussian-blur|auto", "restore with their mask first, then the result with auto."),
        ("gaussian-blur|rust", "Unknown degradation 'rust'"),
        ("gaussian-blur|", "Unknown degradation ''"),
        ("mask:file=/nowhere/mask.png", "There is no file /nowhere/mask.png."),
    ],
)
def test_a_name_that_cannot_be_is_one_sentence(text, sentence):
    with pytest.raises(AdaptDiffuseError) as caught:
        parse_degradation(text, 0.05)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_generators_for_another_number_of_photos_are_refused(count):
    with pytest.raises(AdaptDiffuseError, match=f"{count} generators for 3 photos: give one per photo"):
        measure(torch.zeros(3, 3, 4, 4), Noise(0.1), generators_for(0, count))
