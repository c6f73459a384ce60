"""Solvers, starts and models of pixels over HTTP in a real ComfyUI; that their numbers are right: test_inside_*."""

from __future__ import annotations

import numpy as np
import pytest

from tests.comfyui import ComfyServer
from tests.graph import HOLES_ENCODER, SOLVERS, Graph, pixels

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
PIXELS = "tiny pixels"


@pytest.mark.parametrize("solver", sorted(set(SOLVERS) - {"AdaptDiffuseDPS"}))
def test_every_solver_restores_a_batch_photo_by_photo(comfy: ComfyServer, graph: Graph, solver: str) -> None:
    model = graph.model()
    batch = graph.add("ImageBatch", image1=graph.photo("small.png"), image2=graph.photo("turned.png"))[0]
    noisy = graph.add("AdaptDiffuseApplyDegradation", image=batch, degradation=graph.blur(), seed=0)[0]
    severity = graph.severity(noisy, model[1])[0]
    shown = graph.show(graph.restore(noisy, graph.blur(), model, severity, solver=solver))
    first, second = (pixels(comfy, entry) for entry in comfy.run(graph.prompt)[shown]["images"])
    assert np.abs(first - np.rot90(second, -1)).mean() < np.abs(first - second).mean() / 2


@pytest.mark.parametrize("solver", ["AdaptDiffusePSLD", "AdaptDiffuseReSample"])
def test_lost_pixels_come_back_with_other_solvers_too(comfy: ComfyServer, graph: Graph, solver: str) -> None:
    model = graph.model()
    photo = graph.photo("small.png")
    lost = graph.add("AdaptDiffuseMissingPixels", drop=0.7, seed=1, noise_std=0.05)[0]
    damaged = graph.add("AdaptDiffuseApplyDegradation", image=photo, degradation=lost, seed=2)[0]
    severity = graph.severity(damaged, model[1], HOLES_ENCODER)[0]
    restored = graph.restore(damaged, lost, model, severity, steps=20, solver=solver)
    measured = graph.add("AdaptDiffuseMeasure", image=restored, reference=photo)[0][0]
    assert float(comfy.run(graph.prompt)[measured]["text"][0].split()[1]) > 20


@pytest.mark.parametrize("mode", ["matched", "paper", "published"])
def test_every_mode_of_start_time_restores(comfy: ComfyServer, graph: Graph, mode: str) -> None:
    model = graph.model()
    photo = graph.photo("small.png")
    severity = graph.severity(photo, model[1])[0]
    restored = graph.restore(photo, graph.blur(), model, severity, steps=20, mode=mode, noise_correction=1.1)
    measured = graph.add("AdaptDiffuseMeasure", image=restored, reference=photo)[0][0]
    assert float(comfy.run(graph.prompt)[measured]["text"][0].split()[1]) > 18


def test_an_inverted_start_runs_without_noise(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    batch = graph.add("ImageBatch", image1=graph.photo("small.png"), image2=graph.photo("grey.png"))[0]
    severity = graph.severity(batch, model[1])
    begin = graph.add(
        "AdaptDiffuseInvertToStart", model=model[0], positive=model[2], severity=severity[0], steps=8,
        noise_correction=1.0, rounding="continuous", negative=model[2], cfg=1.0, levels=0,
    )  # fmt: skip
    sampled = graph.add(
        "SamplerCustomAdvanced", noise=graph.add("DisableNoise")[0],
        guider=graph.add("BasicGuider", model=model[0], conditioning=model[2])[0],
        sampler=graph.add("KSamplerSelect", sampler_name="euler")[0], sigmas=begin[1], latent_image=begin[0],
    )  # fmt: skip
    estimate = graph.add("AdaptDiffuseDecodeRestoration", latent=severity[1], vae=model[1])[0]
    restored = graph.add("AdaptDiffuseDecodeRestoration", latent=sampled[0], vae=model[1])[0]
    before, after = graph.show(estimate), graph.show(restored)
    outputs = comfy.run(graph.prompt)
    pairs = zip(outputs[before]["images"], outputs[after]["images"], strict=True)
    errors = [np.abs(pixels(comfy, a) - pixels(comfy, b)).mean() for a, b in pairs]
    assert len(errors) == 2 and max(errors) < 0.01


def test_stock_nodes_sample_and_decode_a_model_of_pixels(comfy: ComfyServer, graph: Graph) -> None:
    model, vae, conditioning, _ = graph.model(PIXELS)
    latent = graph.add("EmptyLatentImage", width=48, height=32, batch_size=1)[0]
    sampled = graph.add(
        "KSampler", model=model, positive=conditioning, negative=conditioning, latent_image=latent, seed=1, steps=3,
        cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0,
    )  # fmt: skip
    shown = graph.show(graph.add("VAEDecode", samples=sampled[0], vae=vae)[0])
    photo = graph.photo("odd.png")
    original = graph.show(photo)
    back = graph.show(graph.add("VAEDecode", samples=graph.add("VAEEncode", pixels=photo, vae=vae)[0], vae=vae)[0])
    outputs = comfy.run(graph.prompt)
    assert pixels(comfy, outputs[shown]["images"][0]).shape == (32, 48, 3)
    first, second = (pixels(comfy, outputs[node]["images"][0]) for node in (original, back))
    assert np.abs(first - second).max() < 1.5 / 255


def test_dps_restores_with_a_model_of_pixels_and_the_hosts_own_pixel_space(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model(PIXELS)
    stock = graph.add("VAELoader", vae_name="pixel_space")[0]
    photo = graph.photo("odd.png")
    shown = []
    for vae in (model[1], stock):
        latent = graph.add("VAEEncode", pixels=photo, vae=vae)[0]
        severity = graph.add("AdaptDiffuseSetSeverity", latent=latent, sigma_hat=0.3)[0]
        parts = [model[0], vae, model[2]]
        shown.append(graph.show(graph.restore(photo, graph.blur(), parts, severity, solver="AdaptDiffuseDPS")))
    outputs = comfy.run(graph.prompt)
    first, second = (pixels(comfy, outputs[node]["images"][0]) for node in shown)
    assert first.shape == (45, 61, 3)
    assert np.array_equal(first, second)
