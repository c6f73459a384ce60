"""The command line, as a person uses it: files in, files out, one sentence where something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_diffuse.benchmark import METHODS, TASKS
from adapt_diffuse.bundled import WEIGHTS, bundled_encoders, bundled_model, manifest, sha256_of
from adapt_diffuse.checkpoints import read_safetensors, write_safetensors
from adapt_diffuse.cli import COMMANDS, main
from adapt_diffuse.commands.demo import demo_photo
from adapt_diffuse.degradation import FAMILIES, measure, parse_degradation
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import read_photo, to_pil
from adapt_diffuse.restore import generators_for
from adapt_diffuse.severity import load_severity_encoder
from tests.models import draw_photos, drawn_photo, save_model

ROOT = Path(__file__).resolve().parents[2]
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
}
ROW = {
    "task",
    "method",
    "images",
    "psnr",
    "ssim",
    "denoiser_forwards",
    "denoiser_backwards",
    "decoder_forwards",
    "decoder_backwards",
    "encoder_passes",
    "seconds",
    "sigma_hat_mean",
    "residual",
}
SEVERITY_ROW = {"pearson_blur", "spearman_blur", "pearson_error", "spearman_error"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny model, severity encoders trained by the command line itself, and drawn photos."""
    root = tmp_path_factory.mktemp("cli")
    save_model(root / "model")
    save_model(root / "other", kind="AutoencoderKL")
    draw_photos(root / "training", 4, 40, 40)
    for name in ("model", "other"):
        arguments = ["--images", root / "training", "--out", root / f"{name}.safetensors", "--model", root / name]
        assert call("train-severity", *arguments, "--steps", 2, "--batch", 2, "--size", 32, "--device", "cpu") == 0
    return root


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos", 3, 24, 32)


def call(*arguments):
    return main([str(argument) for argument in arguments])


def model(files, name="model"):
    return ["--model", files / name, "--severity-encoder", files / f"{name}.safetensors", "--device", "cpu"]


def restore(files, *arguments, steps=2):
    return call("restore", *arguments, *model(files), "--steps", steps)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def one_sentence(capsys, *parts):
    """What the command said on stderr: one line with all of ``parts``, and no traceback."""
    said = []
    for line in capsys.readouterr().err.split("\n"):
        shown = ""
        for written in line.split("\r"):  # a progress bar writes over itself, and over its last state with spaces
            shown = written + shown[len(written) :]
        said += [shown.strip()] if shown.strip() else []
    assert len(said) == 1, said
    assert all(str(part) in said[0] for part in parts), said[0]
    return said[0]


# Restoring


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
    assert {Image.open(path).mode for path in out.iterdir()} == {"RGB"}


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
    for out in (photos[0].parent, tmp_path / "link"):
        assert call(command, photos[0], "--out", out, *more) == 2
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
@pytest.mark.parametrize("degradation", ["gaussian-blur:std=1.5", "missing-pixels:drop=0.5,seed=2"])
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


def test_a_report_without_noise_is_json_too(files, photos, tmp_path):
    options = ["--noise-std", 0, "--report", tmp_path / "report.json"]
    assert restore(files, photos[0], "--out", tmp_path / "out", *options) == 0
    (row,) = strict_json(tmp_path / "report.json")
    assert row["residual"] is None


# Damaging


@pytest.mark.parametrize("degradation", ["gaussian-blur:std=1.5", "missing-pixels:drop=0.5,seed=2"])
def test_degrade_draws_the_measurement(photos, tmp_path, degradation):
    options = ["--out", tmp_path / "out", "--degradation", degradation, "--noise-std", 0.03, "--seed", 8]
    assert call("degrade", photos[0], photos[2], *options) == 0
    assert names(tmp_path / "out") == ["photo-0.png", "photo-2.png"]
    for index, path in enumerate((photos[0], photos[2])):
        expected = measure(read_photo(path), parse_degradation(degradation, 0.03), generators_for(8 + index, 1))
        written = np.asarray(Image.open(tmp_path / "out" / path.name))
        assert np.array_equal(written, np.asarray(to_pil(expected)))


def test_a_mask_loses_what_is_black(photos, tmp_path):
    kept = np.zeros((24, 32), np.uint8)
    kept[:, 10:] = 255
    Image.fromarray(kept).save(tmp_path / "mask.png")
    options = ["--out", tmp_path / "out", "--degradation", f"mask:file={tmp_path / 'mask.png'}", "--noise-std", 0]
    assert call("degrade", photos[0], *options) == 0
    written = np.asarray(Image.open(tmp_path / "out" / "photo-0.png"))
    assert not written[:, :10].any()
    assert np.array_equal(written[:, 10:], np.asarray(Image.open(photos[0]))[:, 10:])


# Measuring


def benchmark(files, photos, out, *arguments, steps=2):
    common = ["--images", photos[0].parent, "--size", 24, "--out", out, "--steps", steps]
    return call("benchmark", *common, *arguments, *model(files))


def test_every_method_of_every_task_has_a_row(files, photos, tmp_path):
    out = tmp_path / "results.json"
    assert benchmark(files, photos, out, "--task", "all", "--methods", ",".join(METHODS)) == 0
    rows = strict_json(out)
    assert [(row["task"], row["method"]) for row in rows] == [
        (task, method) for task in TASKS for method in ("severity", *METHODS)
    ]
    for row in rows:
        assert row["images"] == 3
        if row["method"] == "severity":
            assert set(row) >= {"task", "method", "images"} | SEVERITY_ROW
        else:
            assert set(row) == ROW


def test_the_tasks_and_methods_are_the_promised_ones():
    assert set(TASKS) >= {"gaussian-blur-varying", "gaussian-blur-fixed", "random-inpainting"}
    assert set(METHODS) >= {"ae", "ldps", "flash-ldps", "default"}


def test_a_benchmark_can_be_limited_and_drawn(files, photos, tmp_path):
    options = ["--task", "gaussian-blur-fixed", "--methods", "damaged,ae", "--limit", 2, "--noise-std", 0]
    sheet = ["--sheet", tmp_path / "sheet.png", "--sheet-photos", 1]
    assert benchmark(files, photos, tmp_path / "results.json", *options, *sheet) == 0
    rows = strict_json(tmp_path / "results.json")
    assert [row["images"] for row in rows] == [2, 2, 2]
    assert rows[1]["residual"] is None
    width, height = Image.open(tmp_path / "sheet.png").size
    assert width > 4 * 24  # truth, damaged, and the two methods
    assert 24 < height < 2 * 24 + 40


def test_a_benchmark_is_reproducible(files, photos, tmp_path):
    results = []
    for index in range(2):
        options = ["--task", "gaussian-blur-varying", "--methods", "flash-ldps", "--batch", index + 1]
        assert benchmark(files, photos, tmp_path / f"{index}.json", *options) == 0
        results.append(strict_json(tmp_path / f"{index}.json")[1])
    for key in ROW - {"task", "method", "seconds"}:
        assert results[0][key] == pytest.approx(results[1][key], rel=1e-4)


# Training


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


# What cannot be used: one sentence, exit code 2, nothing lost


def broken_encoder(files, tmp_path):
    path = tmp_path / "broken.safetensors"
    content = (files / "model.safetensors").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


BAD = {
    "no such photo": (["{tmp}/nowhere.png"], [], "There is no photo or folder"),
    "empty folder": (["{tmp}/empty"], [], "has no photos"),
    "unknown degradation": (["{photo}"], ["--degradation", "rust"], "Unknown degradation 'rust'"),
    "unknown option": (["{photo}"], ["--degradation", "gaussian-blur:angle=1"], "does not have one of the options"),
    "std out of range": (["{photo}"], ["--degradation", "gaussian-blur:std=99"], "between 0 and 50 pixels"),
    "mask without file": (["{photo}"], ["--degradation", "mask"], "needs a file"),
    "negative noise": (["{photo}"], ["--noise-std=-0.1"], "noise_std must be between 0 and 1"),
    "noise on 0 to 255": (["{photo}"], ["--noise-std", "12"], "noise_std must be between 0 and 1"),
    "noise that is no number": (["{photo}"], ["--noise-std", "nan"], "noise_std must be between 0 and 1"),
    "unknown solver": (["{photo}"], ["--solver", "magic"], "Unknown solver 'magic'"),
    "negative steps": (["{photo}"], ["--steps=-1"], "--steps must be 0 or more"),
    "step size nan": (["{photo}"], ["--eta", "nan"], "--eta must be a number from 0 on"),
    "noise correction": (["{photo}"], ["--noise-correction", "0"], "--noise-correction must be above 0"),
    "no such model": (["{photo}"], ["--model", "{tmp}/nowhere"], "There is no model folder"),
    "model without parts": (["{photo}"], ["--model", "{tmp}/empty"], "is it a diffusers model folder?"),
    "no such encoder": (["{photo}"], ["--severity-encoder", "{tmp}/none.safetensors"], "There is no file"),
    "truncated encoder": (["{photo}"], ["--severity-encoder", "{broken}"], "is not a complete safetensors file"),
    "no encoder": (["{photo}"], ["--severity-encoder", "{model}/unet/{weights}"], "is not a severity encoder"),
    "encoder of another space": (["{photo}"], ["--severity-encoder", "{other}"], "another latent space"),
    "unknown device": (["{photo}"], ["--device", "abacus"], "The device 'abacus' cannot be used"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_keeps_what_is_there(files, photos, tmp_path, capsys, case):
    sources, options, sentence = BAD[case]
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert restore(files, photos[1], "--out", out) == 0
    before = (out / "photo-1.png").read_bytes()
    capsys.readouterr()
    places = {
        "tmp": tmp_path,
        "photo": photos[0],
        "broken": broken_encoder(files, tmp_path),
        "other": files / "other.safetensors",
        "model": files / "model",
        "weights": "diffusion_pytorch_model.safetensors",
    }
    sources, options = ([text.format(**places) for text in part] for part in (sources, options))
    assert call("restore", *sources, "--out", out, *model(files), *options) == 2
    assert one_sentence(capsys, sentence).startswith("adapt_diffuse: ")
    assert names(out) == ["photo-1.png"]
    assert (out / "photo-1.png").read_bytes() == before


def test_a_bad_photo_does_not_stop_the_others(files, photos, tmp_path, capsys):
    (photos[0].parent / "photo-1.png").write_text("not an image")
    out = tmp_path / "out"
    assert restore(files, photos[0].parent, "--out", out, "--report", tmp_path / "report.json") == 2
    one_sentence(capsys, photos[1], "cannot be read as an image")
    assert names(out) == ["photo-0.png", "photo-2.png"]
    assert [Path(row["photo"]).name for row in strict_json(tmp_path / "report.json")] == ["photo-0.png", "photo-2.png"]


def test_a_bad_photo_does_not_stop_the_others_from_being_damaged(photos, tmp_path, capsys):
    (photos[0].parent / "photo-1.png").write_text("not an image")
    assert call("degrade", photos[0].parent, "--out", tmp_path / "out") == 2
    one_sentence(capsys, photos[1], "cannot be read as an image")
    assert names(tmp_path / "out") == ["photo-0.png", "photo-2.png"]


def test_a_missing_photo_does_not_stop_the_others(files, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert restore(files, photos[0], tmp_path / "nowhere.png", photos[2], "--out", out) == 2
    one_sentence(capsys, "There is no photo or folder", tmp_path / "nowhere.png")
    assert names(out) == ["photo-0.png", "photo-2.png"]


def test_a_mask_of_another_size_is_one_sentence_per_photo(files, photos, tmp_path, capsys):
    Image.new("L", (32, 24), 255).save(tmp_path / "mask.png")
    Image.fromarray(drawn_photo(9, 16, 16)).save(photos[0].parent / "photo-1.png")
    options = ["--degradation", f"mask:file={tmp_path / 'mask.png'}"]
    assert restore(files, photos[0].parent, "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys, photos[1], "The mask is 32 x 24", "the photo is 16 x 16", "give a mask of the photo's size")
    assert names(tmp_path / "out") == ["photo-0.png", "photo-2.png"]


def test_a_photo_with_nan_is_one_sentence(files, photos, tmp_path, capsys):
    values = np.full((8, 8), 0.5, np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    assert restore(files, tmp_path / "nan.tif", "--out", tmp_path / "out") == 2
    one_sentence(capsys, "nan.tif", "NaN or infinite")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["restore", "degrade"])
def test_a_folder_that_cannot_be_written_is_one_sentence(files, photos, tmp_path, capsys, command):
    (tmp_path / "taken").write_text("a file")
    more = [*model(files), "--steps", 1] if command == "restore" else []
    assert call(command, photos[0], "--out", tmp_path / "taken", *more) == 2
    one_sentence(capsys, tmp_path / "taken", "cannot be written")
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_report_that_cannot_be_written_is_one_sentence(files, photos, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert restore(files, photos[0], "--out", tmp_path / "out", "--report", tmp_path / "taken" / "report.json") == 2
    one_sentence(capsys, tmp_path / "taken" / "report.json", "cannot be written")
    assert names(tmp_path / "out") == ["photo-0.png"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--task", "rust"], "Unknown task 'rust'; there are gaussian-blur-varying"),
        (["--task", "gaussian-blur-fixed,rust"], "Unknown task 'rust'"),
        (["--task", "all", "--methods", "magic"], "Unknown method 'magic'; there are"),
        (["--task", "all", "--methods", ""], "Unknown method ''"),
        (["--task", "all", "--limit", "0"], "--limit must be 1 or more, not 0."),
        (["--task", "all", "--batch", "0"], "--batch must be 1 or more, not 0."),
        (["--task", "all", "--size", "-4"], "--size must be 1 or more, not -4."),
        (["--task", "all", "--size", "25"], "is too small for a crop of 25 pixels"),
        (["--task", "all", "--noise-std=-1"], "noise_std must be between 0 and 1"),
        (["--task", "all", "--severity-encoder", "{other}"], "another latent space"),
    ],
)
def test_a_bad_benchmark_is_one_sentence_and_keeps_the_old_rows(files, photos, tmp_path, capsys, options, sentence):
    out = tmp_path / "results.json"
    out.write_text("[]")
    options = [option.format(other=files / "other.safetensors") for option in options]
    common = ["--images", photos[0].parent, "--size", 24, "--out", out, "--steps", 1, *model(files)]
    assert call("benchmark", *common, *options) == 2
    one_sentence(capsys, sentence)
    assert out.read_text() == "[]"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "{tmp}/severity.pt"], "--out should end in .safetensors"),
        (["--images", "{tmp}/nowhere"], "There is no photo or folder"),
        (["--family", "rust"], "Unknown degradation family 'rust'"),
        (["--family", "gaussian-blur:std_max"], "should be key=number"),
        (["--family", "gaussian-blur:std_max=wide"], "should be key=number"),
        (["--family", "gaussian-blur:drop=1"], "does not have one of the options"),
        (["--noise-std=-1"], "noise_std must be between 0 and 1"),
        (["--steps", "0"], "must be at least 1"),
        (["--size", "30"], "The crop size must be a multiple of 4, not 30."),
        (["--learning-rate=-1"], "The learning rate must be a number above 0, not -1."),
        (["--model", "{tmp}"], "is it a diffusers model folder?"),
    ],
)
def test_a_bad_training_is_one_sentence_and_writes_nothing(files, tmp_path, capsys, options, sentence):
    options = [option.format(tmp=tmp_path) for option in options]
    common = ["--images", files / "training", "--out", tmp_path / "severity.safetensors", "--model", files / "model"]
    assert call("train-severity", *common, "--size", 32, "--device", "cpu", *options) == 2
    one_sentence(capsys, sentence)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        call(name, "--help")
    assert caught.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize("arguments", [[], ["fix"], ["restore"], ["restore", "photo.png"]])
def test_a_command_that_is_not_complete_shows_how_it_is_used(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        call(*arguments)
    assert caught.value.code == 2
    assert "usage: python -m adapt_diffuse" in capsys.readouterr().err


# As a process of its own


def command(*arguments):
    return [sys.executable, "-m", "adapt_diffuse", *map(str, arguments)]


def start(*arguments):
    return subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def interrupt_when(process, ready, limit=60):
    """Send Ctrl-C as soon as ``ready()``; the exit code and what was said on stderr."""
    end = time.monotonic() + limit
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=limit)
    return process.returncode, errors


def test_bad_input_exits_with_2_and_without_a_traceback(files, tmp_path):
    (tmp_path / "note.png").write_text("not an image")
    done = subprocess.run(
        command("restore", tmp_path / "note.png", "--out", tmp_path / "out", *model(files)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "note.png cannot be read as an image" in done.stderr


def test_ctrl_c_keeps_finished_photos_and_no_half_file(files, tmp_path):
    draw_photos(tmp_path / "photos", 40, 24, 32)
    out, report = tmp_path / "out", tmp_path / "report.json"
    options = ["--out", out, "--report", report, "--steps", 60, *model(files)]
    process = start("restore", tmp_path / "photos", *options)
    code, errors = interrupt_when(process, lambda: len(list(out.glob("*.png"))) >= 2)
    assert code == 130
    assert "Traceback" not in errors
    assert "adapt_diffuse: interrupted; what was finished before is kept." in errors
    finished = sorted(out.iterdir())
    assert 2 <= len(finished) < 40
    for path in finished:
        assert read_photo(path).shape == (1, 3, 24, 32)
    rows = strict_json(report)
    assert len(finished) - 1 <= len(rows) <= len(finished)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos", "report.json"]


def test_ctrl_c_keeps_finished_rows(files, photos, tmp_path):
    out = tmp_path / "results.json"
    options = ["--task", "gaussian-blur-fixed", "--methods", "ae,ldps", "--size", 24, "--out", out]
    process = start("benchmark", "--images", photos[0].parent, *options, *model(files))
    code, errors = interrupt_when(process, lambda: out.exists() and len(strict_json(out)) == 2)
    assert code == 130
    assert "Traceback" not in errors
    assert [row["method"] for row in strict_json(out)] == ["severity", "ae"]
    assert names(tmp_path) == ["photos/photo-0.png", "photos/photo-1.png", "photos/photo-2.png", "results.json"]


def test_ctrl_c_in_a_training_can_be_taken_up_again(files, tmp_path):
    out = tmp_path / "severity.safetensors"
    options = ["--images", files / "training", "--out", out, "--model", files / "model", "--device", "cpu"]
    options += ["--batch", 2, "--size", 32, "--validate-every", 5]
    process = start("train-severity", *options, "--steps", 100000)
    code, errors = interrupt_when(process, out.exists)
    assert code == 130
    assert "Traceback" not in errors
    assert names(tmp_path) == ["severity.safetensors", "severity.state.pt"]
    step = torch.load(out.with_suffix(".state.pt"), weights_only=True)["step"]
    done = subprocess.run(
        command("train-severity", *options, "--steps", step + 2), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"Going on from step {step}." in done.stderr
    assert load_severity_encoder(out).notes["training"]["step"] == step + 2
    assert names(tmp_path) == ["severity.safetensors"]


LIMITED = """
import resource, signal, sys
from adapt_diffuse.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("what", ["restore", "degrade", "train-severity"])
def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(files, tmp_path, what):
    # a limit on the size of files ends a write in the middle, as a full disk does
    out = tmp_path / "out"
    out.mkdir()
    photos = draw_photos(tmp_path / "photos", 1, 64, 64)
    arguments = {
        "restore": ["restore", photos[0], "--out", out, *model(files), "--steps", 1],
        "degrade": ["degrade", photos[0], "--out", out],
        "train-severity": ["train-severity", "--images", photos[0], "--out", out / "s.safetensors"]
        + ["--model", files / "model", "--steps", 1, "--batch", 1, "--size", 32, "--device", "cpu"],
    }[what]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "1000", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("cannot be written") == 1
    assert names(out) == []


# What ships

needs_model = pytest.mark.skipif(
    not (WEIGHTS / "flowers-128" / "unet").is_dir(), reason="The bundled weights are absent."
)
needs_encoders = pytest.mark.skipif(not bundled_encoders(), reason="The bundled severity encoders are absent.")


@needs_model
def test_every_bundled_file_is_the_one_in_the_manifest():
    listed = manifest()
    heavy = {path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.rglob("*.safetensors")}
    assert heavy <= set(listed)
    for name, entry in listed.items():
        assert sha256_of(WEIGHTS / name) == entry["sha256"], name


@needs_model
def test_the_bundled_weights_are_small_and_hold_nothing_executable():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".txt"}
    assert sum(path.stat().st_size for path in files) < 40 * 2**20


@needs_model
def test_the_bundled_model_denoises():
    prior = DiffusersPrior.load(bundled_model())
    with torch.no_grad():
        z0 = prior.encode(demo_photo())
        for sigma, part in ((0.1, 0.95), (0.3, 0.8), (1.0, 0.6), (3.0, 0.4)):
            noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(0))
            error = prior.denoise(z0 + sigma * noise, torch.tensor([sigma])) - z0
            assert float(error.std()) < part * sigma
    assert 0.3 < float(z0.std()) < 3  # the model's scale


@needs_model
@needs_encoders
@pytest.mark.parametrize("name", list(bundled_encoders()) or ["none"])
def test_a_bundled_encoder_belongs_to_the_bundled_model(name):
    prior = DiffusersPrior.load(bundled_model())
    encoder = load_severity_encoder(bundled_encoders()[name])
    assert encoder.space.channels == prior.space.channels
    assert encoder.space.fingerprint == pytest.approx(prior.space.fingerprint, abs=0.05)
    assert (encoder.space.scale, encoder.space.shift) == (prior.space.scale, prior.space.shift)
    assert encoder.notes["family"]["noise_std"] == 0.05
    assert encoder.notes["validation"]["pearson_error"] > 0.8


@needs_model
@needs_encoders
def test_worse_photos_have_a_higher_severity():
    if "severity-flowers-128-gaussian-blur" not in bundled_encoders():
        pytest.skip("The bundled severity encoder for blur is absent.")
    encoder = load_severity_encoder(bundled_encoders()["severity-flowers-128-gaussian-blur"])
    sigmas = []
    for std in (0.3, 1.0, 1.5, 2.0, 3.0):
        damaged = measure(demo_photo(), parse_degradation(f"gaussian-blur:std={std}", 0.05), generators_for(0, 1))
        sigmas.append(float(encoder.predict(damaged).sigma_hat))
    assert sigmas == sorted(sigmas)


@needs_model
@needs_encoders
def test_the_demo_writes_its_three_pictures(tmp_path, capsys):
    assert call("demo", "--out", tmp_path, "--steps", 2, "--device", "cpu") == 0
    assert names(tmp_path) == ["before-after.png", "damaged.png", "restored.png"]
    assert "PSNR" in capsys.readouterr().out


def test_a_degradation_without_a_bundled_encoder_says_so(files, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adapt_diffuse.bundled.WEIGHTS", tmp_path)
    options = ["--model", files / "model", "--device", "cpu"]
    assert call("restore", photos[0], "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys, "No bundled severity encoder was trained for 'gaussian-blur'", "--severity-encoder")
    with pytest.raises(AdaptDiffuseError, match="clone the repository again"):
        bundled_model()


def test_an_encoder_of_the_same_kind_of_autoencoder_with_other_weights_is_refused(files, photos, tmp_path, capsys):
    other = save_model(tmp_path / "model", seed=1)
    options = ["--model", other, "--severity-encoder", files / "model.safetensors", "--device", "cpu"]
    assert call("restore", photos[0], "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys, "another latent space")


def test_damaged_metadata_of_an_encoder_is_one_sentence(files, photos, tmp_path, capsys):
    tensors, metadata = read_safetensors(files / "model.safetensors")
    path = tmp_path / "damaged.safetensors"
    write_safetensors(path, tensors, {**metadata, "latent_space": "{"})
    options = ["--model", files / "model", "--severity-encoder", path, "--device", "cpu"]
    assert call("restore", photos[0], "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys, path, "damaged metadata")
