"""Run by ComfyUI's interpreter, ComfyUI importable: the folders of the user that the nodes read, as JSON on stdout."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inside_tools import native, pack, tell  # first: it makes this process a ComfyUI

# isort: split

import folder_paths
import torch

from adapt_diffuse.bundled import default_encoder


def samples(user: str) -> list[list[str]]:
    """The photos in the input folder at three starts: the first, the one after a deletion, that of a later version."""
    root, load = Path(tempfile.mkdtemp()), pack("nodes.load")
    (root / "input").mkdir()
    if user == "folder":
        (root / "user").mkdir()
    if user == "file":
        (root / "user").write_text("")
    folder_paths.set_input_directory(str(root / "input"))
    folder_paths.set_user_directory(str(root / "user"))
    found, known = [], dict(load.SAMPLE_PHOTOS)
    (later, source), deleted = known.popitem(), next(iter(known))
    load.SAMPLE_PHOTOS = dict(known)
    (root / "input" / deleted).write_text("the user's own")
    load.offer_sample_photos()
    own = (root / "input" / deleted).read_text(errors="replace")
    found.append([own[:20], *listed(root)])
    (root / "input" / deleted).unlink()
    load.offer_sample_photos()
    found.append(listed(root))
    load.SAMPLE_PHOTOS = {**known, later: source}
    load.offer_sample_photos()
    found.append(listed(root))
    return found


def listed(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "input").iterdir())


def listed_models() -> list[str]:
    root = Path(tempfile.mkdtemp())
    for name, told in {
        "faces": json.dumps({"_class_name": "UNet2DModel"}),
        "text to image": json.dumps({"_class_name": "UNet2DConditionModel"}),
        "half": '{"_class_name": "UNet2D',
        "a list": "[]",
        "nothing": "",
    }.items():
        (root / name / "unet").mkdir(parents=True)
        (root / name / "unet" / "config.json").write_text(told)
    folder_paths.add_model_folder_path("diffusers", str(root))
    return pack("nodes.load").model_names()


def typed_paths() -> dict[str, str]:
    root = Path(tempfile.mkdtemp()) / "my photos"
    root.mkdir()
    folder = pack("nodes.train").photo_folder
    found = {}
    for quoted in ("{}", '"{}"', "'{}'", ' "{}" '):
        found[quoted] = str(folder("photos", quoted.format(root)) == root)
    try:
        folder("photos", '"relative"')
    except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
        found["relative"] = str(error)
    return found


def calibrated_on_a_mask() -> dict[str, str]:
    """What Calibrate Severity says where the damage is a mask and nothing tells the photo's size."""
    found, node = {}, pack("nodes.calibrate").CalibrateSeverity
    with torch.inference_mode():
        host, mask = native(True), torch.zeros(1, 64, 96)
        mask[:, 10:30, 10:30] = 1
        lost = pack("nodes.degradation").MissingPixelsNode.execute(0.5, 0, 0.05, mask).result[0]
        for name, image in (("without", None), ("with", torch.full((1, 64, 96, 3), 0.5))):
            try:
                node.execute(host.model, host.vae, lost, None, image)
                found[name] = "no error"
            except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
                found[name] = str(error)
    return found


def fingerprints() -> list[bool]:
    """Whether a loader whose encoder comes from another node is to run again: as it was, and after a training."""
    load, folder = pack("nodes.load"), Path(tempfile.mkdtemp())
    load.register_model_folder()
    folder_paths.add_model_folder_path(load.ENCODER_FOLDER, str(folder), is_default=True)
    told = [load.LoadSeverityEncoder.fingerprint_inputs(None) for _ in range(2)]
    (folder / "mine.safetensors").write_text("")
    told.append(load.LoadSeverityEncoder.fingerprint_inputs(None))
    return [one != before for before, one in zip(told, told[1:], strict=False)]


def missing_libraries() -> dict[str, str]:
    """What is said where a library that a node needs is not there."""
    names, damage = ("diffusers", "kornia"), pack("adapt_diffuse.degradation").Jpeg(20, 0.0)
    before, found = {name: sys.modules.get(name) for name in names}, {}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        for node, run in {
            "model": lambda: pack("nodes.load").LoadDiffusers.execute(pack("nodes.load").model_names()[0]),
            "encoder": lambda: pack("nodes.load").LoadSeverityEncoder.execute(
                f"{default_encoder('jpeg').stem} (bundled)"
            ),
            "jpeg": lambda: pack("nodes.degradation").ApplyDegradation.execute(torch.rand(1, 48, 48, 3), damage, 0),
        }.items():
            try:
                run()
                found[node] = "no error"
            except Exception as error:
                found[node] = f"{type(error).__name__}: {error}"
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
    return found


REPORTS: dict[str, Callable[[], Any]] = {
    "samples": lambda: samples("folder"),
    "samples-without-user": lambda: samples("none"),
    "samples-unwritable": lambda: samples("file"),
    "models": listed_models,
    "paths": typed_paths,
    "mask": calibrated_on_a_mask,
    "fingerprints": fingerprints,
    "missing libraries": missing_libraries,
}

if __name__ == "__main__":
    tell(REPORTS)
