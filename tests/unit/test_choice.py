"""Which severity encoder is taken: by latent space, then by what happened to the photo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapt_diffuse.bundled import bundled_encoders
from adapt_diffuse.checkpoints import write_safetensors
from adapt_diffuse.degradation import parse_degradation
from adapt_diffuse.degradation.families import FAMILIES, family_to_json
from adapt_diffuse.latent_space import LatentSpace
from adapt_diffuse.severity.checkpoint import FORMAT
from adapt_diffuse.severity.choice import choose, covers, described, for_family

PHOTO = torch.zeros(1, 3, 40, 60)
HOLE = "missing-box:height=10,width=12,top=3,left=4"


def latent(offset: float = 0.0) -> torch.Tensor:
    """The pattern's latent in one of several spaces."""
    grid = torch.linspace(-1, 1, 4 * 16 * 16).reshape(1, 4, 16, 16)
    return grid + offset


def write_encoder(path: Path, family: str, offset: float = 0.0, **metadata: str) -> Path:
    """A file that says of itself what a severity encoder does; its weights are never looked at."""
    space = LatentSpace.measure(lambda image: latent(offset), 1.0, 0.0, 4)
    told = {"format": FORMAT, "latent_space": space.to_json(), "family": json.dumps({"name": family})}
    write_safetensors(path, {"weight": torch.zeros(1)}, {**told, **metadata})
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {name: write_encoder(tmp_path / f"{name}.safetensors", name) for name in FAMILIES}


def chosen(files: dict[str, Path], text: str, noise_std: float = 0.05, **more: Any) -> str | None:
    path = choose(files.values(), latent(**more), parse_degradation(text, noise_std), PHOTO)
    return None if path is None else path.stem


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gaussian-blur:std=2", "gaussian-blur"),
        ("gaussian-blur:std=3.5", "gaussian-blur"),
        ("motion-blur:length=9", "motion-blur"),
        ("camera-blur:extent=9", "camera-blur"),
        ("missing-pixels:drop=0.75", "missing-pixels"),
        ("downscale:factor=4", "downscale"),
        ("jpeg:quality=20", "jpeg"),
        ("noise", "noise"),
        ("gaussian-blur:std=2|jpeg:quality=20", "mixed"),
        ("gaussian-blur:std=1|missing-pixels:drop=0.3", "mixed"),
        ("gaussian-blur:std=2|noise", "gaussian-blur"),
        ("missing-pixels:drop=0.75|noise", "missing-pixels"),
        ("noise|noise", "noise"),
    ],
)
def test_damage_takes_the_encoder_of_its_own_family_and_chains_the_mixed_one(
    files: dict[str, Path], text: str, name: str
) -> None:
    assert chosen(files, text) == name


@pytest.mark.parametrize(
    "text",
    [
        "gaussian-blur:std=4",
        "motion-blur:length=30",
        "downscale:factor=8",
        "jpeg:quality=2",
        "missing-pixels:drop=0.3",
        "missing-pixels:drop=0.95",
        HOLE,
        "gaussian-blur:std=5|jpeg:quality=20",
        "camera-blur:extent=9|jpeg:quality=20",
        "lens-blur:radius=3",
        "lens-blur:radius=1|jpeg:quality=20",
        "gaussian-blur:std=1|missing-pixels:drop=0.9",
        "missing-pixels:drop=0.3|noise",
    ],
)
def test_damage_beyond_every_training_is_left_to_a_calibration(files: dict[str, Path], text: str) -> None:
    assert chosen(files, text) is None


def test_so_is_noise_beyond_it(files: dict[str, Path]) -> None:
    assert chosen(files, "gaussian-blur:std=2", 0.06) == "gaussian-blur"
    assert chosen(files, "gaussian-blur:std=2", 0.11) == "mixed"  # that was trained up to 0.1
    assert chosen(files, "gaussian-blur:std=2", 0.2) is None


@pytest.mark.parametrize("text", ["gaussian-blur:std=2", "motion-blur:length=9", "downscale:factor=4", "jpeg"])
def test_without_one_of_its_own_it_takes_the_mixed_one(files: dict[str, Path], text: str) -> None:
    assert chosen({"mixed": files["mixed"]}, text) == "mixed"


@pytest.mark.parametrize("text", ["camera-blur:extent=9", "missing-pixels:drop=0.3", HOLE])
def test_the_mixed_one_is_not_for_what_it_never_saw_or_errs_at(files: dict[str, Path], text: str) -> None:
    assert chosen({"mixed": files["mixed"]}, text) is None


def test_a_batch_needs_an_encoder_for_its_worst_photo(files: dict[str, Path]) -> None:
    from adapt_diffuse.degradation import GaussianBlur, MissingPixels

    mask = torch.ones(2, 1, 40, 60)
    mask[:, :, ::4] = 0
    kept = torch.ones_like(mask)
    kept[:, :, torch.arange(40) % 4 != 0] = 0  # three quarters are lost
    two = PHOTO.expand(2, -1, -1, -1)
    family = FAMILIES["missing-pixels"]()
    assert covers(family, MissingPixels(kept, 0.05), two)
    assert not covers(family, MissingPixels(torch.cat([mask[:1], kept[:1]]), 0.05), two)
    assert covers(FAMILIES["gaussian-blur"](), GaussianBlur(torch.tensor([1.0, 3.0]), 0.05), two)
    assert not covers(FAMILIES["gaussian-blur"](), GaussianBlur(torch.tensor([1.0, 5.0]), 0.05), two)


def test_another_latent_space_is_never_taken_and_of_two_near_ones_the_nearest(tmp_path: Path) -> None:
    near = write_encoder(tmp_path / "a.safetensors", "gaussian-blur", 0.1)
    nearest = write_encoder(tmp_path / "b.safetensors", "gaussian-blur", 0.01)
    far = write_encoder(tmp_path / "c.safetensors", "gaussian-blur", 3.0)
    blur = parse_degradation("gaussian-blur:std=2", 0.05)
    assert choose([near, nearest, far], latent(), blur, PHOTO) == nearest
    assert choose([near, far], latent(), blur, PHOTO) == near
    assert choose([far], latent(), blur, PHOTO) is None
    assert choose([near], torch.zeros(1, 16, 8, 8), blur, PHOTO) is None


def test_files_that_are_no_encoders_are_passed_over(tmp_path: Path) -> None:
    good = write_encoder(tmp_path / "good.safetensors", "jpeg")
    newer = write_encoder(tmp_path / "newer.safetensors", "a family of the future")
    other = write_encoder(tmp_path / "other.safetensors", "jpeg", format="something else")
    damaged = write_encoder(tmp_path / "damaged.safetensors", "jpeg", latent_space="{")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(good.read_bytes()[:-2])
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    gone = tmp_path / "gone.safetensors"
    assert [one.path for one in described([newer, other, damaged, truncated, empty, gone, good])] == [good]


@pytest.mark.parametrize(("score", "taken"), [("0.9", True), ("0.3", False), ("NaN", False), ("null", False)])
def test_an_encoder_that_has_not_learnt_its_task_is_passed_over(tmp_path: Path, score: str, taken: bool) -> None:
    path = write_encoder(tmp_path / "mine.safetensors", "jpeg", validation=f'{{"pearson_error": {score}}}')
    assert [one.path for one in described([path])] == [path] * taken


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write_encoder(tmp_path / "mine.safetensors", "jpeg")
    assert for_family([path], "jpeg") == path
    path.unlink()
    write_encoder(path, "noise")
    assert for_family([path], "jpeg") is None


def test_by_name_alone_the_own_family_is_before_the_mixed_one(files: dict[str, Path]) -> None:
    assert for_family(files.values(), "jpeg") == files["jpeg"]
    assert for_family(files.values(), "film") == files["mixed"]
    assert for_family([files["jpeg"]], "noise") is None


@pytest.mark.skipif(not bundled_encoders(), reason="The bundled severity encoders are absent.")
def test_every_bundled_encoder_says_what_it_is_for() -> None:
    found = described(bundled_encoders().values())
    assert [one.path for one in found] == list(bundled_encoders().values())
    for one in found:
        assert one.path.stem.endswith(one.family) and family_to_json(one.damage)["name"] == one.family
