"""Run by ComfyUI's interpreter, ComfyUI importable: gradients in little memory, and by a tiny autoencoder, as JSON.

The folder of the tiny autoencoders is named in the environment, see ``tests/taesd.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from inside_tools import (  # first: it makes this process a ComfyUI
    REPOSITORY,
    distance,
    loaded_digest,
    module_at,
    native,
    photo,
    sample,
    tell,
)

# isort: split
import comfy.model_management
import folder_paths
import torch

import nodes
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.guidance_vae import compare
from adapt_diffuse.hosts import comfy_vae
from adapt_diffuse.hosts.comfy import host_codec
from adapt_diffuse.hosts.comfy_memory import HostMachine, planned_memory
from adapt_diffuse.hosts.comfy_model import HostModel
from adapt_diffuse.hosts.comfy_vae import VaeCopy
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.solvers import GMLDPS, LDPS, PSLD, ReSample

folder_paths.add_model_folder_path("vae_approx", os.environ.get("ADAPT_DIFFUSE_TAESD", ""))
kept = module_at("kept bytes", REPOSITORY / "tests" / "kept.py")
SOLVERS: dict[str, Any] = {
    "ldps": LDPS(2.0, "decoder"),
    "gml-dps": GMLDPS(2.0, 0.5, "decoder"),
    "psld": PSLD(2.0, 0.5, "decoder"),
    "resample": ReSample(every=1, iterations=2),
    "ldps-denoiser": LDPS(2.0, "denoiser"),
}
GRID = (18, 20)  # latent positions: longer than the smallest tile
SIGMAS = torch.tensor([1.0, 0.5, 0.2, 0.0])


def tiny_vae(name: str) -> Any:
    return nodes.VAELoader().load_vae(name)[0]


def measured() -> Measurement:
    """A photo that fills the grid."""
    large = torch.nn.functional.interpolate(photo(), (GRID[0] * 8, GRID[1] * 8), mode="bicubic").clamp(0, 1)
    return Measurement.of(large, GaussianBlur(1.0, 0.05))


def start() -> torch.Tensor:
    return torch.randn(1, 4, *GRID, generator=torch.Generator().manual_seed(1))


@contextmanager
def bearing(limit: int, tried: list[int]) -> Iterator[None]:
    """Inside, copies of the host's VAEs bear so many latent positions at once."""
    decode, encode = comfy_vae.decoded, comfy_vae.encoded

    def check(count: int, values: torch.Tensor) -> None:
        positions = values.shape[0] * values.shape[2] * values.shape[3] // count
        tried.append(positions)
        if positions > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def poor_decode(network: Any, line: tuple[float, float], raw: torch.Tensor) -> torch.Tensor:
        check(1, raw)
        return decode(network, line, raw)

    def poor_encode(network: Any, line: tuple[float, float], image: torch.Tensor) -> torch.Tensor:
        check(64, image)
        return encode(network, line, image)

    comfy_vae.decoded, comfy_vae.encoded = poor_decode, poor_encode
    try:
        yield
    finally:
        comfy_vae.decoded, comfy_vae.encoded = decode, encode


def ran_out(name: str) -> dict[str, Any]:
    """A run on a host whose memory bears a tile of 16 positions and no more, and one that is told so."""
    with torch.inference_mode():
        host = native(True)
        before = loaded_digest(host)
        tried: list[int] = []
        with bearing(256, tried):
            found = sample(host, SOLVERS[name], measured(), start(), SIGMAS, cfg=2.0)
        told: list[int] = []
        with bearing(256, told):
            expected = sample(host, SOLVERS[name], measured(), start(), SIGMAS, cfg=2.0, tile=128)
        whole = sample(host, SOLVERS[name], measured(), start(), SIGMAS, cfg=2.0)
        return {
            "too_large": sum(positions > 256 for positions in tried),
            "told_too_large": sum(positions > 256 for positions in told),
            "largest_told": max(told),
            "result": distance(found, expected),
            "tiles_show": distance(found, whole),
            "unchanged": before == loaded_digest(host),
        }


def too_small() -> str:
    with torch.inference_mode():
        host = native(True)
        try:
            with bearing(255, []):
                sample(host, SOLVERS["ldps"], measured(), start(), SIGMAS, cfg=2.0)
            return "no error"
        except AdaptDiffuseError as error:
            return str(error)


def cancelled() -> dict[str, Any]:
    """Cancel is pressed in the third tile of the first decoding."""
    with torch.inference_mode():
        host = native(True)
        before, decode, calls = loaded_digest(host), comfy_vae.decoded, []

        def counted(network: Any, line: tuple[float, float], raw: torch.Tensor) -> torch.Tensor:
            calls.append(raw.shape[2] * raw.shape[3])
            if len(calls) == 4:  # one has been the look at what a pass keeps
                comfy.model_management.interrupt_current_processing()
            return decode(network, line, raw)

        comfy_vae.decoded = counted
        try:
            sample(host, SOLVERS["ldps"], measured(), start(), SIGMAS, cfg=2.0, tile=128)
            raised = "nothing"
        except comfy.model_management.InterruptProcessingException as error:
            raised = type(error).__name__
        finally:
            comfy_vae.decoded = decode
        return {"raised": raised, "calls": calls, "unchanged": before == loaded_digest(host)}


def real(name: str) -> dict[str, Any]:
    """The gradient through a real tiny autoencoder of the host, whole and in tiles, and what it keeps."""
    with torch.inference_mode():
        vae = tiny_vae(name)
        channels = vae.latent_channels
        with torch.inference_mode(False):
            latent_format = type("Raw", (), {"process_in": lambda self, z: z, "process_out": lambda self, z: z})()
            image = measured().y[:, :, :128, :128]
            tile = torch.nn.functional.interpolate(image, (384, 256), mode="bicubic").clamp(0, 1)
            made = {}
            for title, size in (("whole", 0), ("tiles", 128)):
                copied = VaeCopy(vae, latent_format, size)
                with torch.no_grad():
                    z = VaeCopy(vae, latent_format).encode(tile)
                source = z.clone().requires_grad_()
                with kept.counted(copied.network) as bytes_kept:
                    decoded = copied.decode(source)
                    (slope,) = torch.autograd.grad((decoded - tile - 0.05).norm(), source)
                made[title] = (decoded.detach(), slope, bytes_kept.peak)
        plain = vae.decode(z).movedim(-1, 1)
        return {
            "channels": channels,
            "is_the_hosts": distance(made["whole"][0].clamp(0, 1), plain),
            "error": float((made["whole"][0] - tile).square().mean().sqrt()),
            "image": distance(made["tiles"][0], made["whole"][0]),
            "gradient": distance(made["tiles"][1], made["whole"][1]),
            "kept": made["tiles"][2] / made["whole"][2],
        }


def guided(name: str) -> dict[str, Any]:
    """A run on a model with a VAE of its own, guided by taesd, against the same with taesd for everything."""
    with torch.inference_mode():
        host, tiny = native(True), tiny_vae("taesd")
        before, copied, init = loaded_digest(host), [], VaeCopy.__init__

        def noted(self: VaeCopy, vae: Any, *others: Any) -> None:
            copied.append("tiny" if vae is tiny else "full")
            init(self, vae, *others)

        VaeCopy.__init__ = noted  # type: ignore[method-assign]
        try:
            found = sample(host, SOLVERS[name], measured(), start(), SIGMAS, cfg=2.0, guidance_vae=tiny)
        finally:
            VaeCopy.__init__ = init  # type: ignore[method-assign]
        alone = sample(HostModel(host.model, tiny, host.conditioning), SOLVERS[name], measured(), start(), SIGMAS, 2.0)
        plain = sample(host, SOLVERS[name], measured(), start(), SIGMAS, cfg=2.0)
        return {
            "copied": copied,
            "tiny_alone": distance(found, alone),
            "full_alone": distance(found, plain),
            "unchanged": before == loaded_digest(host),
        }


def agreements() -> dict[str, Any]:
    """How far tiny autoencoders are from each other, and the refusal of one of another latent space."""
    with torch.inference_mode():
        vaes = {name: tiny_vae(name) for name in ("taesd", "taesdxl", "taesd3", "taef1")}
        pairs = (("taesd", "taesd"), ("taesd", "taesdxl"), ("taesd3", "taef1"))
        found: dict[str, Any] = {}
        for one, other in pairs:
            agreement = compare(host_codec(vaes[one]), host_codec(vaes[other]))
            found[f"{one}-{other}"] = [agreement.latents, agreement.images, str(agreement)]
        try:
            sample(
                native(True), LDPS(1.0, "decoder"), measured(), start(), SIGMAS, cfg=2.0, guidance_vae=vaes["taesd3"]
            )
            found["refused"] = "no error"
        except AdaptDiffuseError as error:
            found["refused"] = str(error)
        return found


def plan() -> dict[str, Any]:
    """What is asked of the host for a small photo and for a huge one, on a machine of so much memory."""
    total = comfy.model_management.get_total_memory
    try:
        comfy.model_management.get_total_memory = lambda device: 8 * 2**30
        with torch.inference_mode():
            host = native(True)
            patchers = [host.model, host.vae.patcher]
            small, huge = (
                planned_memory(SOLVERS["ldps"], host.vae, (1, 4, side, side), patchers) for side in (32, 1024)
            )
            needed = 3 * host.vae.memory_used_decode((1, 4, 32, 32), torch.float32)
    finally:
        comfy.model_management.get_total_memory = total
    error = torch.cuda.OutOfMemoryError("CUDA out of memory")
    return {
        "small": small / needed,
        "huge": huge / 2**30,
        "knows": [HostMachine(host.vae.device).ran_out(each) for each in (error, ValueError("no"))],
        "free": HostMachine(host.vae.device).free(),
    }


REPORTS: dict[str, Callable[[], Any]] = {
    **{f"ran-out-{name}": lambda name=name: ran_out(name) for name in SOLVERS},  # type: ignore[misc]
    **{f"guided-{name}": lambda name=name: guided(name) for name in SOLVERS},  # type: ignore[misc]
    **{f"real-{name}": lambda name=name: real(name) for name in ("taesd", "taef1")},  # type: ignore[misc]
    "too-small": too_small,
    "cancelled": cancelled,
    "agreements": agreements,
    "plan": plan,
}

if __name__ == "__main__":
    tell(REPORTS)
