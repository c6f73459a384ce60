"""Reading and writing safetensors, with a sentence for every way in which a file can be wrong."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import AdaptDiffuseError

WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        AdaptDiffuseError: a file that is missing, truncated, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise AdaptDiffuseError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdaptDiffuseError(
            f"{path} is not a complete safetensors file ({error}). Fetch or make it again."
        ) from None


def write_safetensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file at once: the old file stays until the new one is complete."""
    from safetensors.torch import save_file

    tensors = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
    write_whole(Path(path), lambda partial: save_file(tensors, partial, metadata))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make the file under another name and put it in place when complete.

    An interrupt or a full disk leaves neither a half-written file nor damage to the old one.

    Raises:
        AdaptDiffuseError: the disk or the folder refuses.
    """
    from safetensors import SafetensorError

    # of this writer alone: another process may write the same file
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode  # the user's; safetensors makes files that only their owner can read
        write(partial)
        partial.chmod(mode)
        os.replace(partial, path)
    # a full disk is an OSError to Python, but not to safetensors and torch.save; a suffix of no format a ValueError
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise AdaptDiffuseError(f"{path} cannot be written ({reason}).") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; errors as in ``write_whole``."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def load_diffusers_weights(model: nn.Module, folder: Path) -> nn.Module:
    """Fill a diffusers model from ``folder``'s safetensors: float32, frozen, in evaluation mode.

    Raises:
        AdaptDiffuseError: weights that are missing, truncated, or of another architecture than config.json's.
    """
    tensors, _ = read_safetensors(folder / WEIGHTS)
    load_state(model, tensors, str(folder / WEIGHTS))
    return model.requires_grad_(False).eval()


def load_state(model: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Load ``tensors`` as float32, strictly. Raises AdaptDiffuseError naming the file where they do not fit."""
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise AdaptDiffuseError(f"The weights in {name} do not fit the model ({first[0].strip()[:200]}).") from None


def device_of(name: str) -> torch.device:
    """The device ``name``; "auto" is the first GPU where there is one, else the CPU.

    Raises:
        AdaptDiffuseError: a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        # torch answers a name that it does not know with the forty that it does
        why = "take auto, cpu, cuda or mps" if said.startswith(("Expected one of", "Invalid device string")) else said
        raise AdaptDiffuseError(f"The device '{name}' cannot be used ({why}).") from None
