"""The help pages of the nodes: whole, with pictures that are there and small, and with links that lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.help_pictures import PICTURES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NODES = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_every_node_has_a_page_and_every_page_a_node() -> None:
    assert {page.stem for page in PAGES} == set(NODES)


@every_page
def test_a_page_names_its_node_and_every_input(page: Path) -> None:
    text, node = page.read_text(encoding="utf-8"), NODES[page.stem]
    assert text.startswith(f"# {node['display_name']}\n")
    assert re.search(r"^## Inputs?$", text, re.M) and re.search(r"^## Outputs?$", text, re.M)
    told = {name for row in re.findall(r"\*\*(.+?)\*\*", text) for name in row.split(", ")}
    inputs = {key: entry["name"] for key, entry in node["inputs"].items()}
    assert [name for key, name in inputs.items() if not {key, name, name.split(" (")[0]} & told] == []


@every_page
def test_a_page_leads_on_to_nodes_that_exist(page: Path) -> None:
    (also,) = re.findall(r"^## See also\n\n(.+)$", page.read_text(encoding="utf-8"), re.M)
    named = re.findall(r"\*(.+?)\*", also)
    assert set(named) & {node["display_name"] for node in NODES.values()}  # beside names of papers


@every_page
def test_its_pictures_are_there_and_small(page: Path) -> None:
    for words, name in re.findall(r"!\[(.*?)\]\((.+?)\)", page.read_text(encoding="utf-8")):
        assert words and "/" not in name  # the host looks beside the page
        assert (DOCS / name).stat().st_size < 60_000
        with Image.open(DOCS / name) as picture:
            assert picture.format == "JPEG" and picture.width <= 800


def test_no_picture_is_left_over_and_all_are_a_small_download() -> None:
    shown = {name for page in PAGES for name in re.findall(r"!\[.*?\]\((.+?)\)", page.read_text(encoding="utf-8"))}
    pictures = [path for path in DOCS.iterdir() if path.suffix != ".md"]
    assert {path.name for path in pictures} == shown
    assert {f"{name}.jpg" for name in PICTURES} <= shown
    assert sum((DOCS / f"{name}.jpg").stat().st_size for name in PICTURES) < 700_000
