"""The published tiny autoencoders, where they are on this machine.

They are not part of the repository: name their folder in ADAPT_DIFFUSE_TAESD, or keep it as ``weights/taesd`` in a
folder beside the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "ADAPT_DIFFUSE_TAESD"
ABSENT = f"The tiny autoencoders are not on this machine: name their folder in {VARIABLE}."


def find_taesd() -> Path | None:
    """The folder with taesd_encoder.safetensors and its relatives, or None."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return next(iter(sorted(Path(__file__).resolve().parents[1].parent.glob("*/weights/taesd"))), None)
