"""import-model: checkpoints in CompVis' layout, compared with a forward pass of that layout written in the tests."""

import json
import sys
import types

import numpy as np
import pytest
import torch

from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.imports import convert_model
from adapt_diffuse.imports.declared import Attention, Declared
from tests.command_line import call, names
from tests.compvis import Denoiser, FirstStage, Model, declared, ldm_betas
from tests.models import drawn_batch
from tests.reference import ldm_alphas_cumprod, relative_error

VQ = FirstStage()
KL = FirstStage(latent=4, width=4, codes=0)

# name: first stage, denoiser, params of a config.yaml (None: there is none), scale_factor in the checkpoint
MODELS = {
    "published": (VQ, Denoiser(), None, None),
    "deeper": (FirstStage(multipliers=(1, 2, 2), blocks=2), Denoiser(blocks=2, multipliers=(1, 2)), None, None),
    "attending everywhere": (FirstStage(attending=(0, 1)), Denoiser(attention_resolutions=(1, 2, 4)), None, None),
    "attending nowhere": (FirstStage(middle_attention=False), Denoiser(attention_resolutions=()), None, None),
    "other width of codes": (FirstStage(latent=5), Denoiser(), None, None),
    "KL": (KL, Denoiser(latent=4), None, 0.6),
    "KL, factor declared": (KL, Denoiser(latent=4), {"scale_factor": 0.3}, None),
    "churches": (
        KL,
        Denoiser(
            multipliers=(1, 2, 2),
            latent=4,
            attention_resolutions=(1, 2),
            head_channels=0,
            heads=8,
            scale_shift=True,
            residual=True,
        ),
        {"scale_by_std": True},
        1.7,
    ),
    "new order": (VQ, Denoiser(head_channels=16, new_order=True), {}, None),
    "one head": (VQ, Denoiser(head_channels=0, heads=1), {}, None),
    "time scales, plain changes of size": (VQ, Denoiser(scale_shift=True, head_channels=16), {}, None),
}


def save(path, state):
    torch.save({"epoch": 3, "global_step": 12, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def make():
    """The models, drawn once each."""
    drawn = {}

    def make(name):
        if name not in drawn:
            drawn[name] = Model.draw(*MODELS[name][:2])
        return drawn[name]

    return make


def imported(model, tmp_path, params=None, factor=None, ema=True, options=()):
    """The prior that import-model makes of a model's checkpoint, in float64."""
    state = model.state_dict(ema=ema)
    if factor is not None:
        state["scale_factor"] = torch.tensor(factor)
    checkpoint = save(tmp_path / "model.ckpt", state)
    if params is not None:
        (tmp_path / "config.yaml").write_text(declared(model, **params))
        options = [*options, "--config", tmp_path / "config.yaml"]
    assert call("import-model", checkpoint, "--out", tmp_path / "model", *options) == 0
    prior = DiffusersPrior.load(tmp_path / "model")
    prior.autoencoder.double()
    prior.unet.double()
    return prior


def latents(model, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((2, model.stage.width, 16, 24), generator=generator, dtype=torch.float64)


def denoised(model, weights, prior, timesteps):
    """Both posterior means of noisy latents at whole timesteps."""
    sigma = prior.sigmas[timesteps]
    spread = sigma[:, None, None, None]
    x = latents(model) * (1 + spread**2).sqrt()
    noise = model.denoiser(weights, x / (1 + spread**2).sqrt(), torch.tensor(timesteps))
    return prior.denoise(x, sigma), x - spread * noise


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_an_imported_model_computes_what_the_checkpoint_computes(make, tmp_path, name):
    _, _, params, factor = MODELS[name]
    model = make(name)
    prior = imported(model, tmp_path, params, factor)
    # the checkpoint's factor is a float32
    scale = float(torch.tensor(factor)) if factor else (params or {}).get("scale_factor", 1.0)
    photos = drawn_batch(2, 32, 48).double()
    raw = model.stage.encode(model.first_stage, photos * 2 - 1)
    assert relative_error(prior.encode(photos), raw * scale) < 1e-9
    z = latents(model)
    assert relative_error(prior.decode(z * scale), (model.stage.decode(model.first_stage, z) + 1) / 2) < 1e-9
    for timesteps in ([0, 999], [37, 500]):
        assert relative_error(*denoised(model, model.averaged, prior, timesteps)) < 1e-9
    part = "vqvae" if model.stage.codes else "vae"
    files = [f"{part}/config.json", f"{part}/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"]
    assert names(tmp_path / "model") == sorted([*files, "unet/config.json", "unet/diffusion_pytorch_model.safetensors"])


@torch.no_grad()
def test_the_running_average_is_taken_unless_it_is_refused_or_missing(make, tmp_path, capsys):
    model = make("published")
    cases = {"ema": ([], True), "refused": (["--no-ema"], True), "missing": ([], False)}
    for case, (options, ema) in cases.items():
        (tmp_path / case).mkdir()
        prior = imported(model, tmp_path / case, ema=ema, options=options)
        weights, other = (model.averaged, model.weights) if case == "ema" else (model.weights, model.averaged)
        assert relative_error(*denoised(model, weights, prior, [3, 800])) < 1e-9
        assert relative_error(*denoised(model, other, prior, [3, 800])) > 1e-2
        assert ("running average" if case == "ema" else "last weights") in capsys.readouterr().out


def test_what_is_assumed_is_said(make, tmp_path, capsys):
    imported(make("published"), tmp_path)
    assert capsys.readouterr().out.strip().endswith("1000 levels; heads of 32 channels assumed")
    (tmp_path / "declared").mkdir()
    imported(make("published"), tmp_path / "declared", {})
    assert capsys.readouterr().out.strip().endswith("1000 levels")


def test_levels_are_those_of_the_checkpoint(make, tmp_path):
    prior = imported(make("published"), tmp_path)
    abar = ldm_alphas_cumprod()
    assert relative_error(prior.sigmas, ((1 - abar) / abar).sqrt()) < 1e-12
    scheduler = json.loads((tmp_path / "model/scheduler/scheduler_config.json").read_text())
    assert (scheduler["beta_schedule"], scheduler["beta_start"], scheduler["beta_end"]) == (
        "scaled_linear",
        0.0015,
        0.0195,
    )


@pytest.mark.parametrize("kind", ["linear", "any"])
def test_other_schedules_are_kept(make, tmp_path, kind):
    linear = torch.linspace(1e-4, 2e-2, 50, dtype=torch.float64)
    betas = linear if kind == "linear" else linear * (1 + 0.3 * torch.sin(torch.arange(50) / 5))
    save(tmp_path / "model.ckpt", make("published").state_dict(betas.float()))
    assert call("import-model", tmp_path / "model.ckpt", "--out", tmp_path / "model") == 0
    abar = torch.cumprod(1 - betas.double(), 0)
    sigmas = DiffusersPrior.load(tmp_path / "model").sigmas
    assert torch.allclose(sigmas, ((1 - abar) / abar).sqrt(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("declares", "prediction"), [("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
def test_what_the_denoiser_predicts_is_declared(make, tmp_path, declares, prediction):
    assert imported(make("published"), tmp_path, {"parameterization": declares}).prediction == prediction


@pytest.mark.parametrize("legacy", [False, True])
def test_what_lightning_keeps_beside_the_weights_is_passed_over(make, tmp_path, monkeypatch, legacy):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {
        "callbacks": {module.ModelCheckpoint: {"best_model_score": np.float64(0.5), "best_model_path": "a"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
        "state_dict": make("published").state_dict(),
    }
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    assert call("import-model", tmp_path / "model.ckpt", "--out", tmp_path / "model") == 0
    DiffusersPrior.load(tmp_path / "model")


def test_a_safetensors_file_of_the_same_names_works(make, tmp_path):
    from safetensors.torch import save_file

    save_file(make("published").state_dict(), tmp_path / "model.safetensors")
    assert call("import-model", tmp_path / "model.safetensors", "--out", tmp_path / "model") == 0
    DiffusersPrior.load(tmp_path / "model")


def millions(part):
    return sum(value.numel() for value in part.tensors.values()) / 1e6


def test_the_published_faces_model_has_the_known_architecture():
    stage = FirstStage(channels=128, multipliers=(1, 2, 4), blocks=2, codes=8192)
    denoiser = Denoiser(channels=224, multipliers=(1, 2, 3, 4), blocks=2, attention_resolutions=(8, 4, 2))
    model = Model.draw(stage, denoiser, device="meta")
    converted = convert_model(model.state_dict(), Declared(), True, "faces.ckpt")
    unet, vqvae = converted.unet.config, converted.autoencoder.config
    assert unet["block_out_channels"] == [224, 448, 672, 896]
    assert unet["down_block_types"] == ["DownBlock2D", *["AttnDownBlock2D"] * 3]
    assert unet["up_block_types"] == [*["AttnUpBlock2D"] * 3, "UpBlock2D"]
    assert (unet["layers_per_block"], unet["attention_head_dim"], unet["downsample_type"]) == (2, 32, "conv")
    assert (vqvae["block_out_channels"], vqvae["layers_per_block"]) == ([128, 256, 512], 2)
    assert (vqvae["num_vq_embeddings"], vqvae["vq_embed_dim"], vqvae["scaling_factor"]) == (8192, 3, 1.0)
    assert round(millions(converted.unet), 2) == 274.06  # as the paper's code reports it
    assert round(millions(converted.autoencoder), 1) == 55.3


def test_the_published_churches_model_has_eight_heads_everywhere():
    stage = FirstStage(channels=128, multipliers=(1, 2, 4, 4), blocks=2, latent=4, width=4, codes=0)
    denoiser = Denoiser(
        channels=192,
        multipliers=(1, 2, 2, 4, 4),
        blocks=2,
        latent=4,
        attention_resolutions=(1, 2, 4, 8),
        head_channels=0,
        heads=8,
        scale_shift=True,
        residual=True,
    )
    model = Model.draw(stage, denoiser, device="meta")
    state = {**model.state_dict(ldm_betas(0.0015, 0.0155)), "scale_factor": torch.tensor(0.2)}
    converted = convert_model(state, Declared(Attention(None, heads=8), known=True), True, "churches.ckpt")
    unet = converted.unet.config
    assert (unet["attention_heads"], unet["block_out_channels"]) == (8, [192, 384, 384, 768, 768])
    assert unet["down_block_types"] == [*["AttnDownBlock2D"] * 4, "ResnetDownsampleBlock2D"]
    assert unet["up_block_types"] == ["ResnetUpsampleBlock2D", *["AttnUpBlock2D"] * 4]
    assert converted.scheduler["beta_end"] == 0.0155
    assert converted.autoencoder.config["scaling_factor"] == pytest.approx(0.2, rel=1e-6)
