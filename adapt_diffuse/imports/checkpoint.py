"""Checkpoints of other projects (PyTorch Lightning's .ckpt, plain state dicts), read without running their code."""

from __future__ import annotations

import contextlib
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import read_safetensors
from ..errors import AdaptDiffuseError

# what Lightning keeps beside the weights; nothing here needs it
BYSTANDERS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)


class _Ignored:
    """Stands in for a pickled object that nothing here needs: keeps nothing of it and runs none of its code."""

    def __init__(self, *state: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _stand_in(name: str) -> type:
    module, _, simple = name.rpartition(".")
    return type(simple, (_Ignored,), {"__module__": module})


STAND_INS = tuple(_stand_in(name) for name in BYSTANDERS)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The dictionary in a ``.ckpt``, ``.pth`` or ``.pt`` file, or that of a safetensors file as "state_dict".

    Tensors stay on the disk until they are used, where the file's format allows it.

    Raises:
        AdaptDiffuseError: a file that is missing or truncated, no checkpoint, or one that would run code.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return {"state_dict": read_safetensors(path)[0]}
    if not path.is_file():
        raise AdaptDiffuseError(f"There is no file {path}.")
    try:
        with _bystanders_ignored():
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # whatever torch makes of the file
        raise AdaptDiffuseError(_reason(path, error)) from error
    if not isinstance(content, dict):
        raise AdaptDiffuseError(f"{path} is no checkpoint: it holds a {type(content).__name__}, not named weights.")
    return content


def _bystanders_ignored() -> contextlib.AbstractContextManager[object]:
    scope = getattr(torch.serialization, "safe_globals", None)  # torch 2.4 has none
    return scope(list(STAND_INS)) if scope else contextlib.nullcontext()


def _reason(path: Path, error: Exception) -> str:
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"{path} is not read: besides weights it holds '{named[1]}', which could run code. If you trust it, save "
            "its state_dict alone."
        )
    first = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if "weights_only" in first or isinstance(error, KeyError):  # torch's advice is to run what is in the file
        first = "it holds no weights that can be read"
    return f"{path} is not a complete PyTorch checkpoint ({first}). Fetch it again."


def state_dict_of(checkpoint: dict[str, Any], source: str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, by their names. Raises AdaptDiffuseError where there are none."""
    state = checkpoint.get("state_dict", checkpoint)
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)} if _named(state) else {}
    if not tensors:
        raise AdaptDiffuseError(f"{source} holds no named weights.")
    return tensors


def _named(state: object) -> bool:
    return isinstance(state, dict) and all(isinstance(key, str) for key in state)


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
