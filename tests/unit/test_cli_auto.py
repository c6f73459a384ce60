"""What the command line makes of an estimate, and of photos without colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from adapt_diffuse.commands import blind
from adapt_diffuse.commands.batches import Job, Outcome, Recipe
from adapt_diffuse.commands.restore import check_marks
from adapt_diffuse.degradation import Degradation, GaussianBlur, parse_degradation
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.estimate import Estimate
from adapt_diffuse.estimate.caution import FAR
from adapt_diffuse.images import read_photo, smaller, write_image
from tests.command_line import call, strict_json
from tests.damages import damage_of, estimate


def auto(files: Path, photo: Path, out: Path, *more: object) -> dict[str, Any]:
    """The row of ``restore`` for one photo of which nothing is said."""
    said = ["--model", files / "model", "--device", "cpu", "--steps", 1, "--out", out]
    assert call("restore", photo, *said, "--severity-encoder", "none", "--report", out / "report.json", *more) == 0
    return strict_json(out / "report.json")[0]


def estimated(monkeypatch: pytest.MonkeyPatch, found: Estimate) -> list[tuple[int, ...]]:
    """Estimates are ``found``; the shapes of the photos that they are made of."""
    shapes: list[tuple[int, ...]] = []

    def told(photo: torch.Tensor, estimator: object) -> Estimate:
        shapes.append(tuple(photo.shape[2:]))
        return found

    monkeypatch.setattr(blind, "estimate_damage", told)
    monkeypatch.setattr("adapt_diffuse.commands.restore.load_estimator", lambda: None)
    return shapes


def test_a_photo_to_which_nothing_happened_comes_back_as_it_is(
    files: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    estimated(monkeypatch, estimate(damage_of(noise_std=0.005)))
    row = auto(files, photos[0], tmp_path / "out")
    assert (row["steps"], row["sigma_hat"], row["decoder_forwards"]) == (0, None, 0)
    assert row["estimate"].startswith("nothing found") and "find-scratches" in row["estimate"]
    assert "the photo as it is" in capsys.readouterr().out
    assert torch.equal(read_photo(row["restored"]), read_photo(photos[0]))


def test_the_estimate_is_of_the_photo_s_own_size_and_told_to_the_smaller_one(
    files: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_photo(photos[0])
    side = max(whole.shape[2:]) // 4
    shapes = estimated(monkeypatch, estimate(damage_of(std=1.0), std_error=0.2))
    row = auto(files, photos[0], tmp_path / "out", "--max-side", side)
    assert shapes == [tuple(whole.shape[2:])]
    assert row["estimate"] == f"blurred with std 1.0 ± 0.2 pixels; {blind.LEFT}"
    written = read_photo(row["restored"])
    assert float((written - smaller(whole, side)).abs().max()) <= 0.5 / 255 + 1e-6


def test_noise_that_is_told_is_not_guessed(
    files: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimated(monkeypatch, estimate(damage_of(std=1.0, noise_std=0.02), std_error=0.2))
    assert "noise 0.02 ± " in auto(files, photos[0], tmp_path / "guessed")["estimate"]
    told = auto(files, photos[0], tmp_path / "told", "--degradation", "auto", "--noise-std", 0.07)["estimate"]
    assert told.startswith("blurred with std 1.0 ± 0.2 pixels, noise 0.07, as told")


@pytest.mark.parametrize(("options", "advised"), [((), False), (("--noise-std", 0.9), True)])
def test_only_noise_that_was_told_is_to_be_lowered(
    files: Path,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    advised: bool,
) -> None:
    estimated(monkeypatch, estimate(damage_of(std=1.0, noise_std=0.9), std_error=0.0))
    auto(files, photos[0], tmp_path / "out", *options)
    assert ("lower --noise-std" in capsys.readouterr().out) == advised


def test_noise_out_of_range_is_refused_before_the_estimate(files: Path, photos: list[Path], tmp_path: Path) -> None:
    assert call("restore", photos[0], "--out", tmp_path / "never", "--noise-std", 3) == 2


@pytest.mark.parametrize("again", [True, False])
def test_what_does_not_explain_the_photo_is_believed_less(
    files: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Whatever the solver's residual, which is also of the detail that the autoencoder has lost."""
    estimated(monkeypatch, estimate(damage_of(std=1.0), std_error=0.0))
    sharp, levels = read_photo(photos[0]), []
    blurred = tmp_path / "blurred.png"
    write_image(blurred, GaussianBlur(1.0)(sharp))

    def restored(jobs: Sequence[Job], recipe: Recipe) -> Iterator[Outcome]:
        levels.append(float(recipe.degradation.noise_std))
        image = torch.full_like(sharp, 0.5) if again else sharp
        result = replace(blind.unchanged(image), residual=torch.tensor([0.5 if again else 9.0]))
        yield Outcome(jobs[0], result)

    monkeypatch.setattr(blind, "outcomes", restored)
    row = auto(files, blurred, tmp_path / "out")
    assert len(levels) == (2 if again else 1)
    assert row["estimate"].endswith(blind.GENTLER) == again
    if again:
        assert levels[0] == pytest.approx(0.01) and levels[1] > FAR * levels[0]


@pytest.mark.parametrize(("text", "refused"), [
    ("film-damage", True), ("film-damage:fade=0.2|jpeg:quality=30", True), ("jpeg|film-damage:dust=0", True),
    ("film-damage:scratches=0,dust=0", False), ("film-damage:seed=3", False), ("jpeg:quality=30", False),
])  # fmt: skip
def test_a_photo_is_not_scratched_in_random_places(text: str, refused: bool) -> None:
    damage: Degradation = parse_degradation(text, 0.03)
    if refused:
        with pytest.raises(AdaptDiffuseError, match="make one with find-scratches and name it, film-damage:file="):
            check_marks(damage, text)
    else:
        check_marks(damage, text)


def test_a_greyscale_file_stays_one(files: Path, photos: list[Path], tmp_path: Path) -> None:
    Image.open(photos[0]).convert("L").save(tmp_path / "grey.png")
    Image.open(photos[0]).convert("L").convert("RGB").save(tmp_path / "three.png")
    more = ["--model", files / "model", "--device", "cpu", "--steps", 1, "--severity-encoder", "none"]
    sources = [tmp_path / "grey.png", tmp_path / "three.png"]
    assert call("restore", *sources, "--out", tmp_path / "out", "--degradation", "noise", *more) == 0
    one, three = (Image.open(tmp_path / "out" / name) for name in ("grey.png", "three.png"))
    assert (one.mode, three.mode) == ("L", "RGB")
    planes = read_photo(tmp_path / "out" / "three.png")
    assert torch.equal(planes[:, 0], planes[:, 1]) and torch.equal(planes[:, 0], planes[:, 2])
