"""``restore`` on folders: photos of one size go through together, each as it would alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_diffuse.checkpoints import read_safetensors, write_safetensors
from adapt_diffuse.commands import batches
from adapt_diffuse.commands.batches import Job, batches_of, cost_of, seconds_of, size_on_disk
from adapt_diffuse.cost import Cost
from adapt_diffuse.degradation import Downscale, Noise
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.images import read_photo
from adapt_diffuse.restore import Restoration
from tests.command_line import call, model, names, one_sentence, restore, strict_json
from tests.models import draw_photos, drawn_photo

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """Five photos of 24 x 32 pixels, two of 40 x 24 among them, one of these turned by its EXIF tag."""
    folder = tmp_path / "photos"
    draw_photos(folder, 7, 32, 24)
    Image.fromarray(drawn_photo(20, 24, 40)).save(folder / "photo-1.png")
    turned = Image.fromarray(drawn_photo(21, 40, 24))
    exif = turned.getexif()
    exif[0x0112] = 6
    (folder / "photo-4.png").unlink()
    turned.save(folder / "photo-4.jpg", quality=95, exif=exif)
    return folder


def rows_of(report):
    return [(Path(row["photo"]).stem, row) for row in strict_json(report)]


def pixels(folder):
    return {name: np.asarray(Image.open(folder / name), dtype=np.int16) for name in names(folder)}


@pytest.fixture
def telling(files, tmp_path):
    """A severity encoder that, as a trained one, says something else of each photo."""
    tensors, metadata = read_safetensors(files / "model.safetensors")
    weight = tensors["head.log_sigma.weight"]
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    write_safetensors(tmp_path / "telling.safetensors", {**tensors, "head.log_sigma.weight": 2 * drawn}, metadata)
    return tmp_path / "telling.safetensors"


@pytest.mark.parametrize("degradation", ["gaussian-blur:std=1.5", "missing-pixels:drop=0.5"])
def test_a_folder_in_batches_equals_its_photos_one_by_one(files, telling, folder, tmp_path, degradation):
    options = [*model(files), "--severity-encoder", telling, "--degradation", degradation, "--seed", 4, "--levels", 25]
    for batch in (1, 3, None):
        more = [] if batch is None else ["--batch", batch]
        report = tmp_path / f"{batch}.json"
        assert call("restore", folder, "--out", tmp_path / str(batch), "--report", report, *options, *more) == 0
    assert len({row["steps"] for _, row in rows_of(tmp_path / "1.json")}) > 2
    alone = pixels(tmp_path / "1")
    assert len(alone) == 7
    for batch in (3, None):
        together = pixels(tmp_path / str(batch))
        assert together.keys() == alone.keys()
        # eight bits: a difference of 1e-6 may fall on the other side of a rounding
        assert max(np.abs(together[name] - alone[name]).max() for name in alone) <= 1
        for (name, row), (other, single) in zip(
            rows_of(tmp_path / f"{batch}.json"), rows_of(tmp_path / "1.json"), strict=True
        ):
            assert name == other
            for key in ("sigma_hat", "sigma_start", "residual"):
                assert row[key] == pytest.approx(single[key], rel=1e-4)
            for key in ("steps", "denoiser_forwards", "decoder_forwards", "decoder_backwards", "encoder_passes"):
                assert row[key] == single[key], key
            assert row["seconds"] > 0


def test_rows_keep_the_order_of_the_photos(files, folder, tmp_path):
    assert restore(files, folder, "--out", tmp_path / "out", "--report", tmp_path / "report.json") == 0
    assert [name for name, _ in rows_of(tmp_path / "report.json")] == [f"photo-{index}" for index in range(7)]


def test_one_bad_photo_does_not_lose_the_others_of_its_batch(files, folder, tmp_path, capsys):
    values = np.full((32, 24), 0.5, np.float32)
    values[3, 3] = np.nan
    (folder / "photo-0.png").unlink()
    Image.fromarray(values).save(folder / "photo-0.tif")
    whole = (folder / "photo-2.png").read_bytes()
    (folder / "photo-2.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    assert restore(files, folder, "--out", out, "--batch", 7) == 2
    said = capsys.readouterr().err
    assert "photo-0.tif: The photo has pixels that are NaN" in said
    assert "photo-2.png cannot be read as an image" in said
    assert names(out) == [f"photo-{index}.png" for index in (1, 3, 4, 5, 6)]


def test_a_batch_that_fails_is_tried_by_halves(monkeypatch, files, folder, tmp_path, capsys):
    sizes = []
    whole = batches.restore

    def failing(photo, *arguments):
        sizes.append(len(photo))
        if len(photo) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        if bool((photo[:, 0, 0, 0] == bad).any()):
            raise AdaptDiffuseError("The restoration diverged.")
        return whole(photo, *arguments)

    bad = read_photo(folder / "photo-3.png")[0, 0, 0, 0]
    monkeypatch.setattr(batches, "restore", failing)
    assert restore(files, folder, "--out", tmp_path / "out", "--batch", 5) == 2
    assert sizes == [5, 2, 3, 1, 2, 2] or sizes == [5, 2, 1, 1, 3, 1, 2, 2]
    one_sentence(capsys, "photo-3.png", "The restoration diverged.")
    assert names(tmp_path / "out") == [f"photo-{index}.png" for index in (0, 1, 2, 4, 5, 6)]


def test_a_photo_too_large_for_the_gpu_is_one_sentence(monkeypatch, files, photos, tmp_path, capsys):
    def failing(*arguments):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(batches, "restore", failing)
    assert restore(files, photos[0], "--out", tmp_path / "out") == 2
    one_sentence(capsys, photos[0], "memory does not hold this photo", "--device cpu")


def test_photos_are_grouped_by_their_upright_size(folder, tmp_path):
    (folder / "photo-5.png").write_text("not an image")
    paths = sorted(folder.iterdir())
    assert [size_on_disk(path) for path in paths] == [(32, 24), (24, 40), (32, 24), (32, 24), (24, 40), None, (32, 24)]
    jobs = [Job(index, path, tmp_path) for index, path in enumerate(paths)]
    found = [[job.index for job in batch] for batch in batches_of(jobs, 3, Noise(), CPU)]
    assert found == [[0, 2, 3], [6], [1, 4], [5]]
    assert [len(batch) for batch in batches_of(jobs, None, Noise(), CPU)] == [4, 2, 1]


def test_as_many_thumbnails_go_together_as_of_the_images_that_they_become(tmp_path):
    draw_photos(tmp_path, 9, 64, 64)
    jobs = [Job(index, path, tmp_path) for index, path in enumerate(sorted(tmp_path.iterdir()))]
    for factor, expected in ((1, [8, 1]), (4, [4, 4, 1]), (16, [1] * 9)):
        found = batches_of(jobs, None, Downscale(factor), CPU)
        assert [len(batch) for batch in found] == expected
    assert [len(batch) for batch in batches_of(jobs, 8, Downscale(16), CPU)] == [8, 1]


@pytest.mark.parametrize(("size", "count"), [((8, 8), 8), ((256, 256), 4), ((512, 400), 1), ((4000, 4000), 1)])
def test_large_photos_go_in_smaller_batches(size, count):
    assert batches.photos_at_once(size, CPU) == count


def test_the_cost_of_a_batch_is_shared_by_steps():
    steps = torch.tensor([2, 10])
    cost = Cost(12, 0, 12 + 2, 12, 2 + 2 * 12)
    result = Restoration(torch.zeros(2, 3, 8, 8), None, steps, steps, steps, cost, 6.0, None)
    assert cost_of(result, 0) == Cost(2, 0, 3, 2, 5)
    assert cost_of(result, 1) == Cost(10, 0, 11, 10, 21)
    assert (seconds_of(result, 0), seconds_of(result, 1)) == (1.0, 5.0)


def test_without_an_encoder_the_severity_is_calibrated(files, folder, tmp_path):
    draw_photos(tmp_path / "good", 3, 32, 40, seed=50)
    options = ["--model", files / "model", "--severity-encoder", "none", "--device", "cpu", "--steps", 2]
    options += ["--degradation", "gaussian-blur:std=2"]
    for name, more in (("sample", []), ("own", ["--calibration-photos", tmp_path / "good"])):
        report = tmp_path / f"{name}.json"
        assert call("restore", folder, "--out", tmp_path / name, "--report", report, *options, *more) == 0
    sample, own = ([row["sigma_hat"] for _, row in rows_of(tmp_path / f"{name}.json")] for name in ("sample", "own"))
    assert len(set(own)) == 7 and min(own) > 0
    assert all(0.2 < a / b < 5 and a != b for a, b in zip(sample, own, strict=True))
    (first, *_) = rows_of(tmp_path / "own.json")
    assert first[1]["encoder_passes"] == 2 + 2 * 2  # the calibration's, and two in each step of the default solver


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batch", 0], "--batch must be 1 or more photos, not 0"),
        (["--calibration-photos", "{tmp}"], "--calibration-photos goes with --severity-encoder none"),
        (["--severity-encoder", "none", "--calibration-photos", "{tmp}/nowhere"], "There is no photo or folder"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(files, photos, tmp_path, capsys, options, sentence):
    options = [str(option).format(tmp=tmp_path) for option in options]
    assert call("restore", photos[0], "--out", tmp_path / "out", *model(files), *options) == 2
    one_sentence(capsys, sentence)
