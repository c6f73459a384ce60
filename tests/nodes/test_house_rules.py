"""Who may import whom; needs no host."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui import REPOSITORY

HOST = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "server", "execution", "nodes", "latent_preview"}
PACKAGE = sorted((REPOSITORY / "adapt_diffuse").rglob("*.py"))
NODES = sorted((REPOSITORY / "nodes").glob("*.py"))


def imports(path: Path, functions_too: bool = True) -> Iterator[tuple[str, int]]:
    """Top-level names of the modules that a file imports, with their relative level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in inside and not functions_too:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0], node.level


@pytest.mark.parametrize("path", [*PACKAGE, *NODES], ids=lambda path: path.stem)
def test_numbers_are_widened_on_the_cpu(path: Path) -> None:
    # not every device has float64 (Apple's have not)
    assert not re.findall(r"\.double\(\)(?:\.\w+\([^()]*\))*\.cpu\(\)", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_the_method_does_not_know_the_host(path: Path) -> None:
    of_the_host = path.parent.name == "hosts" and path.stem.startswith("comfy")
    found = {name for name, level in imports(path, functions_too=not of_the_host) if level == 0}
    assert not found & HOST


@pytest.mark.parametrize("path", [*PACKAGE, *NODES], ids=lambda path: path.stem)
def test_imports_of_our_own_are_relative(path: Path) -> None:
    assert "adapt_diffuse" not in {name for name, level in imports(path) if level == 0}


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.stem)
def test_nodes_reach_the_host_through_its_public_doors_alone(path: Path) -> None:
    found = {name for name, level in imports(path) if level == 0}
    assert found & HOST <= {"comfy_api", "folder_paths"}


def test_everything_imports_without_a_host() -> None:
    names = [f"adapt_diffuse.hosts.{path.stem}" for path in PACKAGE if path.parent.name == "hosts"]
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {names}]; assert 'comfy' not in sys.modules"
    )
    code += "; assert not {'diffusers', 'kornia', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)  # noqa: S603
