"""What the Comfy Registry gets, by its rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def packed() -> set[str]:
    """The files that are published: those of git without those of .comfyignore, whose syntax is git's."""
    tracked = git("ls-files", "-z").split("\0")
    ignored = git("ls-files", "-z", "--cached", "--ignored", "--exclude-from=.comfyignore").split("\0")
    return set(tracked) - set(ignored) - {""}


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)  # noqa: S603, S607
    if done.returncode:
        pytest.skip("not a checkout of git")
    return done.stdout


def test_all_that_runs_is_packed_and_nothing_that_only_we_need() -> None:
    files = packed()
    folders = {name.split("/")[0] for name in files if "/" in name}
    needed = {"adapt_diffuse", "nodes", "weights", "web", "locales", "example_workflows", "assets", "docs"}
    assert folders - {"subgraphs"} == needed
    assert {"__init__.py", "install.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"} <= files
    assert {"assets/flower.jpg", "locales/de/nodeDefs.json", "web/docs/AdaptDiffuseLDPS.md"} <= files
    assert not {name for name in files if "phrases" in name or Path(name).name in ("draw.py", "banner.jpg")}


def test_links_between_packed_pages_lead_to_packed_files() -> None:
    files = packed()
    checked = 0
    for page in sorted(name for name in files if name.endswith(".md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8")):
            target = (ROOT / page).parent.joinpath(unquote(link)).resolve().relative_to(ROOT).as_posix()
            assert any(name == target or name.startswith(f"{target}/") for name in files), f"{page}: {link}"
            checked += 1
    assert checked > 20


def test_it_is_no_large_download() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in packed() if (ROOT / name).is_file()}
    assert sum(sizes.values()) < 80e6, sorted(sizes, key=lambda name: -sizes[name])[:5]


def test_icon_and_banner_have_the_shape_that_the_registry_asks_for() -> None:
    links = dict(re.findall(r'^(Icon|Banner) = "https://raw\.githubusercontent\.com/.+/main/(.+)"$', PROJECT, re.M))
    assert set(links) == {"Icon", "Banner"}
    with Image.open(ROOT / links["Icon"]) as icon, Image.open(ROOT / links["Banner"]) as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


def test_what_is_installed_is_named_once() -> None:
    """The Manager installs requirements.txt, pip the dependencies of pyproject.toml; the former beside a host."""
    (line,) = re.findall(r"^dependencies = \[(.*)\]$", PROJECT, re.M)
    written = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [row.strip() for row in written if row.strip() and not row.startswith("#")]
    assert [*re.findall(r'"(.+?)"', line), "transformers>=4.50.3", "kornia>=0.7.3"] == required
    assert re.search(r'^version = "\d+\.\d+\.\d+"$', PROJECT, re.M)
