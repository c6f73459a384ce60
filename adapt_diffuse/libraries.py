"""Libraries that a user may not have: a sentence where one is missing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from .errors import AdaptDiffuseError


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Around the import of a library. Raises AdaptDiffuseError, which says how to install it, where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or str(error)).partition(".")[0]
        raise AdaptDiffuseError(
            f'The library {name} is not installed: run "{sys.executable}" -m pip install {name}, then start this again.'
        ) from error
