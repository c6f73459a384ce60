"""Faults on the command line: odd photos, odd names, full disks, memory that ends, checkpoints that are wrong."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_diffuse import cli, feasible
from adapt_diffuse.images import read_photo
from tests.command_line import call, model, names, one_sentence, restore, strict_json
from tests.faults.photos import KINDS
from tests.models import draw_photos, drawn_photo, save_model

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def as_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "adapt_diffuse", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=False)  # noqa: S603


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_of_any_kind_is_restored_as_the_plain_photo_that_it_shows(
    files: Path, tmp_path: Path, kind: str
) -> None:
    plain = KINDS[kind](tmp_path / kind)
    Image.fromarray(plain).save(tmp_path / "plain.png")
    assert restore(files, tmp_path / kind, "--out", tmp_path / "odd", steps=1) == 0
    assert restore(files, tmp_path / "plain.png", "--out", tmp_path / "expected", steps=1) == 0
    (odd,), (expected,) = ([path for path in (tmp_path / out).iterdir()] for out in ("odd", "expected"))
    assert np.array_equal(colours(odd), colours(expected))
    assert colours(odd).shape == plain.shape
    with Image.open(odd) as made:
        assert made.mode == ("L" if "grey" in kind or "1 bit" in kind else "RGB")


def colours(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_photo_of_17_by_4097_pixels_keeps_its_size(files: Path, tmp_path: Path) -> None:
    Image.fromarray(drawn_photo(1, 17, 4097)).save(tmp_path / "strip.png")
    assert restore(files, tmp_path / "strip.png", "--out", tmp_path / "out", steps=1) == 0
    assert read_photo(tmp_path / "out" / "strip.png").shape == (1, 3, 17, 4097)


def test_100_megapixels_are_refused_in_a_sentence_that_says_what_is_possible(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (12500, 8000)).save(tmp_path / "huge.png")
    monkeypatch.setattr("adapt_diffuse.commands.batches.LocalMachine.free", lambda self: 8 * 2**30)
    monkeypatch.setattr("adapt_diffuse.commands.batches.read_photo", unread(tmp_path / "huge.png"))
    assert restore(files, tmp_path / "huge.png", photos[0], "--out", tmp_path / "out", steps=1) == 2
    one_sentence(capsys, "huge.png: A restored photo of 12500 x 8000 (100 megapixels) is too large: at most about 8.4 "
                 "megapixels are possible here. Let it be made smaller first: --max-side 3584.")  # fmt: skip
    assert names(tmp_path / "out") == ["photo-0.png"]


def unread(refused: Path) -> Any:
    """``read_photo``, which must not be asked for one of the photos."""

    def read(path: Path) -> torch.Tensor:
        assert path != refused
        return read_photo(path)

    return read


@pytest.mark.parametrize(("height", "width"), [(8000, 12500), (1, 10**9), (10**5, 10**5)])
@pytest.mark.parametrize("free", [None, 0.0, 2.0**33, 1e15])
def test_the_largest_side_that_is_told_is_possible(height: int, width: int, free: float | None) -> None:
    with pytest.raises(ValueError, match="is too large") as caught:
        feasible.check_feasible(height, width, max(height, width), free, "Take {side}.")
    side = int(str(caught.value).rsplit("Take ", 1)[1].rstrip("."))
    scale = side / max(height, width)
    assert side == 1 or height * width * scale**2 <= 1.000001 * feasible.most_pixels(free)


def test_max_side_makes_large_photos_smaller_and_leaves_the_others(
    files: Path, photos: list[Path], tmp_path: Path
) -> None:
    Image.fromarray(drawn_photo(3, 60, 90)).save(photos[0].parent / "photo-1.png")
    assert restore(files, photos[0].parent, "--out", tmp_path / "out", "--max-side", 48, steps=1) == 0
    sizes = [read_photo(tmp_path / "out" / f"photo-{i}.png").shape[2:] for i in range(3)]
    assert sizes == [(24, 32), (32, 48), (24, 32)]
    assert restore(files, photos[0].parent, "--out", tmp_path / "out", "--max-side", -1, steps=1) == 2


def test_the_mask_of_a_photo_that_is_made_smaller_is_made_smaller_with_it(
    files: Path, tmp_path: Path, capsys: Any
) -> None:
    photo = drawn_photo(3, 60, 90)
    lost = np.zeros((60, 90), np.uint8)
    lost[20:33, 40:61] = lost[50, 70] = 255
    Image.fromarray(np.where(lost[..., None] > 0, 255, photo).astype(np.uint8)).save(tmp_path / "torn.png")
    Image.fromarray(lost).save(tmp_path / "mask.png")
    options = ["--degradation", f"mask:file={tmp_path / 'mask.png'}", "--noise-std", 0.01]
    assert restore(files, tmp_path / "torn.png", "--out", tmp_path / "out", "--max-side", 45, *options, steps=1) == 0
    assert read_photo(tmp_path / "out" / "torn.png").shape == (1, 3, 30, 45)
    assert restore(files, tmp_path / "torn.png", "--out", tmp_path / "out", *options, steps=1) == 0
    Image.fromarray(photo[:50]).save(tmp_path / "other.png")
    assert restore(files, tmp_path / "other.png", "--out", tmp_path / "out", "--max-side", 45, *options, steps=1) == 2
    one_sentence(capsys, "other.png", "The mask is 90 x 60", "the photo is 45 x 25")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_one_sentence(files: Path, tmp_path: Path, capsys: Any, value: float) -> None:
    values = np.full((8, 8), 0.5, np.float32)
    values[3, 3] = value
    Image.fromarray(values).save(tmp_path / "broken.tif")
    assert restore(files, tmp_path / "broken.tif", "--out", tmp_path / "out") == 2
    one_sentence(capsys, "broken.tif", "NaN or infinite")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["gaussian-blur:std=0", "noise", "missing-pixels:drop=0", "jpeg:quality=1"])
@pytest.mark.parametrize("noise_std", [0, 1])
def test_no_noise_and_huge_noise_end_in_a_picture(
    files: Path, photos: list[Path], tmp_path: Path, damage: str, noise_std: int
) -> None:
    options = ["--degradation", damage, "--noise-std", noise_std, "--report", tmp_path / "report.json"]
    assert restore(files, photos[0], "--out", tmp_path / "out", *options) == 0
    assert read_photo(tmp_path / "out" / "photo-0.png").shape == (1, 3, 24, 32)
    (row,) = strict_json(tmp_path / "report.json")
    assert (row["residual"] is None) == (noise_std == 0)


def test_a_mask_that_loses_everything_is_one_sentence_and_one_that_loses_nothing_restores(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any
) -> None:
    for name, value, code in (("nothing", 0, 0), ("everything", 255, 2)):
        Image.new("L", (32, 24), value).save(tmp_path / f"{name}.png")
        options = ["--degradation", f"mask:file={tmp_path / name}.png"]
        assert restore(files, photos[0], "--out", tmp_path / name, *options) == code
    one_sentence(capsys, "The mask keeps no pixel at all")
    assert names(tmp_path / "nothing") == ["photo-0.png"]


@pytest.mark.slow
def test_one_broken_photo_among_200_costs_none_of_the_others(files: Path, tmp_path: Path, capsys: Any) -> None:
    paths = draw_photos(tmp_path / "photos", 200, 8, 8)
    paths[77].write_bytes(paths[77].read_bytes()[:60])
    assert restore(files, tmp_path / "photos", "--out", tmp_path / "out", steps=1) == 2
    one_sentence(capsys, paths[77], "cannot be read as an image")
    assert names(tmp_path / "out") == sorted(path.name for path in paths if path != paths[77])


# what stands where a checkpoint should: the content of the file, and what the sentence says
CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not a complete safetensors file"),
    "text": (b"Not found. Please log in to download this file.", "is not a complete safetensors file"),
    "pickle": (b"\x80\x02}q\x00X\x05\x00\x00\x00model", "is not a complete safetensors file"),
    "zip": (b"PK\x03\x04" + bytes(200), "is not a complete safetensors file"),
    "endless header": (b"\xff" * 64, "is not a complete safetensors file"),
    "no tensors": (b"\x02\0\0\0\0\0\0\0{}", ""),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("part", ["encoder", "unet", "vae"])
def test_a_file_that_is_no_checkpoint_is_one_sentence(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any, part: str, content: str
) -> None:
    data, words = CONTENTS[content]
    folder, encoder = shutil.copytree(files / "model", tmp_path / "model"), tmp_path / "encoder.safetensors"
    shutil.copyfile(files / "model.safetensors", encoder)
    broken = encoder if part == "encoder" else folder / part / WEIGHTS
    broken.write_bytes(data)
    options = ["--model", folder, "--severity-encoder", encoder, "--device", "cpu"]
    assert call("restore", photos[0], "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys, broken, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_part_of_another_model_is_one_sentence(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any, part: str, name: str
) -> None:
    folder = shutil.copytree(files / "model", tmp_path / "model")
    other = save_model(tmp_path / "other", "VQModel") / ("vqvae" if part == "vae" else part)
    shutil.copyfile(other / name, folder / part / name)
    options = ["--model", folder, "--severity-encoder", files / "model.safetensors", "--device", "cpu"]
    assert call("restore", photos[0], "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys, "model")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\0", b"\xff", b'{"_class_name": 3, "beta_start": "low"}']
)
@pytest.mark.parametrize("part", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_a_configuration_that_is_none_is_one_sentence(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any, part: str, text: bytes
) -> None:
    folder = shutil.copytree(files / "model", tmp_path / "model")
    (folder / part).write_bytes(text)
    options = ["--model", folder, "--severity-encoder", files / "model.safetensors", "--device", "cpu"]
    assert call("restore", photos[0], "--out", tmp_path / "out", *options) == 2
    one_sentence(capsys)


# Memory and disks


def failing_at(monkeypatch: pytest.MonkeyPatch, name: str, count: int, error: Exception) -> list[int]:
    """The ``count``-th call of torch's or numpy's ``name`` raises ``error``, once; the list counts the calls."""
    owner, _, function = name.rpartition(".")
    calls: list[int] = []
    module: Any = {"F": torch.nn.functional, "torch": torch, "numpy": np}[owner]
    real = getattr(module, function)

    def call_or_fail(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == count:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(module, function, call_or_fail)
    return calls


MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
    MemoryError(),
]


@pytest.mark.parametrize(
    ("share", "error"),
    [(share, MEMORY[number % 3]) for number, share in enumerate((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0))],
)
def test_memory_that_ends_at_any_moment_is_one_sentence_or_smaller_pieces(
    files: Path,
    photos: list[Path],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    error: Exception,
) -> None:
    with monkeypatch.context() as counting:
        calls = failing_at(counting, "F.conv2d", 0, error)
        assert restore(files, photos[0], "--out", tmp_path / "whole", steps=1) == 0
    with monkeypatch.context() as patch:
        failing_at(patch, "F.conv2d", max(round(share * len(calls)), 1), error)
        code = restore(files, photos[0], "--out", tmp_path / "out", steps=1)
    said = capsys.readouterr().err
    assert code in (0, 2)
    assert (tmp_path / "out" / "photo-0.png").exists() == (code == 0)
    assert "Traceback" not in said
    assert ("emory" in said) == (code == 2)
    assert restore(files, photos[0], "--out", tmp_path / "again", steps=1) == 0
    assert (tmp_path / "again" / "photo-0.png").read_bytes() == (tmp_path / "whole" / "photo-0.png").read_bytes()


@pytest.mark.parametrize("command", ["restore", "degrade", "train-severity"])
def test_memory_that_ends_while_a_photo_is_read_is_one_sentence(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    failing_at(monkeypatch, "torch.from_numpy", 1, MemoryError())
    common = {
        "restore": [photos[0], "--out", tmp_path / "out", *model(files), "--steps", 1],
        "degrade": [photos[0], "--out", tmp_path / "out"],
        "train-severity": ["--images", photos[0].parent, "--out", tmp_path / "out" / "s.safetensors", "--size", 16,
                           "--model", files / "model", "--steps", 1, "--batch", 1, "--device", "cpu"],
    }[command]  # fmt: skip
    assert call(command, *common) == 2
    one_sentence(capsys, "memory")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("command", ["restore", "degrade", "train-severity"])
def test_a_disk_that_refuses_is_one_sentence_and_nothing_is_lost(
    files: Path,
    photos: list[Path],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    code: int,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    targets = {"restore": "photo-0.png", "degrade": "photo-0.png", "train-severity": "s.safetensors"}
    (out / targets[command]).write_bytes(b"from yesterday")

    def refuse(*arguments: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("adapt_diffuse.checkpoints.os.replace", refuse)
    common = {
        "restore": [photos[0], "--out", out, *model(files), "--steps", 1, "--degradation", "gaussian-blur:std=3"],
        "degrade": [photos[0], "--out", out],
        "train-severity": ["--images", photos[0].parent, "--out", out / "s.safetensors", "--size", 16, "--overwrite",
                           "--model", files / "model", "--steps", 1, "--batch", 1, "--device", "cpu"],
    }[command]  # fmt: skip
    assert call(command, *common) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.count("cannot be written") == 1 and os.strerror(code) in said
    assert names(out) == [targets[command]]
    assert (out / targets[command]).read_bytes() == b"from yesterday"


# Names and places


def test_missing_folders_of_the_output_and_the_report_are_made(files: Path, photos: list[Path], tmp_path: Path) -> None:
    out, report = tmp_path / "not" / "there yet", tmp_path / "nor" / "this" / "report.json"
    assert restore(files, photos[0], "--out", out, "--report", report, steps=1) == 0
    assert (names(out), len(strict_json(report))) == (["photo-0.png"], 1)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="The superuser may write everywhere.")
def test_a_folder_that_may_only_be_read_is_one_sentence(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert restore(files, photos[0], "--out", tmp_path / "out", steps=1) == 2
    one_sentence(capsys, "cannot be written")


@pytest.mark.parametrize("where", ["the folder itself", "a link to it", "by way of another folder"])
@pytest.mark.parametrize("command", ["restore", "degrade"])
def test_the_output_never_replaces_the_input(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any, command: str, where: str
) -> None:
    source = photos[0].parent
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    outs = {"the folder itself": source, "a link to it": tmp_path / "link"}
    out = outs.get(where, source / ".." / source.name)
    before = {path: path.read_bytes() for path in photos}
    assert call(command, source, "--out", out, *(model(files) if command == "restore" else [])) == 2
    one_sentence(capsys, "would be overwritten", "choose another --out")
    assert {path: path.read_bytes() for path in photos} == before
    assert names(source) == [path.name for path in photos]


@pytest.mark.parametrize("place", ["a photo", "a restored photo"])
def test_a_report_never_replaces_a_photo(
    files: Path, photos: list[Path], tmp_path: Path, capsys: Any, place: str
) -> None:
    report = photos[0] if place == "a photo" else tmp_path / "out" / "photo-0.png"
    before = photos[0].read_bytes()
    assert restore(files, photos[0], "--out", tmp_path / "out", "--report", report, steps=1) == 2
    one_sentence(capsys, report, "choose another file for the report")
    assert photos[0].read_bytes() == before


NAMES = [
    "Grüße aus 東京.png",
    " two  spaces .png",
    "C:\\Users\\me\\photo.png",
    "it's 100% (1) [2] {3} & #4;.png",
    "-rf.png",
    "фото.jpg",
    "e\u0301.png",
    "\N{FAMILY}.png",
    "CON.png",
    ".hidden.png",
]


def test_photos_of_any_name_are_restored_under_their_name(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "My Photos, Été 2024 (日本)"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(drawn_photo(0, 8, 8)).save(folder / name)
    mask = tmp_path / "mask, of 8 x 8 pixels.png"
    Image.new("L", (8, 8), 0).save(mask)
    report = tmp_path / "Bericht über alles.json"
    options = ["--degradation", f"mask:file={mask}", "--report", report]
    shutil.copytree(files / "model", tmp_path / "a modèle")
    shutil.copyfile(files / "model.safetensors", tmp_path / "an encodér.safetensors")
    options += ["--model", tmp_path / "a modèle", "--severity-encoder", tmp_path / "an encodér.safetensors"]
    assert call("restore", folder, "--out", tmp_path / "out put", *options, "--steps", 1, "--device", "cpu") == 0
    assert names(tmp_path / "out put") == sorted(f"{Path(name).stem}.png" for name in NAMES)
    assert sorted(Path(row["photo"]).name for row in strict_json(report)) == sorted(NAMES)


def test_names_that_windows_or_macos_cannot_tell_apart_are_kept_apart(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("photo.png", "PHOTO.jpg", "caf\u00e9.png", "cafe\u0301.jpg")):
        Image.fromarray(drawn_photo(number, 8, 8)).save(folder / name)
    assert call("degrade", folder, "--out", tmp_path / "out") == 0
    assert len({name.casefold() for name in names(tmp_path / "out")}) == 4
    assert sum(name.endswith("-2.png") for name in names(tmp_path / "out")) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="Only here a name may be no text at all.")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_that_cannot_show_a_name_loses_nothing(files: Path, tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("日本.png", os.fsdecode(b"\xff\xfe.png"), "a.png"):
        Image.fromarray(drawn_photo(0, 8, 8)).save(folder / name)
    (folder / "böse.png").write_text("not an image")
    report = tmp_path / "report.json"
    arguments = ["restore", folder, "--out", tmp_path / "out", "--report", report, *model(files), "--steps", 1]
    arguments += ["--degradation", "gaussian-blur:std=3"]
    done = as_process(*arguments, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr and done.stderr.count(b"cannot be read as an image") == 1
    assert len(names(tmp_path / "out")) == len(strict_json(report)) == 3


def test_any_other_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch, photos: list[Path], tmp_path: Path) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(cli.degrade, "measure", broken)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        call("degrade", photos[0], "--out", tmp_path / "out")
