"""Photos on disk: anything an artist has is read; nothing is ever half written."""

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapt_diffuse.checkpoints import write_whole
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.images import centre_crop, find_photos, open_image, read_mask, read_photo, to_pil, write_image
from adapt_diffuse.photo_crops import PhotoCrops
from adapt_diffuse.sheet import before_after

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def rgb(seed=0, height=6, width=8):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def planes(values):
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None] / 255


def test_a_colour_photo_is_read_as_it_is(tmp_path):
    Image.fromarray(rgb()).save(tmp_path / "photo.png")
    photo = read_photo(tmp_path / "photo.png")
    assert photo.dtype == torch.float32
    assert torch.equal(photo, planes(rgb()))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "PA", "I;16", "I", "F", "CMYK", "YCbCr", "LAB"])
def test_every_mode_becomes_three_channels(tmp_path, mode):
    path = tmp_path / "photo.tif"
    Image.new(mode, (8, 6)).save(path)
    assert Image.open(path).mode == mode
    photo = read_photo(path)
    assert (tuple(photo.shape), photo.dtype) == ((1, 3, 6, 8), torch.float32)
    assert float(photo.min()) >= 0
    assert float(photo.max()) <= 1


def test_greyscale_is_repeated(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    photo = read_photo(tmp_path / "grey.png")
    assert torch.equal(photo, planes(np.repeat(RAMP[..., None], 3, 2)))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_greyscale_keeps_its_depth(tmp_path, suffix):
    deep = (np.arange(48, dtype=np.uint16) * 1300 + 7).reshape(6, 8)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    photo = read_photo(tmp_path / f"deep.{suffix}")
    assert torch.equal(photo, torch.from_numpy(deep.astype(np.float32) / 65535).repeat(1, 3, 1, 1))


def test_float_images_are_taken_as_they_are(tmp_path):
    Image.fromarray((RAMP / 255).astype(np.float32)).save(tmp_path / "float.tif")
    assert torch.equal(read_photo(tmp_path / "float.tif")[0, 1], torch.from_numpy((RAMP / 255).astype(np.float32)))


def test_transparency_is_left_out(tmp_path):
    values = rgb()
    alpha = np.zeros((*values.shape[:2], 1), np.uint8)
    Image.fromarray(np.concatenate([values, alpha], 2)).save(tmp_path / "clear.png")
    assert torch.equal(read_photo(tmp_path / "clear.png"), planes(values))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda v: v),
        (2, np.fliplr),
        (3, lambda v: np.rot90(v, 2)),
        (4, np.flipud),
        (5, lambda v: v.transpose(1, 0, 2)),
        (6, lambda v: np.rot90(v, -1)),
        (7, lambda v: np.rot90(v, 2).transpose(1, 0, 2)),
        (8, lambda v: np.rot90(v, 1)),
    ],
)
def test_photos_are_turned_upright(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb()).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read_photo(tmp_path / "turned.png"), planes(np.ascontiguousarray(turn(rgb()))))


@given(values=st.integers(0, 2**32 - 1), height=st.integers(1, 9), width=st.integers(1, 9))
def test_8_bit_values_survive_a_round_trip(tmp_path_factory, values, height, width):
    path = tmp_path_factory.getbasetemp() / "round.png"
    photo = planes(rgb(values, height, width))
    write_image(path, photo)
    assert torch.equal(read_photo(path), photo)


def test_written_values_are_clamped_and_rounded():
    photo = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.7]).reshape(1, 1, 1, 6).repeat(1, 3, 1, 1)
    assert np.asarray(to_pil(photo))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize("deep", [False, True])
def test_a_mask_marks_what_is_lighter_than_middle_grey(tmp_path, deep):
    grey = np.array([[0, 100, 127, 128, 255]], np.uint8)
    Image.fromarray(grey.astype(np.uint16) * 257 if deep else grey).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[[[0, 0, 0, 1, 1]]]]


@pytest.mark.parametrize("hidden", [0, 255])
def test_a_mask_on_a_layer_is_what_was_painted(tmp_path, hidden):
    layer = np.full((1, 4, 4), hidden, np.uint8)
    layer[..., 3] = 0
    layer[0, 1], layer[0, 2] = 255, (0, 0, 0, 255)  # white paint, black paint
    Image.fromarray(layer).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[[[0, 1, 0, 0]]]]


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "cannot identify"), (b"no image at all", "cannot identify"), (b"\x89PNG\r\n\x1a\n", "")],
)
def test_a_file_that_is_no_image_is_one_sentence(tmp_path, content, why):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for read in (open_image, read_photo, read_mask):
        with pytest.raises(AdaptDiffuseError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} cannot be read as an image ({why}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_photo_that_is_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(rgb(0, 64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AdaptDiffuseError, match="cannot be read as an image"):
        read_photo(path)


def test_a_photo_too_large_to_be_true_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (1, 1)).save(path)
    header = bytearray(path.read_bytes())
    header[16:24] = (60000).to_bytes(4, "big") * 2  # width and height of the PNG header, then its checksum
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(header))
    with pytest.raises(AdaptDiffuseError, match="cannot be read as an image"):
        read_photo(path)


def test_missing_files_and_folders_are_one_sentence(tmp_path):
    with pytest.raises(AdaptDiffuseError, match="There is no photo or folder .*/nothing"):
        find_photos(tmp_path / "nothing")
    with pytest.raises(AdaptDiffuseError, match="has no photos"):
        find_photos(tmp_path)
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(AdaptDiffuseError, match="has no photos"):
        find_photos(tmp_path)


def test_a_folders_photos_are_found_in_order(tmp_path):
    names = ["b.PNG", "a.jpeg", "sub/c.tif", "notes.txt", "sub/deeper/d.webp"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_photos(tmp_path)]
    assert found == ["a.jpeg", "b.PNG", "sub/c.tif", "sub/deeper/d.webp"]
    assert find_photos(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_wildcards_are_expanded_where_the_shell_has_not(tmp_path):
    names = ["a[1].png", "b.png", "b.txt", "sub/c.tif", "d.jpg"]
    for name in names:
        (tmp_path / "my [photos]" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my [photos]" / name).touch()
    folder = tmp_path / "my [photos]"
    for pattern, expected in {
        "*.png": ["a[1].png", "b.png"],
        "a[1].*": ["a[1].png"],
        "?.*": ["b.png", "d.jpg"],
        "*": ["a[1].png", "b.png", "d.jpg", "sub/c.tif"],
    }.items():
        assert [path.relative_to(folder).as_posix() for path in find_photos(folder / pattern)] == expected
    with pytest.raises(AdaptDiffuseError, match=r"There is no photo or folder .*\*\.bmp"):
        find_photos(folder / "*.bmp")


def test_a_name_with_a_wildcard_in_it_is_that_file_first(tmp_path):
    for name in ("b?.png", "bc.png"):
        (tmp_path / name).touch()
    assert find_photos(tmp_path / "b?.png") == [tmp_path / "b?.png"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AdaptDiffuseError, match=r"^There is no file .*nowhere\.png\.$"):
        read_mask(tmp_path / "nowhere.png")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "photo.png"
    write_image(path, planes(rgb()))
    before = path.read_bytes()
    with pytest.raises(AdaptDiffuseError):
        write_image(path, Image.new("F", (4, 4)))  # PNG holds no floating point
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (OSError(28, "No space left on device"), AdaptDiffuseError),
        (RuntimeError("PytorchStreamWriter failed"), AdaptDiffuseError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_write_that_ends_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path, error, seen):
    path = tmp_path / "weights.safetensors"
    path.write_text("old")

    def write(partial):
        partial.write_text("half")
        raise error

    with pytest.raises(seen) as caught:
        write_whole(path, write)
    if seen is AdaptDiffuseError:
        assert str(caught.value) == f"{path} cannot be written ({getattr(error, 'strerror', None) or error})."
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("weights.safetensors", "old")]


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new folder" / "deeper" / "report.json"

    def write(partial):
        partial.write_text("all of it")
        assert not path.exists()

    write_whole(path, write)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]
    assert path.read_text() == "all of it"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AdaptDiffuseError, match="file/photo.png cannot be written"):
        write_image(tmp_path / "file" / "photo.png", planes(rgb()))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 13), (20, 8)])
def test_the_centre_crop_is_the_middle(height, width):
    photo = torch.arange(height * width).reshape(1, height, width)
    crop = centre_crop(photo, 8)
    assert torch.equal(crop, photo[:, (height - 8) // 2 :, (width - 8) // 2 :][:, :8, :8])


def test_a_photo_too_small_for_the_crop_is_refused():
    with pytest.raises(AdaptDiffuseError, match="9 x 7 is too small for a crop of 8 pixels"):
        centre_crop(torch.zeros(3, 7, 9), 8)


# Crops for training


@pytest.fixture
def folder(tmp_path):
    for index, size in enumerate([(40, 30), (16, 90), (5, 7)]):
        Image.fromarray(rgb(index, *size)).save(tmp_path / f"{index}.png")
    return tmp_path


def test_crops_are_pieces_of_the_photos(folder):
    crops = PhotoCrops([folder / "0.png"], 16)
    whole = planes(rgb(0, 40, 30))[0]
    windows = whole.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    windows = torch.cat([windows, windows.flip(3)])
    for crop in crops.random(12, np.random.default_rng(0)):
        assert any(torch.equal(crop, window) for window in windows)


def test_crops_follow_from_the_generator(folder):
    crops = PhotoCrops(sorted(folder.iterdir()), 16)
    first = crops.random(6, np.random.default_rng(3))
    assert first.shape == (6, 3, 16, 16)
    assert torch.equal(first, crops.random(6, np.random.default_rng(3)))
    assert not torch.equal(first, crops.random(6, np.random.default_rng(4)))


def test_photos_are_brought_to_a_usable_size(folder):
    crops = PhotoCrops(sorted(folder.iterdir()), 16, max_side=30)
    assert [tuple(photo.shape[1:]) for photo in crops.photos] == [(30, 22), (16, 90), (16, 22)]
    assert crops.centres().shape == (3, 3, 16, 16)


def test_16_bit_photos_train_in_their_full_range(tmp_path):
    Image.fromarray((np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)).save(tmp_path / "deep.png")
    centre = PhotoCrops([tmp_path / "deep.png"], 8).centres()
    assert float((centre[0, 0].flatten() - torch.arange(64) * 1000 / 65535).abs().max()) <= 0.5 / 255 + 1e-6


def test_unreadable_photos_are_left_out_and_counted(folder):
    (folder / "broken.png").write_text("no image")
    crops = PhotoCrops(sorted(folder.iterdir()), 16)
    assert (len(crops), crops.unreadable) == (3, 1)
    with pytest.raises(AdaptDiffuseError, match="None of the 1 photos could be read"):
        PhotoCrops([folder / "broken.png"], 16)


# Sheets


@pytest.mark.parametrize(("height", "width"), [(4, 6), (120, 100)])
def test_a_sheet_shows_every_version_of_every_photo(height, width):
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.rand(2, 3, height, width, generator=generator) for _ in range(2))
    sheet = np.asarray(before_after([("before", before), ("after", after)]))
    for photo in (*before, *after):
        wanted = np.asarray(to_pil(photo))
        rows, columns = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
        corners = np.argwhere((sheet[:rows, :columns] == wanted[0, 0]).all(2))
        assert any(np.array_equal(sheet[r : r + height, c : c + width], wanted) for r, c in corners)


def test_a_suffix_that_is_no_format_is_one_sentence(tmp_path):
    with pytest.raises(AdaptDiffuseError, match="photo.xyz cannot be written"):
        write_image(tmp_path / "photo.xyz", planes(rgb()))
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file.txt"

    def slow(partial):
        write_whole(path, lambda other: other.write_text("the other's"))
        partial.write_text("mine")

    write_whole(path, slow)
    assert path.read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]
