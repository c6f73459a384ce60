"""The forms of the guided solvers that hold the posterior mean fixed, against their objective written down again."""

import pytest
import torch

from adapt_diffuse.solvers import GMLDPS, LDPS, PSLD, State, ddim_step
from tests.reference import relative_error
from tests.toy_scene import PHOTO, PRIOR, data_term, scene

ETA, GAMMA = 2.0, 0.7
SOLVERS = {
    "ldps": LDPS(ETA, "decoder", normalise=False),
    "gml-dps": GMLDPS(ETA, GAMMA, "decoder", normalise=False),
    "psld": PSLD(ETA, GAMMA, "decoder", normalise=False),
}
every = pytest.mark.parametrize("name", SOLVERS)


def own_term(name, z0, measurement):
    """The solver's own term per image, on [-1, 1] images where the toy autoencoder is."""
    if name == "ldps":
        return torch.zeros(len(z0), dtype=z0.dtype)
    image = PRIOR.decode(z0)
    if name == "psld":
        photo = image[:, :, : PHOTO[0], : PHOTO[1]]
        degradation = measurement.degradation
        glued = degradation.adjoint(measurement.y) + photo - degradation.adjoint(degradation(photo))
        # what is beyond the photo is the decoder's own
        below = torch.cat([glued, image[:, :, : PHOTO[0], PHOTO[1] :]], 3)
        image = torch.cat([below, image[:, :, PHOTO[0] :]], 2)
    return (z0 - PRIOR.encode(image)).flatten(1).norm(dim=1)


def objective(name, z0, measurement):
    return ETA * data_term(measurement, z0) + GAMMA * own_term(name, z0, measurement)


def pull(name, x, sigma, measurement):
    """What a step moves beside the ancestral step, divided by k: the gradient that it takes."""
    noise = torch.zeros_like(x)
    moved, z0 = SOLVERS[name].step(State(x, lambda: noise), sigma, sigma / 2, PRIOR, measurement)
    k = ((1 + sigma**2) * (1 + sigma**2 / 4)).sqrt().reshape(-1, 1, 1, 1)
    return (ddim_step(x, z0, sigma, sigma / 2, noise) - moved) / k, z0


@every
@pytest.mark.parametrize("task", ["blur", "mask"])
def test_the_pull_is_the_gradient_of_the_objective_with_respect_to_z0(name, task):
    x, sigma, measurement = scene(task=task)
    found, z0 = pull(name, x, sigma, measurement)
    source = PRIOR.denoise(x, sigma).requires_grad_()
    (expected,) = torch.autograd.grad(objective(name, source, measurement).sum(), source)
    assert torch.equal(z0, source.detach())
    assert relative_error(found, expected) < 1e-9
    if name != "ldps":
        (without,) = torch.autograd.grad(ETA * data_term(measurement, source).sum(), source)
        assert relative_error(found, without) > 1e-2  # the term of its own is in it


@every
def test_the_pull_is_the_slope_of_the_objective(name):
    x, sigma, measurement = scene()
    found, z0 = pull(name, x, sigma, measurement)
    for seed in range(3):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ends = (objective(name, z0 + 1e-5 * sign * direction, measurement) for sign in (1, -1))
        higher, lower = ends
        assert relative_error((found * direction).flatten(1).sum(1), (higher - lower) / 2e-5) < 1e-6


@every
def test_the_denoiser_is_never_asked_for_a_gradient(name):
    class Watched:
        sigmas, multiple = PRIOR.sigmas, PRIOR.multiple
        decode, encode, guide = PRIOR.decode, PRIOR.encode, PRIOR
        graphs = []

        def denoise(self, x, sigma):
            z0 = PRIOR.denoise(x, sigma)
            self.graphs.append(torch.is_grad_enabled() or z0.requires_grad)
            return z0

    x, sigma, measurement = scene()
    SOLVERS[name].step(State(x.requires_grad_(), lambda: torch.zeros_like(x)), sigma, sigma / 2, Watched(), measurement)
    assert Watched.graphs == [False]
