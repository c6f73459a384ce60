"""What the host's conditions and patches bring along that the photos of a batch do not share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..errors import AdaptDiffuseError
from .comfy_copy import COMPILED, patched

PICTURES = ("concat_latent_image", "concat_mask", "reference_latents", "mask")  # in a condition, one or one per photo
# of a model's options, beside those that may remember: functions that are told the level, and may look at the first
GUIDANCE = ("sampler_cfg_function", "sampler_post_cfg_function", "sampler_calc_cond_batch_function")


def check_shared(text: Tensor | None, options: dict[str, Any]) -> None:
    """Raise AdaptDiffuseError where a condition of the host has a prompt or a picture for each photo."""
    if text is not None and len(text) > 1:
        raise AdaptDiffuseError("A batch of photos is restored with one prompt for all: connect a single one.")
    if has_several(options):
        raise AdaptDiffuseError(
            "The conditioning has a picture for each photo (a ControlNet's hint, a mask or a reference), and the "
            "photos of a batch start one after the other: restore one photo at a time with its picture, or connect "
            "one picture for all."
        )


def has_several(options: dict[str, Any]) -> bool:
    """Whether a condition of the host holds a batch of more than one picture, mask or latent."""
    held = [options.get(name) for name in PICTURES]
    for control in controls(options):
        held += [getattr(control, "cond_hint_original", None), *getattr(control, "extra_concat_orig", ())]
    pictures = [one for each in held for one in (each if isinstance(each, (list, tuple)) else [each])]
    return any(isinstance(picture, Tensor) and len(picture) > 1 for picture in pictures)


def controls(options: dict[str, Any]) -> Iterator[Any]:
    """The ControlNets of a condition."""
    control = options.get("control")
    while control is not None:
        yield control
        control = getattr(control, "previous_controlnet", None)


def remembers(model: Any) -> bool:
    """Whether a patch of a MODEL may carry something from step to step: a batch that photos join would mix it up.

    So do the host's EasyCache and its guidance with momentum.
    """
    options = model.model_options
    wrappers = (getattr(model, "wrappers", {}), options.get("transformer_options", {}).get("wrappers", {}))
    names = {name for kinds in wrappers for named in kinds.values() for name, calls in named.items() if calls}
    return bool(names - {COMPILED} or options.get("sampler_pre_cfg_function") or "model_function_wrapper" in options)


def reads_one_level(guider: Any) -> bool:
    """Whether something in a guider of the host may take the level of the first latent for that of all.

    So does everything that works in a part of the steps alone (prompts, ControlNets, hooks, Deep Shrink), and other
    patches and guidance functions may.
    """
    options = guider.model_patcher.model_options
    if any(options.get(name) for name in GUIDANCE) or patched(options.get("transformer_options", {})):
        return True
    return any(in_some_steps(cond) for conds in guider.original_conds.values() for cond in conds or [])


def in_some_steps(options: dict[str, Any]) -> bool:
    """Whether a condition of the host, or a ControlNet of it, may steer only some of the steps."""
    for name in ("", "clip_"):
        if (options.get(f"{name}start_percent", 0.0), options.get(f"{name}end_percent", 1.0)) != (0.0, 1.0):
            return True
    return options.get("hooks") is not None or any(
        tuple(getattr(control, "timestep_percent_range", (0.0, 1.0))) != (0.0, 1.0)
        or getattr(control, "extra_hooks", None) is not None
        for control in controls(options)
    )
