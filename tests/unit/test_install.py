"""What ComfyUI-Manager runs: it says what is missing and changes nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import install

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture
def pack(tmp_path):
    """A pack in the custom_nodes of a ComfyUI, without its weights."""
    folder = tmp_path / "ComfyUI" / "custom_nodes" / "my pack"
    folder.mkdir(parents=True)
    return folder


def host(pack, version):
    (pack.parents[1] / "comfyui_version.py").write_text(f'# made by hand\n__version__ = "{version}"\n')


def test_versions_are_read_up_to_what_is_no_number():
    assert install.numbers("2.11.0+cu128") == (2, 11, 0)
    assert install.numbers("0.33") == (0, 33)
    assert install.numbers("v0.25.1") == (0, 25, 1)
    assert install.numbers("unknown") == ()


def test_the_hosts_version_is_found(pack, tmp_path):
    assert install.comfyui_version(pack) is None
    host(pack, "0.33.1")
    assert install.comfyui_version(pack) == "0.33.1"


@pytest.mark.parametrize(
    ("version", "told"), [("0.24.9", True), ("0.25.0", False), ("0.33.1", False), ("1.0.0", False)]
)
def test_an_old_comfyui_is_named(pack, version, told):
    host(pack, version)
    sentence = f"ComfyUI {version} is older than 0.25.0: update ComfyUI."
    assert (sentence in install.problems(pack)) == told


def test_missing_weights_are_named(pack):
    assert "The bundled weights are missing: clone the repository again." in install.problems(pack)
    (pack / "weights").mkdir()
    (pack / "weights" / "manifest.json").write_text("{}")
    assert install.problems(pack) == []  # this environment has everything else


def test_a_missing_or_old_package_is_named_with_advice():
    (missing,) = install.check_package("no-such-package-anywhere", (1,), "do this.")
    assert missing == "no-such-package-anywhere is missing: do this."
    (old,) = install.check_package("torch", (99,), "update it.")
    assert re.fullmatch(r"torch \S+ is older than 99: update it\.", old)
    assert install.check_package("torch", install.TORCH, "") == []


def test_a_diffusers_that_does_not_load_is_named(monkeypatch):
    assert install.check_diffusers("do this") == []
    monkeypatch.setitem(sys.modules, "diffusers", None)
    (told,) = install.check_diffusers("do this")
    assert told.startswith("diffusers does not load (") and told.endswith("): do this --upgrade")


@pytest.mark.parametrize("whole", [True, False])
def test_it_runs_by_itself_and_leaves_nothing(pack, whole):
    shutil.copy(ROOT / "install.py", pack)
    if whole:
        (pack / "weights").mkdir()
        (pack / "weights" / "manifest.json").write_text("{}")
    before = sorted(pack.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(pack / "install.py")], cwd=pack, capture_output=True, text=True, check=False
    )
    said = "everything it needs is here." if whole else "The bundled weights are missing: clone the repository again."
    assert (done.returncode, done.stdout, done.stderr) == (0 if whole else 1, f"Adapt & Diffuse: {said}\n", "")
    assert sorted(pack.rglob("*")) == before


def test_advice_with_letters_that_the_console_lacks_is_still_told(pack):
    folder = pack.parent / "\u65e5\u672c"
    folder.mkdir()
    code = (ROOT / "install.py").read_text(encoding="utf-8")
    (folder / "install.py").write_text(re.sub(r"\(0, 32\)", "(99,)", code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(folder / "install.py")],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "\\u65e5\\u672c" in done.stdout
    assert "is older than 99: run" in done.stdout


@pytest.mark.parametrize(("folder", "told"), [("python_embeded", True), (".venv", False)])
def test_the_portable_build_keeps_apart_from_another_python(pack, monkeypatch, folder, told):
    monkeypatch.setattr(install, "DIFFUSERS", (99,))
    monkeypatch.setattr(sys, "executable", str(Path("ComfyUI") / folder / "python.exe"))
    (advice,) = [sentence for sentence in install.problems(pack) if "diffusers" in sentence]
    assert ('python.exe" -s -m pip install' in advice) == told
    assert ('python.exe" -m pip install' in advice) != told


def test_it_asks_for_the_versions_of_the_package():
    assert f'requires-python = ">={install.dotted(install.PYTHON)}"' in PYPROJECT
    assert f'requires-comfyui = ">={install.dotted(install.COMFYUI)}"' in PYPROJECT
    assert f'"torch>={install.dotted(install.TORCH)}"' in PYPROJECT
    assert f'dependencies = ["diffusers>={install.dotted(install.DIFFUSERS)}"]' in PYPROJECT


def test_the_host_keeps_its_own_torch():
    wanted = [
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    ]
    assert [line for line in wanted if line] == [
        f"diffusers>={install.dotted(install.DIFFUSERS)}",
        "transformers>=4.50.3",  # which every host has
        f"kornia>={install.dotted(install.KORNIA)}",  # so does this, perhaps an older one
    ]
