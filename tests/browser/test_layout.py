"""The example workflows as the page lays them out: nodes as large as they get with their pictures and reports."""

from __future__ import annotations

import time
from itertools import combinations
from typing import Any

import pytest

from tests.browser.page import load
from tests.browser.test_browser import comfy, page, shoot, workflow  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.comfyui, pytest.mark.browser, pytest.mark.slow]
# as after a run, without one: what runs says to the page is said to it
SHOW = """
const picture = [{filename: 'adapt-diffuse-flower.jpg', subfolder: '', type: 'input'}];
const text = ['a line of a report that is long enough for more than one line in the node', 'another', 'and a third'];
const pictured = ['PreviewImage', 'SaveImage', 'SamplerCustomAdvanced', 'AdaptDiffuseRestorePhoto',
    'AdaptDiffuseEncodeSeverity', 'AdaptDiffuseStartTime', 'AdaptDiffuseInvertToStart', 'AdaptDiffuseFindScratches',
    'AdaptDiffuseTrainSeverity'];
const told = ['PreviewAny', 'AdaptDiffuseRestorePhoto', 'AdaptDiffuseEncodeSeverity', 'AdaptDiffuseMeasure',
    'AdaptDiffuseEstimateDegradation', 'AdaptDiffuseCalibrateSeverity'];
for (const {id, type} of app.graph.nodes) {
    const output = {};
    if (pictured.includes(type)) output.images = picture;
    if (told.includes(type)) output.text = text;
    if (type == 'ImageCompare') Object.assign(output, {a_images: picture, b_images: picture});
    const node = String(id);
    if (Object.keys(output).length) app.api.dispatchCustomEvent('executed', {node, display_node: node, output});
}
app.canvas.setDirty(true, true);"""
CLASSIC = "return Object.fromEntries(app.graph.nodes.map(node => [node.id, [...node.boundingRect]]))"
NODES_2 = """
const {scale, offset} = app.canvas.ds, canvas = app.canvas.canvas.getBoundingClientRect();
return Object.fromEntries([...document.querySelectorAll('[data-node-id]')].map(one => {
    const {x, y, width, height} = one.getBoundingClientRect();
    return [one.dataset.nodeId, [(x - canvas.x) / scale - offset[0], (y - canvas.y) / scale - offset[1],
        width / scale, height / scale]];
}))"""
Box = tuple[float, float, float, float]  # left, top, width, height


def cover(one: Box, other: Box, slack: float = 1.0) -> bool:
    return all(one[i] + slack < other[i] + other[i + 2] and other[i] + slack < one[i] + one[i + 2] for i in (0, 1))


def within(one: Box, other: Box, slack: float = 1.0) -> bool:
    return all(
        other[i] - slack <= one[i] and one[i] + one[i + 2] <= other[i] + other[i + 2] + slack for i in (0, 1)
    )  # fmt: skip


def settled(page: Any, boxes: str) -> dict[str, Box]:  # noqa: F811
    """The boxes of all nodes, once they have not changed for a while: pictures and reports come one by one."""
    found: list[dict[str, Box]] = []
    for _ in range(20):
        time.sleep(0.3)
        found.append(page.execute_script(boxes))
        if len(found) > 4 and all(one == found[-1] for one in found[-4:]):
            break
    return found[-1]


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2"])
def test_nothing_covers_anything_when_pictures_are_shown(page: Any, workflow: dict[str, Any], nodes_2: bool) -> None:  # noqa: F811
    load(page, workflow, nodes_2)
    page.execute_script("app.canvas.ds.scale = 0.3; app.canvas.ds.offset = [100, 100]; app.canvas.setDirty(true, true)")
    page.execute_script(SHOW)
    boxes = settled(page, NODES_2 if nodes_2 else CLASSIC)
    names = {str(node["id"]): node.get("title", node["type"]) for node in workflow["nodes"]}
    assert set(boxes) == set(names)
    covered = [(names[a], names[b]) for a, b in combinations(boxes, 2) if cover(boxes[a], boxes[b])]
    if covered:
        shoot(page, f"{workflow['name']}, laid out{', nodes 2' if nodes_2 else ''}")
    assert covered == []
    groups = [tuple(group["bounding"]) for group in workflow["groups"]]
    notes = {str(node["id"]) for node in workflow["nodes"] if node["type"] == "MarkdownNote"}
    outside = [names[a] for a in boxes.keys() - notes if not any(within(boxes[a], group) for group in groups)]
    assert outside == []
    assert not any(cover(boxes[note], group) for note in notes for group in groups)
    assert not any(cover(one, other) for one, other in combinations(groups, 2))
