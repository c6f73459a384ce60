"""What a saved workflow relies on: the sockets and widgets of released nodes, and which changes would break it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.comfyui import REPOSITORY

OURS = "AdaptDiffuse"
SNAPSHOT = REPOSITORY / "tests" / "nodes" / "released_nodes.json"
WORKFLOWS = REPOSITORY / "tests" / "workflows"
SCRIPT = "run `python -m tests.release_nodes` and commit what it writes"
Nodes = dict[str, Any]


def read_snapshot() -> Nodes:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def snapshot_of(object_info: dict[str, Any]) -> Nodes:
    """Our nodes as the snapshot holds them, from what the host says of all nodes."""
    ours = {name: info for name, info in object_info.items() if name.startswith(OURS)}
    return {name: {"inputs": inputs_of(info), "outputs": outputs_of(info)} for name, info in sorted(ours.items())}


def inputs_of(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Inputs in the order in which a workflow stores the values of their widgets."""
    found = []
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, settings = info["input"][group][name]
            entry = {"name": name, "type": kind, "optional": group == "optional"}
            kept = ("default", "min", "max", "options", "control_after_generate", "forceInput", "socketless")
            entry |= {key: settings[key] for key in kept if settings.get(key) is not None}
            found.append(entry)
    return found


def outputs_of(info: dict[str, Any]) -> list[dict[str, Any]]:
    rows = zip(info["output_name"], info["output"], info["output_is_list"], strict=True)
    return [{"name": name, "type": kind, "list": many} for name, kind, many in rows]


def breaks(released: Nodes, now: Nodes, replacements: dict[str, Any]) -> list[str]:
    """A sentence for each change that a workflow saved with ``released`` would not survive.

    Args:
        released: the snapshot.
        now: the nodes of today.
        replacements: the host's node replacements, by the id of the node that is gone.
    """
    found: list[str] = []
    for name, old in released.items():
        if name in now:
            found += [f"{name}: {sentence}" for sentence in changed(old, now[name])]
        else:
            found += [f"{name}: {sentence}" for sentence in unreplaced(name, old, now, replacements.get(name))]
    return found


def changed(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What is other in a node than by an append at the end."""
    for part in ("inputs", "outputs"):
        before, after = [entry["name"] for entry in old[part]], [entry["name"] for entry in new[part]]
        if after[: len(before)] != before:
            yield f"its {part} began with {', '.join(before)} and now are {', '.join(after)}"
            return
    for before, after in zip(old["inputs"], new["inputs"], strict=False):
        yield from changed_input(before, after)
    for before, after in zip(old["outputs"], new["outputs"], strict=False):
        if before != after:
            yield f"the output {before['name']} was {before} and now is {after}"
    for added in new["inputs"][len(old["inputs"]) :]:
        if not added["optional"]:
            yield f"the new input {added['name']} is not optional"
        elif is_widget(added) and "default" not in added:
            yield f"the new input {added['name']} has no default"


def changed_input(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for key in ("type", "default", "forceInput", "socketless"):
        if old.get(key) != new.get(key):
            yield f"{key} of {old['name']} was {old.get(key)!r} and now is {new.get(key)!r}"
    if has_control(old) != has_control(new):
        yield f"{old['name']} {'lost its' if has_control(old) else 'got a'} control_after_generate, which is a widget"
    if new["optional"] < old["optional"]:
        yield f"{old['name']} was optional"
    if new.get("min", old.get("min")) != old.get("min") and new["min"] > old["min"]:
        yield f"{old['name']} went down to {old['min']} and now ends at {new['min']}"
    if new.get("max", old.get("max")) != old.get("max") and new["max"] < old["max"]:
        yield f"{old['name']} went up to {old['max']} and now ends at {new['max']}"
    if lost := [option for option in old.get("options", []) if option not in new.get("options", [])]:
        yield f"{old['name']} no longer offers {', '.join(lost)}"


def has_control(entry: dict[str, Any]) -> bool:
    """Whether the web page shows a widget under this one, whose value a workflow stores; it gives seeds one unasked."""
    return bool(entry.get("control_after_generate", entry["name"] in ("seed", "noise_seed")))


def unreplaced(name: str, old: dict[str, Any], now: Nodes, given: list[dict[str, Any]] | None) -> Iterator[str]:
    """What a node that is gone leaves without a successor; the host takes the first replacement."""
    if not given:
        yield "it is gone, and no node replacement is registered for it"
        return
    first = given[0]
    if first["new_node_id"] not in now:
        yield f"it is replaced by {first['new_node_id']}, which does not exist"
        return
    new = now[first["new_node_id"]]
    widgets = [entry["name"] for entry in old["inputs"] if is_widget(entry)]
    if (first["old_widget_ids"] or []) != widgets:
        yield f"the replacement's old_widget_ids must be {widgets}"
    mapping = first["input_mapping"] or []
    known = {entry["name"] for entry in old["inputs"]}
    for entry in mapping:
        if "set_value" not in entry and entry.get("old_id") not in known:
            yield f"the replacement maps {entry.get('old_id')}, which it never had"
    reached = {entry["new_id"] for entry in mapping}
    for entry in new["inputs"]:
        if not entry["optional"] and entry["name"] not in reached:
            yield f"the replacement does not set {entry['name']}"
    outputs = {entry["old_idx"] for entry in first["output_mapping"] or []}
    if missing := [entry["name"] for number, entry in enumerate(old["outputs"]) if number not in outputs]:
        yield f"the replacement drops the outputs {', '.join(missing)}"


def is_widget(entry: dict[str, Any]) -> bool:
    return entry["type"] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") and not entry.get("forceInput")


def unrecorded(released: Nodes, now: Nodes) -> list[str]:
    """Nodes, inputs and outputs of today that the snapshot does not hold yet."""
    new_nodes = [name for name in now if name not in released]
    appended = [
        f"{name}.{entry['name']}"
        for name, node in released.items()
        for part in ("inputs", "outputs")
        for entry in now.get(name, {}).get(part, [])[len(node[part]) :]
    ]
    return sorted(new_nodes + appended)
