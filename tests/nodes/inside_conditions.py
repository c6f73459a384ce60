"""Run by ComfyUI's interpreter, ComfyUI importable: what models, VAEs and conditions may bring along, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from inside_tools import SEED, native, pack, tell  # first: it makes this process a ComfyUI

# isort: split

import comfy.controlnet
import comfy.latent_formats
import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import comfy.sd
import torch
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_custom_sampler import CFGGuider, RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from setups import NoControl

from adapt_diffuse.bundled import bundled_model, default_encoder
from adapt_diffuse.hosts.comfy_levels import model_levels
from adapt_diffuse.hosts.comfy_memory import HostMachine, load, own_patcher, photos_at_once, planned_memory
from adapt_diffuse.hosts.comfy_model import HostModel
from adapt_diffuse.schedule import descend
from adapt_diffuse.severity.calibration_photos import sample_views
from adapt_diffuse.solvers import LDPS


def image(count: int = 2) -> torch.Tensor:
    """Photos (count, 40, 48, 3) of the host, the more of them the plainer."""
    views = sample_views(40, 48)
    return torch.cat([0.5 + (views[:1] - 0.5) / (1 + 2 * i) for i in range(count)]).movedim(1, -1).contiguous()


def restored(host: HostModel, photos: torch.Tensor, seed: int = 0, **options: Any) -> torch.Tensor:
    degradation = pack("adapt_diffuse.degradation").GaussianBlur(1.0, 0.05)
    node = pack("nodes.restore").RestorePhoto
    options = {"steps": 4, **options}
    return node.execute(photos, host.model, host.vae, degradation, "default", 0.5, seed, **options).result


def said(run: Callable[[], Any]) -> str:
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def pictures() -> dict[str, str]:
    """A condition with a picture for each of two photos, and with one for both."""
    with torch.inference_mode():
        host = native(True)
        text = host.conditioning[0][0]
        found = {}
        for count in (1, 2):
            hint = torch.zeros(count, 3, 40, 48)
            first = comfy.controlnet.ControlBase()
            first.set_cond_hint(hint)
            second = comfy.controlnet.ControlBase()
            second.set_previous_controlnet(first)
            held = {
                "control": {"control": second},
                "reference": {"reference_latents": [torch.zeros(count, 4, 10, 12)]},
                "mask": {"mask": torch.ones(count, 40, 48)},
            }
            guider_of = pack("adapt_diffuse.hosts.comfy_restore").guider_of
            for name, options in held.items():
                found[f"{name} {count}"] = said(partial(guider_of, host.model, [[text, options]], None, 1.0, 2))
        return found


def pictures_of_a_part() -> dict[str, str]:
    """A mask for each of two photos, of which a solver or an inversion gets both, or the second alone."""
    found = {}
    with torch.inference_mode():
        host = native(True)
        text, negative = host.conditioning[0][0], host.conditioning[1:]
        blur = pack("adapt_diffuse.degradation").GaussianBlur(1.0, 0.05)
        whole = {"samples": host.vae.encode(image()), "batch_index": [0, 1]}
        part = {"samples": whole["samples"][1:], "batch_index": [1]}
        first = {"samples": whole["samples"][:1], "batch_index": [0]}
        again = {"samples": whole["samples"].repeat(2, 1, 1, 1), "batch_index": [0, 1, 0, 1]}
        for name, latent, count in (
            ("whole", whole, 2),
            ("whole, twice", again, 2),
            ("first", first, 2),
            ("second", part, 2),
            ("second, one mask", part, 1),
        ):
            masked = [[text, {"mask": torch.ones(count, 40, 48), "mask_strength": 0.5}]]
            guider = CFGGuider.execute(host.model, masked, negative, 2.0).result[0]
            solver = pack("nodes.solver_inputs").sampler_of(LDPS(), image(), blur, host.vae, latent).result[0]
            noise, sigmas = RandomNoise.execute(SEED).result[0], torch.tensor([0.5, 0.2, 0.0])
            found[name] = said(partial(SamplerCustomAdvanced.execute, noise, guider, solver, sigmas, latent))
        for name, levels_of in (("inverted alone", [0.2, 0.5]), ("inverted together", [0.4, 0.4])):
            severity = pack("nodes.wires").HostSeverity(whole["samples"], torch.tensor(levels_of), (40, 48))
            masked = [[text, {"mask": torch.ones(2, 40, 48)}]]
            node = pack("nodes.invert").InvertToStart
            found[name] = said(partial(node.execute, host.model, masked, severity, 2, 1.0, "continuous"))
    return found


class ByContrast:
    """A severity encoder of the host that finds photos the worse the more contrast they have."""

    def __init__(self, host: HostModel):
        views = sample_views(40, 48)
        blur = pack("adapt_diffuse.degradation").GaussianBlur(1.0, 0.05)
        self.real = pack("adapt_diffuse.hosts.comfy_calibration").HostCalibration.measure(
            host.vae, host.model, views, blur, 2
        )
        self.space, self.check = self.real.space, self.real.check

    def predict(self, photo: torch.Tensor, vae: Any, multiple: int) -> Any:
        return replace(self.real.predict(photo, vae, multiple), sigma_hat=4 * photo.flatten(1).std(1))


def momentum() -> dict[str, Any]:
    """The host's guidance with momentum: a batch against its photos alone, and against guidance without."""
    with torch.inference_mode():
        host = native(True)
        prompts = {"positive": host.conditioning[:1], "negative": host.conditioning[1:], "cfg": 4.0}
        prompts["severity_encoder"] = ByContrast(host)
        patched = host._replace(model=APG.execute(host.model, 1.0, 0.0, -0.75).result[0])
        both = restored(patched, image(), **prompts)[0]
        alone = [restored(patched, image()[i : i + 1], i, **prompts)[0] for i in range(2)]
        plain = restored(host, image(), **prompts)[0]
        remembers = pack("adapt_diffuse.hosts.comfy_restore").remembers
        return {
            "alone": float((both - torch.cat(alone)).abs().max()),
            "plain": float((both - plain).abs().max()),
            "remembers": [remembers(patched.model), remembers(host.model)],
        }


class Brightening(NoControl):
    """A ControlNet as far as its range of steps goes, which it tests as those of the host do."""

    def get_control(self, x: torch.Tensor, t: torch.Tensor, *args: Any) -> Any:
        if self.previous_controlnet is not None:
            return self.previous_controlnet.get_control(x, t, *args)
        if self.timestep_range is None or t[0] > self.timestep_range[0] or t[0] < self.timestep_range[1]:
            return None
        return {"input": [], "middle": [torch.full((1,), 30.0)], "output": []}


def steered(host: HostModel, name: str) -> tuple[HostModel, Any]:
    """The host's model and positive conditioning, steered in some steps alone; the prompts are far apart."""
    text, other = host.conditioning[0][0], 3 * host.conditioning[1][0]
    if name == "range":
        return host, [[text, {"start_percent": 0.0, "end_percent": 0.85}], [other, {"start_percent": 0.85}]]
    if name == "control":
        hint = torch.zeros(1, 3, 40, 48)
        late = Brightening().set_cond_hint(hint, timestep_percent_range=(0.85, 1.0))
        return host, [[text, {"control": Brightening().set_cond_hint(hint).set_previous_controlnet(late)}]]
    if name == "patch":
        (shrunk,) = PatchModelAddDownscale.execute(host.model, 1, 2.0, 0.0, 0.85, True, "bicubic", "bicubic").result
        return host._replace(model=shrunk), [[text, {}]]
    if name == "guidance":
        late = host.model.get_model_object("model_sampling").percent_to_sigma(0.85)
        changed = host._replace(model=host.model.clone())
        changed.model.set_model_sampler_post_cfg_function(
            lambda args: args["denoised"] * (0.8 if float(args["sigma"][0]) < late else 1.0)
        )
        return changed, [[text, {}]]
    return host, [[text, {}]]


def some_steps(name: str) -> dict[str, Any]:
    """What steers a model in some steps: a batch against its photos alone, and in how many runs of the host."""
    runs: list[int] = []
    real = comfy.samplers.CFGGuider.sample

    def counted(self: Any, noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        runs.append(len(noise))
        return real(self, noise, *args, **kwargs)

    with torch.inference_mode():
        host = native(True)
        encoder = ByContrast(host)
        steered_host, positive = steered(host, name)
        options = {"positive": positive, "negative": host.conditioning[1:], "cfg": 3.0, "severity_encoder": encoder}
        comfy.samplers.CFGGuider.sample = counted
        try:
            both = restored(steered_host, image(), **options)[0]
            restored(steered_host, image(), video=True, **options)  # one start for all
        finally:
            comfy.samplers.CFGGuider.sample = real
        alone = torch.cat([restored(steered_host, image()[i : i + 1], i, **options)[0] for i in range(2)])
        plain = restored(host, image(), **{**options, "positive": host.conditioning[:1]})[0]
    return {
        "alone": float((both - alone).abs().max()),
        "plain": float((both - plain).abs().max()),
        "runs": runs,
    }


def scales() -> dict[str, Any]:
    """The bundled model with latents of other scales, with and without its severity encoder connected."""
    with torch.inference_mode():
        host = pack("adapt_diffuse.hosts.comfy_model").load_diffusers(bundled_model())
        encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(default_encoder("gaussian-blur"))
        own = host.model.get_model_object("latent_format")
        other = comfy.latent_formats.LatentFormat()
        other.scale_factor, other.latent_channels = 2 * own.scale_factor, own.latent_channels
        found = {"own": restored(host, image(1))[2]}
        for name, latent_format in (("other", other), ("channels", comfy.latent_formats.SDXL_Playground_2_5())):
            changed = host._replace(model=host.model.clone())
            changed.model.add_object_patch("latent_format", latent_format)
            found[f"{name} connected"] = said(partial(restored, changed, image(1), severity_encoder=encoder))
            try:
                found[name] = restored(changed, image(1))[2]
            except Exception as error:
                found[name] = str(error)
        return found


def empty_vae() -> dict[str, str]:
    """What a checkpoint without a VAE gives, in every node that asks for one and a photo."""
    with torch.inference_mode():
        host = pack("adapt_diffuse.hosts.comfy_model").load_diffusers(bundled_model())
        vae = comfy.sd.VAE(sd={})
        blur = pack("adapt_diffuse.degradation").GaussianBlur(1.0, 0.05)
        encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(default_encoder("gaussian-blur"))
        return {
            "restore": said(lambda: restored(host._replace(vae=vae), image())),
            "severity": said(lambda: pack("nodes.severity").EncodeSeverity.execute(image(), vae, encoder)),
            "solver": said(lambda: pack("nodes.solver_inputs").sampler_of(LDPS(), image(), blur, vae)),
        }


def levels() -> dict[str, Any]:
    """Of models with ten thousand levels (Flux) and with a thousand: how many there are, and what is walked."""
    found = {}
    for name, kind in (("flux", comfy.model_sampling.ModelSamplingFlux), ("sd3", None)):
        parent = kind or comfy.model_sampling.ModelSamplingDiscreteFlow
        sampling = type("Sampling", (parent, comfy.model_sampling.CONST), {})()
        kept = model_levels(sampling)
        found[name] = [len(sampling.sigmas), len(kept), len(descend(0.5, kept)) - 1, float(kept[0]), float(kept[-1])]
    return found


def memory() -> dict[str, Any]:
    """What the host is asked for, and of which models, where the VAE has a device of its own."""
    machine = comfy.model_management
    loaded: list[list[Any]] = []
    before = machine.load_models_gpu, machine.get_total_memory
    with torch.inference_mode(False), torch.no_grad():
        host = native(True)
        own = own_patcher(torch.nn.Linear(2, 2), host.vae)
        beside, away = host.model.clone(), host.model.clone()
        away.load_device = torch.device("meta")
        machine.get_total_memory = lambda device: 8 * 2**30
        machine.load_models_gpu = lambda models, **asked: loaded.append(models)
        try:
            for other in (beside, away):
                load([own], [other], 1.0, "decoder")
            plans = [planned_memory(LDPS(), host.vae, (1, 4, 1024, 1024), [other]) for other in (beside, away)]
            host.model.memory_required = lambda shape: shape[0] * 2**30 + 3 * 2**30  # with a reserve
            at_once = photos_at_once(host.model, (9, 4, 8, 8))
        finally:
            machine.load_models_gpu, machine.get_total_memory = before
        away.get_free_memory = lambda device: 5.0 if device == torch.device("meta") else 0.0
        return {
            "loaded": [[one is own for one in models] for models in loaded],
            "spared": plans[1] - plans[0] - host.model.model_size(),
            "at once": at_once,
            "spare": (8 * 2**30 - host.model.model_size() - machine.minimum_inference_memory()) / 2**30 - 3,
            "free": [HostMachine(away.load_device, away).free(), HostMachine(host.vae.device, beside).free() > 2**20],
        }


REPORTS: dict[str, Callable[[], Any]] = {
    "pictures": pictures,
    "pictures of a part": pictures_of_a_part,
    "momentum": momentum,
    **{f"steered by {name}": partial(some_steps, name) for name in ("none", "range", "control", "patch", "guidance")},
    "scales": scales,
    "empty VAE": empty_vae,
    "levels": levels,
    "memory": memory,
}

if __name__ == "__main__":
    tell(REPORTS)
