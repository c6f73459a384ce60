"""Restoration networks from image to image, such as SwinIR, by way of spandrel: what the method is compared with."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .errors import AdaptDiffuseError
from .imports.checkpoint import read_checkpoint
from .padding import pad_to_multiple


class ImageModel:
    """A network that makes a restored photo of a damaged one, at the same size.

    Args:
        descriptor: spandrel's ImageModelDescriptor.
        source: the file, for messages.

    Raises:
        AdaptDiffuseError: a network that enlarges, wants a mask, or works on other than RGB.
    """

    def __init__(self, descriptor: Any, source: str | Path):
        self.name = descriptor.architecture.name
        if getattr(descriptor, "purpose", None) not in ("Restoration", "SR", "FaceSR") or descriptor.scale != 1:
            raise AdaptDiffuseError(f"The {self.name} in {source} does not restore at the photo's own size.")
        if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
            raise AdaptDiffuseError(f"The {self.name} in {source} does not work on colour photos.")
        self.descriptor = descriptor.eval()

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> ImageModel:
        """The network in a file of any architecture that spandrel knows, float32, on ``device``.

        Raises:
            AdaptDiffuseError: spandrel is missing, or the file is missing, damaged, or of an unknown architecture.
        """
        path = Path(path)
        architectures = _architectures()
        content = read_checkpoint(path)
        canonicalize = spandrel_module("__helpers.canonicalize").canonicalize_state_dict
        unsupported = spandrel_module("__helpers.registry").UnsupportedModelError
        try:
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn from the global generator
                descriptor = architectures.load(canonicalize(content))
        except unsupported:
            raise AdaptDiffuseError(f"{path} is of no architecture that spandrel knows.") from None
        except Exception as error:  # whatever the architecture makes of a wrong file
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise AdaptDiffuseError(f"{path} cannot be loaded by spandrel ({reason}).") from error
        descriptor.model.requires_grad_(False)
        return cls(descriptor.to(torch.device(device), torch.float32), path)

    def __call__(self, photos: Tensor) -> Tensor:
        """Restored photos (B, 3, H, W) on [0, 1] of damaged ones of any size, one by one."""
        needs, (height, width) = self.descriptor.size_requirements, photos.shape[2:]
        # reflects small photos as often as it takes, which the networks' own padding does not
        padded = pad_to_multiple(photos, needs.minimum if min(height, width) < needs.minimum else needs.multiple_of)
        restored = [self.descriptor(photo.to(self.descriptor.device, torch.float32)) for photo in padded.split(1)]
        return torch.cat(restored)[..., :height, :width].to(photos)


def spandrel_module(name: str) -> ModuleType:
    """The module ``spandrel.<name>``.

    Where spandrel itself cannot start, because two of its architectures want torchvision, its other modules still can.

    Raises:
        AdaptDiffuseError: spandrel is not installed.
        ImportError: the module lacks what it needs.
    """
    found = importlib.util.find_spec("spandrel")
    if found is None or found.submodule_search_locations is None:
        raise AdaptDiffuseError("Networks from image to image need spandrel: pip install spandrel")
    try:
        importlib.import_module("spandrel")
    except (ImportError, RuntimeError):  # torchvision for another torch raises RuntimeError
        return _without_its_start(name, found.submodule_search_locations)
    return importlib.import_module(f"spandrel.{name}")


def _without_its_start(name: str, places: list[str]) -> ModuleType:
    bare = ModuleType("spandrel")
    bare.__path__ = places
    sys.modules["spandrel"] = bare
    try:
        return importlib.import_module(f"spandrel.{name}")
    finally:
        del sys.modules["spandrel"]


def _architectures() -> Any:
    """spandrel's registry of architectures; of SwinIR alone where there is no torchvision."""
    try:
        return spandrel_module("__helpers.main_registry").MAIN_REGISTRY
    except (ImportError, RuntimeError):
        helpers = spandrel_module("__helpers.registry")
        swinir = spandrel_module("architectures.SwinIR").SwinIRArch()
        registry = helpers.ArchRegistry()
        registry.add(helpers.ArchSupport.from_architecture(swinir))
        return registry
