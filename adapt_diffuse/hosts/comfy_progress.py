"""The host's progress bar and its Cancel, for work that goes photo by photo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Photo = TypeVar("Photo")


def photo_by_photo(photos: Sequence[Photo]) -> Iterator[Photo]:
    """Each of ``photos``, while the host's progress bar moves on.

    Raises:
        InterruptProcessingException: the user's Cancel, before the next photo.
    """
    import comfy.model_management
    import comfy.utils

    bar = comfy.utils.ProgressBar(len(photos))
    for photo in photos:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield photo
        bar.update(1)
