"""The example workflows in ComfyUI's real page, in a headless Chromium."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.page import ASK, CHROMIUM, DRIVER, load, opened, wait_for
from tests.comfyui import REPOSITORY, ComfyServer, find_comfyui, to_prompt
from tests.graph import DOWNLOADS, WORKFLOWS

pytestmark = [pytest.mark.comfyui, pytest.mark.browser, pytest.mark.slow]
SCREENSHOTS = REPOSITORY / "screenshots"
# the position of the widget 'steps'
STEPS = {
    "AdaptDiffuseStartTime": 0,
    "AdaptDiffuseRestorePhoto": 5,
    "AdaptDiffuseInvertToStart": 0,
    "AdaptDiffuseTrainSeverity": 3,
}
FEW = 8
REPORTS = "return app.graph.nodes.map(n => (n.widgets || []).find(w => w.name == 'report')?.value).filter(Boolean)"
BARS = """return app.graph.nodes
    .filter(n => ['AdaptDiffuseRestorePhoto', 'AdaptDiffuseEncodeSeverity'].includes(n.type))
    .map(n => (n.imgs || []).map(one => one.src))"""
# the others run over HTTP alone, in tests/nodes/test_workflows.py
RUN_IN_THE_PAGE = {
    "1 Restore my photo",
    "Restore Photo (one box)",
    "Restore a blurred photo",
    "Paint over damage",
    "Unknown damage (estimate it)",
    "Frames of a video",
}
BEGINNINGS = {"PSNR", "blurred", "severity", "this", "photo", "error"}  # of the reports in our nodes


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    if isinstance(found := find_comfyui(), str):
        pytest.skip(found)
    # the host serves no JavaScript of packs in folders with a space in their name
    with ComfyServer(tmp_path_factory.mktemp("comfyui"), "adapt-diffuse_copy") as server:
        server.post("/settings", {"Comfy.TutorialCompleted": True})
        yield server


@pytest.fixture(scope="module")
def page(comfy: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium.webdriver", reason="Selenium is missing: pip install selenium.")
    if not (CHROMIUM and DRIVER):
        pytest.skip("No browser: install chromium and chromedriver (Debian: chromium chromium-driver).")
    with opened(comfy.url, tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    """An example workflow, and its name."""
    return {"name": request.param.stem, **json.loads(request.param.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def loaded(page: Any, workflow: dict[str, Any]) -> Any:
    """The page with the example workflow in it, in the classic kind of nodes."""
    load(page, workflow)
    fit = "app.canvas.ds.scale = 0.95; app.canvas.ds.offset = [60, 60]; app.canvas.setDirty(true, true)"
    page.execute_script(fit)
    time.sleep(1)
    return page


def shoot(page: Any, name: str) -> Path:
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.save_screenshot(str(path))
    return path


def test_the_example_has_no_missing_node(loaded: Any, workflow: dict[str, Any]) -> None:
    assert loaded.execute_script("return app.graph.nodes.length") == len(workflow["nodes"])
    # a loader whose file is a download that is not there is in error, and says so
    wrong = "" if workflow["name"] in DOWNLOADS else " || n.has_errors"
    missing = f"app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]{wrong}).map(n => n.type)"
    assert loaded.execute_script("return " + missing) == []
    shoot(loaded, f"{workflow['name']}, loaded")


def test_the_host_serves_the_help_of_our_nodes(comfy: ComfyServer) -> None:
    with urllib.request.urlopen(f"{comfy.url}/extensions/{comfy.pack.name}/docs/AdaptDiffuseLDPS.md") as answer:  # noqa: S310
        assert answer.read().decode().startswith("# LDPS")


def test_the_page_reads_the_example_as_it_was_meant(comfy: ComfyServer, loaded: Any, workflow: dict[str, Any]) -> None:
    page_prompt = loaded.execute_async_script(ASK)
    ours = to_prompt(workflow, comfy.get("/object_info"))
    assert set(page_prompt) == set(ours)
    for key, node in ours.items():
        assert page_prompt[key]["class_type"] == node["class_type"]
        for name, value in node["inputs"].items():
            if node["class_type"] != "ImageCompare":  # its view is a widget without a value
                assert page_prompt[key]["inputs"][name] == value, (node["class_type"], name)


def run(comfy: ComfyServer, page: Any) -> None:
    """Press Run for the graph in the page, with few steps: another test runs the example as it is."""
    before = set(comfy.get("/history"))
    shorten = f"app.graph.nodes.find(n => {list(STEPS)}.includes(n.type)).widgets.find(w => w.name == 'steps').value"
    page.execute_script(shorten + f" = {FEW}")
    assert page.execute_async_script("const done = arguments[0]; app.queuePrompt(0).then(r => done(r))")
    wait_for(lambda: set(comfy.get("/history")) - before, 400, "the prompt did not end:\n" + comfy.tail())
    (entry,) = (entry for number, entry in comfy.get("/history").items() if number not in before)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]


def kept(pictures: list[str]) -> bool:
    """Whether a node shows one picture, of a file: previews of a sampler are blobs."""
    return len(pictures) == 1 and "/view?" in pictures[0]


def test_run_shows_the_severity_and_the_restored_photo(
    comfy: ComfyServer, loaded: Any, workflow: dict[str, Any]
) -> None:
    if workflow["name"] not in RUN_IN_THE_PAGE:
        pytest.skip("it runs in tests/nodes/test_workflows.py")
    loaded.execute_script("window.previews = 0; app.api.addEventListener('b_preview', () => window.previews++)")
    run(comfy, loaded)
    shown = "(app.graph.nodes.find(n => n.type == 'SaveImage').imgs || []).length"
    wait_for(lambda: loaded.execute_script("return " + shown) > 0, 30, "the page shows no restored photo")
    reports = loaded.execute_script(REPORTS)
    assert reports and {report.split()[0] for report in reports} <= BEGINNINGS
    assert loaded.execute_script("return window.previews") > 0
    wait_for(lambda: all(kept(bar) for bar in loaded.execute_script(BARS)), 10, "a preview is left for the severity")
    time.sleep(1)
    shoot(loaded, f"{workflow['name']}, run")
    ours = [line["message"] for line in loaded.get_log("browser") if "adapt-diffuse_copy" in line["message"]]
    assert ours == []


def test_what_is_cached_shows_again_what_it_found(comfy: ComfyServer, loaded: Any, workflow: dict[str, Any]) -> None:
    if workflow["name"] not in RUN_IN_THE_PAGE:
        pytest.skip("it runs in tests/nodes/test_workflows.py")
    reports = loaded.execute_script(REPORTS)
    load(loaded, workflow)
    assert loaded.execute_script(REPORTS) == []
    run(comfy, loaded)
    wait_for(lambda: loaded.execute_script(REPORTS) == reports, 10, "not every report is shown again")
    wait_for(lambda: all(kept(bar) for bar in loaded.execute_script(BARS)), 10, "a severity is not shown again")


def widget_defaults(comfy: ComfyServer, node_type: str) -> list[Any]:
    """The default values of a node's widgets, in their order."""
    inputs = comfy.get(f"/object_info/{node_type}")[node_type]["input"]
    options = [spec[1] for kind in ("required", "optional") for spec in inputs.get(kind, {}).values() if len(spec) > 1]
    return [option["default"] for option in options if "default" in option]


def test_a_saved_workflow_keeps_the_positions_of_its_values(
    comfy: ComfyServer, loaded: Any, workflow: dict[str, Any]
) -> None:
    saved = loaded.execute_script("return app.graph.serialize()")
    written = {node["id"]: node for node in workflow["nodes"]}
    for node in saved["nodes"]:
        if node["type"].startswith("AdaptDiffuse"):
            values = [value for value in node.get("widgets_values", []) if value is not None]
            expected = list(written[node["id"]].get("widgets_values", []))
            if node["type"] in STEPS and workflow["name"] in RUN_IN_THE_PAGE:
                expected[STEPS[node["type"]]] = FEW
            # a workflow of before an input was appended gets its default
            missing = len(values) - len(expected)
            expected += widget_defaults(comfy, node["type"])[-missing:] if missing else []
            assert values == expected, node["type"]


def test_the_example_is_whole_in_the_new_kind_of_nodes_too(
    comfy: ComfyServer, loaded: Any, workflow: dict[str, Any]
) -> None:
    if workflow["name"] not in RUN_IN_THE_PAGE:
        pytest.skip("the nodes are the same in all of them")
    loaded.execute_script("app.ui.settings.setSettingValue('Comfy.VueNodes.Enabled', true)")
    count = "document.querySelectorAll('[data-node-id]').length"
    nodes = len(workflow["nodes"])
    wait_for(lambda: loaded.execute_script("return " + count) == nodes, 30, "the new nodes are not drawn")
    time.sleep(2)
    shoot(loaded, f"{workflow['name']}, nodes 2")
    text = loaded.execute_script("return document.body.innerText")
    for node in workflow["nodes"]:
        if (kind := node["type"]).startswith("AdaptDiffuse"):
            assert (node.get("title") or comfy.get(f"/object_info/{kind}")[kind]["display_name"]) in text


ONE_BOX = "Restore Photo (one box)"


def one_box() -> dict[str, Any]:
    return json.loads(next(path for path in WORKFLOWS if path.stem == ONE_BOX).read_text(encoding="utf-8"))


def test_the_preview_gives_way_to_the_severity_in_the_new_kind_of_nodes_too(comfy: ComfyServer, page: Any) -> None:
    load(page, one_box(), nodes_2=True)
    page.execute_script("""window.previews = 0; app.api.addEventListener('b_preview', () => window.previews++);
        window.box = app.graph.nodes.find(n => n.type == 'AdaptDiffuseRestorePhoto');
        window.box.widgets.find(w => w.name == 'seed').value = 77""")
    run(comfy, page)
    assert page.execute_script("return window.previews") > 0
    pictures = """return [...document.querySelector(`[data-node-id="${window.box.id}"]`).querySelectorAll('img')]
        .map(one => one.src)"""
    wait_for(lambda: kept(page.execute_script(pictures)), 10, "the node does not show the severity alone")
    shoot(page, f"{ONE_BOX}, run, nodes 2")


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2"])
def test_the_note_about_your_own_photos_is_true(page: Any, nodes_2: bool) -> None:
    """A click on the title of the green group and Ctrl+B leave the photo, its restoration, and no red node."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.keys import Keys

    load(page, one_box(), nodes_2)
    x, y = page.execute_script("""const ds = app.canvas.ds, at = app.canvas.canvas.getBoundingClientRect();
        ds.scale = 0.5; ds.offset = [200, 200]; app.canvas.setDirty(true, true);
        const [left, top] = app.graph.groups.find(one => one.title.startsWith('Only for the try')).pos;
        return [(left + 60 + ds.offset[0]) * ds.scale + at.x, (top + 15 + ds.offset[1]) * ds.scale + at.y]""")
    time.sleep(1)
    click = ActionBuilder(page)
    click.pointer_action.move_to_location(int(x), int(y)).click()
    click.perform()
    ActionChains(page).key_down(Keys.CONTROL).send_keys("b").key_up(Keys.CONTROL).perform()
    time.sleep(1)
    prompt = page.execute_async_script(ASK)
    kinds = {node["class_type"]: (key, node["inputs"]) for key, node in prompt.items()}
    assert {"ImageScale", "AdaptDiffuseApplyDegradation", "AdaptDiffuseMeasure"}.isdisjoint(kinds)
    assert kinds["AdaptDiffuseRestorePhoto"][1]["image"] == [kinds["LoadImage"][0], 0]
    links = [value[0] for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert set(links) <= set(prompt)


def test_the_blueprint_can_be_put_into_a_graph(comfy: ComfyServer, page: Any) -> None:
    name = "Restore Photo (small nodes)"
    (key,) = (key for key, one in comfy.get("/global_subgraphs").items() if one["name"] == name)
    data = json.loads(comfy.get(f"/global_subgraphs/{key}")["data"])
    load(page, data)
    node = "app.graph.nodes[0]"
    wait_for(lambda: page.execute_script(f"return {node}?.title") == name, 30, "the subgraph is not there")
    names = page.execute_script(f"return {node}.inputs.map(i => i.name)")
    assert names[:6] == ["image", "degradation", "model", "vae", "conditioning", "severity_encoder"]
    assert page.execute_script(f"return {node}.subgraph.nodes.length") == len(
        data["definitions"]["subgraphs"][0]["nodes"]
    )
    widgets = page.execute_script(f"return {node}.widgets.map(w => w.name)")
    assert len(widgets) == 3
    shoot(page, f"{name}, loaded")
