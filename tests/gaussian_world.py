"""A world in which everything is known: Gaussian latents, a linear decoder, and so a Gaussian posterior.

``z ~ N(mean, covariance)``, ``D(z) = 1/2 + G z``, ``y = A(D(z)) + n`` with A linear. The denoiser is exact, the
posterior of z given y is in closed form, and what a solver makes of it can be held against the truth. Float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from adapt_diffuse.degradation import Degradation, measure, noise_levels, randn
from adapt_diffuse.guidance import Through
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.prior import LatentPrior
from adapt_diffuse.restore import damage_generators, generators_for
from adapt_diffuse.schedule import vp_sigmas
from adapt_diffuse.severity import Severity
from adapt_diffuse.solvers import State, ddim_step
from adapt_diffuse.start import Start, StartSettings, flash_start, noise_start
from tests.reference import ldm_alphas_cumprod


@dataclass(frozen=True)
class Gaussian:
    """``N(mean, covariance)``: (d,), (d, d)."""

    mean: Tensor
    covariance: Tensor

    @cached_property
    def axes(self) -> tuple[Tensor, Tensor]:
        """Variances (d,) and directions (d, d), one a column, of the principal axes."""
        variances, directions = torch.linalg.eigh(self.covariance)
        return variances, directions

    def whitened(self, samples: Tensor) -> Tensor:
        """Samples (n, d) along the principal axes, in standard deviations from the mean: N(0, I) if they are of it."""
        variances, directions = self.axes
        return (samples - self.mean) @ directions / variances.sqrt()

    def draw(self, eps: Tensor) -> Tensor:
        """Samples (n, d) of standard normal ``eps`` (n, d)."""
        variances, directions = self.axes
        return self.mean + (eps * variances.sqrt()) @ directions.mT


@dataclass(frozen=True)
class Deviation:
    """What samples have of a Gaussian, and what not, along each of its principal axes.

    Attributes:
        bias: (d,) of the samples' mean, in standard deviations of the Gaussian.
        ratio: (d,) the samples' variance over the Gaussian's.
        count: n.
    """

    bias: Tensor
    ratio: Tensor
    count: int

    @classmethod
    def of(cls, samples: Tensor, truth: Gaussian) -> Deviation:
        """Of samples (n, ...) with d entries each."""
        white = truth.whitened(samples.flatten(1))
        return cls(white.mean(0), white.var(0), len(white))

    @property
    def errors(self) -> Tensor:
        """(2 d,) deviations of means and variances in standard errors, which samples of the truth would have."""
        return torch.cat([self.bias * self.count**0.5, (self.ratio - 1) * ((self.count - 1) / 2) ** 0.5])

    @property
    def rms_bias(self) -> float:
        """Root mean square of ``bias``; samples of the truth have ``1 / sqrt(n)``."""
        return float(self.bias.square().mean().sqrt())


@dataclass(frozen=True)
class GaussianWorld:
    """The prior, and with it a ``LatentPrior`` whose denoiser is exact.

    Attributes:
        latents: what z is drawn from.
        decoder: G (3 H W, d).
        latent_shape: (C, h, w), d entries.
        image_shape: (3, H, W).
    """

    latents: Gaussian
    decoder: Tensor
    latent_shape: tuple[int, int, int]
    image_shape: tuple[int, int, int]

    @cached_property
    def sigmas(self) -> Tensor:
        return vp_sigmas(ldm_alphas_cumprod())

    @property
    def multiple(self) -> int:
        return self.image_shape[1] // self.latent_shape[1]

    @property
    def guide(self) -> GaussianWorld:
        return self

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        variances, directions = self.latents.axes
        shrink = variances / (variances + sigma.to(variances)[:, None] ** 2)
        along = (x.flatten(1) - self.latents.mean) @ directions
        return (self.latents.mean + (shrink * along) @ directions.mT).reshape(x.shape)

    def decode(self, z0: Tensor) -> Tensor:
        return 0.5 + (z0.flatten(1) @ self.decoder.mT).reshape(-1, *self.image_shape)

    def encode(self, image: Tensor) -> Tensor:
        return ((image - 0.5).flatten(1) @ self._inverse.mT).reshape(-1, *self.latent_shape)

    @cached_property
    def _inverse(self) -> Tensor:
        return torch.linalg.pinv(self.decoder)

    def seen(self, degradation: Degradation) -> Tensor:
        """H (m, d), what the measurement tells of a latent: ``A(D(z)) = A(1/2) + H z``; unobserved rows are zero."""
        columns = self.decoder.mT.reshape(-1, *self.image_shape)
        return degradation.observed(degradation(columns)).flatten(1).mT

    def posterior(self, measurement: Measurement, x: Tensor | None = None, sigma: float = 1.0) -> Gaussian:
        """Of z given one measurement (the first), or given x (1, C, h, w) = z + sigma eps as well.

        ``precision = covariance^-1 + H^T H / noise_std^2 (+ I / sigma^2)``.
        """
        seen, noise = self.seen(measurement.degradation), float(noise_levels(measurement.degradation, 1)) ** 2
        precision = torch.linalg.inv(self.latents.covariance)
        told = precision @ self.latents.mean + seen.mT @ self._offset(measurement) / noise
        precision = precision + seen.mT @ seen / noise
        if x is not None:
            told, precision = told + x.flatten() / sigma**2, precision + torch.eye(len(told)).to(told) / sigma**2
        covariance = torch.linalg.inv(precision)
        return Gaussian(covariance @ told, (covariance + covariance.mT) / 2)

    def _offset(self, measurement: Measurement) -> Tensor:
        """``y - A(1/2)`` (m,) of the first measurement, zero where nothing was observed."""
        grey = torch.full((1, *self.image_shape), 0.5, dtype=torch.float64)
        return measurement.degradation.observed(measurement.y[:1] - measurement.degradation(grey)).flatten()

    def measured(self, degradation: Degradation, count: int, seed: int = 0) -> Measurement:
        """One measurement of a latent of this world, ``count`` times over."""
        eps = randn((1, len(self.latents.mean)), self.latents.mean, generators_for(seed, 1))
        image = self.decode(self.latents.draw(eps))
        y = measure(image, degradation, damage_generators(seed, 1))
        return Measurement.of(y.expand(count, -1, -1, -1), degradation)

    def from_noise(self, count: int, settings: StartSettings, seed: int = 0) -> Start:
        """Exact draws of x at the highest level."""
        like, generators = self._like(count), generators_for(seed, count)
        start = noise_start(like, self, settings, generators)
        level = float(start.sigma[0])
        covariance = self.latents.covariance + level**2 * torch.eye(like[0].numel()).to(like)
        x = Gaussian(self.latents.mean, covariance).draw(start.x.flatten(1) / level)
        return Start(x.reshape(like.shape), start.sigma, start.schedules)

    def adaptive(self, measurement: Measurement, settings: StartSettings, seed: int = 0) -> Start:
        """The adaptive start of a perfect severity encoder: the posterior's mean, and its mean variance."""
        truth, count = self.posterior(measurement), len(measurement.y)
        z_hat = truth.mean.reshape(1, *self.latent_shape).expand(count, -1, -1, -1)
        sigma_hat = (truth.covariance.trace() / len(truth.mean)).sqrt().expand(count)
        severity = Severity(z_hat, sigma_hat, self.image_shape[1:])
        return flash_start(severity, self, settings, generators_for(seed, count))

    def _like(self, count: int) -> Tensor:
        return torch.zeros(count, *self.latent_shape, dtype=torch.float64)


def rotation(size: int, columns: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal columns (size, columns)."""
    return torch.linalg.qr(torch.randn(size, columns, generator=generator, dtype=torch.float64))[0]


def tiny_world(seed: int = 0, unit: bool = False) -> GaussianWorld:
    """Latents (2, 2, 2) of images (3, 4, 4); variances from 0.2 to 2 in random directions, or ``unit``: N(0, I)."""
    generator = torch.Generator().manual_seed(seed)
    shape, image = (2, 2, 2), (3, 4, 4)
    size = prod(shape)
    axes = rotation(size, size, generator)
    mean = 0.5 * torch.randn(size, generator=generator, dtype=torch.float64)
    covariance = axes * torch.logspace(-0.7, 0.3, size, dtype=torch.float64) @ axes.mT
    strengths = torch.linspace(0.4, 1.0, size, dtype=torch.float64)
    decoder = rotation(prod(image), size, generator) * strengths @ rotation(size, size, generator).mT
    if unit:
        mean, covariance = torch.zeros_like(mean), torch.eye(size, dtype=torch.float64)
    return GaussianWorld(Gaussian(mean, (covariance + covariance.mT) / 2), decoder, shape, image)


def pixel_world(seed: int = 0) -> GaussianWorld:
    """A world of pixels (3, 3, 3), for the solvers that know no autoencoder: ``D(z) = 1/2 + z / 4``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 3, 3)
    size = prod(shape)
    axes = rotation(size, size, generator)
    covariance = axes * torch.logspace(-1.0, 0.5, size, dtype=torch.float64) @ axes.mT
    latents = Gaussian(torch.zeros(size, dtype=torch.float64), (covariance + covariance.mT) / 2)
    return GaussianWorld(latents, torch.eye(size, dtype=torch.float64) / 4, shape, shape)


@dataclass(frozen=True)
class ExactSolver:
    """What a solver would be that knew ``E[z | x, y]``: the control, whose samples are the posterior's.

    Attributes:
        eta_ddim: 0 is deterministic after the start, 1 ancestral.
    """

    world: GaussianWorld
    eta_ddim: float = 1.0

    @property
    def through(self) -> Through:
        return "decoder"

    def step(
        self, state: State, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement
    ) -> tuple[Tensor, Tensor]:
        z0 = exact_mean(self.world, measurement, state.x, sigma)
        return ddim_step(state.x, z0, sigma, sigma_next, state.draw(), self.eta_ddim), z0


@dataclass(frozen=True)
class Unguided:
    """The prior's own sampler, which never looks at the measurement."""

    eta_ddim: float = 1.0

    @property
    def through(self) -> Through:
        return "decoder"

    def step(
        self, state: State, sigma: Tensor, sigma_next: Tensor, prior: LatentPrior, measurement: Measurement
    ) -> tuple[Tensor, Tensor]:
        z0 = prior.denoise(state.x, sigma)
        return ddim_step(state.x, z0, sigma, sigma_next, state.draw(), self.eta_ddim), z0


def exact_mean(world: GaussianWorld, measurement: Measurement, x: Tensor, sigma: Tensor) -> Tensor:
    """``E[z | x, y]`` (B, C, h, w) of latents that share one measurement and one level."""
    level = float(sigma[0])
    at_zero = world.posterior(measurement, torch.zeros_like(x[:1]), level)
    return (at_zero.mean + x.flatten(1) @ at_zero.covariance / level**2).reshape(x.shape)
