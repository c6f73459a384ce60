"""A severity encoder that the host loads and unloads like its own models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..latent_space import LatentSpace
from ..severity import Severity, SeverityEncoder, load_severity_encoder

NUMBERS_PER_PIXEL = 800  # that the encoder keeps alive at once; generous


class HostSeverityEncoder:
    """A SeverityEncoder under the host's memory management."""

    def __init__(self, encoder: SeverityEncoder):
        import comfy.model_management
        import comfy.model_patcher

        self.encoder = encoder
        self.patcher = comfy.model_patcher.ModelPatcher(
            encoder, comfy.model_management.vae_device(), comfy.model_management.vae_offload_device()
        )

    @classmethod
    def load(cls, path: str | Path) -> HostSeverityEncoder:
        """From its safetensors file. Raises AdaptDiffuseError where that is damaged or no severity encoder."""
        with torch.inference_mode(False):
            return cls(load_severity_encoder(path))

    @property
    def space(self) -> LatentSpace:
        return self.encoder.space

    def check(self, vae: Any) -> None:
        """Raise AdaptDiffuseError unless the host's ``vae`` has the latent space that the encoder was trained in."""
        self.space.check(lambda image: vae.encode(image.movedim(1, -1)))

    def predict(self, photo: Tensor) -> Severity:
        """The severity of (B, 3, H, W) on [0, 1] of any size, on the CPU, in the model's scale."""
        import comfy.model_management

        memory = 4 * NUMBERS_PER_PIXEL * photo.shape[0] * photo.shape[2] * photo.shape[3]
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=True)
        return self.encoder.predict(photo)
