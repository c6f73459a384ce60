"""A prior made of ComfyUI's MODEL and VAE, inside one of its samplers.

The host runs nodes and samplers in ``torch.inference_mode``, where gradients do not exist and a call for them does
nothing, in silence. Here everything that a gradient passes is a normal tensor of our own: the decoder is a float32
copy, the denoiser (for solvers which differentiate through it) is a copy too, and every tensor that enters is cloned.
The host's models are only read. What cannot be right is refused in a sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from ..fitted import differentiated
from ..guidance_vae import Calls, compare
from ..measurement import Measurement
from ..prior import Codec, over_image
from ..solvers import ReSample, Solver, solve
from .comfy_checks import check_schedule, check_sizes
from .comfy_conditions import check_shared
from .comfy_copy import fresh, independent_denoiser, renew
from .comfy_levels import HostDenoiser
from .comfy_memory import is_whole, load, own_patcher, planned_memory
from .comfy_noise import noise_numbers, step_generators
from .comfy_progress import steps_told
from .comfy_refusals import USE_DECODER, gradients_told
from .comfy_vae import VaeCopy


class ComfyPrior:
    """A LatentPrior from inside a sampler function: the host's guided model and a differentiable copy of its VAE.

    Args:
        model: what the host calls its sampler function with; see ``HostDenoiser``.
        extra_args: of the same call.
        vae: the host's VAE object.
        solver: whose gradients will be asked for: through "denoiser" prepares the model for them.
        shape: of the latents, for the host's memory plan.
        guidance_vae: in place of ``vae`` for the data term.
        tile: side in pixels of the tiles of both; 0 takes what the free memory bears.
    """

    def __init__(
        self,
        model: Any,
        extra_args: dict[str, Any],
        vae: Any,
        solver: Solver,
        shape: Sequence[int],
        guidance_vae: Any = None,
        tile: int = 0,
    ):
        guider = model.inner_model
        self._host = HostDenoiser(model, extra_args)
        self.flow, self.sigmas = self._host.flow, self._host.sigmas
        self.multiple = int(vae.spacial_compression_decode())
        latent_format = guider.inner_model.latent_format
        self._guide = self._vae = VaeCopy(guidance_vae or vae, latent_format, tile)
        own, others = [own_patcher(self._guide.network, guidance_vae or vae)], []
        if guidance_vae is not None and isinstance(solver, ReSample):  # the one that decodes without a gradient
            self._vae = VaeCopy(vae, latent_format, tile)
            own.append(own_patcher(self._vae.network, vae))

        self._graph_call: Any = None
        self._graph_arguments: dict[str, Any] = {}
        memory = 0.0
        if solver.through == "denoiser":
            self._graph_call, self._graph_arguments, denoiser = independent_denoiser(model, extra_args)
            memory += 6 * guider.inner_model.memory_required(list(shape))
            own.append(denoiser)
        else:
            others = [guider.model_patcher, *getattr(guider, "loaded_models", [])]
        memory += planned_memory(solver, guidance_vae or vae, shape, [*own, *others])
        self._patchers = own  # the host forgets, and moves, models whose patcher is gone
        self._load = partial(load, own, others, memory, solver.through)
        self._load()
        # a step size of 0 has no gradient, and that is what was asked for
        self._checked: set[str] = set() if getattr(solver, "eta", 1.0) > 0 else {"model", "decoder"}

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The host's posterior mean: x (B, C, h, w) is ``z0 + sigma eps``, sigma (B,), for flow models too."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self._finite(self._host.denoise(x, sigma))
        if self._graph_call is None:
            raise AdaptDiffuseError("This solver asked for a gradient of the model that was not prepared.")
        self._check_once("model", x)
        self._reload()
        z0 = self._graph_call(*self._host.in_host(x, sigma), **self._graph_arguments)
        if not z0.requires_grad:
            raise AdaptDiffuseError(f"The gradient is lost inside the model (a patch of it detaches). {USE_DECODER}")
        return self._finite(z0)

    def decode(self, z0: Tensor) -> Tensor:
        """(B, 3, H, W) on [0, 1], not clamped, through our float32 copy of the VAE."""
        self._reload()
        return self._vae.decode(z0)

    def encode(self, image: Tensor) -> Tensor:
        """The latent, in the model's scale, of (B, 3, H, W) on [0, 1], through the same copies."""
        self._reload()
        return self._vae.encode(image)

    @property
    def guide(self) -> Codec:
        """Our float32 copy of the guidance VAE, or of the VAE."""
        self._reload()
        return Calls(self._guide.encode, self._guided)

    def _reload(self) -> None:
        """Put our copies back where the host has moved them for what it ran since (a ControlNet with a VAE, say)."""
        if not all(map(is_whole, self._patchers)):
            self._load()
        for patcher in self._patchers:  # the host may have put them back by itself, in inference mode
            renew(patcher.model)

    def _finite(self, z0: Tensor) -> Tensor:
        """The first of the model's answers, which must be numbers: the decoder is not to blame for what it is given."""
        if "output" not in self._checked:
            self._checked.add("output")
            if not bool(torch.isfinite(z0).all()):
                raise AdaptDiffuseError(
                    "The model's output is not finite: load it in another precision (bf16, fp32), or another model."
                )
        return z0

    def _guided(self, z0: Tensor) -> Tensor:
        if differentiated(z0):
            self._check_once("decoder", z0)
        return self._guide.decode(z0)

    def _check_once(self, part: str, source: Tensor) -> None:
        """Watch the first gradient that arrives at ``source``: all zeros mean that the chain is broken."""
        if part in self._checked:
            return
        self._checked.add(part)

        def arrived(gradient: Tensor) -> None:
            if not bool(torch.isfinite(gradient).all()):
                raise AdaptDiffuseError(f"The gradient of the {part} is not finite: it overflows on this photo.")
            if not bool(gradient.any()):
                raise AdaptDiffuseError(f"The gradient of the {part} is zero everywhere: guidance cannot work with it.")

        source.register_hook(arrived)


class WatchedMeasurement(Measurement):
    """A measurement that ends the run, in the middle of a fit too, as soon as the host's user asks for it."""

    def residual(self, image: Tensor) -> Tensor:
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()
        return super().residual(image)

    def select(self, indices: Tensor) -> WatchedMeasurement:
        chosen = super().select(indices)
        return WatchedMeasurement(chosen.y, chosen.degradation)


def guided_sampler(
    solver: Solver,
    measurement: Measurement,
    vae: Any,
    indices: Sequence[int] | None = None,
    guidance_vae: Any = None,
    tile: int = 0,
    in_part: bool = False,
) -> Any:
    """A SAMPLER of the host that runs ``solver`` on ``measurement``.

    Args:
        measurement: the photos (B, 3, H, W) and their degradation.
        vae: the host's VAE, decoded for the data term.
        indices: the numbers of these photos in the batch they come from, for their seeds; 0, 1, ... by default.
        guidance_vae: a smaller VAE of the same latent space, decoded in its place.
        tile: side in pixels of the tiles that the decoder runs in; 0 takes what the free memory bears.
        in_part: whether the photos are some of a batch, whose pictures in the conditioning the host would hand out
            from the first one on; such pictures are refused.

    Raises:
        AdaptDiffuseError: a guidance VAE of another latent space.
    """
    import comfy.samplers

    tell_agreement(vae, guidance_vae)

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        if len(sigmas) < 2:
            return x
        check_sizes(x, measurement, vae)
        check_schedule(sigmas)
        for conds in getattr(model.inner_model, "conds", {}).values() if in_part else ():
            for cond in conds or []:
                check_shared(cond.get("cross_attn"), cond)
        with gradients_told(solver.through), torch.inference_mode(False), torch.no_grad():
            clean = fresh(measurement).for_latents(len(x))
            arguments = dict(extra_args or {})
            prior = ComfyPrior(model, arguments, vae, solver, x.shape, guidance_vae, tile)
            made = run(solver, clean, prior, indices, x, sigmas, arguments.get("seed"), callback, disable)
            return keep_unmasked(made, model, arguments, sigmas)

    sample.__name__ = type(solver).__name__.lower()
    return comfy.samplers.KSAMPLER(sample)


def run(
    solver: Solver,
    measurement: Measurement,
    prior: ComfyPrior,
    indices: Sequence[int] | None,
    x: Tensor,
    sigmas: Tensor,
    seed: int | None,
    callback: Callable[[dict[str, Any]], None] | None,
    disable: bool | None,
) -> Tensor:
    """The sampler function outside inference mode: latents in and out are in the host's coordinates."""
    x, levels = x.clone(), sigmas.detach().cpu().clone().double()  # not every device has float64
    if prior.flow:
        highest = float(prior.sigmas[-1])
        levels = levels.clamp(max=highest / (1 + highest))  # pure noise, t = 1, has no finite ratio
        x, levels = x / (1 - over_image(levels[:1], x)), levels / (1 - levels)
    generators = step_generators(seed, noise_numbers(indices, len(x)), x)
    located = WatchedMeasurement(measurement.y.to(x), measurement.degradation)
    with steps_told(callback, len(levels) - 1, disable) as stepped:
        z = solve(solver, prior, located, x, [levels] * len(x), generators, stepped)
    last = over_image(levels[-1:], z)
    return z / (1 + last) if prior.flow else z


def keep_unmasked(made: Tensor, model: Any, arguments: dict[str, Any], sigmas: Tensor) -> Tensor:
    """The latents ``made`` with what Set Latent Noise Mask does not mark put back, as the host's own samplers leave it.

    Args:
        model, arguments, sigmas: of the host's call of the sampler function.
    """
    mask, options = arguments.get("denoise_mask"), arguments.get("model_options", {})
    if mask is None or float(sigmas[-1]) > 0:
        return made
    if (change := options.get("denoise_mask_function")) is not None:
        more = {"model": model.inner_model, "sigmas": model.sigmas}
        mask = change(sigmas[-2:-1].to(made).expand(len(made)), mask, extra_options=more)
    return made * mask + model.latent_image * (1 - mask)


def tell_agreement(vae: Any, guidance_vae: Any) -> None:
    """Log how much the guidance VAE, if there is one, is like ``vae``. Raises AdaptDiffuseError where it cannot be."""
    if guidance_vae is not None:
        logging.info(str(compare(host_codec(vae), host_codec(guidance_vae))))


def host_codec(vae: Any) -> Calls:
    """The host's own VAE between images (B, 3, H, W) and latents in its raw scale."""
    return Calls(lambda image: vae.encode(image.movedim(1, -1)), lambda latent: vae.decode(latent).movedim(-1, 1))
