"""The host's progress bars and its Cancel, for work that goes photo by photo and for the steps of a solver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor

from ..solvers.base import Callback

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


@contextmanager
def steps_told(
    callback: Callable[[dict[str, Any]], None] | None, steps: int, disable: bool | None
) -> Iterator[Callback]:
    """The callback of ``solve`` that moves the host's progress bars and preview, and stops when its user does."""
    import comfy.model_management
    from tqdm.auto import tqdm

    with tqdm(total=steps, disable=disable) as bar:

        def stepped(step: int, total: int, now: Tensor, z0: Tensor, sigma: Tensor) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update()
            if callback is not None:
                callback({"x": now, "i": step, "sigma": sigma, "sigma_hat": sigma, "denoised": z0.detach()})

        yield stepped
