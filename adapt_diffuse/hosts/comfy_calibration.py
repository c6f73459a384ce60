"""A calibration in place of a trained severity encoder, with the host's VAE."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..degradation import Degradation
from ..latent_space import LatentSpace
from ..severity import Encode, Severity
from ..severity.calibration import Calibration, calibrate, encodings
from .comfy_encoder import host_latent_space, raw_encode

ENCODINGS = 2  # of every photo whose severity is predicted


class HostCalibration:
    """What flows where a ``HostSeverityEncoder`` does, measured by the host's VAE instead of trained."""

    def __init__(self, calibration: Calibration, space: LatentSpace):
        self.calibration, self.space = calibration, space

    @classmethod
    def measure(cls, vae: Any, model: Any, photos: Tensor, degradation: Degradation, count: int = 1) -> HostCalibration:
        """Calibrate on undamaged ``photos`` (n, 3, H, W) on [0, 1].

        Args:
            model: the host's MODEL, for the scale of its latents.
            count: how many photos ``degradation`` is for.

        Raises:
            AdaptDiffuseError: a VAE that is not the model's, or photos that do not fit.
        """
        space = host_latent_space(vae, model)
        encode = watched(scaled_encode(vae, space), encodings(len(photos), degradation, count))
        return cls(calibrate(photos, degradation, encode, space.factor, count), space)

    @property
    def degradation(self) -> Degradation:
        """What it was calibrated for."""
        return self.calibration.degradation

    def check(self, vae: Any) -> None:
        """Raise AdaptDiffuseError unless the host's ``vae`` is that of the calibration."""
        self.space.check(raw_encode(vae), "calibration")

    def predict(self, photo: Tensor, vae: Any, multiple: int = 1) -> Severity:
        """The severity of (B, 3, H, W) on [0, 1], at the image's size; see ``Calibration.predict``."""
        encode = watched(scaled_encode(vae, self.space), ENCODINGS * len(photo))

        def one_by_one(image: Tensor) -> Tensor:
            return torch.cat([encode(one) for one in image.split(1)])

        with torch.inference_mode():
            return self.calibration.predict(photo, math.lcm(self.space.factor, multiple), one_by_one)


def scaled_encode(vae: Any, space: LatentSpace) -> Encode:
    """The host's encoding in the model's scale."""
    encode = raw_encode(vae)
    return lambda image: space.from_raw(encode(image))


def watched(encode: Encode, times: int) -> Encode:
    """``encode``, which moves the host's progress bar, all in all ``times`` often, and ends when its user cancels."""
    import comfy.model_management
    import comfy.utils

    bar = comfy.utils.ProgressBar(times)

    def checked(image: Tensor) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        encoded = encode(image)
        bar.update(1)
        return encoded

    return checked
