"""A prior made of ComfyUI's MODEL and VAE, inside one of its samplers.

The host runs nodes and samplers in ``torch.inference_mode``, where gradients do not exist and a call for them does
nothing, in silence. Here everything that a gradient passes is a normal tensor of our own: the decoder is a float32
copy, the denoiser (for solvers which differentiate through it) is a copy too, and every tensor that enters is cloned.
The host's models are only read. What cannot be right is refused in a sentence.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import AdaptDiffuseError
from ..measurement import Measurement
from ..prior import over_image
from ..restore import generators_for
from ..solvers import Solver, solve
from .comfy_copy import fresh, independent_denoiser, plain_copy

USE_DECODER = "Set the solver's 'through' to decoder: that needs no gradient of the model."
MAX_PADDING = 256  # pixels by which a latent may stand for more than the photo


class ComfyPrior:
    """A LatentPrior from inside a sampler function: the host's guided model and a differentiable copy of its VAE.

    Args:
        model: what the host calls its sampler function with; ``model(x, sigma, **extra_args)`` is the posterior mean
            after CFG, ControlNet, LoRA and masks.
        extra_args: of the same call.
        vae: the host's VAE object.
        through: "denoiser" prepares the model for gradients, "decoder" calls it as the host does.
        shape: of the latents, for the host's memory plan.
    """

    def __init__(self, model: Any, extra_args: dict[str, Any], vae: Any, through: str, shape: Sequence[int]):
        guider = model.inner_model
        patcher = guider.model_patcher
        self._sampling = patcher.get_model_object("model_sampling")
        self.flow = is_flow(self._sampling)
        self._format = normal_format(guider.inner_model.latent_format)
        self._decoder, self._image_scale, self._image_offset = decoder_copy(vae)
        self.multiple = int(vae.spacial_compression_decode())
        self.sigmas = model_levels(self._sampling)

        self._call, self._arguments = model, extra_args
        self._graph_call: Any = None
        self._graph_arguments: dict[str, Any] = {}
        own, others = [own_patcher(self._decoder, vae.device, vae.patcher.offload_device)], []
        memory = 3 * vae.memory_used_decode(tuple(shape), torch.float32)
        if through == "denoiser":
            self._graph_call, self._graph_arguments, denoiser = independent_denoiser(model, extra_args)
            memory += 6 * guider.inner_model.memory_required(list(shape))
            own.append(denoiser)
        else:
            others = [patcher, *getattr(guider, "loaded_models", [])]
        load(own, others, memory)
        self._patchers = own  # the host forgets, and moves, models whose patcher is gone
        self._device = vae.device
        self._checked: set[str] = set()

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The host's posterior mean: x (B, C, h, w) is ``z0 + sigma eps``, sigma (B,), for flow models too."""
        level = sigma.to(x)
        if self.flow:
            level = level / (1 + level)
            x = x * (1 - over_image(level, x))
        if not (torch.is_grad_enabled() and x.requires_grad):
            with torch.inference_mode():
                z0 = self._call(x, level, **self._arguments)
            return z0.clone()
        if self._graph_call is None:
            raise AdaptDiffuseError(f"This solver asked for a gradient that was not prepared. {USE_DECODER}")
        self._check_once("model", x)
        try:
            z0 = self._graph_call(x, level, **self._graph_arguments)
        except RuntimeError as error:
            if "nference" not in str(error):
                raise
            raise AdaptDiffuseError(f"A part of the model (ControlNet?) gives no gradient. {USE_DECODER}") from error
        if not z0.requires_grad:
            raise AdaptDiffuseError(f"The gradient is lost inside the model (a patch of it detaches). {USE_DECODER}")
        return z0

    def decode(self, z0: Tensor) -> Tensor:
        """(B, 3, H, W) on [0, 1], not clamped, through our float32 copy of the decoder."""
        if z0.requires_grad:
            self._check_once("decoder", z0)
        raw = self._format.process_out(z0).to(self._device, torch.float32)
        image = self._decoder.decode(raw) * self._image_scale + self._image_offset
        if z0.requires_grad and not image.requires_grad:
            raise AdaptDiffuseError("The gradient is lost inside this VAE's decoder: use another VAE.")
        return image.to(z0.device)

    def encode(self, image: Tensor) -> Tensor:
        """The latent, in the model's scale, of (B, 3, H, W) on [0, 1]."""
        pixels = image.to(self._device, torch.float32)
        raw = self._decoder.encode((pixels - self._image_offset) / self._image_scale)
        return self._format.process_in(raw).to(image)

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


def guided_sampler(solver: Solver, measurement: Measurement, vae: Any, indices: Sequence[int] | None = None) -> Any:
    """A SAMPLER of the host that runs ``solver`` on ``measurement``.

    Args:
        measurement: the photos (B, 3, H, W) and their degradation.
        vae: the host's VAE, decoded for the data term.
        indices: the numbers of these photos in the batch they come from, for their seeds; 0, 1, ... by default.
    """
    import comfy.samplers

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
        with torch.inference_mode(False), torch.no_grad():
            clean = fresh(measurement)
            return run(solver, clean, vae, indices, model, x, sigmas, dict(extra_args or {}), callback, disable)

    sample.__name__ = type(solver).__name__.lower()
    return comfy.samplers.KSAMPLER(sample)


def run(
    solver: Solver,
    measurement: Measurement,
    vae: Any,
    indices: Sequence[int] | None,
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any],
    callback: Callable[[dict[str, Any]], None] | None,
    disable: bool | None,
) -> Tensor:
    """The sampler function outside inference mode: latents in and out are in the host's coordinates."""
    import comfy.model_management
    from tqdm.auto import tqdm

    prior = ComfyPrior(model, extra_args, vae, solver.through, x.shape)
    x, levels = x.clone(), sigmas.detach().clone().double()
    if prior.flow:
        highest = float(prior.sigmas[-1])
        levels = levels.clamp(max=highest / (1 + highest))  # pure noise, t = 1, has no finite ratio
        x, levels = x / (1 - over_image(levels[:1], x)), levels / (1 - levels)
    generators = step_generators(extra_args.get("seed"), indices or range(len(x)), x)
    steps = len(levels) - 1

    with tqdm(total=steps, disable=disable) as bar:

        def stepped(step: int, total: int, now: Tensor, z0: Tensor, sigma: Tensor) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update()
            if callback is not None:
                callback({"x": now, "i": step, "sigma": sigma, "sigma_hat": sigma, "denoised": z0.detach()})

        located = Measurement(measurement.y.to(x), measurement.degradation)
        z = solve(solver, prior, located, x, [levels] * len(x), generators, stepped)
    last = over_image(levels[-1:], z)
    return z / (1 + last) if prior.flow else z


def is_flow(sampling: Any) -> bool:
    """Whether the host's latents at level t are ``(1 - t) z0 + t eps`` instead of ``z0 + sigma eps``.

    Raises:
        AdaptDiffuseError: a model whose latents are neither.
    """
    import comfy.model_sampling

    unknown = [getattr(comfy.model_sampling, name, None) for name in ("IMG_TO_IMG", "IMG_TO_IMG_FLOW")]
    if isinstance(sampling, tuple(kind for kind in unknown if kind is not None)):
        raise AdaptDiffuseError("This is an image-to-image model, not a diffusion prior: connect another MODEL.")
    return isinstance(sampling, comfy.model_sampling.CONST)


def model_levels(sampling: Any) -> Tensor:
    """The model's levels as ascending noise-to-signal sigmas, float64 on the CPU.

    Raises:
        AdaptDiffuseError: levels that are not finite and rising (a schedule that leaked in from another run).
    """
    levels = sampling.sigmas.detach().double().cpu().clone()
    if is_flow(sampling):
        levels = levels[levels < 1]  # pure noise has no finite ratio
        levels = levels / (1 - levels)
    levels = levels[levels > 0]
    if len(levels) < 2 or not bool(torch.isfinite(levels).all()) or not bool((levels.diff() > 0).all()):
        raise AdaptDiffuseError("The model's noise levels are not finite and rising: load the model again.")
    return levels


def to_host(sigmas: Tensor, sampling: Any) -> Tensor:
    """Noise-to-signal sigmas as SIGMAS of this model, float32 on the CPU."""
    return (sigmas / (1 + sigmas) if is_flow(sampling) else sigmas).float().cpu()


def check_schedule(sigmas: Tensor) -> None:
    if not bool(torch.isfinite(sigmas).all()) or not bool((sigmas.diff() < 0).all()) or not bool(sigmas[-1] >= 0):
        raise AdaptDiffuseError("SIGMAS must be finite and fall at every step: take them from Start Time.")


def check_sizes(x: Tensor, measurement: Measurement, vae: Any) -> None:
    """Raise AdaptDiffuseError where the latents cannot belong to the measured photos."""
    if x.ndim != 4:
        raise AdaptDiffuseError("The latent is that of a video: photo restoration needs latents of single images.")
    if len(x) != len(measurement.y):
        raise AdaptDiffuseError(
            f"The solver's image is a batch of {len(measurement.y)} but the latent one of {len(x)}: connect Start "
            "Time's latent to the solver's latent input too."
        )
    factor = int(vae.spacial_compression_decode())
    height, width = measurement.y.shape[2:]
    extra = (x.shape[2] * factor - height, x.shape[3] * factor - width)
    if min(extra) < 0 or max(extra) >= MAX_PADDING:
        raise AdaptDiffuseError(
            f"The latent stands for {x.shape[3] * factor} x {x.shape[2] * factor} pixels but the solver's image has "
            f"{width} x {height}: make both from the same photo."
        )


def step_generators(seed: int | None, indices: Sequence[int], like: Tensor) -> list[torch.Generator]:
    """One CPU generator per image, past the draw that the host has used for the start noise of the same seed.

    A photo restored here gets the numbers that ``restore`` gives it outside the host.
    """
    made = [generators_for((seed or 0) + index, 1)[0] for index in indices]
    for generator in made:
        torch.randn(like.shape[1:], generator=generator)
    return made


def decoder_copy(vae: Any) -> tuple[Any, float, float]:
    """A frozen float32 copy of the VAE's network, and the map ``image01 = output * scale + offset`` of its output.

    Raises:
        AdaptDiffuseError: a VAE that is none of single images, or whose output has another convention.
    """
    if getattr(vae, "first_stage_model", None) is None or getattr(vae, "latent_dim", 2) != 2:
        raise AdaptDiffuseError("This VAE is not one for single images: connect the VAE that belongs to the model.")
    # the host's map clamps, and works in place: find the straight line from three values inside its range
    low, middle, high = (float(vae.process_output(torch.full((1,), value))) for value in (0.25, 0.5, 0.75))
    if abs(low + high - 2 * middle) > 1e-5 or high <= low:
        raise AdaptDiffuseError("This VAE's output is not a linear map of image values: use another VAE.")
    scale = 2 * (high - low)
    network = plain_copy(vae.first_stage_model).float()
    return network, scale, middle - 0.5 * scale


def normal_format(latent_format: Any) -> Any:
    """A copy of the latent format without inference tensors among its constants."""
    copied = copy.copy(latent_format)
    for name, value in vars(copied).items():
        setattr(copied, name, fresh(value))
    return copied


def own_patcher(network: Any, load_device: torch.device, offload_device: torch.device) -> Any:
    import comfy.model_patcher

    return comfy.model_patcher.ModelPatcher(network, load_device, offload_device)


def load(own: list[Any], others: list[Any], memory: float) -> None:
    """Let the host make room for ``memory`` bytes and load our copies, whole, beside the models that it uses.

    Raises:
        AdaptDiffuseError: a copy does not fit whole; its layers would be overwritten before the gradient reads them.
    """
    import comfy.model_management

    comfy.model_management.load_models_gpu([*others, *own], memory_required=memory, minimum_memory_required=memory / 3)
    if any(getattr(patcher.model, "model_lowvram", False) for patcher in own):
        raise AdaptDiffuseError(
            "The GPU's memory does not hold the models that the gradients need: restore a smaller photo, set the "
            "solver's 'through' to decoder, or free memory."
        )
