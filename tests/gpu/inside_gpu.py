"""Run by ComfyUI's interpreter with ComfyUI's own flags: gradients in one precision and one way of loading, as JSON.

The flags (``--bf16-unet --novram``) decide for the whole process, so every setting is a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = [word for word in sys.argv[1:] if word.startswith("--")]
ASKED = [word for word in sys.argv[1:] if not word.startswith("--")]
sys.argv = [sys.argv[0], *FLAGS]
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nodes"))
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
from comfy.cli_args import args  # noqa: E402

if args.enable_dynamic_vram:  # as ComfyUI's main.py, before torch is there
    import comfy_aimdo.control

    comfy_aimdo.control.init()
sys.argv = [sys.argv[0], *ASKED]
from inside_tools import Spy, bits_of, photo, sample, tell  # noqa: E402

# isort: split
import tempfile  # noqa: E402

import comfy.memory_management  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import torch  # noqa: E402
from checkpoints import LAYOUTS, conditioning, load, save_checkpoint  # noqa: E402

from adapt_diffuse.degradation import GaussianBlur  # noqa: E402
from adapt_diffuse.errors import AdaptDiffuseError  # noqa: E402
from adapt_diffuse.hosts.comfy_model import HostModel  # noqa: E402
from adapt_diffuse.measurement import Measurement  # noqa: E402

if args.enable_dynamic_vram:
    devices = [device.index for device in comfy.model_management.get_all_torch_devices()]
    assert comfy_aimdo.control.init_devices(devices), "this ComfyUI has no dynamic VRAM"
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True

FLOWS = ("sd3", "flux")


def gradient(name: str, through: str) -> dict[str, Any]:
    """The first gradient of a run of two steps, and how the host had loaded the model."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = save_checkpoint(name, Path(folder))
        model, vae = load(files)
        host = HostModel(model, vae, conditioning(files.layout))
        latent = torch.randn(1, LAYOUTS[name].channels, 8, 6, generator=torch.Generator().manual_seed(1))
        sigmas = torch.tensor([0.4, 0.2, 0.0]) if name in FLOWS else torch.tensor([0.7, 0.3, 0.0])
        spy, before = Spy(through, eta=1.0), digest(host)
        try:
            result = sample(host, spy, Measurement.of(photo(), GaussianBlur(1.0, 0.05)), latent, sigmas, cfg=2.0)
            found.update(gradient=spy.seen[0][2].flatten().tolist(), finite=bool(torch.isfinite(result).all()))
        except AdaptDiffuseError as error:
            found["refused"] = str(error)
        found["unchanged"] = before == digest(host)
        parameter = next(model.model.diffusion_model.parameters())
        found["dtype"] = str(parameter.dtype)
        found["in_part"] = bool(model.model.model_lowvram)
        found["dynamic"] = bool(model.is_dynamic())
        found["device"] = torch.device(model.load_device).type
        # dynamic models are read from the file until they go: it must not disappear before them
        del host, model, vae, spy
    return found


def digest(host: HostModel) -> str:
    """Of every bit of every weight, once the host has loaded both models."""
    comfy.model_management.load_models_gpu([host.model, host.vae.patcher])
    return bits_of(host)


REPORTS: dict[str, Callable[[], Any]] = {
    f"{name}-{through}": lambda name=name, through=through: gradient(name, through)  # type: ignore[misc]
    for name in ("sd15", "sd3", "flux")
    for through in ("denoiser", "decoder")
}

if __name__ == "__main__":
    tell(REPORTS)
