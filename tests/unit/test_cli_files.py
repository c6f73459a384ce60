"""Which files a command takes, which it leaves out and says so, and what of a file its picture keeps."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from adapt_diffuse.commands.files import check_report, check_targets, identity
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.images import find_photos, open_image, pictures_in, profile_of, resolution_of
from adapt_diffuse.memory import available_memory, container_memory
from tests.command_line import call, model, names, one_sentence, restore
from tests.models import drawn_photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]


def photo(path, **kept):
    Image.fromarray(drawn_photo(0, 8, 8)).save(path, **kept)


def test_pictures_of_other_kinds_in_a_folder_are_named(tmp_path, capsys):
    folder = tmp_path / "photos"
    (folder / "phone").mkdir(parents=True)
    photo(folder / "scan.png")
    for name in ("a.HEIC", "phone/b.heic", "c.gif", "d.nef", "notes.txt"):
        (folder / name).write_bytes(b"")
    assert call("degrade", folder, "--out", tmp_path / "out") == 0
    one_sentence(capsys, f"4 pictures are left out of {folder} (a.HEIC, c.gif, d.nef, ...)", "JPEG, PNG or TIFF")
    assert names(tmp_path / "out") == ["scan.png"]


def test_what_macos_writes_beside_photos_is_no_photo(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    photo(folder / "scan.jpg")
    for name in ("._scan.jpg", "._phone.heic"):
        (folder / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert call("degrade", folder, "--out", tmp_path / "out") == 0
    assert "scan" not in capsys.readouterr().err
    assert names(tmp_path / "out") == ["scan.png"]


def test_a_folder_of_other_kinds_alone_says_both(tmp_path, capsys):
    (tmp_path / "a.heic").write_bytes(b"")
    assert call("degrade", tmp_path, "--out", tmp_path / "out") == 2
    left, none = capsys.readouterr().err.splitlines()
    assert "1 picture is left out of" in left
    assert "has no photos" in none


def test_a_file_of_an_unknown_kind_says_what_to_save_it_as(tmp_path):
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(AdaptDiffuseError, match="save it as JPEG, PNG or TIFF") as caught:
        open_image(tmp_path / "phone.heic")
    assert str(caught.value).count("phone.heic") == 1


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_of_several_pictures_in_a_file_the_first_is_taken_and_that_is_said(tmp_path, capsys, suffix):
    pages = [Image.fromarray(drawn_photo(seed, 8, 8)) for seed in range(3)]
    path = tmp_path / f"pages.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert pictures_in(path) == 3
    assert call("degrade", path, "--out", tmp_path / "out") == 0
    one_sentence(capsys, path, "has 3 pictures; only the first is taken")


def test_one_picture_is_one(tmp_path):
    photo(tmp_path / "photo.png")
    photo(tmp_path / "photo.jpg")
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    assert [pictures_in(tmp_path / name) for name in ("photo.png", "photo.jpg", "broken.tif", "none.png")] == [1] * 4


@pytest.mark.parametrize("command", ["degrade", "find-scratches"])
def test_a_file_that_lies_beside_the_photo_is_not_overwritten(tmp_path, capsys, command):
    photo(tmp_path / "mother.jpg")
    photo(tmp_path / "mother.png")
    before = (tmp_path / "mother.png").read_bytes()
    assert call(command, tmp_path / "mother.jpg", "--out", tmp_path) == 2
    one_sentence(capsys, tmp_path / "mother.png", "would be overwritten", "choose another --out")
    assert (tmp_path / "mother.png").read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="This system has no folder that even its root cannot fill.")
def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(files, tmp_path, capsys, monkeypatch):
    photo(tmp_path / "photo.png")
    monkeypatch.setattr("adapt_diffuse.commands.batches.restore", None)  # nothing is restored
    assert restore(files, tmp_path / "photo.png", "--out", "/proc/nowhere/restored") == 2
    one_sentence(capsys, "No file can be made in /proc", "choose another --out")


def test_what_was_made_before_in_a_folder_apart_is_made_anew(tmp_path):
    photo(tmp_path / "mother.jpg")
    for _ in range(2):
        assert call("degrade", tmp_path / "mother.jpg", "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["mother.png"]


def test_what_lies_in_the_output_folder_is_no_photo_of_the_folder_around_it(tmp_path, capsys):
    for name in ("a.jpg", "b.png"):
        photo(tmp_path / name)
    out = tmp_path / "out"
    assert call("degrade", tmp_path / "a.jpg", "--out", out) == 0
    assert call("degrade", tmp_path, "--out", out) == 0
    assert names(out) == ["a.png", "b.png"]
    assert call("degrade", out, "--out", out) == 2  # but where it is named itself
    assert "would be overwritten" in capsys.readouterr().err
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).unlink()
    assert call("degrade", tmp_path, "--out", out) == 2
    one_sentence(capsys, "has no photos but those in")


@pytest.mark.parametrize("report", ["folder", "/proc/nowhere/report.json"])
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="This system has no folder that even its root cannot fill.")
def test_a_report_that_cannot_be_written_is_told_before_the_work(files, tmp_path, capsys, monkeypatch, report):
    photo(tmp_path / "photo.png")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("adapt_diffuse.commands.batches.restore", None)  # nothing is restored
    assert restore(files, tmp_path / "photo.png", "--out", tmp_path / "out", "--report", tmp_path / report) == 2
    one_sentence(capsys, "choose a file for the report" if report == "folder" else "choose another --report")


@pytest.mark.parametrize(("mode", "profile"), [("RGB", SRGB), ("L", GREY)])
def test_colours_keep_their_profile(files, tmp_path, mode, profile):
    Image.fromarray(drawn_photo(0, 24, 32)).convert(mode).save(tmp_path / "photo.png", icc_profile=profile)
    assert restore(files, tmp_path / "photo.png", "--out", tmp_path / "out") == 0
    restored = Image.open(tmp_path / "out" / "photo.png")
    assert (restored.mode, restored.info["icc_profile"]) == (mode, profile)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_photo_is_printed_as_large_as_before(files, tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(drawn_photo(0, 24, 32)).save(path, dpi=(300, 600))
    assert restore(files, path, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "photo.png").info["dpi"] == pytest.approx((300, 600), abs=0.02)


@pytest.mark.parametrize("across", [IFDRational(0, 0), 0, 300])
def test_a_resolution_that_makes_no_sense_is_left_out(files, tmp_path, across):
    path, tags = tmp_path / "photo.tif", ImageFileDirectory_v2()
    tags[282], tags[283], tags[296] = across, 300, 2  # XResolution, YResolution, ResolutionUnit: inch
    Image.fromarray(drawn_photo(0, 24, 32)).save(path, tiffinfo=tags)
    assert resolution_of(path) == ((300, 300) if across == 300 else None)
    assert restore(files, path, "--out", tmp_path / "out") == 0


def test_photos_are_restored_into_a_folder_of_that_name(files, tmp_path, monkeypatch):
    photo(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    assert restore(files, "photo.png") == 0
    assert names(tmp_path / "restored") == ["photo.png"]


def test_a_profile_of_other_channels_is_left_out(tmp_path):
    path = tmp_path / "print.jpg"
    Image.fromarray(drawn_photo(0, 8, 8)).convert("CMYK").save(path, icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:])
    assert profile_of(path) is None
    Image.fromarray(drawn_photo(0, 8, 8)).convert("L").save(path, icc_profile=GREY)
    assert (profile_of(path), profile_of(path, True)) == (None, GREY)
    photo(path)
    assert profile_of(path) is None


@pytest.mark.parametrize(("largest", "refused"), [(1.4, False), (255.0, True)])
def test_a_float_image_on_another_scale_is_refused(files, tmp_path, capsys, largest, refused):
    path = tmp_path / "float.tif"
    Image.fromarray(np.linspace(0, largest, 48, dtype=np.float32).reshape(6, 8)).save(path)
    for command in ("restore", "degrade", "find-scratches"):
        more = [*model(files), "--degradation", "noise", "--steps", 1] if command == "restore" else []
        assert call(command, path, "--out", tmp_path / command, *more) == (2 if refused else 0)
        if refused:
            one_sentence(capsys, path, "has values up to 255 instead of 1: save it with 8 or 16 bits")
        assert (tmp_path / command / "float.png").exists() != refused


def test_a_kernel_may_have_any_scale(tmp_path):
    spot = np.zeros((5, 5), np.float32)
    spot[1:4, 1:4] = 700.0
    Image.fromarray(spot).save(tmp_path / "spot.tif")
    photo(tmp_path / "photo.png")
    kernel = f"kernel-blur:file={tmp_path / 'spot.tif'}"
    assert call("degrade", tmp_path / "photo.png", "--out", tmp_path / "out", "--degradation", kernel) == 0


def link_that_may_not_be_followed(folder, monkeypatch):
    """A link whose target may not be looked at, for everybody: permissions do not hold the superuser back."""
    link = folder / "theirs.png"
    link.symlink_to(folder / "locked" / "photo.png")
    real = os.stat

    def stat(path, *arguments, follow_symlinks=True, **more):
        if follow_symlinks and not isinstance(path, int) and os.path.basename(path) == link.name:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, follow_symlinks=follow_symlinks, **more)

    monkeypatch.setattr(os, "stat", stat)


def test_a_link_that_may_not_be_followed_does_not_end_a_folder(files, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    photo(tmp_path / "photos" / "mine.png")
    link_that_may_not_be_followed(tmp_path / "photos", monkeypatch)
    assert find_photos(tmp_path / "photos") == [tmp_path / "photos" / "mine.png"]


def test_a_photo_is_not_replaced_under_another_name_of_its_folder(tmp_path, capsys):
    (tmp_path / "Photos").mkdir()
    photo(tmp_path / "Photos" / "mother.png")
    (tmp_path / "photos").symlink_to(tmp_path / "Photos")  # as a disk that takes A for a
    before = (tmp_path / "Photos" / "mother.png").read_bytes()
    assert call("degrade", tmp_path / "Photos", "--out", tmp_path / "photos") == 2
    one_sentence(capsys, "would be overwritten", "choose another --out")
    assert (tmp_path / "Photos" / "mother.png").read_bytes() == before


def test_names_of_one_file_are_known_by_the_disk(tmp_path):
    photo(tmp_path / "mother.png")
    os.link(tmp_path / "mother.png", tmp_path / "MOTHER.png")
    assert identity(tmp_path / "mother.png") == identity(tmp_path / "MOTHER.png") != identity(tmp_path)
    with pytest.raises(AdaptDiffuseError, match="would be overwritten"):
        check_targets([tmp_path / "mother.png"], [tmp_path / "MOTHER.png"])
    with pytest.raises(AdaptDiffuseError, match="is a photo"):
        check_report(tmp_path / "MOTHER.png", [(tmp_path / "mother.png", tmp_path / "out.png")])


def test_the_limit_of_a_container_counts(tmp_path):
    assert container_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert container_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert container_memory(tmp_path) == 450
    assert 2**20 < available_memory() <= psutil.virtual_memory().total
