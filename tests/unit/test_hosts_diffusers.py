"""Latent diffusion models from diffusers folders, compared with diffusers' own autoencoders and scheduler."""

import json
import shutil

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file

from adapt_diffuse.autoencoder import CLASSES, downsampling, load_autoencoder
from adapt_diffuse.checkpoints import WEIGHTS
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.diffusers import DiffusersPrior, alphas_cumprod_of
from adapt_diffuse.schedule import vp_sigmas
from tests.models import AUTOENCODERS, SCHEDULER, drawn_photo, save_model, tiny_autoencoder, tiny_unet
from tests.reference import relative_error

KINDS = tuple(AUTOENCODERS)
every_kind = pytest.mark.parametrize("kind", KINDS)
BLOCKS = {"AutoencoderKL": 3, "VQModel": 2, "AutoencoderTiny": 3, "AutoencoderDC": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A saved model of every kind, and a v-prediction one."""
    root = tmp_path_factory.mktemp("models")
    made = {kind: save_model(root / kind, kind) for kind in KINDS}
    return {**made, "v": save_model(root / "v", prediction="v_prediction")}


@pytest.fixture
def folder(folders, tmp_path):
    """A copy of one model, to be damaged."""
    return shutil.copytree(folders["AutoencoderDC"], tmp_path / "model")


def photos(count=2, height=32, width=48):
    stack = [torch.from_numpy(drawn_photo(seed, height, width)) for seed in range(count)]
    return torch.stack(stack).permute(0, 3, 1, 2).float() / 255


def latents(prior, seed=0):
    z = prior.encode(photos())
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))


def test_every_supported_class_is_tested():
    assert set(KINDS) == set(CLASSES)


# Autoencoders


@every_kind
def test_encode_and_decode_are_the_autoencoders_own_in_the_models_scale(folders, kind):
    prior, original = DiffusersPrior.load(folders[kind]), tiny_autoencoder(kind)
    scale, shift = original.config.get("scaling_factor") or 1, original.config.get("shift_factor") or 0
    with torch.no_grad():
        encoded = original.encode(photos() * 2 - 1)
        raw = encoded.latent_dist.mode() if kind == "AutoencoderKL" else encoded[0]
        decoded = original.decode(raw).sample
        z = prior.encode(photos())
        assert relative_error(z, (raw - shift) * scale) < 1e-5
        assert relative_error(prior.decode(z), (decoded + 1) / 2) < 1e-4
    factor = 2 ** (BLOCKS[kind] - 1)
    assert z.shape[2:] == (32 // factor, 48 // factor)
    assert prior.space.factor == downsampling(original) == factor
    assert prior.multiple == 2 * factor  # the UNet halves once


@every_kind
def test_decoding_has_a_gradient(folders, kind):
    prior = DiffusersPrior.load(folders[kind])
    z = latents(prior).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.decode(z).square().sum(), z)
    assert bool(torch.isfinite(gradient).all())
    assert all(float(image.abs().max()) > 0 for image in gradient)


@every_kind
def test_loaded_models_are_frozen_and_float32(folders, kind):
    prior = DiffusersPrior.load(folders[kind])
    for module in (prior.autoencoder, prior.unet):
        assert not module.training
        assert {(p.dtype, p.requires_grad) for p in module.parameters()} == {(torch.float32, False)}


def test_half_precision_files_load_as_float32(folder):
    exact = DiffusersPrior.load(folder)
    for part in ("vae", "unet"):
        path = folder / part / WEIGHTS
        save_file({key: value.half() for key, value in load_file(path).items()}, path)
    half = DiffusersPrior.load(folder)
    assert {p.dtype for p in half.unet.parameters()} == {torch.float32}
    sigma = torch.tensor([0.3, 3.0])
    x = latents(exact)
    with torch.no_grad():
        assert 0 < relative_error(half.denoise(x, sigma), exact.denoise(x, sigma)) < 2e-2


# The denoiser


@pytest.mark.parametrize("name", ["AutoencoderDC", "v"])
@pytest.mark.parametrize("timestep", [0, 1, 250, 999])
def test_denoise_is_the_schedulers_prediction_of_the_clean_sample(folders, name, timestep):
    prior = DiffusersPrior.load(folders[name])
    scheduler = DDPMScheduler.from_pretrained(folders[name] / "scheduler")
    assert prior.prediction == scheduler.config.prediction_type
    sigma = prior.sigmas[timestep].expand(2)
    x = latents(prior) * (1 + sigma[0] ** 2).sqrt().float()
    z_vp = x / (1 + sigma[0].float() ** 2).sqrt()
    with torch.no_grad():
        output = prior.unet(z_vp, timestep).sample
        generator = torch.Generator().manual_seed(0)
        expected = scheduler.step(output, timestep, z_vp, generator=generator).pred_original_sample
        assert relative_error(prior.denoise(x, sigma), expected) < 1e-4


@pytest.mark.parametrize("name", ["AutoencoderDC", "v"])
def test_every_image_has_its_own_level(folders, name):
    prior = DiffusersPrior.load(folders[name])
    x, sigma = latents(prior), torch.tensor([0.2, 9.0])
    with torch.no_grad():
        together = prior.denoise(x, sigma)
        for index in range(2):
            alone = prior.denoise(x[index : index + 1], sigma[index : index + 1])
            assert relative_error(together[index : index + 1], alone) < 1e-5


def test_levels_between_timesteps_use_fractional_ones(folders):
    prior = DiffusersPrior.load(folders["AutoencoderDC"])
    x = latents(prior)
    between = (prior.sigmas[700] * prior.sigmas[701]).sqrt()  # the middle in log sigma
    with torch.no_grad():
        output = prior.unet(x / (1 + between**2).sqrt().float(), torch.tensor([700.5, 700.5])).sample
        expected = x - between.float() * output
        assert relative_error(prior.denoise(x, between.expand(2)), expected) < 1e-5


@pytest.mark.parametrize("name", ["AutoencoderDC", "v"])
def test_the_denoisers_gradient_is_its_slope(folders, name):
    prior = DiffusersPrior.load(folders[name])
    prior.unet.double()
    x, sigma = latents(prior).double(), torch.tensor([0.5, 5.0], dtype=torch.float64)
    source = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(source, sigma).square().sum(), source)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        ends = [prior.denoise(x + step * direction, sigma).square().sum() for step in (1e-5, -1e-5)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-6)


# Schedules


@pytest.mark.parametrize(
    "config",
    [
        SCHEDULER,
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 400},
        {"trained_betas": [0.001, 0.01, 0.1]},
        {},
    ],
)
def test_levels_are_the_schedulers(config):
    expected = DDPMScheduler.from_config({**config}).alphas_cumprod.double()
    assert torch.allclose(alphas_cumprod_of(config), expected, rtol=1e-4, atol=1e-9)


def test_the_priors_levels_are_float64_and_rise(folders):
    sigmas = DiffusersPrior.load(folders["v"]).sigmas
    assert sigmas.dtype == torch.float64
    assert torch.equal(sigmas, vp_sigmas(alphas_cumprod_of(SCHEDULER)))
    assert bool((sigmas.diff() > 0).all())


# What cannot be loaded is one sentence


def refused(folder):
    with pytest.raises(AdaptDiffuseError) as caught:
        DiffusersPrior.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_missing_folder_is_refused(tmp_path):
    assert refused(tmp_path / "nowhere") == f"There is no model folder {tmp_path / 'nowhere'}."


@pytest.mark.parametrize("file", ["vae/config.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_config_is_named(folder, file):
    (folder / file).unlink()
    sentence = refused(folder)
    assert (folder / file).name in sentence
    assert "is it a diffusers model folder?" in sentence


@pytest.mark.parametrize("file", ["vae/config.json", "unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "", "\xff\xfe"])
def test_a_damaged_config_is_named(folder, file, content):
    (folder / file).write_text(content, encoding="latin-1")
    assert str(folder / file) in refused(folder)


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_missing_weights_are_named(folder, part):
    (folder / part / WEIGHTS).unlink()
    assert refused(folder) == f"There is no file {folder / part / WEIGHTS}."


@pytest.mark.parametrize("part", ["vae", "unet"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.999])
def test_truncated_weights_are_named(folder, part, keep):
    path = folder / part / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert refused(folder).startswith(f"{path} is not a complete safetensors file")


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_weights_of_another_architecture_are_refused(folder, part):
    other = tiny_unet(4, layers_per_block=2) if part == "unet" else tiny_autoencoder("AutoencoderKL")
    save_file(other.state_dict(), folder / part / WEIGHTS)
    assert f"The weights in {folder / part / WEIGHTS} do not fit the model" in refused(folder)


def test_other_classes_are_refused_by_name(folder):
    edit(folder / "vae" / "config.json", _class_name="AutoencoderKLWan")
    assert refused(folder) == f"The autoencoder is a 'AutoencoderKLWan'; supported are {', '.join(CLASSES)}."
    edit(folder / "vae" / "config.json", _class_name="AutoencoderDC")
    edit(folder / "unet" / "config.json", _class_name="UNet2DConditionModel")
    sentence = refused(folder)
    assert "UNet2DConditionModel" in sentence
    assert "supported is UNet2DModel" in sentence


def test_a_unet_of_another_latent_space_is_refused(folder):
    tiny_unet(3).save_pretrained(folder / "unet")
    assert refused(folder) == (
        "The UNet takes 3 channels but the autoencoder's latents have 4: they do not belong together."
    )


def test_a_class_conditional_unet_is_refused(folder):
    tiny_unet(4, num_class_embeds=10).save_pretrained(folder / "unet")
    assert refused(folder) == f"The unet in {folder / 'unet'} wants classes; only unconditional ones are supported."


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_a_config_that_builds_no_model_is_refused(folder, part):
    key = "encoder_block_out_channels" if part == "vae" else "down_block_types"
    edit(folder / part / "config.json", **{key: ["NoSuchBlock"]})
    assert refused(folder).startswith(f"The configuration in {folder / part} makes no ")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prediction_type": "flow_prediction"}, "The model predicts 'flow_prediction'"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "The scheduler's beta_schedule 'squaredcos_cap_v2' is not supported"),
        ({"num_train_timesteps": "many"}, "The scheduler's configuration holds a wrong value"),
        ({"beta_end": None}, "The scheduler's configuration holds a wrong value"),
        ({"num_train_timesteps": -1}, "The scheduler's configuration holds a wrong value"),
        ({"num_train_timesteps": 1}, "The scheduler's betas must be two or more, all between 0 and 1."),
        ({"beta_end": 1.5}, "The scheduler's betas must be two or more, all between 0 and 1."),
        ({"rescale_betas_zero_snr": True}, "The scheduler's rescale_betas_zero_snr is not supported."),
    ],
)
def test_a_schedule_that_is_not_supported_is_refused(folder, change, sentence):
    edit(folder / "scheduler" / "scheduler_config.json", **change)
    assert sentence in refused(folder)


@every_kind
def test_autoencoders_load_alone(folders, kind):
    part = folders[kind] / ("vqvae" if kind == "VQModel" else "vae")
    original, loaded = tiny_autoencoder(kind).state_dict(), load_autoencoder(part).state_dict()
    assert original.keys() == loaded.keys()
    assert all(torch.equal(original[key], loaded[key]) for key in original)
