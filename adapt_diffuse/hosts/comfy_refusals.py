"""The set-ups of the host in which the denoiser's gradient would be wrong or missing, each with its sentence."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..errors import AdaptDiffuseError
from ..guidance import Through

USE_DECODER = "Set the solver's 'through' to decoder, which works with every model."
OTHER_VAE = "Load the VAE again, or another one."
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
STORED = (*FLOATS, torch.float8_e4m3fn, torch.float8_e5m2)  # of weights that are cast as a whole before they are used
PLAIN = (torch.Tensor,)  # classes derived from it hold quantised weights
# of torch's errors: what they tell of a gradient that does not exist
TAINTED = ("nference tensor",)
NO_BACKWARD = re.compile(r"through (\S+) but no autograd formula|derivative for '?(\S+?)'? is not implemented")


def refuse(guider: Any, patcher: Any, shared: Any, extra_args: dict[str, Any]) -> None:
    """Raise AdaptDiffuseError for every known way in which the denoiser's gradient would be wrong without a sign.

    Args:
        guider: of the run, its conditions processed.
        patcher: the ModelPatcher of its model.
        shared: the network that the patcher holds.
        extra_args: of the host's call of the sampler function.
    """
    options = {**getattr(guider, "model_options", {}), **extra_args.get("model_options", {})}
    if "multigpu_clones" in options:
        raise AdaptDiffuseError(f"The model runs on several GPUs, without gradients. {USE_DECODER}")
    if caching(options):
        raise AdaptDiffuseError(f"EasyCache leaves out calls of the model, and no gradient passes that. {USE_DECODER}")
    refuse_conditions(getattr(guider, "conds", {}))
    if any(isinstance(value, nn.Module) and value is not shared for value in vars(guider).values()):
        raise AdaptDiffuseError(f"The guider uses a second model. {USE_DECODER}")
    if patcher.model_patches_models() or patcher.get_nested_additional_models():
        raise AdaptDiffuseError(f"A patch of the model runs a second network inside it. {USE_DECODER}")
    if "gguf" in type(patcher).__name__.lower():
        raise AdaptDiffuseError(f"The model is quantised (GGUF): no gradient passes it. {USE_DECODER}")
    if any(base.__module__.startswith("cublas_ops") for layer in shared.modules() for base in type(layer).__mro__):
        raise AdaptDiffuseError(f"The host runs with --fast cublas_ops, which gives no gradient. {USE_DECODER}")
    if patcher.is_dynamic():
        refuse_bound_patches(patcher)
        return
    devices = {parameter.device.type for parameter in shared.parameters()}
    if getattr(shared, "model_lowvram", False) or devices != {torch.device(patcher.load_device).type}:
        raise AdaptDiffuseError(f"The model does not fit the GPU's memory and is loaded in part. {USE_DECODER}")
    check_weights(shared, USE_DECODER)


def caching(model_options: dict[str, Any]) -> bool:
    """Whether the host's EasyCache or LazyCache is on the model."""
    return "easycache" in model_options.get("transformer_options", {})


def refuse_conditions(conds: dict[str, Any]) -> None:
    for cond in (cond for conditions in conds.values() for cond in conditions or []):
        if cond.get("hooks") is not None:
            raise AdaptDiffuseError(f"The conditioning changes the model's weights on the way (hooks). {USE_DECODER}")
        if cond.get("control") is not None:
            raise AdaptDiffuseError(f"A ControlNet steers the model, and no gradient passes that. {USE_DECODER}")
        if "gligen" in cond:
            raise AdaptDiffuseError(f"GLIGEN steers the model, and no gradient passes that. {USE_DECODER}")


def refuse_bound_patches(patcher: Any) -> None:
    """What belongs to the layers of the shared model would go on to use them, from inside a model read once more."""
    replaced = [key for key, value in patcher.object_patches.items() if key.startswith("diffusion_model")]
    replaced = [key for key in replaced if not compiled(patcher.object_patches[key])]
    if patcher.injections or replaced:
        raise AdaptDiffuseError(f"A patch replaces layers of a model that is loaded piece by piece. {USE_DECODER}")


def check_weights(module: nn.Module, remedy: str, dtypes: tuple[torch.dtype, ...] = FLOATS) -> None:
    """Raise AdaptDiffuseError, with ``remedy``, for weights that are quantised, of another dtype or not in memory."""
    for parameter in module.parameters():
        if parameter.is_meta:
            raise AdaptDiffuseError(f"The weights of {type(module).__name__} are not in memory yet. {remedy}")
        if parameter.dtype not in dtypes or type(parameter.data) not in PLAIN:
            raise AdaptDiffuseError(
                f"The weights of {type(module).__name__} are quantised ({type(parameter.data).__name__}, "
                f"{parameter.dtype}): no gradient passes them. {remedy}"
            )


def compiled(value: Any) -> bool:
    """Whether this is a module under torch.compile."""
    return "_orig_mod" in getattr(value, "_modules", {})


@contextlib.contextmanager
def gradients_told(through: Through) -> Iterator[None]:
    """Errors of torch about gradients that do not exist, as sentences for a solver with this ``through``."""
    try:
        yield
    except RuntimeError as error:
        if (sentence := no_gradient(error, through)) is None:
            raise
        raise sentence from error


def no_gradient(error: RuntimeError, through: Through) -> AdaptDiffuseError | None:
    """The sentence for an error that torch raises where a gradient does not exist; None for all others."""
    text = str(error)
    part, remedy = ("model", USE_DECODER) if through == "denoiser" else ("VAE", OTHER_VAE)
    if any(words in text for words in TAINTED):
        return AdaptDiffuseError(f"A part of the {part} belongs to another node and gives no gradient. {remedy}")
    if kernel := NO_BACKWARD.search(text):
        name = kernel[1] or kernel[2]
        return AdaptDiffuseError(f"A kernel of the {part} ({name}) has no backward pass. {remedy}")
    return None
