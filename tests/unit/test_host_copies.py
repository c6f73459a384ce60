"""Copies of the host's models, of modules that carry what a host with dynamic VRAM hangs on them."""

import gc
import weakref

import pytest
import torch
from torch import nn

from adapt_diffuse.errors import AdaptDiffuseError
from adapt_diffuse.hosts.comfy_copy import plain_copy, renew
from adapt_diffuse.hosts.comfy_refusals import STORED, USE_DECODER, gradients_told


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


def test_a_copy_that_is_moved_in_inference_mode_gives_its_gradient_again():
    made, x = plain_copy(layers()), torch.ones(1, 3, requires_grad=True)
    made.register_buffer("offset", torch.ones(3))
    expected = torch.autograd.grad(made(x).sum(), x)[0]
    with torch.inference_mode():
        made.double().float()
    assert made[0].weight.is_inference() and made.offset.is_inference()
    with pytest.raises(RuntimeError, match="nference tensor"):
        made(x)
    renew(made)
    assert torch.equal(torch.autograd.grad(made(x).sum(), x)[0], expected)
    assert not made[0].weight.requires_grad and not made.offset.is_inference()


@pytest.mark.parametrize("through", ["decoder", "denoiser"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Inference tensors cannot be saved for backward.", "A part of the {} belongs to another node"),
        ("derivative for 'doubled' is not implemented", "A kernel of the {} (doubled) has no backward pass"),
    ],
)
def test_only_a_solver_through_the_denoiser_is_told_of_the_decoder(through, text, told):
    with pytest.raises(AdaptDiffuseError) as raised, gradients_told(through):
        raise RuntimeError(text)
    part, remedy = ("model", USE_DECODER) if through == "denoiser" else ("VAE", "Load the VAE again, or another one.")
    assert str(raised.value).startswith(told.format(part))
    assert str(raised.value).endswith(f" {remedy}")


def test_weights_that_are_stored_in_float8_are_copied_where_all_are_cast_at_once():
    network = layers().to(torch.float8_e4m3fn)
    assert plain_copy(network, STORED).float()[0].weight.dtype is torch.float32
    with pytest.raises(AdaptDiffuseError, match="quantised"):
        plain_copy(network)
