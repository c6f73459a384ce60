"""Restoring, damaging and training on the command line: files in, files out."""

import numpy as np
import pytest
from PIL import Image

from adapt_diffuse.cli import COMMANDS
from adapt_diffuse.degradation import FAMILIES, measure, parse_degradation
from adapt_diffuse.images import read_photo, to_pil
from adapt_diffuse.restore import damage_generators
from adapt_diffuse.severity import load_severity_encoder
from tests.command_line import call, model, names, one_sentence, restore, strict_json
from tests.models import draw_photos, drawn_photo

REPORT = {
    "photo",
    "restored",
    "sigma_hat",
    "sigma_start",
    "steps",
    "residual",
    "seconds",
    "peak_memory_mib",
    "denoiser_forwards",
    "denoiser_backwards",
    "decoder_forwards",
    "decoder_backwards",
    "encoder_passes",
    "encoder_backwards",
    "guide_decoder_forwards",
    "guide_decoder_backwards",
    "guide_encoder_passes",
    "guide_encoder_backwards",
}
DEGRADATIONS = [
    "gaussian-blur:std=1.5",
    "missing-pixels:drop=0.5,seed=2",
    "downscale:factor=2",
    "camera-blur|jpeg:quality=40",
]


def test_a_photo_is_restored_in_its_size(files, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert restore(files, photos[0], "--out", out, "--report", tmp_path / "report.json") == 0
    assert names(out) == ["photo-0.png"]
    assert Image.open(out / "photo-0.png").size == (32, 24)
    assert str(out / "photo-0.png") in capsys.readouterr().out
    (row,) = strict_json(tmp_path / "report.json")
    assert set(row) == REPORT
    assert (row["photo"], row["restored"]) == (str(photos[0]), str(out / "photo-0.png"))
    assert (row["steps"], row["denoiser_forwards"], row["decoder_forwards"]) == (2, 2, 3)
    assert row["sigma_hat"] > 0
    assert row["residual"] > 0


def test_every_kind_of_photo_is_restored(files, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    values = drawn_photo(0, 40, 56)
    grey = values.mean(2)
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    Image.fromarray(values[:1, :1]).save(folder / "pixel.png")
    Image.fromarray(drawn_photo(1, 17, 97)).save(folder / "odd.png")
    Image.fromarray(drawn_photo(2, 130, 75)).save(folder / "tall.jpg")
    Image.fromarray(grey.astype(np.uint8)).save(folder / "grey.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(np.dstack([values, values[..., :1]])).save(folder / "clear.png")
    Image.fromarray(values).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(values).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(values).convert("P").save(folder / "palette.bmp")
    assert restore(files, folder, "--out", out) == 0
    sizes = {path.stem: Image.open(path).size for path in out.iterdir()}
    usual = dict.fromkeys(("grey", "deep", "clear", "print", "palette"), (56, 40))
    assert sizes == {**usual, "pixel": (1, 1), "odd": (97, 17), "tall": (75, 130), "turned": (40, 56)}
    assert {path.stem for path in out.iterdir() if Image.open(path).mode == "L"} == {"grey", "deep"}
    assert {Image.open(path).mode for path in out.iterdir()} == {"L", "RGB"}


def test_the_depth_of_a_16_bit_photo_does_not_change_the_result(files, tmp_path):
    grey = drawn_photo(0, 24, 32).mean(2).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "eight.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    results = []
    for name in ("eight", "sixteen"):  # the same seed for both
        assert restore(files, tmp_path / f"{name}.png", "--out", tmp_path / "out") == 0
        results.append(np.asarray(Image.open(tmp_path / "out" / f"{name}.png")).astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_photos_of_one_name_get_numbers(files, tmp_path):
    for index, folder in enumerate(("a", "b", "c")):
        draw_photos(tmp_path / folder, 1, 8, 8, seed=index)
    Image.fromarray(drawn_photo(7, 8, 8)).save(tmp_path / "a" / "photo-0.jpg")
    assert restore(files, tmp_path / "a", tmp_path / "b", tmp_path / "c", "--out", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["photo-0-2.png", "photo-0-3.png", "photo-0-4.png", "photo-0.png"]


@pytest.mark.parametrize("command", ["restore", "degrade"])
def test_a_photo_is_never_overwritten(files, photos, tmp_path, capsys, command):
    before = photos[0].read_bytes()
    more = [*model(files), "--steps", 1] if command == "restore" else []
    (tmp_path / "link").symlink_to(photos[0].parent)
    linked = tmp_path / "link" / photos[0].name
    for photo, out in ((photos[0], photos[0].parent), (photos[0], linked.parent), (linked, photos[0].parent)):
        assert call(command, photo, "--out", out, *more) == 2
        one_sentence(capsys, photos[0], "would be overwritten")
        assert photos[0].read_bytes() == before


def test_a_seed_decides_the_photo(files, photos, tmp_path):
    contents = []
    for index, seed in enumerate((5, 5, 6)):
        assert restore(files, photos[0], "--out", tmp_path / str(index), "--seed", seed) == 0
        contents.append((tmp_path / str(index) / "photo-0.png").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_a_photo_in_a_folder_gets_what_it_gets_alone(files, photos, tmp_path):
    assert restore(files, photos[0].parent, "--out", tmp_path / "all", "--seed", 3) == 0
    assert restore(files, photos[2], "--out", tmp_path / "alone", "--seed", 5) == 0
    assert (tmp_path / "all" / "photo-2.png").read_bytes() == (tmp_path / "alone" / "photo-2.png").read_bytes()


@pytest.mark.parametrize("solver", ["default", "ldps"])
@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_every_solver_restores_every_degradation(files, photos, tmp_path, solver, degradation):
    assert restore(files, photos[0], "--out", tmp_path, "--solver", solver, "--degradation", degradation) == 0
    assert (tmp_path / "photo-0.png").exists()


def test_options_of_the_start_reach_the_run(files, photos, tmp_path):
    report = tmp_path / "report.json"
    starts = {}
    for mode in ("matched", "paper"):
        options = ["--noise-correction", 1.21, "--start-mode", mode, "--report", report]
        assert restore(files, photos[0], "--out", tmp_path / "out", *options) == 0
        (row,) = strict_json(report)
        starts[mode] = row["sigma_start"] / row["sigma_hat"]
    assert starts == {"matched": pytest.approx(1.1, rel=1e-6), "paper": pytest.approx(1, rel=1e-6)}


def test_levels_are_a_density_for_every_solver(files, photos, tmp_path):
    report = tmp_path / "report.json"
    steps = []
    for levels in (10, 20, 1000):
        options = ["--levels", levels, "--report", report, "--degradation", "noise"]
        assert call("restore", photos[0], "--out", tmp_path / "out", *model(files), *options) == 0
        steps.append(strict_json(report)[0]["steps"])
    assert steps[0] < steps[1] < steps[2]


def test_a_report_without_noise_is_json_too(files, photos, tmp_path):
    options = ["--noise-std", 0, "--report", tmp_path / "report.json"]
    assert restore(files, photos[0], "--out", tmp_path / "out", *options) == 0
    (row,) = strict_json(tmp_path / "report.json")
    assert row["residual"] is None


@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_degrade_draws_the_measurement(photos, tmp_path, degradation):
    options = ["--out", tmp_path / "out", "--degradation", degradation, "--noise-std", 0.03, "--seed", 8]
    assert call("degrade", photos[0], photos[2], *options) == 0
    assert names(tmp_path / "out") == ["photo-0.png", "photo-2.png"]
    for index, path in enumerate((photos[0], photos[2])):
        expected = measure(read_photo(path), parse_degradation(degradation, 0.03), damage_generators(8 + index, 1))
        written = np.asarray(Image.open(tmp_path / "out" / path.name))
        assert np.array_equal(written, np.asarray(to_pil(expected)))


def test_a_mask_loses_what_is_white(photos, tmp_path):
    lost = np.zeros((24, 32), np.uint8)
    lost[:, :10] = 255
    Image.fromarray(lost).save(tmp_path / "mask.png")
    options = ["--out", tmp_path / "out", "--degradation", f"mask:file={tmp_path / 'mask.png'}", "--noise-std", 0]
    assert call("degrade", photos[0], *options) == 0
    written = np.asarray(Image.open(tmp_path / "out" / "photo-0.png"))
    assert not written[:, :10].any()
    assert np.array_equal(written[:, 10:], np.asarray(Image.open(photos[0]))[:, 10:])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_severity_encoder_is_trained_for_every_family(files, tmp_path, family):
    out = tmp_path / "severity.safetensors"
    options = ["--images", files / "training", "--out", out, "--model", files / "model", "--family", family]
    assert call("train-severity", *options, "--steps", 1, "--batch", 2, "--size", 32, "--device", "cpu") == 0
    notes = load_severity_encoder(out).notes
    assert notes["family"]["name"] == family
    assert notes["training"]["photos"] == 3  # every twentieth, and at least one, is for validation
    assert notes["validation"]["photos"] == 1
    assert names(tmp_path) == ["severity.safetensors"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        call(name, "--help")
    assert caught.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_without_a_command_all_are_shown(capsys):
    assert call() == 2
    told = capsys.readouterr().out
    assert all(name in told for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["fix"], ["restore"], ["degrade", "photo.png"]])
def test_a_command_that_is_not_complete_shows_how_it_is_used(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        call(*arguments)
    assert caught.value.code == 2
    assert "usage: python -m adapt_diffuse" in capsys.readouterr().err
