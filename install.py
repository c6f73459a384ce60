"""Run by ComfyUI-Manager after the pack is cloned: says in plain words what is missing. Installs nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PYTHON, TORCH, COMFYUI, DIFFUSERS, PILLOW, KORNIA = (3, 10), (2, 6), (0, 25, 0), (0, 32), (10, 1), (0, 7, 3)


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.11.0+cu128" is (2, 11, 0)."""
    found = []
    for part in text.split("+")[0].split("."):
        digits = "".join(character for character in part if character.isdigit())
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)


def dotted(wanted: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in wanted)


def check_package(name: str, wanted: tuple[int, ...], advice: str) -> list[str]:
    try:
        found = version(name)
    except PackageNotFoundError:
        return [f"{name} is missing: {advice}"]
    if numbers(found) < wanted:
        return [f"{name} {found} is older than {dotted(wanted)}: {advice}"]
    return []


def check_diffusers(advice: str) -> list[str]:
    """Whether what the pack needs of it can be imported: its own dependencies may be of other versions."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from diffusers import AutoencoderDC, UNet2DModel  # noqa: F401
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return [f"diffusers does not load ({said}): {advice} --upgrade"]
    return []


def comfyui_version(start: Path) -> str | None:
    """The version of the ComfyUI whose custom_nodes holds ``start``; None outside of one."""
    for folder in start.resolve().parents:
        file = folder / "comfyui_version.py"
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.startswith("__version__"):
                    return line.split("=")[1].strip().strip("\"'")
    return None


def problems(folder: Path) -> list[str]:
    """One sentence for everything that keeps the pack in ``folder`` from working."""
    found = []
    if sys.version_info < PYTHON:
        found.append(f"Python {sys.version.split()[0]} is older than {dotted(PYTHON)}: use ComfyUI's newer Python.")
    found += check_package("torch", TORCH, "update ComfyUI's own PyTorch.")
    # the portable build's Python is alone with what is in its folder only where -s is told
    alone = " -s" if Path(sys.executable).parent.name == "python_embeded" else ""
    advice = f'run "{sys.executable}"{alone} -m pip install -r "{folder / "requirements.txt"}"'
    found += check_package("diffusers", DIFFUSERS, advice) or check_diffusers(advice)
    found += check_package("kornia", KORNIA, advice)  # older ones have no JPEG of any size
    found += check_package("pillow", PILLOW, "update ComfyUI's own requirements.")
    for module in ("safetensors", "numpy", "einops"):
        if importlib.util.find_spec(module) is None:
            found.append(f"{module} is missing: update ComfyUI's own requirements.")
    host = comfyui_version(folder)
    if host is not None and numbers(host) < COMFYUI:
        found.append(f"ComfyUI {host} is older than {dotted(COMFYUI)}: update ComfyUI.")
    if not (folder / "weights" / "manifest.json").is_file():
        found.append("The bundled weights are missing: clone the repository again.")
    return found


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # folders have letters that some consoles cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    folder = Path(__file__).resolve().parent
    found = problems(folder)
    for sentence in found:
        print(f"Adapt & Diffuse: {sentence}")
    if not found:
        print("Adapt & Diffuse: everything it needs is here.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
