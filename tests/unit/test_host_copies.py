"""Copies of the host's models, of modules that carry what a host with dynamic VRAM hangs on them."""

import gc
import weakref

import pytest
import torch
from torch import nn

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.comfy_copy import plain_copy
from adapt_diffuse.hosts.comfy_refusals import STORED


def layers():
    with torch.random.fork_rng():
        return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))


def pinned():
    """Two layers with a slice each of one large buffer, in records that point back to the layers."""
    network, buffer = layers(), torch.zeros(1 << 20)
    for index, layer in enumerate(network):
        layer._pins = {"weights": {"pin": buffer[index : index + 9], "balancer_entry": [0, 0, layer]}}
        layer._v, layer._v_block_faulted, layer.weight_function = (object(), 0, 9), True, [lambda weight: weight]
    return network


def test_a_copy_takes_nothing_along_of_what_the_host_hangs_on_layers(monkeypatch):
    network = pinned()
    copied = []
    real = torch.UntypedStorage.__deepcopy__
    monkeypatch.setattr(
        torch.UntypedStorage, "__deepcopy__", lambda one, memo: copied.append(one.nbytes()) or real(one, memo)
    )
    made = plain_copy(network)
    assert sum(copied) < 1000  # the weights
    for layer in made:
        assert not [name for name in vars(layer) if name.startswith(("_pins", "_v", "weight_function"))]
    assert all(hasattr(layer, "_pins") for layer in network)
    assert torch.equal(made[0].weight, network[0].weight) and made[0].weight is not network[0].weight


def test_a_copy_is_gone_with_its_last_name():
    made = plain_copy(pinned())
    layer = weakref.ref(made[1])
    gc.disable()
    try:
        del made
        assert layer() is None
    finally:
        gc.enable()


def test_weights_that_are_stored_in_float8_are_copied_where_all_are_cast_at_once():
    network = layers().to(torch.float8_e4m3fn)
    assert plain_copy(network, STORED).float()[0].weight.dtype is torch.float32
    with pytest.raises(AdaptDiffuseError, match="quantised"):
        plain_copy(network)
