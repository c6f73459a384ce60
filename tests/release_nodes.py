"""Record what saved workflows may rely on from now on: ``python -m tests.release_nodes``, with ComfyUI at hand.

Adds new nodes and appended inputs to tests/nodes/released_nodes.json, and the example workflows to
tests/workflows/VERSION. Never alters what is there: a change that would break saved workflows is told, and nothing is
written. ``--alter NODE ...`` records a node anew that nobody can have saved yet.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.comfyui import REPOSITORY, ComfyServer
from tests.graph import WORKFLOWS as EXAMPLES
from tests.released import SNAPSHOT, WORKFLOWS, Nodes, breaks, read_snapshot, snapshot_of, unrecorded


def version() -> str:
    """That of pyproject.toml."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (found,) = re.findall(r'^version = "(.+)"$', text, flags=re.MULTILINE)
    return found


def recorded(released: Nodes, now: Nodes, altered: list[str]) -> Nodes:
    """``released`` with what is new, and the nodes ``altered`` as they are today."""
    kept = {name: node for name, node in released.items() if name not in altered}
    return dict(sorted({**kept, **{name: now[name] for name in now}}.items()))


def keep_examples(folder: Path) -> list[str]:
    """Copy the example workflows that ``folder`` lacks; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    new = [path for path in EXAMPLES if not (folder / path.name).exists()]
    for path in new:
        shutil.copyfile(path, folder / path.name)
    return [path.name for path in new]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alter", nargs="+", default=[], metavar="NODE", help="node ids to record anew")
    altered = parser.parse_args().alter
    with tempfile.TemporaryDirectory() as folder, ComfyServer(Path(folder)) as comfy:
        now, replacements = snapshot_of(comfy.get("/object_info")), comfy.get("/node_replacements")
    released = read_snapshot() if SNAPSHOT.exists() else {}
    held = {name: node for name, node in released.items() if name not in altered}
    if sentences := breaks(held, now, replacements):
        print(*sentences, "Nothing was written: a change like these needs a new node id.", sep="\n", file=sys.stderr)
        return 1
    print("new:", ", ".join(unrecorded(held, now)) or "nothing")
    SNAPSHOT.write_text(json.dumps(recorded(released, now, altered), indent=1) + "\n", encoding="utf-8")
    print("workflows:", ", ".join(keep_examples(WORKFLOWS / version())) or "no new ones")
    return 0


if __name__ == "__main__":
    sys.exit(main())
