"""A real ComfyUI for tests: found, started on a free port with folders of its own, asked over HTTP, stopped."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PACK_NAME = "Adapt & Diffuse - a copy"  # users rename folders; imports must not care
# threads that spin while they wait make a busy machine three times slower
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
START_SECONDS, PROMPT_SECONDS = 300, 600


def find_comfyui() -> tuple[Path, Path] | str:
    """ComfyUI's folder and its Python, or the sentence that says why there is none."""
    in_custom_nodes = REPOSITORY.parent.parent if REPOSITORY.parent.name == "custom_nodes" else None
    given = os.environ.get("COMFYUI_PATH")
    candidates = [Path(given)] if given else [path for path in (in_custom_nodes, Path.home() / "ComfyUI") if path]
    for root in candidates:
        if not (root / "comfyui_version.py").is_file():
            continue
        own = (root / ".venv/bin/python", root / "venv/bin/python", root / ".venv/Scripts/python.exe")
        for python in (os.environ.get("COMFYUI_PYTHON"), *own, sys.executable):
            if python and Path(python).exists():
                return root, Path(python)
    where = " or ".join(str(path) for path in candidates)
    return f"No ComfyUI in {where}: set COMFYUI_PATH (and COMFYUI_PYTHON, its interpreter) to run these tests."


@functools.cache
def find_emulating_comfyui() -> tuple[Path, Path] | str:
    """As ``find_comfyui``, one whose torch can emulate a second device (tests/second_device.py)."""
    if isinstance(found := find_comfyui(), str):
        return found
    asked = "from torch.utils import backend_registration as b; b._setup_privateuseone_for_python_backend"
    done = subprocess.run([str(found[1]), "-c", asked], capture_output=True, check=False)  # noqa: S603
    return found if done.returncode == 0 else "ComfyUI's torch cannot emulate a device: it is too old."


def run_inside(script: Path, *arguments: str) -> str:
    """Run a script by ComfyUI's interpreter, ComfyUI and this repository importable; its standard output.

    Raises:
        AssertionError: it failed; the message has its errors.
    """
    found = find_comfyui()
    assert not isinstance(found, str), found
    root, python = found
    environment = {**PATIENT, **os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(REPOSITORY)])}
    done = subprocess.run(  # noqa: S603
        [str(python), str(script), *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{script.name} failed:\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


def report_of(script: str, *arguments: str) -> dict[str, Any]:
    """What a script of tests/nodes that is run inside ComfyUI reports."""
    output = run_inside(REPOSITORY / "tests" / "nodes" / script, *arguments)
    (line,) = [line for line in output.splitlines() if line.startswith("REPORT ")]
    return json.loads(line.removeprefix("REPORT "))


class PromptFailed(AssertionError):
    """A prompt that the host refused or that stopped with an error; ``message`` is what the user reads."""

    def __init__(self, message: str, node: str = ""):
        super().__init__(message)
        self.message, self.node = message, node


class ComfyServer:
    """A running ComfyUI on the CPU with this repository as a node pack. Use as a context manager.

    Args:
        main: what is run, with ComfyUI's arguments after its own.
    """

    def __init__(self, folder: Path, pack_name: str = PACK_NAME, main: Sequence[str] = ("main.py",)):
        found = find_comfyui()
        assert not isinstance(found, str), found
        self.root, self.python = found
        self.main = main
        self.base = folder / "base"
        self.log = folder / "comfyui.log"
        for name in ("custom_nodes", "input", "output", "temp", "user", "models/severity_encoders", "models/diffusers"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        self.pack = self.base / "custom_nodes" / pack_name
        try:
            self.pack.symlink_to(REPOSITORY, target_is_directory=True)
        except OSError:  # Windows without the right to link
            shutil.copytree(REPOSITORY, self.pack, ignore=shutil.ignore_patterns(".git", "runs", "out", ".venv"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ComfyServer:
        command = [str(self.python), *self.main, "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.base), "--disable-auto-launch", "--disable-api-nodes"]
        command += ["--preview-method", "auto"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, cwd=self.root, stdout=log, stderr=subprocess.STDOUT, env={**PATIENT, **os.environ}
            )
        begin = time.monotonic()
        while True:
            try:
                self.get("/system_stats")
                return self
            except (urllib.error.URLError, OSError):
                ended = self.process.poll() is not None
                assert not ended and time.monotonic() - begin < START_SECONDS, "ComfyUI did not start:\n" + self.tail()
                time.sleep(0.5)

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text else None

    def run(self, prompt: dict[str, Any], seconds: float = PROMPT_SECONDS) -> dict[str, Any]:
        """Queue an API-format prompt and wait for it: the outputs by node id.

        Raises:
            PromptFailed: the host refused it, or a node raised.
        """
        return self.wait(self.queue(prompt), seconds)

    def queue(self, prompt: dict[str, Any]) -> str:
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})["prompt_id"]
        except urllib.error.HTTPError as error:
            raise PromptFailed(error.read().decode()) from None

    def wait(self, prompt_id: str, seconds: float = PROMPT_SECONDS) -> dict[str, Any]:
        begin = time.monotonic()
        while prompt_id not in (history := self.get(f"/history/{prompt_id}")):
            assert self.process.poll() is None, "ComfyUI ended:\n" + self.tail()
            assert time.monotonic() - begin < seconds, "the prompt takes too long:\n" + self.tail()
            time.sleep(0.25)
        entry = history[prompt_id]
        for kind, details in entry["status"]["messages"]:
            if kind == "execution_error":
                raise PromptFailed(details["exception_message"].strip(), details["node_type"])
            if kind == "execution_interrupted":
                raise PromptFailed("interrupted", details.get("node_type") or "")
        return entry["outputs"]

    def file_of(self, entry: dict[str, str]) -> Path:
        """The file of an image entry in a node's outputs."""
        return self.base / entry["type"] / entry["subfolder"] / entry["filename"]


MUTED, BYPASSED = 2, 4  # modes of a node in the page


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """A workflow of the UI's format as an API prompt: links by socket, widget values by position.

    Muted and bypassed nodes are left out, as the page does: what a bypassed one was given goes on in its place.
    """
    sources = {link[0]: source_of(workflow, link) for link in workflow["links"]}
    links = {number: found for number, found in sources.items() if found}
    prompt: dict[str, Any] = {}
    for node in workflow["nodes"]:
        if node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            assert node["type"] in ("MarkdownNote", "Note"), f"the host does not know {node['type']}"
            continue
        inputs = {
            socket["name"]: list(links[socket["link"]]) for socket in node["inputs"] if socket.get("link") in links
        }
        widgets = widget_names(object_info[node["type"]])
        inputs.update(dict(zip(widgets, node.get("widgets_values", []), strict=False)))
        for name, (kind, *_) in object_info[node["type"]]["input"].get("required", {}).items():
            if kind == "IMAGECOMPARE":  # a view without a value
                inputs[name] = ""
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": {name: value for name, value in inputs.items() if not name.startswith("control of ")},
        }
    return prompt


def source_of(workflow: dict[str, Any], link: list[Any]) -> tuple[str, int] | None:
    """Node and output that a link comes from in the end; None where that is muted, or a bypass leads to nothing."""
    _, source, slot, _, _, kind = link
    node = next((one for one in workflow["nodes"] if one["id"] == source), None)  # none is a subgraph's own input
    mode = node.get("mode", 0) if node else 0
    if mode == MUTED:
        return None
    if node is None or mode != BYPASSED:
        return str(source), slot
    opposite = [socket for socket in node["inputs"][slot : slot + 1] if socket["type"] == kind]
    same = opposite or [socket for socket in node["inputs"] if socket["type"] == kind]
    before = [one for one in workflow["links"] if same and one[0] == same[0]["link"]]
    return source_of(workflow, before[0]) if before else None


def widget_names(info: dict[str, Any]) -> list[str]:
    """The inputs of a node that are widgets, in the order in which a workflow stores their values."""
    names = []
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, *options = info["input"][group][name]
            settings = options[0] if options else {}
            if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
                names.append(name)
                # the page adds it to inputs of these names, too, unless told not to
                if settings.get("control_after_generate", name in ("seed", "noise_seed")):
                    names.append("control of " + name)
                if settings.get("image_upload"):
                    names.append("control of upload")
    return names
