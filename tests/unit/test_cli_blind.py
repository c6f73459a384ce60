"""``restore --degradation auto``: every photo has a degradation of its own, and a severity encoder that fits both."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from adapt_diffuse.bundled import bundled_encoders, bundled_model
from adapt_diffuse.commands.restore import WITHOUT, encoders
from adapt_diffuse.degradation import Degradation, GaussianBlur, Jpeg, Noise, chain
from adapt_diffuse.estimate.checkpoint import BUNDLED
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.severity.calibration import Calibration
from tests.command_line import call, names, strict_json
from tests.models import draw_photos

SIZE = (24, 32)
needs_estimator = pytest.mark.skipif(not BUNDLED.is_file(), reason="The bundled estimator is absent.")


@needs_estimator
@pytest.mark.parametrize("options", [[], ["--severity-encoder", "none"]])
def test_photos_of_unknown_damage_are_restored_by_a_model_of_any_latent_space(
    files: Path, tmp_path: Path, options: list[str]
) -> None:
    photos = draw_photos(tmp_path / "photos", 2, 64, 72)
    told = tmp_path / "report.json"
    damage = ["--degradation", "auto", "--refine", 1, "--report", told]
    more = ["--model", files / "model", "--device", "cpu", "--steps", 2, "--out", tmp_path / "out"]
    assert call("restore", *photos, *damage, *more, *options) == 0
    assert names(tmp_path / "out") == ["photo-0.png", "photo-1.png"]
    assert all(row["sigma_hat"] > 0 and row["estimate"] for row in strict_json(told))


@pytest.mark.parametrize("encoder", [None, WITHOUT])
def test_a_calibration_is_on_the_photos_own_degradation_and_made_once_for_it(
    files: Path, encoder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = DiffusersPrior.load(files / "model")
    encoded: list[int] = []
    whole = prior.encode

    def counted(image: Tensor) -> Tensor:
        encoded.append(len(image))
        return whole(image)

    monkeypatch.setattr(prior, "encode", counted)
    encoder_for = encoders(prior, encoder)
    damages: list[Degradation] = [GaussianBlur(2.0, 0.02), chain(GaussianBlur(1.0), Noise(0.05))]
    for degradation in damages:
        made = encoder_for(SIZE, degradation)
        assert isinstance(made, Calibration) and made.degradation is degradation
        passes = len(encoded)
        assert encoder_for(SIZE, degradation) is made and len(encoded) == passes > 0


@pytest.mark.skipif(not bundled_encoders(), reason="The bundled severity encoders are absent.")
def test_photos_take_the_bundled_encoder_of_their_own_damage() -> None:
    encoder_for = encoders(DiffusersPrior.load(bundled_model()))
    blur, both = encoder_for(SIZE, GaussianBlur(2.0, 0.02)), encoder_for(SIZE, chain(GaussianBlur(1.0), Jpeg(40.0)))
    assert blur is encoder_for(SIZE, GaussianBlur(1.5, 0.03))
    assert [one.notes["family"]["name"] for one in (blur, both)] == ["gaussian-blur", "mixed"]
    beyond = encoder_for(SIZE, GaussianBlur(30.0, 0.02))
    assert isinstance(beyond, Calibration) and float(beyond.degradation.std) == 30
