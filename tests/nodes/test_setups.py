"""Patched, compiled, offloaded and quantised models in a real ComfyUI: the right gradient, or a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.comfyui import find_comfyui, report_of

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
if isinstance(found := find_comfyui(), str):
    pytest.skip(found, allow_module_level=True)

# whether the set-up changes what the model computes
RIGHT = {
    "plain": False,
    "lora": True,
    "weight-wrapper": True,
    "bypass-lora": True,
    "compiled": False,
    "compiled-block": False,
    "attention-patch": True,
    "function-wrapper": True,
    "cache-wrapper": False,  # at the first level, which is the one compared with the plain model's
    "silent-attention": False,
    "freeu": True,
    "compute-dtype": True,
    "dynamic": False,
    "dynamic-lora": True,
    "dynamic-compiled": False,
}
REFUSED = {
    "low-vram": "loaded in part",
    "low-vram-lora": "loaded in part",
    "kernel-without-backward": "A kernel of the model (adapt_diffuse_tests.doubled.default) has no backward pass.",
    "controlnet": "A ControlNet steers the model",
    "patch-with-network": "runs a second network",
    "cublas": "The host runs with --fast cublas_ops, which gives no gradient.",
    "gguf-weights": "are quantised (GGUFTensor",
    "gguf-patcher": "quantised (GGUF)",
    "multi-gpu": "several GPUs",
    "dynamic-bypass-lora": "replaces layers of a model that is loaded piece by piece",
    "dynamic-without-a-file": "cannot be loaded outside dynamic VRAM",
    "dynamic-quantised": "are quantised",
}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of("inside_setups.py")


@pytest.mark.parametrize("setup", list(RIGHT))
def test_the_gradient_is_that_of_the_model_as_it_is_set_up(report: dict[str, Any], setup: str) -> None:
    found = report[setup]
    assert "refused" not in found
    assert found["finite"]
    assert found["norm"] > 0.1
    assert found["gradient"] < 1e-5
    assert (found["plain"] > 1e-3) == RIGHT[setup]


@pytest.mark.parametrize("setup", list(REFUSED))
def test_where_the_gradient_cannot_be_right_a_sentence_says_why(report: dict[str, Any], setup: str) -> None:
    sentence = report[setup]["refused"]
    assert REFUSED[setup] in sentence
    assert sentence.endswith("Set the solver's 'through' to decoder, which works with every model.")
    assert "\n" not in sentence


@pytest.mark.parametrize("setup", [*RIGHT, *REFUSED])
def test_through_the_decoder_every_model_works_and_stays_as_it_was(report: dict[str, Any], setup: str) -> None:
    assert report[setup]["decoder"]
    assert report[setup]["again"] or setup == "cache-wrapper"  # whose cache outlives the run
    assert report[setup]["unchanged"]
    assert report[setup]["switched_back"]  # the host's switch for training


@pytest.mark.parametrize(("kind", "words"), [("cast", "torch.float8_e4m3fn"), ("layers", "QuantizedTensor")])
def test_weights_in_eight_bits_are_refused_by_name_and_run_through_the_decoder(
    report: dict[str, Any], kind: str, words: str
) -> None:
    found = report[f"quantised-{kind}"]
    assert found["decoder"]
    assert words in found["refused"]
    assert found["refused"].endswith("Set the solver's 'through' to decoder, which works with every model.")


@pytest.mark.parametrize("through", ["decoder", "denoiser"])
def test_a_model_that_overflows_is_named_not_the_decoder(report: dict[str, Any], through: str) -> None:
    assert report["no numbers"][through] == (
        "The model's output is not finite: load it in another precision (bf16, fp32), or another model."
    )


def test_a_compiled_model_is_compiled_for_its_own_runs_alone(report: dict[str, Any]) -> None:
    found = report["compilations"]
    assert found["decoder"] > 0
    assert found["denoiser"] == found["after"] == found["decoder"]
