"""The global random state, which the package never touches."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Fail when the body draws from, or seeds, a global generator of torch, numpy or Python."""
    before = _states()
    yield
    touched = [name for name, state in _states().items() if state != before[name]]
    assert not touched, f"the global random state of {', '.join(touched)} was changed"


def _states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (kind, np.asarray(keys).tobytes(), *rest),
        "Python": random.getstate(),
    }
