"""The photo's own detail, put back where the host computes fast, until its user cancels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..detail import with_detail
from ..measurement import Measurement
from .comfy_copy import fresh
from .comfy_memory import HostMachine

FAST = ("cuda",)  # the devices that are known to have every operation of it
NUMBERS_PER_VALUE = 40  # alive at once, for each number of the photo; generous


class Cancellable(TorchFunctionMode):
    """Inside, a call of torch ends in the host's InterruptProcessingException once its user has cancelled."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()
        return func(*args, **(kwargs or {}))


def detail_put_back(image: Tensor, measurement: Measurement, strength: float) -> Tensor:
    """``with_detail`` on the host's GPU, where there is a fast one that holds the work, else where the image is.

    Args:
        image: (B, 3, H, W) on [0, 1], of the measurement's ``image_size``.
    """
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    with Cancellable(), torch.inference_mode(False), torch.no_grad():
        if not strength or image.device == device or device.type not in FAST:
            return with_detail(image, measurement, strength)
        comfy.model_management.free_memory(4 * NUMBERS_PER_VALUE * image[:1].numel(), device)
        photos = [(one, measurement.select(torch.tensor([index]))) for index, one in enumerate(image.split(1))]
        return torch.cat([detail_of_one(*photo, strength, HostMachine(device)) for photo in photos])


def detail_of_one(image: Tensor, measurement: Measurement, strength: float, machine: HostMachine) -> Tensor:
    """``with_detail`` of one photo on the machine's device, or where the photo is when that does not hold the work."""
    try:
        # a copy: an operator keeps what it has moved to a device, and the wire's own would hold it there for ever
        there = Measurement(measurement.y.to(machine.device), fresh(measurement.degradation))
        return with_detail(image.to(machine.device), there, strength).to(image.device)
    except Exception as error:
        if not machine.ran_out(error):
            raise
    machine.release()  # not inside the except clause, which keeps what did not fit
    return with_detail(image, measurement, strength)
