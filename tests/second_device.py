"""A second device that needs no GPU: its tensors live on the CPU, and refuse to meet a tensor that says it does.

What a GPU would refuse is refused here: tensors of two devices in one operation, a GPU's tensor as a numpy array, a
CPU generator that draws on the GPU and, of a device without it, float64. What a GPU would wait for is counted: every
number and every tensor that is read back. Results are those of the CPU, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "elsewhere"
DEVICE = f"{NAME}:0"
# operations that take tensors of both devices, as those of CUDA do; "index" its indices alone
CARRIERS = ("aten::_to_copy", "aten::copy_", "aten::_local_scalar_dense")
# operations of which not even a number of no dimension may be on the other device
STRICT = ("aten::cat", "aten::stack", "aten::_foreach", "aten::mm", "aten::bmm", "aten::convolution")


class WrongDevice(RuntimeError):
    """What a GPU would have refused."""


@dataclass
class Traffic:
    """What was read back from the device so far, each of which a GPU waits for: how often."""

    read: int = 0


class There(torch.Tensor):
    """A tensor on the second device; ``inner`` holds its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> There:
        with torch.inference_mode(inner.is_inference()):
            made: There = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                inner.size(),
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device=torch.device(DEVICE),
                requires_grad=inner.requires_grad,
            )
        made.inner = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.inner!r})"

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise WrongDevice(f"{func} ran outside of second_device().")


class _Device(TorchDispatchMode):
    """Runs every operation on the values, after a look at where its tensors are."""

    def __init__(self, has_float64: bool) -> None:
        super().__init__()
        self.has_float64 = has_float64
        self.traffic = Traffic()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # as inference mode leaves them: made of operations that follow
                return func.decompose(*args, **kwargs)
        name = func._schema.name
        tensors = [leaf for leaf in _pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        any_there = any(isinstance(tensor, There) for tensor in tensors)
        wanted = kwargs.get("device")
        to_there = any_there if wanted is None else torch.device(wanted).type == NAME
        _check_meeting(name, args, tensors)
        if to_there and kwargs.get("generator") is not None:
            raise WrongDevice(f"{name}: a CPU generator draws on another device")
        if any_there and (name == "aten::_local_scalar_dense" or not to_there):
            self.traffic.read += 1
        inside = {**kwargs, "device": torch.device("cpu")} if wanted is not None else kwargs
        result = func(*_pytree.tree_map(_values, args), **_pytree.tree_map(_values, inside))
        known = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, There)}

        def placed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            # a copy that changes device and dtype at once is made on the device: Apple's cannot, or gives zeros
            if value.dtype is torch.float64 and not self.has_float64 and (to_there or any_there):
                raise WrongDevice(f"{name}: a device without float64")
            if not to_there:
                return value
            return known.get(id(value)) if id(value) in known else There(value)

        return _pytree.tree_map(placed, result)


def _values(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, There) else leaf


def _check_meeting(name: str, args: Any, tensors: list[torch.Tensor]) -> None:
    """Raise WrongDevice where a GPU's operation would meet a CPU tensor that it does not take."""
    if name in CARRIERS:
        return
    if name in ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"):
        if not isinstance(args[0], There):  # a GPU's tensor takes indices from anywhere, the CPU's its own alone
            tensors = [args[0], *(leaf for leaf in _pytree.tree_leaves(args[1:]) if isinstance(leaf, torch.Tensor))]
        else:
            tensors = [leaf for leaf in (args[0], *args[2:3]) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    strict = name.startswith(STRICT)
    here = [tensor for tensor in tensors if not isinstance(tensor, There) and (strict or tensor.dim() > 0)]
    if there and here:
        raise WrongDevice(f"{name}: tensors of two devices")


def _jvp(run: Callable[[torch.Tensor], torch.Tensor], primals: Any, tangents: Any) -> tuple[Any, torch.Tensor]:
    """torch.func.jvp by two passes backward: its own crashes with tensors that are wrapped."""
    with torch.enable_grad():
        source = primals[0].detach().requires_grad_()
        output = run(source)
        pull = torch.zeros_like(output, requires_grad=True)
        (pulled,) = torch.autograd.grad(output, source, pull, create_graph=True)
        return output, torch.autograd.grad(pulled, pull, tangents[0])[0]


def register() -> None:
    """Make torch know the device's name, once per process."""
    from torch.utils import backend_registration

    class Module(backend_registration._DummyBackendModule):
        def get_rng_state(self, device: Any = None) -> torch.Tensor:
            return torch.empty(0, dtype=torch.uint8)  # nothing is drawn on the device

        def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
            pass

    if torch._C._get_privateuse1_backend_name() != NAME:
        backend_registration._setup_privateuseone_for_python_backend(NAME, Module())


@contextmanager
def second_device(has_float64: bool = True) -> Iterator[Traffic]:
    """Within it ``DEVICE`` is a device like any other."""
    register()
    mode = _Device(has_float64)
    with mode, patch("torch.func.jvp", _jvp):
        yield mode.traffic
