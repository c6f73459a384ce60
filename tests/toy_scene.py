"""A photo that the toy decoder can make, measured, and latents on the way to it at three levels."""

import torch

from adapt_diffuse.degradation import GaussianBlur, MissingPixels, measure
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for
from adapt_diffuse.schedule import descend
from tests.reference import ToyPrior, toy_weights

PRIOR = ToyPrior(toy_weights(seed=2))
LEVELS = PRIOR.sigmas[::60]  # a coarse schedule, so that whole runs take milliseconds
STARTS = (float(PRIOR.sigmas[80]), float(PRIOR.sigmas[999]), float(PRIOR.sigmas[400]))
THROUGH = ("denoiser", "decoder")
PHOTO = (61, 58)  # not a multiple of 4: the latent stands for a padded photo
LATENT = (4, 16, 15)


def scene(count=3, task="blur", seed=0):
    """Latents at STARTS, and the measurement of a photo that the toy decoder can make."""
    generator = torch.Generator().manual_seed(seed)
    z_true = torch.randn(count, *LATENT, generator=generator, dtype=torch.float64)
    target = PRIOR.decode(z_true)[:, :, : PHOTO[0], : PHOTO[1]]
    if task == "blur":
        degradation = GaussianBlur(torch.linspace(0.5, 2.0, count), noise_std=0.05)
    else:
        mask = torch.rand(count, 1, *PHOTO, generator=generator) < 0.3
        degradation = MissingPixels(mask.float(), noise_std=0.05)
    measurement = Measurement.of(measure(target, degradation, generators_for(seed, count)), degradation)
    eps = torch.randn(count, *LATENT, generator=generator, dtype=torch.float64)
    sigma = torch.tensor(STARTS[:count], dtype=torch.float64)
    return z_true + sigma.reshape(-1, 1, 1, 1) * eps, sigma, measurement


def schedules(count=3):
    return [descend(start, LEVELS) for start in STARTS[:count]]


def data_term(measurement, z0):
    """|y' - A'(D(z0))| per image, written down again: y' and A' on [-1, 1] images."""
    image = 2 * PRIOR.decode(z0)[:, :, : PHOTO[0], : PHOTO[1]] - 1
    difference = (2 * measurement.y - 1) - (2 * measurement.degradation((image + 1) / 2) - 1)
    return measurement.degradation.observed(difference).flatten(1).norm(dim=1)
