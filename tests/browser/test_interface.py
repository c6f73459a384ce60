"""What an artist sees of the pack in ComfyUI's real page: the search, the languages, the help."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.browser.page import READY, wait_for
from tests.browser.test_browser import comfy, page, shoot  # noqa: F401 (fixtures)
from tests.comfyui import ComfyServer
from tests.locales import FOLDER, read

pytestmark = [pytest.mark.comfyui, pytest.mark.browser, pytest.mark.slow]
FOUND = {  # what is typed, and a node of ours that must be on the list
    "deblur": "Restore Photo",
    "restore": "Restore Photo",
    "denoise": "Restore Photo",
    "old photo": "Missing Pixels (degradation)",
    "scratch": "Missing Pixels (degradation)",
    "jpeg": "JPEG (degradation)",
    "upscale": "Downscale (degradation)",
}
SEARCH = "input[placeholder]"
ITEMS = "[data-testid='result-item']"


def type_into_search(page: Any, words: str) -> list[str]:  # noqa: F811
    """The titles that the page's node search lists."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    box = next(one for one in page.find_elements(By.CSS_SELECTOR, SEARCH) if one.is_displayed())
    box.send_keys(Keys.CONTROL + "a")
    box.send_keys(words)
    time.sleep(1.5)
    return page.execute_script(f"return [...document.querySelectorAll({json.dumps(ITEMS)})].map(one => one.innerText)")


def test_the_search_finds_our_nodes_under_the_words_of_an_artist(page: Any) -> None:  # noqa: F811
    page.execute_script("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    time.sleep(1)
    missed = {}
    for words, title in FOUND.items():
        listed = type_into_search(page, words)
        if not any(row.startswith(title) for row in listed):
            missed[words] = listed
    shoot(page, "search")
    page.execute_script("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    assert missed == {}


def in_language(comfy: ComfyServer, page: Any, language: str) -> None:  # noqa: F811
    comfy.post("/settings", {"Comfy.Locale": language})
    page.refresh()
    wait_for(lambda: page.execute_script(READY), 120, "ComfyUI's page did not load")
    time.sleep(2)


def shown_node(page: Any) -> dict[str, Any]:  # noqa: F811
    """Title, socket and widget labels of a fresh Gaussian Blur and Restore Photo."""
    page.execute_script("""
        app.graph.clear();
        for (const [kind, x] of [['AdaptDiffuseRestorePhoto', 60], ['AdaptDiffuseGaussianBlur', 560]]) {
            const node = LiteGraph.createNode(kind); node.pos = [x, 140]; app.graph.add(node);
        }
        app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0]; app.canvas.setDirty(true, true);""")
    time.sleep(1)
    return page.execute_script("""
        const node = app.graph.nodes.find(one => one.type == 'AdaptDiffuseRestorePhoto');
        return {title: node.title, image: node.inputs.find(one => one.name == 'image').localized_name,
                fidelity: node.widgets.find(one => one.name == 'fidelity').label,
                report: node.outputs.find(one => one.name == 'report').localized_name};""")


@pytest.mark.parametrize("language", ["zh", "ja", "fr"])
def test_the_nodes_speak_the_language_of_the_page(comfy: ComfyServer, page: Any, language: str) -> None:  # noqa: F811
    in_language(comfy, page, language)
    seen = shown_node(page)
    shoot(page, f"in {language}")
    words = read(FOLDER / language / "nodeDefs.json")["AdaptDiffuseRestorePhoto"]
    assert seen == {
        "title": words["display_name"],
        "image": words["inputs"]["image"]["name"],
        "fidelity": words["inputs"]["fidelity"]["name"],
        "report": words["outputs"]["2"]["name"],
    }


def test_german_is_ready_and_english_until_the_page_has_it(comfy: ComfyServer, page: Any) -> None:  # noqa: F811
    """The host has no German interface yet; asked for one it takes English, and our German waits on its server."""
    in_language(comfy, page, "de")
    seen = shown_node(page)
    shoot(page, "in de")
    served = comfy.get("/i18n")["de"]["nodeDefs"]["AdaptDiffuseRestorePhoto"]
    assert served["display_name"] == "Foto wiederherstellen"
    assert seen["title"] in ("Restore Photo", served["display_name"])
