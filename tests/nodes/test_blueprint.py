"""The subgraph blueprints: whole, offered by the host, and running as the small nodes that they are made of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.comfyui import REPOSITORY, ComfyServer, to_prompt
from tests.graph import ENCODER, Graph, pixels

BLUEPRINTS = sorted((REPOSITORY / "subgraphs").glob("*.json"))
NAME = "Restore Photo (small nodes)"
on_the_host = [pytest.mark.comfyui, pytest.mark.slow]


def blueprint(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node that stands for the subgraph, and the subgraph."""
    (path,) = (path for path in BLUEPRINTS if path.stem == name)
    whole = json.loads(path.read_text(encoding="utf-8"))
    (node,), (subgraph,) = whole["nodes"], whole["definitions"]["subgraphs"]
    return node, subgraph


def unfolded(subgraph: dict[str, Any], outer: list[list[Any]], info: dict[str, Any]) -> dict[str, Any]:
    """The subgraph's nodes as an API prompt, its inputs connected to the sockets ``outer``."""
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [[link[end] for end in ends] for link in subgraph["links"]]
    prompt = to_prompt({"nodes": subgraph["nodes"], "links": links}, info)
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == str(subgraph["inputNode"]["id"]):
                node["inputs"][name] = outer[value[1]]
            elif isinstance(value, list):
                node["inputs"][name] = [f"inner {value[0]}", value[1]]
    return {f"inner {key}": node for key, node in prompt.items()}


def test_the_node_outside_has_the_sockets_of_the_graph_inside() -> None:
    node, subgraph = blueprint(NAME)
    assert (node["type"], node["title"]) == (subgraph["id"], subgraph["name"])
    for side in ("inputs", "outputs"):
        assert [(one["name"], one["type"]) for one in node[side]] == [
            (one["name"], one["type"]) for one in subgraph[side]
        ]
    links = {link["id"]: link for link in subgraph["links"]}
    inner = {one["id"]: one for one in subgraph["nodes"]}
    assert len(links) == len(subgraph["links"])
    for slot, socket in enumerate(subgraph["inputs"]):
        assert {links[number]["origin_slot"] for number in socket["linkIds"]} == {slot}
    for link in links.values():
        if link["origin_id"] in inner:
            assert link["id"] in inner[link["origin_id"]]["outputs"][link["origin_slot"]]["links"]
        if link["target_id"] in inner:
            socket = inner[link["target_id"]]["inputs"][link["target_slot"]]
            assert (socket["link"], socket["type"]) == (link["id"], link["type"])
    for key, widget in node["properties"]["proxyWidgets"]:
        assert widget in {one["name"] for one in inner[int(key)]["inputs"]}


class TestOnTheHost:
    pytestmark = on_the_host

    def test_it_lists_the_blueprint_as_the_packs(self, comfy: ComfyServer) -> None:
        listed = comfy.get("/global_subgraphs")
        ours = {key: entry for key, entry in listed.items() if entry["source"] == "custom_node"}
        assert {entry["name"] for entry in ours.values()} == {path.stem for path in BLUEPRINTS}
        for key, entry in ours.items():
            assert entry["info"]["node_pack"] == f"custom_nodes.{comfy.pack.name}"
            data = json.loads(comfy.get(f"/global_subgraphs/{key}")["data"])
            assert data["definitions"]["subgraphs"][0]["name"] == entry["name"]

    def test_its_nodes_restore_a_photo(self, comfy: ComfyServer, graph: Graph) -> None:
        info = comfy.get("/object_info")
        _, subgraph = blueprint(NAME)
        model, photo, blur = graph.model(), graph.photo("small.png"), graph.blur(std=1.5)
        encoder = graph.add("AdaptDiffuseLoadSeverityEncoder", encoder_name=ENCODER)[0]
        given = {
            "image": photo, "degradation": blur, "model": model[0], "vae": model[1], "conditioning": model[2],
            "severity_encoder": encoder,
        }  # fmt: skip
        outer = [given[socket["name"]] for socket in subgraph["inputs"]]
        inner = unfolded(subgraph, outer, info)
        last = next(link for link in subgraph["links"] if link["target_id"] == subgraph["outputNode"]["id"])
        start = next(node for node in inner.values() if node["class_type"] == "AdaptDiffuseStartTime")
        start["inputs"]["steps"] = 4
        shown = graph.show([f"inner {last['origin_id']}", last["origin_slot"]])
        outputs = comfy.run({**graph.prompt, **inner})
        restored = pixels(comfy, outputs[shown]["images"][0])
        assert restored.shape == (64, 64, 3) and np.std(restored) > 0.05
