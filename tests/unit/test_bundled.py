"""What ships in weights/: whole, small, and what it says it is."""

import re

import pytest
import torch

from adapt_diffuse import bundled
from adapt_diffuse.autoencoder import encode_raw
from adapt_diffuse.bundled import (
    MODEL_NAME,
    WEIGHTS,
    bundled_encoders,
    bundled_model,
    default_encoder,
    manifest,
    sha256_of,
)
from adapt_diffuse.commands.demo import demo_photo
from adapt_diffuse.degradation import measure, parse_degradation
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.images import read_photo, write_image
from adapt_diffuse.metrics import psnr
from adapt_diffuse.restore import generators_for
from adapt_diffuse.severity import SeverityRefiner, load_severity_encoder
from adapt_diffuse.tiny_autoencoder import ENCODER, TINY, load_tiny_encoder
from tests.command_line import call, names, strict_json
from tests.taesd import ABSENT, find_taesd
from tests.unit.test_choice import write_encoder

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
    assert sum(path.stat().st_size for path in files) < 64 * 2**20


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


OWN = [name for name in bundled_encoders() if MODEL_NAME in name]
OTHERS = {"sd1": "taesd", "sdxl": "taesdxl", "sd3": "taesd3", "flux1": "taef1"}


@pytest.mark.parametrize("space", OTHERS)
def test_an_encoder_for_another_models_latents_belongs_to_them(space):
    path = bundled_encoders().get(f"severity-{space}-mixed")
    if path is None:
        pytest.skip(f"The severity encoder for the latents of {space} is absent.")
    assert path.stat().st_size < 10_000_000
    encoder = load_severity_encoder(path)
    channels, scale, shift = TINY[OTHERS[space]]
    assert isinstance(encoder, SeverityRefiner)
    assert (encoder.space.channels, encoder.space.factor) == (channels, 8)
    assert (encoder.space.scale, encoder.space.shift) == pytest.approx((scale, shift))
    assert encoder.notes["family"]["name"] == "mixed"
    assert encoder.notes["validation"]["sigma_ratio"] == pytest.approx(1, abs=0.15)
    if (folder := find_taesd()) is None:
        pytest.skip(ABSENT)
    tiny = load_tiny_encoder(folder / f"{OTHERS[space]}{ENCODER}")

    def encode(image):
        return encoder.space.from_raw(encode_raw(tiny, image * 2 - 1))

    photo = demo_photo()[:, :, 64:192, 64:192]
    sigmas = []
    for std in (0.5, 1.5, 3.0):
        damaged = measure(photo, parse_degradation(f"gaussian-blur:std={std}", 0.02), generators_for(0, 1))
        sigmas.append(float(encoder.predict(damaged, 1, encode).sigma_hat))
    assert sigmas[0] == min(sigmas)  # the most, of std 3, is near what is left of any photo
    assert sigmas[0] > 0.05 and sigmas[2] < 1.5


@needs_model
@needs_encoders
@pytest.mark.parametrize("name", OWN or ["none"])
def test_a_bundled_encoder_belongs_to_the_bundled_model(name):
    prior = DiffusersPrior.load(bundled_model())
    encoder = load_severity_encoder(bundled_encoders()[name])
    assert encoder.space.channels == prior.space.channels
    assert encoder.space.fingerprint == pytest.approx(prior.space.fingerprint, abs=0.05)
    assert (encoder.space.scale, encoder.space.shift) == (prior.space.scale, prior.space.shift)
    assert encoder.notes["family"]["noise_std"] == 0.05
    # five kinds of damage at once, and shakes of every shape, are harder to judge than a blur
    hard = name.endswith(("mixed", "camera-blur"))
    assert encoder.notes["validation"]["pearson_error"] > (0.7 if hard else 0.8)


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


@needs_model
@needs_encoders
def test_the_tiny_autoencoder_restores_nearly_as_well(tmp_path):
    good, damage = demo_photo()[:, :, 64:192, 64:192], ["--degradation", "missing-pixels:drop=0.7,seed=1"]
    write_image(tmp_path / "photo.png", good)
    assert call("degrade", tmp_path / "photo.png", "--out", tmp_path / "bad", *damage) == 0
    tiny = ["--guidance-vae", bundled_model() / "tiny"]
    quality, rows = [], []
    for name, more in (("full", []), ("tiny", tiny)):
        out = [*damage, *more, "--out", tmp_path / name, "--report", tmp_path / f"{name}.json", "--device", "cpu"]
        assert call("restore", tmp_path / "bad" / "photo.png", *out) == 0
        quality.append(float(psnr(read_photo(tmp_path / name / "photo.png"), good)))
        rows += strict_json(tmp_path / f"{name}.json")
    assert quality[1] > quality[0] - 0.3 > 20
    assert rows[0]["guide_decoder_backwards"] == rows[1]["decoder_backwards"] == 0
    assert rows[1]["guide_decoder_backwards"] == rows[0]["decoder_backwards"] > 0
    assert DiffusersPrior.load(bundled_model(), guidance=bundled_model() / "tiny").agreement.images < 0.03


@needs_model
@needs_encoders
@pytest.mark.parametrize("rounds", [0, 1])
def test_a_photo_of_unknown_damage_is_restored_by_the_command_line(tmp_path, capsys, rounds):
    write_image(tmp_path / "good" / "flower.png", demo_photo())
    damage = ["--degradation", "gaussian-blur:std=2", "--noise-std", 0.03, "--seed", 3]
    assert call("degrade", tmp_path / "good", "--out", tmp_path / "bad", *damage) == 0
    (tmp_path / "bad" / "broken.png").write_text("no photo")
    report = tmp_path / "report.json"
    options = ["--degradation", "auto", "--refine", rounds, "--report", report, "--device", "cpu"]
    assert call("restore", tmp_path / "bad", "--out", tmp_path / "out", *options) == 2  # for the broken one
    (row,) = strict_json(report)
    std = re.match(r"blurred with std ([\d.]+) ", row["estimate"])
    assert std is not None and float(std.group(1)) == pytest.approx(2, abs=0.35)
    told = capsys.readouterr()
    assert row["estimate"] in told.out and "broken.png" in told.err
    bad, out = (read_photo(tmp_path / folder / "flower.png") for folder in ("bad", "out"))
    assert float(psnr(out, demo_photo())) > float(psnr(bad, demo_photo())) + 2


def test_a_degradation_takes_its_own_encoder_then_the_mixed_one_and_else_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "WEIGHTS", tmp_path)
    blur, missing, mixed = (
        tmp_path / f"severity-{bundled.MODEL_NAME}-{name}.safetensors"
        for name in ("gaussian-blur", "missing-pixels", "mixed")
    )
    write_encoder(tmp_path / "severity-another-model-jpeg.safetensors", "jpeg")
    write_encoder(blur, "gaussian-blur")
    write_encoder(missing, "missing-pixels")
    assert default_encoder("gaussian-blur") == blur
    assert default_encoder("mask") == default_encoder("missing-pixels") == missing
    with pytest.raises(AdaptDiffuseError, match="No bundled severity encoder was trained for 'jpeg'; give one with"):
        default_encoder("jpeg")
    write_encoder(mixed, "mixed")
    assert default_encoder("jpeg") == default_encoder("mixed") == mixed
    assert default_encoder("gaussian-blur") == blur
