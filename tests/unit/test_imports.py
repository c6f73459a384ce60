"""Who may import whom: the method knows no host, and starting is quick because heavy libraries wait."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "adapt_diffuse").rglob("*.py"))
PACK = [*PACKAGE, ROOT / "__init__.py", ROOT / "install.py", *sorted((ROOT / "nodes").rglob("*.py"))]
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
HEAVY = {"diffusers", "transformers", "kornia", "scipy", "skimage", "matplotlib"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """(top-level module, relative level, inside a function?) of every import in a file."""
    found = []

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.Import):
                found.extend((alias.name.split(".")[0], 0, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.append(((child.module or "").split(".")[0], child.level, inside))
            visit(child, deeper)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def test_there_is_something_to_check():
    assert len(PACKAGE) > 30
    assert ("comfy", 0, True) in imports(ROOT / "adapt_diffuse" / "hosts" / "comfy.py")


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_only_the_comfy_host_knows_comfy_and_only_inside_functions(path):
    is_host = path.parent.name == "hosts" and path.name.startswith("comfy")
    of_host = {(module, inside) for module, level, inside in imports(path) if level == 0 and module in HOST}
    assert not of_host or is_host
    assert of_host <= {("comfy", True), ("comfy_execution", True), ("server", True)}


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_nothing_of_the_method_imports_the_nodes(path):
    depth = len(path.relative_to(ROOT / "adapt_diffuse").parts)
    outside = [module for module, level, _ in imports(path) if level > depth]
    assert not outside


COMMAND_LINE = {"adapt_diffuse/cli.py", "adapt_diffuse/__main__.py"}


@pytest.mark.parametrize("path", PACK, ids=name_of)
def test_the_command_line_is_imported_by_itself_alone(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    own = path.parent.name == "commands" or name_of(path) in COMMAND_LINE
    assert own or not any("commands" in module.split(".") for module in modules)


@pytest.mark.parametrize("path", PACK, ids=name_of)
def test_the_pack_works_under_any_folder_name(path):
    absolute = [module for module, level, _ in imports(path) if level == 0 and module in {"adapt_diffuse", ROOT.name}]
    assert not absolute


@pytest.mark.parametrize("path", PACK, ids=name_of)
def test_heavy_libraries_wait_until_they_are_needed(path):
    at_import = {module for module, level, inside in imports(path) if level == 0 and not inside}
    assert not at_import & HEAVY


@pytest.mark.parametrize("path", PACK, ids=name_of)
def test_nothing_runs_foreign_code(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not {module for module, _, _ in imports(path)} & {"pickle", "subprocess", "marshal", "shelve", "ctypes"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        assert name not in {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
        if name == "torch.load":
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert options.get("weights_only") == "True"


def test_importing_the_whole_package_loads_no_host_and_nothing_heavy():
    script = f"""
import importlib, pkgutil, sys
import adapt_diffuse
for module in pkgutil.walk_packages(adapt_diffuse.__path__, "adapt_diffuse."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert len([name for name in sys.modules if name.startswith("adapt_diffuse.")]) > 30
print(sorted({HOST | HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
