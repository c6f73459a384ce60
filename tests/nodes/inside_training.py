"""Run by ComfyUI's interpreter, ComfyUI importable: the training node inside the host, as JSON on stdout."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inside_tools import REPOSITORY, digest, distance, module_at, native, pack, tell  # first: makes this a ComfyUI

# isort: split
import comfy.model_management
import comfy.utils
import folder_paths
import torch
from safetensors.torch import load_file

import nodes as host_nodes

models = module_at("models of the tests", REPOSITORY / "tests" / "models.py")
taesd = module_at("taesd of the tests", REPOSITORY / "tests" / "taesd.py")
ROOT = Path(tempfile.mkdtemp())
SETTINGS: dict[str, Any] = {
    "folder": "photos", "family": "missing-pixels", "noise_std": 0.05, "steps": 6, "batch": 2, "size": 64, "seed": 1,
    "file_name": "mine", "overwrite": False, "validate_every": 3, "reuse": 2,
}  # fmt: skip


class Bar:
    """The host's progress hook: keeps what it is told of six steps, and presses Cancel at one of them."""

    def __init__(self, cancel_at: int = 0):
        self.values: list[int] = []
        self.previews: list[tuple[int, int]] = []
        self.cancel_at = cancel_at

    def __call__(self, value: int, total: int, preview: Any, node_id: Any = None) -> None:
        if preview is not None:
            self.previews.append(preview[1].size)
        if total != SETTINGS["steps"]:  # of the photos that are read first
            return
        self.values.append(value)
        if value == self.cancel_at:
            comfy.model_management.interrupt_current_processing()


def set_up(name: str) -> Path:
    """Folders of the host of their own, with photos; gives models/severity_encoders."""
    root = ROOT / name
    models.draw_photos(root / "input" / "photos", 21, 70, 80)
    folder_paths.set_input_directory(str(root / "input"))
    folder_paths.set_temp_directory(str(root / "temp"))
    folder_paths.models_dir = str(root / "models")
    folder_paths.folder_names_and_paths.pop("severity_encoders", None)
    pack("nodes.load").register_model_folder()
    return root / "models" / "severity_encoders"


def bundled_vae() -> Any:
    return pack("nodes.load").LoadDiffusers.execute("flowers-128 (bundled)").result[1]


def tiny_vae(name: str) -> Any:
    folder_paths.add_model_folder_path("vae_approx", str(taesd.find_taesd()))
    return host_nodes.VAELoader().load_vae(name)[0]


def run(vae: Any, bar: Bar, **changes: Any) -> Any:
    comfy.utils.set_progress_bar_global_hook(bar)
    try:
        return pack("nodes.train").TrainSeverityEncoder.execute(vae, **{**SETTINGS, **changes}).result
    finally:
        comfy.utils.set_progress_bar_global_hook(None)


def trained(name: str, make: Callable[[], Any]) -> dict[str, Any]:
    """Six steps on a VAE of the host, and what the encoder then says."""
    folder, bar = set_up(name), Bar()
    with torch.inference_mode():
        vae = make()
        vae.encode(torch.rand(1, 64, 64, 3))  # loaded
        before, state = digest(vae.first_stage_model), torch.random.get_rng_state()
        encoder, plot = run(vae, bar)
        untouched = bool(torch.equal(state, torch.random.get_rng_state()))
        image = models.drawn_batch(2, 70, 61).movedim(1, -1)
        severity, latent, _ = pack("nodes.severity").EncodeSeverity.execute(image, vae, encoder).result
        again = pack("nodes.load").HostSeverityEncoder.load(folder / "mine.safetensors")
        same = pack("nodes.severity").EncodeSeverity.execute(image, vae, again).result[1]
        padded = models.drawn_batch(2, 70, 61)
        factor = encoder.space.factor
        frozen = vae.encode(pack("adapt_diffuse.padding").pad_to_multiple(padded, factor).movedim(1, -1))
        return {
            "files": sorted(path.name for path in folder.iterdir()),
            "values": bar.values,
            "previews": bar.previews,
            "plot": list(plot.shape),
            "plot_spread": float(plot.std()),
            "unchanged": before == digest(vae.first_stage_model),
            "untouched": untouched,
            "inference_mode": torch.is_inference_mode_enabled(),
            "sigma_hat": severity.sigma_hat.tolist(),
            "latent": list(latent["samples"].shape),
            "from_frozen": distance(latent["samples"], frozen),
            "reloaded": distance(latent["samples"], same["samples"]),
            "space": [encoder.space.channels, factor, encoder.space.scale, encoder.space.shift],
            "notes": encoder.encoder.notes["training"],
        }


def cancelled() -> dict[str, Any]:
    """Cancel twice and queue again; the weights of the end against those without Cancel."""
    whole = set_up("whole")
    with torch.inference_mode():
        vae = bundled_vae()
        run(vae, Bar())
        expected = load_file(whole / "mine.safetensors")
        folder, starts = set_up("cancelled"), []
        for step in (1, 3):  # the host always shows the first step, and one with a preview
            bar = Bar(cancel_at=step)
            try:
                run(vae, bar)
                starts.append("not cancelled")
            except comfy.model_management.InterruptProcessingException:
                starts.append(sorted(path.name for path in folder.iterdir()))
            assert torch.is_inference_mode_enabled()
        bar = Bar()
        run(vae, bar)
        found = load_file(folder / "mine.safetensors")
        return {
            "files_after_cancel": starts,
            "went_on_at": [value for value in bar.values if value][0],
            "files": sorted(path.name for path in folder.iterdir()),
            "same": all(torch.equal(found[key], expected[key]) for key in expected),
        }


def refusals() -> dict[str, str]:
    folder = set_up("refusals")
    found: dict[str, str] = {}
    errors = pack("adapt_diffuse.errors").AdaptDiffuseError
    with torch.inference_mode():
        vae, host = bundled_vae(), native(True)

        def refused(name: str, vae: Any, **changes: Any) -> None:
            try:
                run(vae, Bar(), **{"steps": 1, **changes})
                found[name] = "no error"
            except errors as error:
                found[name] = str(error)

        for number, name in enumerate(("../mine", "a/b", "a\\b", "", ".hidden", "/tmp/mine", "c:mine")):
            refused(f"name {number}", vae, file_name=name)
        refused("folder", vae, folder="../photos")
        refused("relative path", vae, path="photos")
        refused("file as path", vae, path=str(folder_paths.get_input_directory()) + "/photos/photo-0.png")
        refused("no photos", vae, folder="(the input folder itself)")
        refused("ranges", vae, ranges="drop_min=2")
        refused("option", vae, ranges="std_min=1")
        refused("size", vae, size=66)
        refused("unknown scale", host.vae)
        run(vae, Bar(), steps=1)
        before = (folder / "mine.safetensors").read_bytes()
        refused("exists", vae, steps=1)
        found["kept"] = str((folder / "mine.safetensors").read_bytes() == before)
        run(vae, Bar(), steps=1, seed=2, overwrite=True)
        found["replaced"] = str((folder / "mine.safetensors").read_bytes() != before)
        try:
            run(vae, Bar(cancel_at=3), file_name="other")
        except comfy.model_management.InterruptProcessingException:
            refused("other settings", vae, file_name="other", seed=3)
        refused("overwrite unfinished", vae, file_name="other", seed=3, overwrite=True)
    return found


def with_model() -> dict[str, Any]:
    """The scale that the MODEL tells, for a VAE of the host's own kind, and one that is not the model's."""
    set_up("model")
    with torch.inference_mode():
        host = native(True)
        encoder, _ = run(host.vae, Bar(), model=host.model, steps=2)
        found: dict[str, Any] = {"space": [encoder.space.scale, encoder.space.shift, encoder.space.factor]}
        if taesd.find_taesd():
            try:
                run(tiny_vae("taesd3"), Bar(), model=host.model, file_name="third")
            except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
                found["channels"] = str(error)
    return found


def spaces() -> dict[str, Any]:
    """The latent spaces of the host's tiny autoencoders against those of the command line's."""
    found = {}
    encoders, tiny = pack("adapt_diffuse.hosts.comfy_encoder"), pack("adapt_diffuse.tiny_autoencoder")
    measured = pack("adapt_diffuse.autoencoder")
    with torch.inference_mode():
        for name in tiny.TINY:
            host = encoders.host_latent_space(tiny_vae(name))
            with torch.inference_mode(False):
                own = measured.latent_space_of(tiny.load_tiny_encoder(taesd.find_taesd() / f"{name}{tiny.ENCODER}"))
            difference = distance(torch.tensor(host.fingerprint), torch.tensor(own.fingerprint))
            numbers = [[s.channels, s.factor, s.scale, s.shift] for s in (host, own)]
            found[name] = {"difference": difference, "numbers": numbers}
    return found


def fingerprints() -> list[bool]:
    """Whether a training is asked for anew: nothing changed, a photo came, one came and nothing may be overwritten."""
    set_up("fingerprints")
    node, folder = pack("nodes.train").TrainSeverityEncoder, Path(folder_paths.get_input_directory()) / "photos"

    def told(**changes: Any) -> list[str]:
        settings = {**SETTINGS, **changes}
        first = node.fingerprint_inputs(**settings)
        models.draw_photos(folder / f"more {len(list(folder.iterdir()))}", 1, 70, 80)
        return [first, node.fingerprint_inputs(**settings)]

    again = [node.fingerprint_inputs(**{**SETTINGS, "overwrite": True}) for _ in range(2)]
    pairs = [again, told(overwrite=True), told(), told(overwrite=True, folder="none"), told(overwrite=None)]
    return [first != second for first, second in pairs]


REPORTS: dict[str, Callable[[], Any]] = {
    "bundled": lambda: trained("bundled", bundled_vae),
    "cancelled": cancelled,
    "refusals": refusals,
    "with_model": with_model,
    "taesd": lambda: trained("taesd", lambda: tiny_vae("taesd")),
    "taef1": lambda: trained("taef1", lambda: tiny_vae("taef1")),
    "spaces": spaces,
    "fingerprints": fingerprints,
}

if __name__ == "__main__":
    tell(REPORTS)
