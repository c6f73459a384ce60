"""Faults over HTTP in a real ComfyUI: odd photos, two items at once, a server that is killed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.comfyui import ComfyServer, PromptFailed, find_comfyui
from tests.faults.photos import KINDS, SIZE
from tests.graph import ENCODER, Graph, pixels
from tests.models import draw_photos, drawn_photo

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
# how many photos the host reads of a file: of pages, some hosts read the first
FRAMES = {"animated.png": {3}, "animated.webp": {3}, "pages.tif": {1, 3}}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def one_box(graph: Graph, photo: list[Any], steps: int = 1, encoder: str = ENCODER, **inputs: Any) -> str:
    """Restore Photo, shown; the number of the node that shows it."""
    model = graph.model()
    loaded = graph.add("AdaptDiffuseLoadSeverityEncoder", encoder_name=encoder)[0]
    restored = graph.add(
        "AdaptDiffuseRestorePhoto", image=photo, model=model[0], vae=model[1], degradation=graph.blur(),
        solver="ldps", fidelity=0.5, seed=1, severity_encoder=loaded, steps=steps, **inputs,
    )  # fmt: skip
    return graph.show(restored[0])


def shown(comfy: ComfyServer, graph: Graph, node: str) -> list[np.ndarray]:
    return [pixels(comfy, entry) for entry in comfy.run(graph.prompt)[node]["images"]]


def still_works(comfy: ComfyServer) -> None:
    Image.fromarray(drawn_photo(0, 16, 16)).save(comfy.base / "input" / "good.png")
    graph = Graph()
    node = graph.show(graph.photo("good.png"))
    assert len(comfy.run(graph.prompt)[node]["images"]) == 1


def test_a_photo_of_any_kind_keeps_its_size_and_is_the_plain_one(comfy: ComfyServer) -> None:
    # all in one prompt: loading and queueing take longer than restoring. Without detail, which shows what a reader does
    graph, nodes = Graph(), {}
    for kind, write in KINDS.items():
        Image.fromarray(write(comfy.base / "input" / kind)).save(comfy.base / "input" / f"plain {kind}.png")
        nodes[kind] = [one_box(graph, graph.photo(name), detail=0.0) for name in (kind, f"plain {kind}.png")]
    outputs = comfy.run(graph.prompt)
    for kind, (odd, plain) in nodes.items():
        found = [pixels(comfy, entry) for entry in outputs[odd]["images"]]
        (expected,) = [pixels(comfy, entry) for entry in outputs[plain]["images"]]
        assert len(found) in FRAMES.get(kind, {1}), kind
        assert {photo.shape for photo in found} == {expected.shape}, kind
        if "one" not in kind:
            assert expected.shape == (*(SIZE[::-1] if kind.startswith("turned") else SIZE), 3)
        if not kind.startswith(("16 bit", "grey with", "transparent", "palette with")):  # which the host reads its way
            # readers differ in how they enlarge the colours of JPEG, and in what they make of four inks
            tolerance = 8 if kind.startswith(("turned", "cmyk")) else 2.5
            assert float(np.abs(found[0] - expected).max()) < tolerance / 255, kind


def test_a_folder_of_photos_of_different_sizes_gives_each_as_alone(comfy: ComfyServer) -> None:
    folder = comfy.base / "input" / "album"
    folder.mkdir()
    for index, size in enumerate([(24, 32), (40, 24), (17, 19)]):
        Image.fromarray(drawn_photo(index, *size)).save(folder / f"{index}.png")
    together = Graph()
    node = one_box(together, together.add("LoadImageDataSetFromFolder", folder="album")[0])
    found = {photo.shape: photo for photo in shown(comfy, together, node)}
    assert set(found) == {(24, 32, 3), (40, 24, 3), (17, 19, 3)}
    for index, photo in enumerate(found[shape] for shape in [(24, 32, 3), (40, 24, 3), (17, 19, 3)]):
        Image.open(folder / f"{index}.png").save(comfy.base / "input" / f"album-{index}.png")
        alone = Graph()
        (expected,) = shown(comfy, alone, one_box(alone, alone.photo(f"album-{index}.png")))
        assert np.array_equal(photo, expected)


def test_two_items_at_once_give_what_each_gives_alone(comfy: ComfyServer) -> None:
    Image.fromarray(drawn_photo(5, 32, 32)).save(comfy.base / "input" / "both.png")
    draw_photos(comfy.base / "input" / "to learn from", 3, 40, 40)
    first, second, third = Graph(), Graph(), Graph()
    node = one_box(first, first.photo("both.png"), steps=3)
    one_box(second, second.photo("both.png"), steps=4)
    vae = third.model()[1]
    third.add(
        "AdaptDiffuseTrainSeverity", vae=vae, folder="to learn from", family="noise", noise_std=0.1, steps=3, batch=1,
        size=32, seed=1, file_name="beside others", overwrite=True, validate_every=3,
    )  # fmt: skip
    queued = [comfy.queue(graph.prompt) for graph in (first, third, second)]
    together = [comfy.wait(number) for number in queued]
    alone = Graph()
    one_box(alone, alone.photo("both.png"), steps=2)  # the host would not run the same prompt again
    comfy.run(alone.prompt)
    again = Graph()
    again.add("AdaptDiffuseGaussianBlur", std=9.0, noise_std=0.0)
    expected = shown(comfy, again, one_box(again, again.photo("both.png"), steps=3))
    assert all(outputs for outputs in together)
    assert np.array_equal(pixels(comfy, together[0][node]["images"][0]), expected[0])


@pytest.mark.parametrize("content", [b"", b"Not found.", b"\x80\x02}q\x00.", bytes(64)])
def test_an_encoder_that_is_none_is_one_sentence(comfy: ComfyServer, content: bytes) -> None:
    (comfy.base / "models" / "severity_encoders" / "çorrupt file.safetensors").write_bytes(content)
    Image.fromarray(drawn_photo(5, 16, 16)).save(comfy.base / "input" / "small.png")
    graph = Graph()
    one_box(graph, graph.photo("small.png"), encoder="çorrupt file.safetensors")
    with pytest.raises(PromptFailed) as failed:
        comfy.run(graph.prompt)
    assert "is not a complete safetensors file" in failed.value.message
    assert "\n" not in failed.value.message
    still_works(comfy)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_model_with_a_part_that_is_cut_short_is_one_sentence(comfy: ComfyServer, files: Path, part: str) -> None:
    folder = comfy.base / "models" / "diffusers" / f"a modèle without {part}"
    for inside in ("unet", "vae", "scheduler"):
        (folder / inside).mkdir(parents=True, exist_ok=True)
        for file in (files / "model" / inside).iterdir():
            whole = file.read_bytes()
            cut = inside == part and file.name == WEIGHTS
            (folder / inside / file.name).write_bytes(whole[: len(whole) // 2] if cut else whole)
    graph = Graph()
    vae = graph.model(folder.name)[1]
    latent = graph.add("EmptyLatentImage", width=32, height=32, batch_size=1)[0]
    graph.show(graph.add("VAEDecode", samples=latent, vae=vae)[0])
    with pytest.raises(PromptFailed) as failed:
        comfy.run(graph.prompt)
    assert "is not a complete safetensors file" in failed.value.message
    still_works(comfy)


def test_a_server_that_is_killed_in_a_training_goes_on_with_it(tmp_path: Path) -> None:
    if isinstance(found := find_comfyui(), str):
        pytest.skip(found)
    server = ComfyServer(tmp_path / "it's a folder, später")
    draw_photos(server.base / "input" / "good ones", 3, 40, 40)
    graph = Graph()
    graph.add(
        "AdaptDiffuseTrainSeverity", vae=graph.model()[1], folder="good ones", family="noise", noise_std=0.1,
        steps=100_000, batch=1, size=32, seed=1, file_name="später", overwrite=False, validate_every=2,
    )  # fmt: skip
    file = server.base / "models" / "severity_encoders" / "später.safetensors"
    with server:
        server.queue(graph.prompt)
        begin = time.monotonic()
        while not file.with_suffix(".state.pt").exists():
            assert time.monotonic() - begin < 300, server.tail()
            time.sleep(0.05)
        server.process.kill()
        server.process.wait()
    (file.parent / ".später.partial.safetensors").write_bytes(
        b"cut short"
    )  # as a kill in the middle of a write leaves it
    with server:
        names = server.get("/object_info/AdaptDiffuseLoadSeverityEncoder")["AdaptDiffuseLoadSeverityEncoder"]
        assert "partial" not in str(names)
        graph.prompt[graph.last]["inputs"]["steps"] = 1  # fewer than are done: nothing is left to learn
        server.run(graph.prompt)
        assert file.is_file() and not file.with_suffix(".state.pt").exists()
        Image.fromarray(drawn_photo(5, 16, 16)).save(server.base / "input" / "small.png")
        after = Graph()
        node = one_box(after, after.photo("small.png"), encoder="später.safetensors")
        assert len(shown(server, after, node)) == 1
