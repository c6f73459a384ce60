"""The nodes over HTTP in a real ComfyUI: what the pack promises to a host."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.comfyui import REPOSITORY, ComfyServer
from tests.graph import HOLES_ENCODER, KINDS, Graph, pixels

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

NODES = {
    "AdaptDiffuseLoadDiffusers", "AdaptDiffuseLoadSeverityEncoder", "AdaptDiffuseGaussianBlur",
    "AdaptDiffuseFilmDamage", "AdaptDiffuseFindScratches", "AdaptDiffuseEstimateDegradation",
    "AdaptDiffuseLensBlur", "AdaptDiffuseKernelBlur",
    "AdaptDiffuseMotionBlur", "AdaptDiffuseCameraBlur", "AdaptDiffuseDownscale", "AdaptDiffuseJPEG",
    "AdaptDiffuseChainDegradations",
    "AdaptDiffuseMissingPixels", "AdaptDiffuseApplyDegradation", "AdaptDiffuseEncodeSeverity",
    "AdaptDiffuseSetSeverity", "AdaptDiffuseStartTime", "AdaptDiffuseInvertToStart", "AdaptDiffuseLDPS",
    "AdaptDiffuseGMLDPS", "AdaptDiffusePSLD", "AdaptDiffuseReSample", "AdaptDiffuseDPS",
    "AdaptDiffuseDiffPIR", "AdaptDiffuseLATINO", "AdaptDiffuseMPGD", "AdaptDiffuseFlowDPS", "AdaptDiffuseLatentDAPS",
    "AdaptDiffuseDCDP",
    "AdaptDiffuseDecodeRestoration", "AdaptDiffuseMeasure", "AdaptDiffuseTrainSeverity",
    "AdaptDiffuseCalibrateSeverity", "AdaptDiffuseRestorePhoto",
}  # fmt: skip


@pytest.fixture(scope="module")
def info(comfy: ComfyServer) -> dict[str, Any]:
    return comfy.get("/object_info")


def test_the_host_has_all_nodes_and_starts_hardly_slower(comfy: ComfyServer, info: dict[str, Any]) -> None:
    assert {name for name in info if name.startswith("AdaptDiffuse")} == NODES
    (seconds,) = re.findall(r"([\d.]+) seconds: \S.*" + re.escape(comfy.pack.name), comfy.log.read_text())
    assert float(seconds) <= 0.4  # to one digit, on a busy machine


@pytest.mark.parametrize("name", sorted(NODES))
def test_every_socket_explains_itself(info: dict[str, Any], name: str) -> None:
    node = info[name]
    assert node["category"].startswith("restoration/adapt & diffuse/")
    assert node["description"] and node["search_aliases"]
    for group in ("required", "optional"):
        for key, (kind, settings) in node["input"].get(group, {}).items():
            assert len(settings["tooltip"]) > 15, f"{name}.{key} has no tooltip"
            if kind in ("INT", "FLOAT"):
                assert settings["min"] < settings["max"]
    assert len(node["output_tooltips"]) == len(node["output"])
    assert all(len(tooltip or "") > 10 for tooltip in node["output_tooltips"])


@pytest.mark.parametrize("name", sorted(NODES))
def test_every_node_has_a_page_of_help(name: str) -> None:
    page = (REPOSITORY / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith("# ") and len(page) > 200


def test_stock_nodes_sample_and_decode_our_model(comfy: ComfyServer, graph: Graph) -> None:
    model, vae, conditioning, _ = graph.model()
    latent = graph.add("EmptyLatentImage", width=256, height=256, batch_size=2)[0]  # 8 pixels per position: 32 x 32
    sampled = graph.add(
        "KSampler", model=model, positive=conditioning, negative=conditioning, latent_image=latent, seed=1, steps=4,
        cfg=3.0, sampler_name="dpmpp_2m", scheduler="karras", denoise=1.0,
    )[0]  # fmt: skip
    shown = graph.show(graph.add("VAEDecode", samples=sampled, vae=vae)[0])
    images = [pixels(comfy, entry) for entry in comfy.run(graph.prompt)[shown]["images"]]
    # the host knows our format's factor of 4 and keeps the size in pixels
    assert [image.shape for image in images] == [(256, 256, 3)] * 2
    assert all(image.std() > 0.02 for image in images)
    assert np.abs(images[0] - images[1]).mean() > 0.01


@pytest.mark.parametrize("decode", ["VAEDecode", "VAEDecodeTiled"])
def test_stock_nodes_encode_and_decode_with_our_vae(comfy: ComfyServer, graph: Graph, decode: str) -> None:
    vae = graph.model()[1]
    photo = graph.photo("small.png")
    latent = graph.add("VAEEncode", pixels=photo, vae=vae)[0]
    tiles = {"tile_size": 64, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8} if "Tiled" in decode else {}
    shown = graph.show(graph.add(decode, samples=latent, vae=vae, **tiles)[0])
    original = graph.show(photo)
    outputs = comfy.run(graph.prompt)
    error = pixels(comfy, outputs[shown]["images"][0]) - pixels(comfy, outputs[original]["images"][0])
    assert 10 * np.log10(1 / (error**2).mean()) > 20


def test_stock_samplers_run_from_start_time_too(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    photo = graph.photo("small.png")
    damaged = graph.add("AdaptDiffuseApplyDegradation", image=photo, degradation=graph.blur(), seed=0)[0]
    severity = graph.severity(damaged, model[1])[0]
    begin = graph.add(
        "AdaptDiffuseStartTime", model=model[0], severity=severity, steps=10, noise_correction=1.0, mode="matched",
        rounding="schedule", seed=0,
    )  # fmt: skip
    sampled = graph.add(
        "SamplerCustomAdvanced", noise=graph.add("RandomNoise", noise_seed=3)[0],
        guider=graph.add("BasicGuider", model=model[0], conditioning=model[2])[0],
        sampler=graph.add("KSamplerSelect", sampler_name="euler")[0], sigmas=begin[1], latent_image=begin[0],
    )  # fmt: skip
    restored = graph.add("AdaptDiffuseDecodeRestoration", latent=sampled[0], vae=model[1])[0]
    measured = graph.add("AdaptDiffuseMeasure", image=restored, reference=photo)[0][0]
    outputs = comfy.run(graph.prompt)
    assert float(outputs[measured]["text"][0].split()[1]) > 18


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("through", ["denoiser", "decoder"])
def test_every_kind_of_autoencoder_loads_and_restores(
    comfy: ComfyServer, graph: Graph, kind: str, through: str
) -> None:
    model = graph.model(f"tiny {kind}")
    photo = graph.photo("small.png")
    latent = graph.add("VAEEncode", pixels=photo, vae=model[1])[0]
    severity = graph.add("AdaptDiffuseSetSeverity", latent=latent, sigma_hat=0.4)[0]
    shown = graph.show(graph.restore(photo, graph.blur(), model, severity, steps=2, through=through))
    (entry,) = comfy.run(graph.prompt)[shown]["images"]
    assert pixels(comfy, entry).shape == (64, 64, 3)


@pytest.mark.parametrize(("name", "size"), [("odd.png", (45, 61)), ("grey.png", (64, 64)), ("holes.png", (64, 64))])
def test_odd_photos_come_back_in_their_own_size(
    comfy: ComfyServer, graph: Graph, name: str, size: tuple[int, int]
) -> None:
    model = graph.model()
    photo = graph.photo(name)
    severity = graph.severity(photo, model[1])
    shown = graph.show(graph.restore(photo, graph.blur(), model, severity[0]))
    (entry,) = comfy.run(graph.prompt)[shown]["images"]
    restored = pixels(comfy, entry)
    assert restored.shape == (*size, 3)
    assert restored.std() > 0.05


def test_the_alpha_of_a_photo_marks_the_pixels_to_fill(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    loaded = graph.add("LoadImage", image="holes.png")
    lost = graph.add("AdaptDiffuseMissingPixels", drop=0.5, seed=0, noise_std=0.0, mask=loaded[1])[0]
    damaged = graph.add("AdaptDiffuseApplyDegradation", image=loaded[0], degradation=lost, seed=0)[0]
    before = graph.show(damaged)
    latent = graph.add("VAEEncode", pixels=damaged, vae=model[1])[0]
    # a black hole is far from a flower: enough noise for the model to paint it anew
    severity = graph.add("AdaptDiffuseSetSeverity", latent=latent, sigma_hat=4.0)[0]
    after = graph.show(graph.restore(damaged, lost, model, severity, steps=15, through="denoiser"))
    outputs = comfy.run(graph.prompt)
    hole = (slice(22, 38), slice(22, 42))
    assert pixels(comfy, outputs[before]["images"][0])[hole].max() == 0
    assert pixels(comfy, outputs[after]["images"][0])[hole].mean() > 0.05


def test_three_quarters_of_the_pixels_lost_at_random_come_back(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    photo = graph.photo("small.png")
    lost = graph.add("AdaptDiffuseMissingPixels", drop=0.75, seed=1, noise_std=0.05)[0]
    damaged = graph.add("AdaptDiffuseApplyDegradation", image=photo, degradation=lost, seed=2)[0]
    severity = graph.severity(damaged, model[1], HOLES_ENCODER)
    restored = graph.restore(damaged, lost, model, severity[0], steps=30)
    before = graph.add("AdaptDiffuseMeasure", image=damaged, reference=photo)[0][0]
    after = graph.add("AdaptDiffuseMeasure", image=restored, reference=photo)[0][0]
    outputs = comfy.run(graph.prompt)
    damaged_psnr, restored_psnr = (float(outputs[node]["text"][0].split()[1]) for node in (before, after))
    assert restored_psnr > damaged_psnr + 6
    assert restored_psnr > 20


def test_known_pixels_come_back_as_they_were(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    loaded = graph.add("LoadImage", image="holes.png")
    lost = graph.add("AdaptDiffuseMissingPixels", drop=0.5, seed=0, noise_std=0.0, mask=loaded[1])[0]
    latent = graph.severity(loaded[0], model[1])[1]
    kept = graph.add(
        "AdaptDiffuseDecodeRestoration", latent=latent, vae=model[1], image=loaded[0], degradation=lost,
        keep_known=True, match_colours=True,
    )[0]  # fmt: skip
    shown, original = graph.show(kept), graph.show(loaded[0])
    outputs = comfy.run(graph.prompt)
    first, second = (pixels(comfy, outputs[node]["images"][0]) for node in (shown, original))
    known = np.ones((64, 64), bool)
    known[20:40, 20:44] = False
    assert np.array_equal(first[known], second[known])
    assert np.abs(first[~known] - second[~known]).mean() > 0.01


def test_the_photos_own_detail_comes_back(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    photo = graph.photo("small.png")
    noise = graph.add("AdaptDiffuseGaussianBlur", std=0.0, noise_std=0.02)[0]
    noisy = graph.add("AdaptDiffuseApplyDegradation", image=photo, degradation=noise, seed=0)[0]
    latent = graph.severity(noisy, model[1])[1]
    psnr = []
    for inputs in ({}, {"detail": 0.0}, {"detail": 1.0}):
        more = {"image": noisy, "degradation": noise, **inputs} if inputs else {}
        decoded = graph.add("AdaptDiffuseDecodeRestoration", latent=latent, vae=model[1], **more)[0]
        psnr.append(graph.add("AdaptDiffuseMeasure", image=decoded, reference=photo)[0][0])
    outputs = comfy.run(graph.prompt)
    plain, none, detailed = (float(outputs[node]["text"][0].split()[1]) for node in psnr)
    assert none == plain and detailed > plain + 2


def test_an_enlarged_photo_is_decoded_whole_without_its_degradation(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    photo = graph.photo("small.png")
    small = graph.add("AdaptDiffuseDownscale", factor=2, filter="bicubic", noise_std=0.01)[0]
    severity = graph.add(
        "AdaptDiffuseEncodeSeverity", image=photo, vae=model[1], degradation=small,
        severity_encoder=graph.add("AdaptDiffuseLoadSeverityEncoder", encoder_name=HOLES_ENCODER)[0],
    )  # fmt: skip
    shown = [
        graph.show(graph.add("AdaptDiffuseDecodeRestoration", latent=severity[1], vae=model[1], **more)[0])
        for more in ({}, {"image": photo}, {"image": photo, "degradation": small})
    ]
    outputs = comfy.run(graph.prompt)
    for node in shown:
        assert pixels(comfy, outputs[node]["images"][0]).shape == (128, 128, 3)


def test_what_lies_under_the_mask_does_not_matter(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    mask = graph.add("LoadImage", image="holes.png")[1]
    lost = graph.add("AdaptDiffuseMissingPixels", drop=0.5, seed=0, noise_std=0.02, mask=mask)[0]
    encoder = graph.add("AdaptDiffuseLoadSeverityEncoder", encoder_name=HOLES_ENCODER)[0]
    shown = []
    for name in ("small.png", "scratched.png"):
        photo = graph.photo(name)
        severity = graph.add(
            "AdaptDiffuseEncodeSeverity", image=photo, vae=model[1], severity_encoder=encoder, degradation=lost
        )
        shown.append(graph.show(graph.restore(photo, lost, model, severity[0])))
    outputs = comfy.run(graph.prompt)
    first, second = (pixels(comfy, outputs[node]["images"][0]) for node in shown)
    assert np.array_equal(first, second)


def test_a_resized_latent_is_decoded_whole(comfy: ComfyServer, graph: Graph) -> None:
    vae = graph.model()[1]
    latent = graph.severity(graph.photo("odd.png"), vae)[1]
    larger = graph.add("LatentUpscaleBy", samples=latent, upscale_method="bilinear", scale_by=3.0)[0]
    shown = graph.show(graph.add("AdaptDiffuseDecodeRestoration", latent=larger, vae=vae)[0])
    assert pixels(comfy, comfy.run(graph.prompt)[shown]["images"][0]).shape == (144, 192, 3)


def test_a_batch_gives_each_photo_its_own_start(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    batch = graph.add("ImageBatch", image1=graph.photo("small.png"), image2=graph.photo("turned.png"))[0]
    noisy = graph.add("AdaptDiffuseApplyDegradation", image=batch, degradation=graph.blur(), seed=0)[0]
    severity = graph.severity(noisy, model[1])
    reported = graph.last
    shown = graph.show(graph.restore(noisy, graph.blur(), model, severity[0]))
    again = graph.show(graph.add("RebatchImages", images=graph.restore(
        noisy, graph.blur(), model, severity[0], steps=2, mode="paper", noise_correction=1.2, rounding="schedule"
    ), batch_size=2)[0])  # fmt: skip
    outputs = comfy.run(graph.prompt)
    assert len(outputs[reported]["text"][0].split(",")) == 2
    first, second = (pixels(comfy, entry) for entry in outputs[shown]["images"])
    assert np.abs(first - np.rot90(second, -1)).mean() < np.abs(first - second).mean() / 2
    assert len(outputs[again]["images"]) == 2


def test_photos_of_a_batch_that_start_together_run_together(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    batch = graph.add("ImageBatch", image1=graph.photo("small.png"), image2=graph.photo("turned.png"))[0]
    latent = graph.add("VAEEncode", pixels=batch, vae=model[1])[0]
    severity = graph.add("AdaptDiffuseSetSeverity", latent=latent, sigma_hat=0.3)[0]
    restored = graph.restore(batch, graph.blur(), model, severity)
    shown = graph.show(restored)
    measured = graph.add("AdaptDiffuseMeasure", image=restored, reference=batch)[0][0]
    outputs = comfy.run(graph.prompt)
    assert len(outputs[shown]["images"]) == 2
    assert len(outputs[measured]["text"][0].splitlines()) == 2
