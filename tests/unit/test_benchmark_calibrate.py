"""The script that compares a calibration with a trained severity encoder, on a tiny model."""

import json
import sys

import pytest

from adapt_diffuse.severity.calibration_photos import sample_views
from benchmarks import calibrate


def test_every_encoder_gets_its_figures_and_some_photos_are_restored(files, photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "calibrate.json"
    options = ["--images", photos[0].parent, "--size", 24, "--out", out, "--restore", 1, "--model", files / "model"]
    options += ["--severity-encoder", files / "model.safetensors", "--calibration-photos", photos[0].parent]
    monkeypatch.setattr(sys, "argv", ["script", *map(str, options), "--tasks", "random-inpainting"])
    monkeypatch.setattr(calibrate, "sample_views", lambda height, width: sample_views(height, width)[:2])
    calibrate.main()
    (found,) = json.loads(out.read_text()).values()
    assert list(found) == ["trained", "sample", "photos"]
    for row in found.values():
        assert row["photos"] == len(row["rows"]) == 3
        ratios = [one["sigma_hat"] / one["error"] for one in row["rows"]]
        assert row["ratio"] == pytest.approx(sum(ratios) / 3)
        assert [("psnr" in one) for one in row["rows"]] == [True, False, False]
        assert row["psnr"] == row["rows"][0]["psnr"] and row["calls"] >= 2
    assert found["sample"]["latent_rmse"] == pytest.approx(found["photos"]["latent_rmse"])
    assert found["sample"]["sigma_hat"] != found["photos"]["sigma_hat"]
    assert capsys.readouterr().out.count("| random-inpainting |") == 3
