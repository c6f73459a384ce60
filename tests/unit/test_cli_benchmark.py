"""The benchmark of the command line: rows for every task and method."""

from pathlib import Path

import pytest
from PIL import Image

from adapt_diffuse.benchmark import METHODS, TASKS
from adapt_diffuse.commands.benchmark import TRUTH, spread
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.images import find_photos, read_photo
from adapt_diffuse.metrics import psnr
from benchmarks import perceptual
from tests.command_line import ROW, call, model, names, one_sentence, strict_json

SEVERITY_ROW = {"pearson_blur", "spearman_blur", "pearson_error", "spearman_error"}


def benchmark(files, photos, out, *arguments, steps=2):
    common = ["--images", photos[0].parent, "--size", 24, "--out", out, "--steps", steps]
    return call("benchmark", *common, *arguments, *model(files))


def test_every_method_of_every_task_has_a_row(files, photos, tmp_path):
    out = tmp_path / "results.json"
    # the tiny model is one of latents, and PSLD has no nonlinear blur
    methods = [method for method in METHODS if method not in ("dps", "swinir")]
    tasks = [task for task in TASKS if task != "nonlinear-blur"]
    assert benchmark(files, photos, out, "--task", ",".join(tasks), "--methods", ",".join(methods)) == 0
    rows = strict_json(out)
    assert [(row["task"], row["method"]) for row in rows] == [
        (task, method) for task in tasks for method in ("severity", *methods)
    ]
    for row in rows:
        assert row["images"] == 3
        if row["method"] == "severity":
            assert set(row) >= {"task", "method", "images"} | SEVERITY_ROW
        else:
            assert set(row) == ROW


def test_the_tasks_and_methods_are_the_promised_ones():
    assert set(TASKS) >= {"gaussian-blur-varying", "gaussian-blur-fixed", "nonlinear-blur", "random-inpainting"}
    assert set(METHODS) >= {"ae", "swinir", "dps", "default"} | {
        start + solver for start in ("", "flash-") for solver in ("ldps", "gml-dps", "psld", "resample")
    }


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


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, [0, 1, 2, 3, 4, 5, 6]), (9, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 2, 4]), (1, [0])]
)
def test_a_limit_takes_photos_from_all_over_the_folder(limit, expected):
    paths = [Path(str(index)) for index in range(7)]
    assert spread(paths, limit) == [paths[index] for index in expected]


def test_a_benchmark_is_reproducible(files, photos, tmp_path):
    results = []
    for index in range(2):
        options = ["--task", "gaussian-blur-varying", "--methods", "flash-ldps", "--batch", index + 1]
        assert benchmark(files, photos, tmp_path / f"{index}.json", *options) == 0
        results.append(strict_json(tmp_path / f"{index}.json")[1])
    for key in ROW - {"task", "method", "seconds", "photos", "peak_memory_mib"}:
        assert results[0][key] == pytest.approx(results[1][key], rel=1e-4)


@pytest.mark.parametrize(("through", "backwards"), [("decoder", 0), ("denoiser", 1), (None, 1)])
def test_what_gradients_pass_can_be_chosen_for_the_published_solvers(files, photos, tmp_path, through, backwards):
    options = ["--task", "gaussian-blur-fixed", "--methods", "flash-ldps", *(["--through", through] if through else [])]
    assert benchmark(files, photos, tmp_path / "results.json", *options) == 0
    row = strict_json(tmp_path / "results.json")[1]
    assert row["denoiser_backwards"] == backwards * row["denoiser_forwards"] and row["denoiser_forwards"] > 0


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


def test_photos_are_saved_beside_the_true_ones_for_other_measures(files, photos, tmp_path):
    options = ["--task", "gaussian-blur-fixed", "--methods", "damaged,ae", "--limit", 2, "--save", tmp_path / "saved"]
    assert benchmark(files, photos, tmp_path / "results.json", *options) == 0
    folders = (TRUTH, "damaged", "ae")
    task = tmp_path / "saved" / "gaussian-blur-fixed"
    assert names(task) == sorted(f"{folder}/{name}" for folder in folders for name in ("0000.png", "0001.png"))

    def from_truth(folder, truth):
        pairs = zip(find_photos(folder), find_photos(truth), strict=True)
        return {"psnr": [float(psnr(read_photo(ours), read_photo(true))) for ours, true in pairs]}

    rows = perceptual.compared(tmp_path / "saved", [from_truth])
    assert [(row["task"], row["method"], row["images"]) for row in rows] == [
        ("gaussian-blur-fixed", "ae", 2), ("gaussian-blur-fixed", "damaged", 2)
    ]  # fmt: skip
    told = {row["method"]: row for row in strict_json(tmp_path / "results.json")}
    for row in rows:  # but for the rounding to 8 bit
        assert row["psnr"] == pytest.approx([photo["psnr"] for photo in told[row["method"]]["photos"]], abs=0.1)
    with pytest.raises(AdaptDiffuseError, match="was not written by benchmark --save"):
        perceptual.compared(task, [from_truth])
