"""A batch of photos in one run of the host's sampling, each from the level of its own severity.

The host's guider does what it does for its own samplers (conditioning, CFG, patches, offloading, previews, progress,
Cancel); the images join the reverse diffusion as sigma falls to theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..defaults import make_solver, stronger
from ..degradation import Degradation
from ..errors import AdaptDiffuseError
from ..measurement import Measurement
from ..memory import Machine
from ..restore import generators_for
from ..severity import Severity
from ..solvers import Solver, solve
from ..start import StartSettings, flash_schedules, flash_start
from .comfy import ComfyPrior, WatchedMeasurement, tell_agreement
from .comfy_conditions import check_shared, reads_one_level, remembers
from .comfy_copy import fresh
from .comfy_guider import conditioned
from .comfy_levels import model_levels, to_host
from .comfy_memory import HostMachine, photos_at_once
from .comfy_model import HostUNet
from .comfy_progress import steps_told
from .comfy_refusals import gradients_told

RANGE = 2.0  # by how much the ends of the fidelity dial change a strength; three times the tuned one diverges


@dataclass(frozen=True)
class Sampled:
    """What came out of a run.

    Attributes:
        latent: (B, C, h, w) clean latents, in the VAE's raw scale.
        starts: (B,) level of the first step of each photo.
        steps: (B,) int64 number of steps of each photo.
        levels: how many levels the model has.
    """

    latent: Tensor
    starts: Tensor
    steps: Tensor
    levels: int


def dialled_solver(name: str, degradation: Degradation, fidelity: float) -> Solver:
    """The solver ``name`` of the command line with its tuned strength, times ``RANGE ** (2 fidelity - 1)``.

    Args:
        fidelity: 0 trusts the model, 1 the photo; 0.5 is as tuned.

    Raises:
        AdaptDiffuseError: an unknown solver, or a fidelity outside [0, 1].
    """
    if not 0 <= fidelity <= 1:
        raise AdaptDiffuseError(f"The fidelity must be between 0 and 1, not {fidelity:g}.")
    return stronger(make_solver(name, degradation), RANGE ** (2 * fidelity - 1))


def pixel_multiple(model: Any) -> int:
    """The multiple of latent positions that the sides of a latent must have: more than 1 for our own UNets alone.

    The host's other models pad by themselves.
    """
    return getattr(unconditional(model), "multiple", 1)


def unconditional(model: Any) -> HostUNet | None:
    """The network of a MODEL that needs no conditioning, None for any other MODEL."""
    network = getattr(model.model, "diffusion_model", None)
    return network if isinstance(network, HostUNet) else None


def guider_of(model: Any, positive: Any, negative: Any, cfg: float, count: int) -> Any:
    """The host's guider for ``count`` photos.

    Args:
        positive, negative: CONDITIONING or None; without negative, ``cfg`` is not used.

    Raises:
        AdaptDiffuseError: a model that wants a prompt has none, or the photos have a prompt each.
    """
    if positive is None:
        if unconditional(model) is None:
            raise AdaptDiffuseError(
                "This model wants a prompt: connect a CLIP Text Encode to positive; its text may be empty."
            )
        positive = [[torch.zeros(1, 1, 1), {}]]
    for text, options in [*positive, *(negative or [])] if count > 1 else []:
        check_shared(text, options)
    return conditioned(model, positive, negative, cfg)


def sample_batch(
    guider: Any,
    vae: Any,
    solver: Solver,
    measurement: Measurement,
    severity: Severity,
    settings: StartSettings,
    seed: int,
    guidance_vae: Any = None,
    tile: int = 0,
    video: bool = False,
) -> Sampled:
    """Restore the latents of ``measurement``; photo i draws the numbers of ``seed + i``, as ``restore`` does.

    All photos go in one run where the memory bears them, otherwise as many at a time as it does, with the same result;
    one by one where a patch of the model ``remembers``, or the photos' levels differ and something in the guider
    ``reads_one_level``.

    Args:
        severity: of the photos, in the model's scale, their padding included.
        video: the photos are frames: all draw the numbers of ``seed``, and start at the level of the worst, so that
            what is the same in the frames is the same in what is restored of them.
        guidance_vae, tile: see ``guided_sampler``.

    Raises:
        AdaptDiffuseError: what the solver, the model or the VAE cannot do, with the reason.
    """
    import comfy.utils
    import latent_preview

    if video:
        severity = replace(severity, sigma_hat=severity.sigma_hat.max().expand(len(severity.sigma_hat)))
    model = guider.model_patcher
    sampling = model.get_model_object("model_sampling")
    starts, schedules = flash_schedules(severity.sigma_hat, model_levels(sampling), settings)
    steps = torch.tensor([len(schedule) - 1 for schedule in schedules])
    raw = model.get_model_object("latent_format").process_out(severity.z_hat)
    show = latent_preview.prepare_callback(model, int(steps.max()))
    tell_agreement(vae, guidance_vae)

    def sampled(part: Tensor) -> Tensor:
        first = seed if video else seed + int(part[0])
        chosen = Severity(severity.z_hat[part], severity.sigma_hat[part], severity.photo_size)
        sampler = joining_sampler(
            solver, measurement.select(part), vae, chosen, settings, first, guidance_vae, tile, video
        )
        return guider.sample(
            torch.zeros_like(raw[part]),
            raw[part],
            sampler,
            to_host(max((schedules[index] for index in part), key=len), sampling),
            callback=show if len(part) == len(raw) else partly(show, part, len(raw)),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=first,
        )

    differ = any(not torch.equal(schedule, schedules[0]) for schedule in schedules)
    alone = remembers(model) or (differ and reads_one_level(guider))
    at_once = 1 if alone else photos_at_once(model, raw.shape)
    clean = in_parts(sampled, len(raw), at_once, HostMachine(model.load_device))
    return Sampled(clean, starts, steps, len(model_levels(sampling)))


def partly(show: Callable[..., None], part: Tensor, count: int) -> Callable[..., None]:
    """The host's callback for some of ``count`` photos, as progress of all of them."""

    def shown(step: int, x0: Tensor, x: Tensor, total: int) -> None:
        show(int(part[0]) * total + len(part) * (step + 1) - 1, x0, x, count * total)

    return shown


def in_parts(run: Callable[[Tensor], Tensor], count: int, at_once: int, machine: Machine) -> Tensor:
    """``run`` on the indices of ``count`` photos, ``at_once`` of them at a time, fewer where the memory ran out."""
    done: list[Tensor] = []
    left = torch.arange(count)
    while len(left):
        part = left[:at_once]
        try:
            done.append(run(part))
        except Exception as error:
            if len(part) == 1 or not machine.ran_out(error):
                raise
        else:
            left = left[at_once:]
            continue
        # not inside the except clause: its traceback holds on to what filled the memory
        machine.release()
        at_once = len(part) // 2
    return torch.cat(done)


def joining_sampler(
    solver: Solver,
    measurement: Measurement,
    vae: Any,
    severity: Severity,
    settings: StartSettings,
    seed: int,
    guidance_vae: Any = None,
    tile: int = 0,
    video: bool = False,
) -> Any:
    """A SAMPLER of the host that makes its own starts from ``severity``, whatever latents it is given."""
    import comfy.samplers

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        with gradients_told(solver.through), torch.inference_mode(False), torch.no_grad():
            prior = ComfyPrior(model, dict(extra_args or {}), vae, solver, x.shape, guidance_vae, tile)
            known = fresh(measurement)
            located = WatchedMeasurement(known.y.to(x), known.degradation)
            z_hat, sigma_hat = severity.z_hat.clone().to(x), severity.sigma_hat.clone()
            generators = [one for _ in x for one in generators_for(seed, 1)] if video else generators_for(seed, len(x))
            begun = flash_start(Severity(z_hat, sigma_hat, severity.photo_size), prior, settings, generators)
            with steps_told(callback, len(sigmas) - 1, disable) as stepped:
                return solve(solver, prior, located, begun.x, begun.schedules, generators, stepped)

    sample.__name__ = type(solver).__name__.lower()
    return comfy.samplers.KSAMPLER(sample)
