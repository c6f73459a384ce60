"""Every way to misuse the nodes, over HTTP in a real ComfyUI: one sentence, and the host goes on."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.comfyui import ComfyServer, PromptFailed
from tests.graph import ENCODER, Graph

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


def encode_with(vae_of: str, encoder: str = ENCODER, photo: str = "small.png") -> Graph:
    graph = Graph()
    vae = graph.model(vae_of)[1]
    latent = graph.severity(graph.photo(photo), vae, encoder)[1]
    graph.show(graph.add("AdaptDiffuseDecodeRestoration", latent=latent, vae=vae)[0])
    return graph


def masked(mask_of: str) -> Graph:
    graph = Graph()
    mask = graph.add("LoadImage", image=mask_of)[1]
    lost = graph.add("AdaptDiffuseMissingPixels", drop=0.5, seed=0, noise_std=0.0, mask=mask)[0]
    graph.show(graph.add("AdaptDiffuseApplyDegradation", image=graph.photo("odd.png"), degradation=lost, seed=0)[0])
    return graph


def another_photo() -> Graph:
    graph = Graph()
    model = graph.model()
    severity = graph.severity(graph.photo("small.png"), model[1])
    graph.show(graph.restore(graph.photo("adapt-diffuse-flower.jpg"), graph.blur(), model, severity[0]))
    return graph


def too_large_photo() -> Graph:
    graph = Graph()
    model = graph.model()
    latent = graph.add("VAEEncode", pixels=graph.photo("small.png"), vae=model[1])[0]
    image = graph.photo("adapt-diffuse-flower.jpg")
    graph.show(graph.add("AdaptDiffuseDecodeRestoration", latent=latent, vae=model[1], image=image)[0])
    return graph


def keep_blurred() -> Graph:
    graph = Graph()
    model = graph.model()
    photo = graph.photo("small.png")
    latent = graph.severity(photo, model[1])[1]
    graph.show(graph.add(
        "AdaptDiffuseDecodeRestoration", latent=latent, vae=model[1], image=photo, degradation=graph.blur(),
        keep_known=True, match_colours=False,
    )[0])  # fmt: skip
    return graph


def measure_other_size() -> Graph:
    graph = Graph()
    graph.add("AdaptDiffuseMeasure", image=graph.photo("small.png"), reference=graph.photo("odd.png"))
    return graph


def glue_light(kind: str, **numbers: Any) -> Graph:
    graph = Graph()
    model = graph.model()
    photo = graph.photo("small.png")
    severity = graph.severity(photo, model[1])[0]
    damage = graph.add(kind, noise_std=0.05, **numbers)[0]
    graph.show(graph.restore(photo, damage, model, severity, solver="AdaptDiffusePSLD"))
    return graph


def dps_on_latents() -> Graph:
    graph = Graph()
    model = graph.model()
    photo = graph.photo("small.png")
    severity = graph.severity(photo, model[1])[0]
    graph.show(graph.restore(photo, graph.blur(), model, severity, solver="AdaptDiffuseDPS"))
    return graph


def published_above_one() -> Graph:
    graph = Graph()
    model = graph.model()
    photo = graph.photo("small.png")
    latent = graph.severity(photo, model[1])[1]
    severity = graph.add("AdaptDiffuseSetSeverity", latent=latent, sigma_hat=1.3)[0]
    graph.show(graph.restore(photo, graph.blur(), model, severity, mode="published"))
    return graph


def cut_photo() -> Graph:
    """A photo whose sides are no multiples of the VAE's factor, through the host's own encoder."""
    graph = Graph()
    model = graph.model()
    image = graph.photo("odd.png")
    latent = graph.add("VAEEncode", pixels=image, vae=model[1])[0]
    graph.show(graph.add("AdaptDiffuseDecodeRestoration", latent=latent, vae=model[1], image=image)[0])
    return graph


def other_latents() -> Graph:
    graph = Graph()
    photo = graph.photo("small.png")
    latent = graph.add("VAEEncode", pixels=photo, vae=graph.model("tiny VQModel")[1])[0]
    severity = graph.add("AdaptDiffuseSetSeverity", latent=latent, sigma_hat=0.3)[0]
    graph.show(graph.restore(photo, graph.blur(), graph.model(), severity))
    return graph


def masked_start(**start: Any) -> Graph:
    """Set Latent Noise Mask before a start that puts noise into the latent; Invert to Start without any ``start``."""
    graph = Graph()
    model = graph.model()
    photo = graph.photo("small.png")
    latent = graph.add("VAEEncode", pixels=photo, vae=model[1])[0]
    mask = graph.add("SolidMask", value=1.0, width=32, height=64)[0]
    kept = graph.add("SetLatentNoiseMask", samples=latent, mask=mask)[0]
    severity = graph.add("AdaptDiffuseSetSeverity", latent=kept, sigma_hat=0.3)[0]
    if start:
        graph.show(graph.restore(photo, graph.blur(), model, severity, **start))
        return graph
    begin = graph.add(
        "AdaptDiffuseInvertToStart", model=model[0], positive=model[2], severity=severity, steps=2,
        noise_correction=1.0, rounding="continuous",
    )  # fmt: skip
    graph.show(graph.add("AdaptDiffuseDecodeRestoration", latent=begin[0], vae=model[1])[0])
    return graph


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: glue_light("AdaptDiffuseJPEG", quality=20.0), "PSLD works with linear degradations only"),
        (
            lambda: glue_light("AdaptDiffuseCameraBlur", extent=9.0, kernel_seed=0, gain=1.2),
            "PSLD works with linear degradations only",
        ),
        (dps_on_latents, "DPS is for models of pixels"),
        (published_above_one, "does not exist where the severity is above 1"),
        (lambda: encode_with("tiny AutoencoderKL"), "another latent space"),
        (lambda: encode_with("tiny VQModel"), "4 channels, but this VAE makes 3"),
        (lambda: encode_with("flowers-128 (bundled)", "truncated.safetensors"), "not a complete safetensors file"),
        (lambda: encode_with("flowers-128 (bundled)", "no encoder.safetensors"), "is not a severity encoder"),
        (lambda: masked("holes.png"), "The mask is 64 x 64 (1 of them) but the photo is 61 x 45"),
        (another_photo, "stands for 64 x 64 pixels but the solver's image has 640 x 427"),
        (too_large_photo, "The photo is 640 x 427 but the latent decodes to only 64 x 64"),
        (cut_photo, "decodes to only 60 x 44: crop the photo to 60 x 44 before everything else"),
        (other_latents, "The VAE makes latents of 3 channels, but the model has 4"),
        (lambda: masked_start(mode="paper", noise_correction=1.2), "this start has noise in it"),
        (lambda: masked_start(mode="published"), "this start has noise in it"),
        (masked_start, "this start has noise in it"),
        (measure_other_size, "differ in shape"),
        (keep_blurred, "missing pixels and nothing else"),
    ],
)
def test_bad_input_gives_one_sentence_and_the_next_prompt_runs(comfy: ComfyServer, make: Any, words: str) -> None:
    with pytest.raises(PromptFailed) as failed:
        comfy.run(make().prompt)
    assert words in failed.value.message
    assert "\n" not in failed.value.message and len(failed.value.message) < 300
    graph = Graph()
    shown = graph.show(graph.photo("small.png"))
    assert len(comfy.run(graph.prompt)[shown]["images"]) == 1


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("AdaptDiffuseLoadDiffusers", {"model_name": "../../../etc"}),
        ("AdaptDiffuseLoadDiffusers", {"model_name": "not there"}),
        ("AdaptDiffuseLoadSeverityEncoder", {"encoder_name": "../checkpoints/model.safetensors"}),
        ("AdaptDiffuseGaussianBlur", {"std": 51.0, "noise_std": 0.0}),
        ("AdaptDiffuseGaussianBlur", {"std": 1.0, "noise_std": -0.1}),
        ("AdaptDiffuseMissingPixels", {"drop": 1.0, "seed": 0, "noise_std": 0.0}),
    ],
)
def test_values_outside_their_range_or_list_are_refused_before_anything_runs(
    comfy: ComfyServer, graph: Graph, kind: str, inputs: dict[str, Any]
) -> None:
    out = graph.add(kind, **inputs)[0]
    if kind == "AdaptDiffuseLoadDiffusers":
        latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)[0]
        graph.show(graph.add("VAEDecode", samples=latent, vae=[out[0], 1])[0])
    elif kind == "AdaptDiffuseLoadSeverityEncoder":
        vae = graph.model()[1]
        found = graph.add("AdaptDiffuseEncodeSeverity", image=graph.photo("small.png"), vae=vae, severity_encoder=out)
        graph.show(graph.add("VAEDecode", samples=found[1], vae=vae)[0])
    else:
        image = graph.photo("small.png")
        graph.show(graph.add("AdaptDiffuseApplyDegradation", image=image, degradation=out, seed=0)[0])
    with pytest.raises(PromptFailed, match="value_not_in_list|value_bigger_than_max|value_smaller_than_min"):
        comfy.run(graph.prompt)


def test_an_interrupt_stops_the_solver_and_the_next_prompt_runs(comfy: ComfyServer, graph: Graph) -> None:
    model = graph.model()
    photo = graph.photo("small.png")
    severity = graph.add(
        "AdaptDiffuseSetSeverity", latent=graph.add("VAEEncode", pixels=photo, vae=model[1])[0], sigma_hat=5.0
    )[0]
    restored = graph.restore(photo, graph.blur(), model, severity, steps=1000)
    graph.show(restored)
    number = comfy.queue(graph.prompt)
    begin = time.monotonic()
    while not re.search(r" [1-9]\d*/[1-9]\d\d ", comfy.log.read_text()):
        assert time.monotonic() - begin < 120, comfy.tail()
        time.sleep(0.2)
    comfy.post("/interrupt", {})
    with pytest.raises(PromptFailed, match="interrupted"):
        comfy.wait(number, 60)
    after = Graph()
    shown = after.show(after.photo("small.png"))
    assert len(comfy.run(after.prompt)[shown]["images"]) == 1
