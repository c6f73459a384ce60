"""What cannot be used is one sentence and exit code 2, and nothing is lost."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt_diffuse.checkpoints import read_safetensors, write_safetensors
from tests.command_line import call, model, names, one_sentence, restore, strict_json
from tests.models import drawn_photo, save_model


def broken_encoder(files, tmp_path):
    path = tmp_path / "broken.safetensors"
    content = (files / "model.safetensors").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


BAD = {
    "no such photo": (["{tmp}/nowhere.png"], [], "There is no photo or folder"),
    "empty folder": (["{tmp}/empty"], [], "has no photos"),
    "unknown degradation": (["{photo}"], ["--degradation", "rust"], "Unknown degradation 'rust'"),
    "auto among others": (["{photo}"], ["--degradation", "auto|jpeg"], "auto stands alone"),
    "latino and jpeg": (["{photo}"], ["--solver", "latino", "--degradation", "jpeg"], "LATINO works with linear"),
    "a model that is a file": (["{photo}"], ["--guidance-vae", "{photo}"], "is it a diffusers model folder?"),
    "unknown option": (["{photo}"], ["--degradation", "gaussian-blur:angle=1"], "does not have one of the options"),
    "std out of range": (["{photo}"], ["--degradation", "gaussian-blur:std=99"], "between 0 and 50 pixels"),
    "mask without file": (["{photo}"], ["--degradation", "mask"], "needs a file"),
    "negative noise": (["{photo}"], ["--noise-std=-0.1"], "noise_std must be between 0 and 1"),
    "noise on 0 to 255": (["{photo}"], ["--noise-std", "12"], "noise_std must be between 0 and 1"),
    "noise that is no number": (["{photo}"], ["--noise-std", "nan"], "noise_std must be between 0 and 1"),
    "unknown solver": (["{photo}"], ["--solver", "magic"], "Unknown solver 'magic'"),
    "negative steps": (["{photo}"], ["--steps=-1"], "--steps and --levels must be 0 or more"),
    "step size nan": (["{photo}"], ["--solver", "ldps", "--eta", "nan"], "--eta must be a number from 0 on"),
    "noise correction": (["{photo}"], ["--noise-correction", "0"], "--noise-correction must be above 0"),
    "no such model": (["{photo}"], ["--model", "{tmp}/nowhere"], "There is no model folder"),
    "model without parts": (["{photo}"], ["--model", "{tmp}/empty"], "is it a diffusers model folder?"),
    "no such encoder": (["{photo}"], ["--severity-encoder", "{tmp}/none.safetensors"], "There is no file"),
    "truncated encoder": (["{photo}"], ["--severity-encoder", "{broken}"], "is not a complete safetensors file"),
    "no encoder": (["{photo}"], ["--severity-encoder", "{model}/unet/{weights}"], "is not a severity encoder"),
    "encoder of another space": (["{photo}"], ["--severity-encoder", "{other}"], "another latent space"),
    "unknown device": (["{photo}"], ["--device", "gpu"], "'gpu' cannot be used (take auto, cpu, cuda or mps)."),
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
    sentence = one_sentence(capsys, photos[1], "cannot be read as an image")
    assert sentence.startswith(f"adapt_diffuse: {photos[1]} cannot")
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
    Image.new("L", (32, 24), 0).save(tmp_path / "mask.png")
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


@pytest.mark.parametrize("command", ["restore", "degrade", "find-scratches"])
@pytest.mark.parametrize("out", ["taken", "taken/deeper/still"])
def test_a_file_in_the_place_of_the_folder_is_said_before_the_work(files, photos, tmp_path, capsys, command, out):
    (tmp_path / "taken").write_text("a file")
    more = [*model(files), "--steps", 1] if command == "restore" else []
    assert call(command, *photos, "--out", tmp_path / out, *more) == 2
    one_sentence(capsys, f"--out is a folder, but {tmp_path / 'taken'} is a file")  # one, for all of the photos
    assert (tmp_path / "taken").read_text() == "a file"


def test_auto_is_offered_where_it_is_taken_alone(capsys):
    offered = {}
    for command in ("restore", "degrade", "demo"):
        with pytest.raises(SystemExit):
            call(command, "--help")
        offered[command] = "or auto, which estimates it" in " ".join(capsys.readouterr().out.split())
    assert offered == {"restore": True, "degrade": False, "demo": False}


def test_a_report_that_cannot_be_written_is_one_sentence(files, photos, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert restore(files, photos[0], "--out", tmp_path / "out", "--report", tmp_path / "taken" / "report.json") == 2
    one_sentence(capsys, tmp_path / "taken" / "report.json", "cannot be written")
    assert names(tmp_path / "out") == ["photo-0.png"]


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
