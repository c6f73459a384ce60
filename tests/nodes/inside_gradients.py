"""Run by ComfyUI's interpreter: gradients of checkpoints on a second device, in each precision and way of loading."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

from inside_tools import Spy, bits_of, distance, photo, sample, tell  # first: it makes this process a ComfyUI

# isort: split
import hashlib

import comfy.model_management
import torch
from checkpoints import LAYOUTS, conditioning, load, save_checkpoint
from host_device import second_device, settle, take_for_plain

from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.comfy_model import HostModel
from adapt_diffuse.measurement import Measurement

FLOWS = ("sd3", "flux")
WAYS = ("NORMAL_VRAM", "NO_VRAM")


def take_away(model: Any, back: bool, args: dict[str, Any]) -> torch.Tensor:
    """After a pass of ``model`` the host makes room: everything else leaves its device; and comes ``back``.

    The host's ControlNets do so, in inference mode, where they encode their hint.
    """
    there = comfy.model_management.loaded_models(only_currently_used=True)
    for entry in list(comfy.model_management.current_loaded_models):
        if entry.model.model is not model.model:
            entry.model_unload()
            comfy.model_management.current_loaded_models.remove(entry)
    if back:
        comfy.model_management.load_models_gpu(there)
    return args["denoised"]


def run(name: str, through: str, there: bool, moving: str = "") -> dict[str, Any]:
    """Two steps of Latent-DPS: the first gradient, what came out, how the host had loaded the model."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = save_checkpoint(name, Path(folder))
        take_for_plain()
        with second_device.second_device() if there else nullcontext():
            model, vae = load(files)
            host = HostModel(model, vae, conditioning(files.layout))
            latent = torch.randn(1, LAYOUTS[name].channels, 8, 6, generator=torch.Generator().manual_seed(1))
            sigmas = torch.tensor([0.4, 0.2, 0.0] if name in FLOWS else [0.7, 0.3, 0.0])
            if moving:
                model.set_model_sampler_post_cfg_function(partial(take_away, model, moving == "there and back"))
            spy, before = Spy(through, eta=1.0), bits_of(host)
            try:
                out = sample(host, spy, Measurement.of(photo(), GaussianBlur(1.0, 0.05)), latent, sigmas, cfg=2.0)
                found.update(out=out.cpu(), gradient=spy.seen[0][2].cpu())
            except AdaptDiffuseError as error:
                found["refused"] = str(error)
            found["unchanged"] = before == bits_of(host)
            parameter = next(model.model.diffusion_model.parameters())
            found.update(dtype=str(parameter.dtype), in_part=bool(model.model.model_lowvram))
            found["device"] = torch.device(model.load_device).type
    return found


@cache
def on_the_cpu(name: str, through: str) -> dict[str, Any]:
    """In float32, before the host was told of another device."""
    return run(name, through, there=False)


def there(name: str, through: str, half: str, vram: str, moving: str = "") -> dict[str, Any]:
    expected = on_the_cpu(name, through)
    settle(8000, vram, half=half)
    found = run(name, through, there=True, moving=moving)
    for key in ("out", "gradient"):
        if key in found:
            found[f"{key}'s bits"] = hashlib.sha256(found[key].numpy().tobytes()).hexdigest()
            found[key] = distance(found[key], expected[key])
    return found


REPORTS: dict[str, Callable[[], Any]] = {
    f"{name} {through} {half} {vram}": partial(there, name, through, half, vram)
    for name in ("sd15", "flux")
    for through in ("denoiser", "decoder")
    for half in ("fp32", "fp16", "bf16")
    for vram in WAYS
}
REPORTS |= {
    f"{name} moved {moving}": partial(there, name, "decoder", "fp32", WAYS[0], moving)
    for name in ("sd15", "flux")
    for moving in ("away", "there and back")
}

if __name__ == "__main__":
    for layout in ("sd15", "flux"):
        for form in ("denoiser", "decoder"):
            on_the_cpu(layout, form)
    tell(REPORTS)
