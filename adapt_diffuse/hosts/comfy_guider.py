"""The host's guider, made of what a node is given."""

from __future__ import annotations

from typing import Any


def conditioned(model: Any, positive: Any, negative: Any, cfg: float) -> Any:
    """The host's guider for MODEL and CONDITIONING; without ``negative``, which may be None, ``cfg`` is not used."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    if negative is None:
        guider.inner_set_conds({"positive": positive})
    else:
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
    return guider
