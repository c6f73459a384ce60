"""Run by ComfyUI's interpreter, ComfyUI importable: every solver inside the host and outside, as JSON on stdout."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inside_tools import (  # first: it makes this process a ComfyUI
    REPOSITORY,
    SEED,
    After,
    CountedBlur,
    Padded,
    Spy,
    distance,
    loaded_digest,
    module_at,
    native,
    pack,
    photo,
    sample,
    tell,
)

# isort: split
import comfy.ldm.models.autoencoder
import comfy.model_management
import comfy.sd
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, RandomNoise, SamplerCustomAdvanced

from adapt_diffuse.bundled import bundled_encoders, bundled_model
from adapt_diffuse.degradation import GaussianBlur
from adapt_diffuse.guidance import data_gradient, safe_norm
from adapt_diffuse.hosts.comfy_model import load_diffusers
from adapt_diffuse.hosts.comfy_vae import VaeCopy
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.schedule import descend
from adapt_diffuse.severity import Severity, load_severity_encoder
from adapt_diffuse.solvers import (
    DCDP,
    DPS,
    GMLDPS,
    LATINO,
    MPGD,
    PSLD,
    FlowDPS,
    LatentDAPS,
    LatentDiffPIR,
    ReSample,
    solve,
)
from adapt_diffuse.solvers.psld import glued
from adapt_diffuse.start import StartSettings, flash_start

models = module_at("models of the tests", REPOSITORY / "tests" / "models.py")
ENCODER = "severity-flowers-128-gaussian-blur"
NODES = {LatentDiffPIR: "DiffPIRNode"}  # the others' are called as they are
SOLVERS: dict[str, Any] = {
    "gml-dps-denoiser": GMLDPS(2.0, 0.5, "denoiser"),
    "gml-dps-decoder": GMLDPS(2.0, 0.5, "decoder"),
    "psld-denoiser": PSLD(2.0, 0.5, "denoiser"),
    "psld-decoder": PSLD(2.0, 0.5, "decoder"),
    "resample": ReSample(400.0, 1.0, every=2, iterations=3, eta_ddim=0.5),
    "diffpir": LatentDiffPIR(0.5, 0.3, 2),
    "latino": LATINO(0.5, 0.3),
    "mpgd": MPGD(2.0, 0.3),
    "flow-dps": FlowDPS(2.0, 2),
    "latent-daps": LatentDAPS(2, 2),
    "dcdp": DCDP(2, 0.5),
}
HIDDEN = ("learning_rate", "discrepancy", "tau")  # numbers that have no widget


def sampler_node(solver: Any, image: torch.Tensor, degradation: Any, vae: Any, latent: Any) -> Any:
    """The SAMPLER of the solver's node, with the solver's own numbers on the widgets."""
    numbers = {name: value for name, value in dataclasses.asdict(solver).items() if name not in HIDDEN}
    if isinstance(solver, LatentDAPS):
        del numbers["churn"], numbers["trust"]
    name = NODES.get(type(solver), f"{type(solver).__name__}Node")
    node = getattr(pack("nodes.solvers"), name, None) or getattr(pack("nodes.quick_solvers"), name)
    return node.execute(image=image, degradation=degradation, vae=vae, **numbers, latent=latent).result[0]


def sampled(model: Any, conditioning: Any, sampler: Any, sigmas: torch.Tensor, latent: Any) -> torch.Tensor:
    noise, guider = RandomNoise.execute(SEED).result[0], BasicGuider.execute(model, conditioning).result[0]
    return SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]


@dataclasses.dataclass
class Told:
    """A severity encoder whose severity is set by hand, as by Set Severity."""

    encoder: Any
    sigma_hat: float

    def predict(self, image: torch.Tensor, multiple: int = 1, encode: Any = None) -> Severity:
        self.found = self.encoder.predict(image, multiple, encode)
        return dataclasses.replace(self.found, sigma_hat=torch.tensor([self.sigma_hat]))


def restored(name: str) -> dict[str, Any]:
    """A photo restored by the nodes, one after the other, and by ``restore`` outside the host."""
    solver, y = SOLVERS[name], models.drawn_batch(1, 64, 48)
    sigma_hat = 1.4  # high: ReSample fits pixels there, and latents further down
    with torch.inference_mode():
        model, vae, conditioning = pack("nodes.load").LoadDiffusers.execute("flowers-128 (bundled)").result
        loaded = pack("nodes.load").LoadSeverityEncoder.execute(f"{ENCODER} (bundled)").result[0]
        blur = pack("nodes.blur").GaussianBlurNode.execute(1.5, 0.05).result[0]
        image = y.movedim(1, -1)
        found, estimate, _ = pack("nodes.severity").EncodeSeverity.execute(image, vae, loaded).result
        severity = pack("nodes.severity").SetSeverity.execute(estimate, sigma_hat).result[0]
        latents, schedules, _ = (
            pack("nodes.start").StartTime.execute(model, severity, 6, 1.2, "matched", "continuous", 0).result
        )
        sampler = sampler_node(solver, image, blur, vae, latents[0])
        before = loaded_digest_of(model, vae)
        out = sampled(model, conditioning, sampler, schedules[0], latents[0])
        after = loaded_digest_of(model, vae)
        inside = pack("nodes.decode").DecodeRestoration.execute(out, vae).result[0].movedim(-1, 1)
        start_image = vae.decode(severity.latent).movedim(-1, 1)
    told = Told(load_severity_encoder(bundled_encoders()[ENCODER]), sigma_hat)
    outside = restore(
        y, GaussianBlur(1.5, 0.05), DiffusersPrior.load(bundled_model()), solver, generators_for(SEED, 1), told,
        StartSettings(noise_correction=1.2, steps=6),
    )  # fmt: skip
    return {
        "result": distance(inside, outside.image),
        "moved": distance(start_image, outside.image),
        "severity": distance(found.sigma_hat, told.found.sigma_hat),
        "start": float(schedules[0][0]),
        "expected_start": float(outside.sigma_start[0]),
        "unchanged": before == after,
    }


def loaded_digest_of(model: Any, vae: Any) -> str:
    return loaded_digest(pack("adapt_diffuse.hosts.comfy_model").HostModel(model, vae, []))


@dataclasses.dataclass
class PenaltySpy(Spy):
    """A Spy whose objective has a solver's own term, through the encoder."""

    solver: Any = None

    def gradient(self, prior: Any, measurement: Any, x: Any, sigma: Any) -> Any:
        def penalty(z0: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            if isinstance(self.solver, PSLD):
                image = glued(image, measurement)
            return 10 * safe_norm(z0 - prior.encode(image))

        return data_gradient(prior, measurement, x, sigma, self.through, 1.0, penalty)


def gradient(name: str) -> dict[str, float]:
    """The gradient through decoder and encoder (and denoiser) inside the host and outside."""
    solver = SOLVERS[name]
    with torch.inference_mode():
        host = load_diffusers(bundled_model())
        latent = torch.randn(1, 4, 15, 12, generator=torch.Generator().manual_seed(1))
        sigmas = descend(0.45, host.model.get_model_object("model_sampling").sigmas, 2)
        spy = PenaltySpy(solver.through, solver=solver)
        sample(host, spy, Measurement.of(photo(), GaussianBlur(1.5, 0.05)), latent, sigmas)
    outside = Padded(DiffusersPrior.load(bundled_model()))
    measurement = Measurement.of(photo(), GaussianBlur(1.5, 0.05))
    own, plain = [], []
    for x, sigma, found, _ in spy.seen:
        own.append(distance(found, spy.gradient(outside, measurement, x, sigma).gradient))
        plain.append(distance(found, data_gradient(outside, measurement, x, sigma, spy.through).gradient))
    return {"own": max(own), "without_the_term": min(plain), "steps": len(own)}


def encoder() -> dict[str, Any]:
    """What our copy of the host's own KL autoencoder encodes, though that one draws from its distribution."""
    with torch.inference_mode():
        host = native(True)
        regularizer = host.vae.first_stage_model.regularization
        image = photo()[:, :, :56, :40].movedim(1, -1)
        raw = host.vae.encode(image)
        regularizer.sample = True
        with torch.inference_mode(False):
            own = VaeCopy(host.vae, host.model.model.latent_format)
            source = photo()[:, :, :56, :40].requires_grad_()
            first, second = own.encode(source), own.encode(source)
            (slope,) = torch.autograd.grad(first.square().sum(), source)
        return {
            "same_twice": bool(torch.equal(first, second)),
            "mean": distance(first.detach(), host.model.model.process_latent_in(raw)),
            "slope": float(slope.norm()),
            "samples_still": regularizer.sample,
            "random": isinstance(regularizer, comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer),
        }


def ended(name: str) -> dict[str, Any]:
    """A run on a model of the host's own kind, ended by an exception, then by the user; and as a batch."""

    def fail(step: int) -> None:
        if step == 2:
            raise KeyError("on purpose")

    def stop(step: int) -> None:
        if step == 2:
            comfy.model_management.interrupt_current_processing()

    with torch.inference_mode():
        host = native(True)
        whole = Measurement.of(photo(2), GaussianBlur(torch.tensor([1.0, 1.5]), 0.05))
        latent = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(1))
        sigmas = torch.tensor([1.0, 0.5, 0.2, 0.0])
        before = loaded_digest(host)
        first = sample(host, SOLVERS[name], whole, latent, sigmas, cfg=2.0, indices=[0, 1])
        raised = []
        for after in (fail, stop):
            solver = After(SOLVERS[name], after)
            try:
                sample(host, solver, whole, latent, sigmas, cfg=2.0, indices=[0, 1])
            except (KeyError, comfy.model_management.InterruptProcessingException) as error:
                raised.append([type(error).__name__, solver.count])
        again = sample(host, SOLVERS[name], whole, latent, sigmas, cfg=2.0, indices=[0, 1])
        part = whole.select(torch.tensor([1]))
        alone = sample(host, SOLVERS[name], part, latent[1:], sigmas, cfg=2.0, indices=[1])
        return {
            "raised": raised,
            "unchanged": before == loaded_digest(host),
            "same_again": bool(torch.equal(first, again)),
            "finite": bool(torch.isfinite(first).all()),
            "alone": distance(first[1:], alone),
        }


def cancelled_fit(level: float) -> dict[str, Any]:
    """A fit of a thousand iterations, cancelled in its fifth."""
    with torch.inference_mode():
        host = native(True)
        with torch.inference_mode(False):
            blur = CountedBlur(1.0, 0.0)
        latent = torch.randn(1, 4, 8, 6, generator=torch.Generator().manual_seed(1))
        solver = ReSample(every=1, iterations=1000)
        try:
            sample(host, solver, Measurement.of(photo(), blur), latent, torch.tensor([level, 0.0]), cfg=2.0)
            raised = "nothing"
        except comfy.model_management.InterruptProcessingException as error:
            raised = type(error).__name__
        return {"raised": raised, "calls": blur.calls}


def without_pull() -> dict[str, bool]:
    """Step sizes of 0, whose gradients are zero because that is what was asked for."""
    with torch.inference_mode():
        host = native(True)
        measurement = Measurement.of(photo(), GaussianBlur(1.0, 0.05))
        latent, sigmas = torch.ones(1, 4, 8, 6), torch.tensor([1.0, 0.5, 0.0])
        none, little = (
            sample(host, GMLDPS(eta, 0.0, "denoiser"), measurement, latent, sigmas, cfg=2.0) for eta in (0.0, 0.1)
        )
        return {"finite": bool(torch.isfinite(none).all()), "same": bool(torch.equal(none, little))}


def pixels(through: str) -> dict[str, float]:
    """DPS on a model of pixels: inside the host, with its own VAE and the host's "pixel_space", and outside."""
    with tempfile.TemporaryDirectory() as root:
        folder = models.save_pixel_model(Path(root) / "pixels")
        y, solver = models.drawn_batch(1, 16, 24), DPS(1.0, through, False)  # type: ignore[arg-type]
        prior = DiffusersPrior.load(folder)
        settings, generators = StartSettings(steps=6), generators_for(SEED, 1)
        measurement = Measurement.of(y, GaussianBlur(1.0, 0.05))
        severity = Severity(prior.encode(y), torch.tensor([0.5]), (16, 24))
        begin = flash_start(severity, prior, settings, generators)
        expected = prior.decode(solve(solver, prior, measurement, begin.x, begin.schedules, generators))
        found = {}
        with torch.inference_mode():
            host = load_diffusers(folder)
            stock = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
            image = y.movedim(1, -1)
            blur = pack("nodes.blur").GaussianBlurNode.execute(1.0, 0.05).result[0]
            for name, vae in (("own", host.vae), ("stock", stock)):
                severity = pack("nodes.wires").HostSeverity(vae.encode(image), torch.tensor([0.5]), (16, 24))
                latents, schedules, _ = (
                    pack("nodes.start")
                    .StartTime.execute(host.model, severity, 6, 1.0, "matched", "continuous", 0)
                    .result
                )
                sampler = sampler_node(solver, image, blur, vae, latents[0])
                out = sampled(host.model, host.conditioning, sampler, schedules[0], latents[0])
                # not clamped, as the expected one
                found[name] = distance((out["samples"] + 1) / 2, expected)
        return found


REPORTS: dict[str, Callable[[], Any]] = {
    **{f"restored-{name}": lambda name=name: restored(name) for name in SOLVERS},  # type: ignore[misc]
    **{f"gradient-{name}": lambda name=name: gradient(name) for name in SOLVERS if name != "resample"},  # type: ignore
    **{f"ended-{name}": lambda name=name: ended(name) for name in SOLVERS},  # type: ignore[misc]
    "encoder": encoder,
    "cancelled-latents": lambda: cancelled_fit(0.3),
    "cancelled-pixels": lambda: cancelled_fit(1.5),
    "without-pull": without_pull,
    "pixels-denoiser": lambda: pixels("denoiser"),
    "pixels-decoder": lambda: pixels("decoder"),
}

if __name__ == "__main__":
    tell(REPORTS)
