"""Train Severity Encoder over HTTP in a real ComfyUI, from training to restoring with what was learnt."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from tests.comfyui import ComfyServer, PromptFailed
from tests.graph import Graph, pixels
from tests.models import draw_photos

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
SETTINGS = {"family": "gaussian-blur", "noise_std": 0.05, "batch": 2, "size": 32, "seed": 0, "validate_every": 2}


def test_a_trained_encoder_restores_and_can_be_loaded(comfy: ComfyServer, graph: Graph) -> None:
    draw_photos(comfy.base / "input" / "to learn from", 5, 40, 48)
    model = graph.model()
    trained = graph.add(
        "AdaptDiffuseTrainSeverity", vae=model[1], folder="to learn from", steps=4, file_name="over HTTP",
        overwrite=False, **SETTINGS,
    )  # fmt: skip
    node = graph.last
    photo = graph.photo("small.png")
    severity = graph.add("AdaptDiffuseEncodeSeverity", image=photo, vae=model[1], severity_encoder=trained[0])
    said = graph.last
    shown = graph.show(graph.restore(photo, graph.blur(), model, severity[0], steps=2))
    plotted = graph.show(trained[1])
    outputs = comfy.run(graph.prompt)
    assert pixels(comfy, outputs[shown]["images"][0]).shape == (64, 64, 3)
    in_the_node = pixels(comfy, outputs[node]["images"][0])
    assert in_the_node.shape == (256, 512, 3)
    assert np.array_equal(in_the_node, pixels(comfy, outputs[plotted]["images"][0]))
    names = comfy.get("/object_info/AdaptDiffuseLoadSeverityEncoder")
    assert "over HTTP.safetensors" in json.dumps(names)

    loading = Graph()
    vae = loading.model()[1]
    again = loading.severity(loading.photo("small.png"), vae, "over HTTP.safetensors")
    loading.show(loading.add("VAEDecode", samples=again[1], vae=vae)[0])
    assert comfy.run(loading.prompt)[again[0][0]]["text"] == outputs[said]["text"]


def test_cancel_stops_the_training_and_the_next_one_goes_on(comfy: ComfyServer, graph: Graph) -> None:
    draw_photos(comfy.base / "input" / "to learn from", 5, 40, 48)
    graph.add(
        "AdaptDiffuseTrainSeverity", vae=graph.model()[1], folder="to learn from", steps=100_000,
        file_name="cancelled", overwrite=False, **SETTINGS,
    )  # fmt: skip
    queued = comfy.queue(graph.prompt)
    file = comfy.base / "models" / "severity_encoders" / "cancelled.safetensors"
    begin = time.monotonic()
    while not file.exists():  # the first validation
        assert time.monotonic() - begin < 300, comfy.tail()
        time.sleep(0.2)
    comfy.post("/interrupt", {})
    with pytest.raises(PromptFailed, match="interrupted"):
        comfy.wait(queued)
    state = file.with_suffix(".state.pt")
    assert state.is_file()
    graph.prompt[graph.last]["inputs"]["steps"] = 1  # fewer than are done already: nothing is left to learn
    comfy.run(graph.prompt)
    assert file.is_file()
    assert not state.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"file_name": "../mine"}, "is no name for a file"),
        ({"path": "relative"}, "is not the whole path of a folder"),
        ({"ranges": "std_max=-1"}, "std_min and std_max must rise"),
    ],
)
def test_bad_input_stops_the_graph_with_a_sentence(
    comfy: ComfyServer, graph: Graph, changes: dict[str, str], sentence: str
) -> None:
    settings = {**SETTINGS, "folder": "(the input folder itself)", "steps": 1, "file_name": "x", "overwrite": False}
    graph.add("AdaptDiffuseTrainSeverity", vae=graph.model()[1], **{**settings, **changes})
    with pytest.raises(PromptFailed) as caught:
        comfy.run(graph.prompt)
    assert sentence in caught.value.message
