"""Copies of the host's models that gradients can pass; the host's own are only read."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..degradation.separable import Spectra
from ..errors import AdaptDiffuseError
from .comfy_refusals import FLOATS, USE_DECODER, check_weights, compiled, refuse

PACKAGE = __name__.rpartition(".hosts.")[0] + "."
COMPILED = "torch.compile"  # the host's name of the wrapper that puts a compiled network in the model's place
# networks that leave their activations as they are; for all others a copy is made of each
NEVER_IN_PLACE = ("UNetModel", "OpenAISignatureMMDITWrapper", "HostUNet")
# what the host hangs on layers to offload, patch and cast them; a copy starts without
HOST_STATE = [
    "comfy_cast_weights",
    "prev_comfy_cast_weights",
    "comfy_force_cast_weights",
    "comfy_patched_weights",
    "weight_function",
    "bias_function",
    "weight_lowvram_function",
    "bias_lowvram_function",
    "seed_key",
]
HOST_PREFIXES = ("_v_", "_pin", "_prefetch")  # what its dynamic VRAM hangs there: names change from host to host
# read, never written, by a copy too
SHARED_STATE = ["model_config", "current_patcher", "dynamic_vbars", "dynamic_pins", "dynamic_patchers", "current_hooks"]


def plain_copy(module: nn.Module, dtypes: tuple[torch.dtype, ...] = FLOATS) -> Any:
    """A frozen deep copy made of normal tensors, without the host's offloading and patching state.

    To be called outside inference mode.

    Args:
        dtypes: that the weights may have.

    Raises:
        AdaptDiffuseError: weights that are quantised or not in memory.
    """
    check_weights(module, "Load its full-precision version.", dtypes)
    memo: dict[int, Any] = {}
    for layer in module.modules():
        for name in (*host_state(layer), *SHARED_STATE):
            if name in vars(layer):
                memo[id(vars(layer)[name])] = vars(layer)[name]
    for layer in module.modules():
        if compiled(layer):  # compiled code would go on to use the shared weights
            memo[id(layer)] = copy.deepcopy(layer._orig_mod, memo)
    copied = copy.deepcopy(module, memo)
    for layer in copied.modules():
        for name in host_state(layer):
            del vars(layer)[name]
    renew(copied)
    return copied.requires_grad_(False).eval()


def renew(network: nn.Module) -> None:
    """Put normal tensors in the place of inference tensors, which no gradient passes, in a copy of ours.

    What is moved to another device in inference mode, where the host runs its nodes and samplers, becomes one. To be
    called outside inference mode.
    """
    for layer in network.modules():
        for name, parameter in layer._parameters.items():
            if parameter is not None and parameter.is_inference():
                layer._parameters[name] = nn.Parameter(parameter.clone(), False)
        for name, buffer in layer._buffers.items():
            if buffer is not None and buffer.is_inference():
                layer._buffers[name] = buffer.clone()


def host_state(layer: nn.Module) -> list[str]:
    """The names of what the host has hung on this layer, and a copy must neither share nor multiply."""
    return [name for name in vars(layer) if name in HOST_STATE or name == "_v" or name.startswith(HOST_PREFIXES)]


def independent_denoiser(model: Any, extra_args: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
    """The host's guided model once more, on weights of its own, for gradients.

    Args:
        model: what the host calls its sampler function with: masks around a guider around the network.
        extra_args: of the same call.

    Returns:
        The callable, its arguments, and the ModelPatcher of its weights (not loaded yet).

    Raises:
        AdaptDiffuseError: a set-up in which the gradient would be wrong or missing.
    """
    import comfy.model_management
    import comfy.model_patcher

    guider = model.inner_model
    patcher, shared = guider.model_patcher, guider.inner_model
    refuse(guider, patcher, shared, extra_args)
    if patcher.is_dynamic():
        network = static_clone(patcher)
    else:
        size = comfy.model_management.module_size(shared)
        # the model itself must stay: unloading would take its LoRAs off before they are copied
        staying = [entry for entry in comfy.model_management.current_loaded_models if entry.model is patcher]
        comfy.model_management.free_memory(1.1 * size, patcher.load_device, keep_loaded=staying)
        network = comfy.model_patcher.ModelPatcher(plain_copy(shared), patcher.load_device, patcher.offload_device)
        network.weight_wrapper_patches = dict(getattr(patcher, "weight_wrapper_patches", {}))
        network.force_cast_weights = getattr(patcher, "force_cast_weights", False)  # ModelComputeDtype sets it

    own_guider = copy.copy(guider)
    own_guider.inner_model = network.model
    own_guider.conds = fresh(guider.conds)
    own_model = copy.copy(model)
    for name, value in vars(model).items():
        setattr(own_model, name, fresh(value))
    own_model.inner_model = own_guider
    arguments = fresh(extra_args)
    options = arguments.setdefault("model_options", {}).setdefault("transformer_options", {})
    options["optimized_attention_override"] = differentiable_attention
    in_place = type(network.model.diffusion_model).__name__ not in NEVER_IN_PLACE or patched(options)
    options.get("wrappers", {}).get("apply_model", {}).pop(COMPILED, None)

    def call(x: Tensor, sigma: Tensor, **more: Any) -> Tensor:
        with differentiable_kernels(), kept_activations(network.model, in_place):
            return own_model(x, sigma, **more)

    return call, arguments, network


@contextlib.contextmanager
def differentiable_kernels() -> Iterator[None]:
    """The host's own switch for training: of its fused kernels (rotary embeddings, norms) few have a backward pass."""
    import comfy.model_management

    before = getattr(comfy.model_management, "in_training", False)
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


def kept_activations(shared: Any, in_place: bool) -> contextlib.AbstractContextManager[Any]:
    """What the backward pass will read is copied, where a network goes on to write into its activations (Flux does).

    Args:
        in_place: whether the network, or a patch inside it, may write so; FreeU does.
    """
    if not in_place:
        return contextlib.nullcontext()
    weights = {parameter.untyped_storage().data_ptr() for parameter in shared.parameters()}

    def pack(saved: Tensor) -> Tensor:
        return saved if saved.untyped_storage().data_ptr() in weights else saved.detach().clone()

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved)


def patched(transformer_options: dict[str, Any]) -> bool:
    """Whether a model of the host has functions of others inside its network."""
    return any(transformer_options.get(name) for name in ("patches", "patches_replace"))


def static_clone(patcher: Any) -> Any:
    """The model read once more into plain memory, for hosts with dynamic VRAM; not loaded yet.

    Raises:
        AdaptDiffuseError: it cannot be read again, or is quantised.
    """
    try:
        again = patcher.clone(disable_dynamic=True, force_deepcopy=True)
    except (RuntimeError, TypeError) as error:
        why = f"This model cannot be loaded outside dynamic VRAM ({str(error).rstrip('.')})."
        raise AdaptDiffuseError(f"{why} {USE_DECODER}") from error
    check_weights(again.model, USE_DECODER)
    again.object_patches = {key: value for key, value in again.object_patches.items() if not compiled(value)}
    again.model.current_patcher = again
    again.parent = None  # else the host takes the shared model for loaded when this one goes
    return again


def differentiable_attention(attention: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Torch's own attention in place of kernels without a backward pass."""
    from comfy.ldm.modules.attention import attention_pytorch

    return attention_pytorch(*args, **kwargs)


def fresh(value: Any) -> Any:
    """``value`` with every tensor inside cloned: in lists, tuples, dicts, our own objects and the host's conditions.

    Decompositions are shared with ``value`` instead: no gradient passes them, and a wire's degradation keeps them from
    run to run.
    """
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Spectra):
        return value.sharing(value.parameters)
    if type(value) in (list, tuple):
        return type(value)(fresh(item) for item in value)
    if type(value) is dict:
        return {key: fresh(item) for key, item in value.items()}
    if type(value).__module__.startswith(PACKAGE) and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: fresh(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if hasattr(value, "_copy_with") and hasattr(value, "cond"):
        return value._copy_with(fresh(value.cond))
    if type(value).__module__.startswith(PACKAGE):  # a degradation, say
        copied = copy.copy(value)
        vars(copied).update({name: fresh(item) for name, item in vars(value).items()})
        return copied
    return value
