"""The memory that the host manages: how much is left, what a guided run asks for, and our copies loaded into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import AdaptDiffuseError
from ..feasible import check_feasible
from ..fitted import SMALLEST_TILE
from ..guidance import Through
from ..memory import out_of_memory
from ..solvers import GMLDPS, LATINO, PSLD, ReSample, Solver

ENCODING = (GMLDPS, PSLD, ReSample, LATINO)  # the solvers that encode


@dataclass(frozen=True)
class HostMachine:
    """The memory of a device as the host manages it.

    Attributes:
        patcher: a ModelPatcher of the host, any: with dynamic VRAM it knows what the weights on the device would give
            back, which ``free`` then counts as free.
    """

    device: torch.device
    patcher: Any = None

    def free(self) -> float:
        import comfy.model_management

        known = getattr(self.patcher, "get_free_memory", comfy.model_management.get_free_memory)
        return float(known(self.device))

    def ran_out(self, error: Exception) -> bool:
        import comfy.model_management

        known = getattr(comfy.model_management, "is_oom", None)  # hosts from v0.26 on know more errors that mean it
        return out_of_memory(error) or bool(known and known(error))

    def release(self) -> None:
        import comfy.model_management

        comfy.model_management.soft_empty_cache()

    def check(self) -> None:
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()


def image_device() -> torch.device:
    """Where the host keeps the images that flow between its nodes."""
    import comfy.model_management

    device: torch.device = comfy.model_management.intermediate_device()
    return device


def check_size(height: int, width: int, longest: int, device: torch.device) -> None:
    """Refuse an image too large for ``device``, whatever the host frees; arguments and errors of ``check_feasible``."""
    import comfy.model_management

    memory = float(comfy.model_management.get_total_memory(device))
    remedy = "Make it {side} pixels long or less first (Scale Image to Max Dimension), or cut it."
    check_feasible(height, width, longest, memory, remedy)


def own_patcher(network: Any, vae: Any) -> Any:
    """A ModelPatcher of ``network``, a copy of the VAE's, on the VAE's devices."""
    import comfy.model_patcher

    return comfy.model_patcher.ModelPatcher(network, vae.device, vae.patcher.offload_device)


def whole_patcher(network: Any, load_device: torch.device, offload_device: torch.device) -> Any:
    """A ModelPatcher of a network whose layers are not the host's: it is on the device whole, or not at all.

    The host would leave layers of others on the CPU and run them on the GPU, with ``--novram`` whatever it is asked.
    """
    import comfy.model_patcher

    class WholePatcher(comfy.model_patcher.ModelPatcher):
        def load(self, device_to: Any = None, *_: Any, force_patch_weights: bool = False, **__: Any) -> None:
            super().load(device_to, force_patch_weights=force_patch_weights, full_load=True)

        def partially_unload(self, *_: Any, **__: Any) -> int:
            return 0  # bytes; the host then unloads all of it

    return WholePatcher(network, load_device, offload_device)


def guidance_memory(solver: Solver, vae: Any, shape: Sequence[int]) -> float:
    """Bytes that the VAE's part of a step's graph takes, by the host's own estimates of one pass without gradients."""
    memory = 3 * vae.memory_used_decode(tuple(shape), torch.float32)
    if isinstance(solver, ENCODING):
        factor = int(vae.spacial_compression_decode())
        image = (shape[0], 3, shape[2] * factor, shape[3] * factor)
        memory += 3 * vae.memory_used_encode(image, torch.float32)
    return float(memory)


def planned_memory(solver: Solver, vae: Any, shape: Sequence[int], patchers: list[Any]) -> float:
    """Bytes to ask the host for: what a step takes, but not so much that it would take the models apart for it.

    Where less is there than a step takes, the decoder runs in tiles: that costs less time than models that come and
    go at every step.
    """
    import comfy.model_management

    whole = guidance_memory(solver, vae, shape)
    least = guidance_memory(solver, vae, (1, shape[1], *(min(side, 2 * SMALLEST_TILE) for side in shape[2:])))
    models = sum(patcher.model_size() for patcher in patchers if beside(patcher, vae.device))
    spare = comfy.model_management.get_total_memory(vae.device) - models
    return float(min(whole, max(spare - comfy.model_management.minimum_inference_memory(), least)))


def photos_at_once(model: Any, shape: Sequence[int]) -> int:
    """How many photos of a batch of latents ``shape`` the model takes together, by the host's own estimate of a pass.

    A model is counted as half of the memory at most: the host offloads what is more.
    """
    import comfy.model_management

    total = float(comfy.model_management.get_total_memory(model.load_device))
    weights = min(float(model.model_size()), total / 2)
    one, two = (float(model.memory_required([count, *shape[1:]])) for count in (1, 2))
    each = two - one  # the host asks for a reserve besides, however many they are
    spare = total - weights - comfy.model_management.minimum_inference_memory() - (one - each)
    return int(min(max(spare // max(each, 1.0), 1), shape[0]))


def load(own: list[Any], others: list[Any], memory: float, through: Through) -> None:
    """Let the host make room for ``memory`` bytes and load our copies, whole, beside the models that it uses.

    Raises:
        AdaptDiffuseError: a copy does not fit whole; its layers would be overwritten before the gradient reads them.
    """
    import comfy.model_management

    least = memory / 3
    # the host makes as much room on every device of the models that it loads together
    together = [patcher for patcher in others if beside(patcher, own[0].load_device)]
    comfy.model_management.load_models_gpu([*together, *own], memory_required=memory, minimum_memory_required=least)
    for patcher in own:
        size = patcher.model_size()
        # --novram takes every model apart, however small it is
        if in_part(patcher) and size + least <= HostMachine(patcher.load_device, patcher).free():
            patcher.partially_load(patcher.load_device, size + 1)
    if any(in_part(patcher) for patcher in own):
        other = "set the solver's 'through' to decoder" if through == "denoiser" else "connect a tiny guidance_vae"
        raise AdaptDiffuseError(
            f"The GPU's memory does not hold the models that the gradients need: restore a smaller photo, {other}, "
            "or free memory."
        )


def beside(patcher: Any, device: torch.device) -> bool:
    """Whether a model of the host has its place on this device."""
    return hasattr(patcher, "model_size") and torch.device(patcher.load_device) == torch.device(device)


def is_whole(patcher: Any) -> bool:
    """Whether a loaded copy is still on its device with all of its weights; others may have needed the room since."""
    return patcher.current_loaded_device() == patcher.load_device and not in_part(patcher)


def in_part(patcher: Any) -> bool:
    """Whether the host has left some of the model's weights where it keeps the models that it does not use."""
    return bool(getattr(patcher.model, "model_lowvram", False))
