"""Tiny autoencoders as published: read, made to give raw latents, and trained for by the command line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from adapt_diffuse.autoencoder import decode_raw, encode_raw, latent_space_of
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.images import read_photo
from adapt_diffuse.metrics import psnr
from adapt_diffuse.severity import SeverityEncoder, SeverityRefiner, load_severity_encoder
from adapt_diffuse.tiny_autoencoder import (
    DECODER,
    ENCODER,
    TINY,
    is_tiny,
    load_tiny_autoencoder,
    load_tiny_encoder,
)
from tests.comfyui import REPOSITORY
from tests.command_line import call, one_sentence
from tests.models import draw_photos, drawn_batch, save_model
from tests.reference import relative_error
from tests.taesd import ABSENT, find_taesd

has_taesd = pytest.mark.skipif(find_taesd() is None, reason=ABSENT)


def published(folder, name="taesd", seed=0):
    """An encoder with random weights under the names of the published files; the diffusers model that it is."""
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        whole = AutoencoderTiny(latent_channels=TINY.get(name, (4,))[0]).requires_grad_(False).eval()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key.removeprefix("layers."): value for key, value in whole.encoder.state_dict().items()}
    save_file(tensors, folder / f"{name}{ENCODER}")
    tensors = {}
    for key, value in whole.decoder.state_dict().items():
        number, rest = key.removeprefix("layers.").split(".", 1)
        tensors[f"{int(number) + 1}.{rest}"] = value
    save_file(tensors, folder / f"{name}{DECODER}")
    return whole


@pytest.mark.parametrize("name", TINY)
def test_a_published_encoder_gives_the_models_latents_by_way_of_raw_ones(tmp_path, name):
    whole = published(tmp_path, name)
    tiny = load_tiny_encoder(tmp_path / f"{name}{ENCODER}")
    _, scale, shift = TINY[name]
    space = latent_space_of(tiny)
    assert (space.factor, space.scale, space.shift) == (8, scale, shift)
    assert space.channels == TINY[name][0]
    image = drawn_batch(2, 32, 48) * 2 - 1
    expected, raw = encode_raw(whole, image), encode_raw(tiny, image)
    assert relative_error(space.from_raw(raw), expected) < 1e-5
    assert relative_error(raw, expected / scale + shift) < 1e-5
    assert not any(weight.requires_grad for weight in tiny.parameters())


@pytest.mark.parametrize("name", TINY)
def test_both_halves_decode_raw_latents_to_what_the_published_decoder_makes_of_the_models(tmp_path, name):
    whole = published(tmp_path, name)
    tiny = load_tiny_autoencoder(tmp_path / f"{name}{ENCODER}")
    _, scale, shift = TINY[name]
    z = torch.randn(2, TINY[name][0], 4, 6, generator=torch.Generator().manual_seed(3))
    assert relative_error(decode_raw(tiny, z / scale + shift), decode_raw(whole, z)) < 1e-5
    (tmp_path / f"{name}{DECODER}").unlink()
    with pytest.raises(AdaptDiffuseError, match="There is no file"):
        load_tiny_autoencoder(tmp_path)


@has_taesd
@pytest.mark.parametrize("name", TINY)
def test_the_published_halves_give_a_photo_back(name):
    tiny = load_tiny_autoencoder(find_taesd() / f"{name}{ENCODER}")
    photo = read_photo(REPOSITORY / "assets" / "flower.jpg")[:, :, 100:228, 180:308]
    with torch.no_grad():
        back = (decode_raw(tiny, encode_raw(tiny, photo * 2 - 1)) + 1) / 2
    assert float(psnr(back.clamp(0, 1), photo)[0]) > (22 if TINY[name][0] == 4 else 24)


def test_a_folder_with_one_of_them_is_enough(tmp_path):
    published(tmp_path)
    assert is_tiny(tmp_path) and is_tiny(tmp_path / f"taesd{ENCODER}")
    assert latent_space_of(load_tiny_encoder(tmp_path)) == latent_space_of(
        load_tiny_encoder(tmp_path / f"taesd{ENCODER}")
    )
    published(tmp_path, "taesdxl")
    with pytest.raises(AdaptDiffuseError, match="not taesd_encoder.safetensors, taesdxl_encoder.safetensors: name the"):
        load_tiny_encoder(tmp_path)
    assert not is_tiny(tmp_path / "empty")


def test_what_is_no_such_encoder_is_refused(tmp_path):
    published(tmp_path, "taesd9")
    with pytest.raises(AdaptDiffuseError, match="taesd9_encoder.safetensors is no tiny autoencoder that is known here"):
        load_tiny_encoder(tmp_path)
    file = tmp_path / "taesd_encoder.safetensors"
    with pytest.raises(AdaptDiffuseError, match="There is no file"):
        load_tiny_encoder(file)
    published(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:-9])
    with pytest.raises(AdaptDiffuseError, match="is not a complete safetensors file"):
        load_tiny_encoder(file)
    published(tmp_path, "taesd3")
    (tmp_path / "taesd3_encoder.safetensors").rename(file)  # 16 channels
    with pytest.raises(AdaptDiffuseError, match="do not fit the model"):
        load_tiny_encoder(file)


# The command line


def train(tmp_path, *options):
    draw_photos(tmp_path / "photos", 4, 40, 40)
    numbers = ["--steps", 2, "--batch", 2, "--size", 32, "--width", 16, "--device", "cpu"]
    out = tmp_path / "out.safetensors"
    return call("train-severity", "--images", tmp_path / "photos", "--out", out, *numbers, *options), out


def test_a_tiny_autoencoder_gets_a_refiner(tmp_path):
    published(tmp_path / "tiny")
    code, out = train(tmp_path, "--vae", tmp_path / "tiny", "--family", "mixed")
    assert code == 0
    encoder = load_severity_encoder(out)
    assert isinstance(encoder, SeverityRefiner)
    assert (encoder.space.scale, encoder.space.factor, encoder.width) == (0.18215, 8, 16)
    tiny = load_tiny_encoder(tmp_path / "tiny")
    encoder.space.check(lambda image: encode_raw(tiny, image * 2 - 1))


@pytest.mark.parametrize(
    ("options", "kind"),
    [([], SeverityEncoder), (["--architecture", "refiner", "--no-photo", "--reuse", "1"], SeverityRefiner)],
)
def test_the_autoencoder_of_a_diffusers_folder_gets_what_is_asked_for(tmp_path, options, kind):
    model = save_model(tmp_path / "model")
    code, out = train(tmp_path, "--vae", model / "vae", *options)
    assert code == 0
    encoder = load_severity_encoder(out)
    assert isinstance(encoder, kind)
    assert kind is SeverityEncoder or not encoder.photo
    assert encoder.notes["training"]["reuse"] == (1 if options else 4)


def test_a_refiner_of_the_command_line_restores(tmp_path):
    model = save_model(tmp_path / "model")
    code, out = train(tmp_path, "--model", model, "--architecture", "refiner")
    assert code == 0
    options = ["--model", model, "--severity-encoder", out, "--device", "cpu", "--steps", 2]
    options += ["--degradation", "gaussian-blur:std=3"]
    photo = tmp_path / "photos" / "photo-0.png"
    assert call("restore", photo, "--out", tmp_path / "restored", *options) == 0
    assert (tmp_path / "restored" / "photo-0.png").is_file()


def test_a_tiny_autoencoder_gets_a_copy_too(tmp_path):
    published(tmp_path / "tiny")
    code, out = train(tmp_path, "--vae", tmp_path / "tiny", "--architecture", "encoder-copy")
    assert code == 0
    encoder = load_severity_encoder(out)
    assert isinstance(encoder, SeverityEncoder)
    assert json.loads(encoder.space.to_json())["scale"] == 0.18215


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: ["--vae", root / "photos", "--model", root], "Give either --model or --vae, not both."),
        (lambda root: ["--vae", root / "photos" / "photo-0.png"], "--vae is the folder of a diffusers autoencoder"),
        (lambda root: ["--vae", root / "photos"], "There is no config.json"),
        (lambda root: ["--vae", root / "nothing"], "There is no config.json"),
        (lambda root: ["--architecture", "refiner", "--width", 20], "A refiner's width must be a multiple of 16"),
        (lambda root: ["--architecture", "refiner", "--reuse", 0], "A batch must be used at least once"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(tmp_path, capsys, make, sentence):
    code, out = train(tmp_path, *make(tmp_path))
    assert code == 2
    one_sentence(capsys, sentence)
    assert not out.exists()
