"""Run by ComfyUI's interpreter, ComfyUI importable: Restore Photo and Calibrate Severity, as JSON on stdout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from inside_tools import as_flow, distance, loaded_digest, native, pack, tell  # first: it makes this a ComfyUI

# isort: split

import comfy.model_management
import comfy.samplers
import torch

from adapt_diffuse.bundled import bundled_model, default_encoder
from adapt_diffuse.defaults import make_solver, start_settings
from adapt_diffuse.degradation import measure, parse_degradation
from adapt_diffuse.finish import finished
from adapt_diffuse.hosts.comfy_model import HostModel
from adapt_diffuse.hosts.diffusers import DiffusersPrior
from adapt_diffuse.measurement import Measurement
from adapt_diffuse.restore import generators_for, restore
from adapt_diffuse.severity import Severity, load_severity_encoder
from adapt_diffuse.severity.calibration import calibrate
from adapt_diffuse.severity.calibration_photos import sample_views

SEED, STEPS = 11, 5
KINDS = {
    "gaussian-blur": ("gaussian-blur:std=1.5", "default", (48, 64)),
    "missing-pixels": ("missing-pixels:drop=0.6,seed=1", "gml-dps", (45, 61)),
    "resample": ("gaussian-blur:std=1", "resample", (32, 32)),
}


def photos(size: tuple[int, int]) -> torch.Tensor:
    """A photo with much detail and one with little."""
    views = sample_views(*size)
    return torch.cat([views[0], 0.5 + 0.1 * (views[8] - 0.5)]).reshape(2, 3, *size)


def bundled() -> HostModel:
    return pack("adapt_diffuse.hosts.comfy_model").load_diffusers(bundled_model())


def in_node(host: HostModel, y: torch.Tensor, text: str, solver: str, seed: int = SEED, **more: Any) -> Any:
    """Restore Photo's image, severity and report, without the last touch that the command line does not have."""
    degradation = pack("adapt_diffuse.degradation").parse_degradation(text, 0.05)
    image = y.movedim(1, -1).contiguous()
    node = pack("nodes.restore").RestorePhoto
    options = {"steps": STEPS, "match_colours": False, **more}
    return node.execute(image, host.model, host.vae, degradation, solver, 0.5, seed, **options).result


def outside(y: torch.Tensor, text: str, solver: str, encoder: Any) -> Any:
    """What the command line makes of the same photos."""
    prior = DiffusersPrior.load(bundled_model())
    degradation = parse_degradation(text, 0.05)
    chosen, settings = make_solver(solver, degradation), start_settings(solver, STEPS)
    result = restore(y, degradation, prior, chosen, generators_for(SEED, len(y)), encoder, settings)
    return replace(result, image=finished(result.image, Measurement.of(y, degradation)))


def trained(kind: str) -> dict[str, Any]:
    """A batch by a trained encoder: against its photos one by one, and against the command line."""
    text, solver, size = KINDS[kind]
    truth = photos(size)
    y = measure(truth, parse_degradation(text, 0.05), generators_for(1, 2))
    path = default_encoder(text.partition(":")[0])
    with torch.inference_mode():
        host = bundled()
        before = loaded_digest(host)
        encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(path)
        image, severity, report = in_node(host, y, text, solver, severity_encoder=encoder)
        alone = [in_node(host, y[i : i + 1], text, solver, SEED + i, severity_encoder=encoder)[0] for i in range(2)]
        after = loaded_digest(host)
    expected = outside(y, text, solver, load_severity_encoder(path))
    return {
        "shape": list(image.shape),
        "alone": float((image - torch.cat(alone)).abs().max()),
        "command_line": float((image.movedim(-1, 1) - expected.image).abs().max()),
        "moved": float((image.movedim(-1, 1) - y).abs().mean()),
        "sigma_hat": severity.sigma_hat.tolist(),
        "expected_sigma_hat": expected.severity.sigma_hat.tolist(),
        "report": report,
        "unchanged": before == after,
    }


def mixed() -> dict[str, Any]:
    """All levels, so that the photos join one after the other: how many are under way at each step."""
    text, _, size = KINDS["gaussian-blur"]
    y = measure(photos(size), parse_degradation(text, 0.05), generators_for(1, 2))
    under_way = []
    with torch.inference_mode():
        host = bundled()
        space = pack("adapt_diffuse.hosts.comfy_encoder").host_latent_space(host.vae, host.model)
        z_hat = space.from_raw(host.vae.encode(y.movedim(1, -1)))
        sigma_hat = torch.tensor([0.05, 0.12])

        class Fixed:
            def __init__(self, index: slice):
                self.space, self.index = space, index

            def check(self, vae: Any) -> None:
                pass

            def predict(self, photo: torch.Tensor, vae: Any, multiple: int) -> Severity:
                return Severity(z_hat[self.index], sigma_hat[self.index], size)

        real = comfy.samplers.CFGGuider.predict_noise

        def watch(self: Any, x: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
            under_way.append(len(x))
            return real(self, x, *rest, **options)

        options = {"steps": 0}
        comfy.samplers.CFGGuider.predict_noise = watch
        try:
            image, _, report = in_node(host, y, text, "ldps", severity_encoder=Fixed(slice(0, 2)), **options)
        finally:
            comfy.samplers.CFGGuider.predict_noise = real
        alone = [
            in_node(host, y[i : i + 1], text, "ldps", SEED + i, severity_encoder=Fixed(slice(i, i + 1)), **options)
            for i in range(2)
        ]
    return {
        "under_way": under_way,
        "alone": float((image - torch.cat([found[0] for found in alone])).abs().max()),
        "report": report,
        "reports": [found[2] for found in alone],
    }


def calibrated() -> dict[str, Any]:
    """Without an encoder that fits: against the package's own calibration, and through the nodes of that."""
    text, solver, size = "gaussian-blur:std=5", "default", (48, 64)
    degradation = parse_degradation(text, 0.05)
    y = measure(photos(size), degradation, generators_for(1, 2))
    prior = DiffusersPrior.load(bundled_model())
    expected = outside(y, text, solver, calibrate(sample_views(*size), degradation, prior.encode, prior.space.factor))
    with torch.inference_mode():
        host = bundled()
        image, severity, report = in_node(host, y, text, solver)
        same = pack("adapt_diffuse.degradation").parse_degradation(text, 0.05)
        photo = y.movedim(1, -1).contiguous()
        node = pack("nodes.calibrate").CalibrateSeverity
        (encoder,) = node.execute(host.model, host.vae, same, image=photo).result
        found = pack("nodes.severity").EncodeSeverity.execute(photo, host.vae, encoder).result
        good = sample_views(*size)[:3].movedim(1, -1)
        (other,) = node.execute(host.model, host.vae, same, good).result
    return {
        "image": float((image.movedim(-1, 1) - expected.image).abs().max()),
        "sigma_hat": severity.sigma_hat.tolist(),
        "expected_sigma_hat": expected.severity.sigma_hat.tolist(),
        "encoded": found[2],
        "z_hat": distance(encoder.space.from_raw(found[0].latent), expected.severity.z_hat),
        "told": report.splitlines()[-1],
        "scales": [encoder.calibration.scale, other.calibration.scale],
    }


def chosen() -> dict[str, Any]:
    """Without an encoder: which is taken, and that it is as if it were connected."""
    text, solver, size = KINDS["gaussian-blur"]
    y = measure(photos(size), parse_degradation(text, 0.05), generators_for(1, 2))
    box, found = pack("nodes.restore"), {}
    encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(default_encoder("gaussian-blur"))
    with torch.inference_mode():
        host = bundled()
        connected = in_node(host, y, text, solver, severity_encoder=encoder)
        image, _, report = in_node(host, y, text, solver)
        found["same"] = float((image - connected[0]).abs().max())
        found["told"] = [connected[2].splitlines()[-1], report.splitlines()[-1]]
        own, box.own_encoders = box.own_encoders, lambda: [default_encoder("mixed")]
        found["own"] = in_node(host, y, text, solver)[2].splitlines()[-1]
        box.own_encoders = own
        measurement = pack("adapt_diffuse.measurement").Measurement
        hole = pack("adapt_diffuse.degradation").parse_degradation("missing-box:height=9,width=9", 0.05)
        for name, kind, vae in (("hole", hole, host.vae), ("other space", None, OtherSpace(host.vae))):
            kind = kind or pack("adapt_diffuse.degradation").parse_degradation(text, 0.05)
            found[name] = type(box.encoder_for(measurement(y, kind), host.model, vae, None)[0]).__name__
    return found


class OtherSpace:
    """A VAE whose latents mean something else."""

    def __init__(self, vae: Any):
        self.vae, self.first_stage_model = vae, vae.first_stage_model

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.vae.encode(image).flip(1)


def video() -> dict[str, Any]:
    """How much frames differ, as they are and restored: one photo with the noise of each frame, and without."""
    text, size, count = "gaussian-blur:std=1.5", (48, 64), 6
    still = photos(size)[:1].expand(count, -1, -1, -1)
    clean = parse_degradation(text, 0.0)(still)
    y = measure(still, parse_degradation(text, 0.05), generators_for(1, count))
    found: dict[str, Any] = {"input": float(y.std(0).mean())}
    with torch.inference_mode():
        host = bundled()
        # ldps draws noise at every step; the default hardly does
        runs = [("video", y, "ldps", True), ("photos", y, "ldps", False), ("default", y, "default", True)]
        for name, frames, solver, on in [*runs, ("still", clean, "default", True)]:
            image = in_node(host, frames, text, solver, steps=12, video=on)[0]
            found[name] = float(image.std(0).mean())
            found[f"{name}, most"] = float((image - image[:1]).abs().max())
        alone = in_node(host, clean[:1], text, "default", steps=12)[0]
        found["alone"] = float((alone - image[:1]).abs().max())
    return found


def parts() -> dict[str, Any]:
    """Three photos at once, as many as the memory holds at a time, and fewer where it ran out all the same."""
    text, _, size = KINDS["gaussian-blur"]
    truth = torch.cat([photos(size), photos(size)[:1].flip(3)])
    y = measure(truth, parse_degradation(text, 0.05), generators_for(1, 3))
    module = pack("adapt_diffuse.hosts.comfy_restore")
    planned, joining = module.photos_at_once, module.joining_sampler
    found: dict[str, Any] = {}
    with torch.inference_mode():
        host = bundled()
        shape = (100, 4, 64, 64)
        at_once, total = [], comfy.model_management.get_total_memory
        try:
            for memory in (2, 8, 10**6):
                comfy.model_management.get_total_memory = lambda device, memory=memory: memory * 2**30
                at_once.append(module.photos_at_once(host.model, shape))
        finally:
            comfy.model_management.get_total_memory = total
        found["at_once"] = at_once
        images = {}
        for name, most, fits in (("whole", 3, 3), ("planned", 2, 3), ("halved", 3, 1)):
            taken: list[int] = []

            def watched(solver: Any, measurement: Any, *rest: Any, fits: int = fits, taken: list[int] = taken) -> Any:
                taken.append(len(measurement.y))
                if len(measurement.y) > fits:
                    raise torch.cuda.OutOfMemoryError("out of memory")
                return joining(solver, measurement, *rest)

            module.photos_at_once = lambda model, shape, most=most: most
            module.joining_sampler = watched
            try:
                for video in (False, True):
                    image = in_node(host, y, text, "ldps", video=video)[0]
                    images[name, video] = image
            finally:
                module.photos_at_once, module.joining_sampler = planned, joining
            found[name] = taken
    for name in ("planned", "halved"):
        found[f"{name}, off"] = max(
            float((images[name, video] - images["whole", video]).abs().max()) for video in (False, True)
        )
    return found


def finish() -> dict[str, Any]:
    """The last touch, without detail: the mean that is left of the residual, and the pixels outside of a hole."""
    blur, box = "gaussian-blur:std=1.5", "missing-box:height=12,width=14,top=16,left=20"
    truth, found = photos((48, 64))[:1], {}
    with torch.inference_mode():
        host = bundled()
        y = measure(truth, parse_degradation(blur, 0.05), generators_for(1, 1))
        for on in (False, True):
            image = in_node(host, y, blur, "default", match_colours=on, detail=0.0)[0].movedim(-1, 1)
            left = Measurement.of(y, parse_degradation(blur, 0.05)).residual(image).mean((2, 3))
            found[f"residual {on}"] = float(left.abs().max())
        node = pack("nodes.restore").RestorePhoto
        for noise_std in (0.01, 0.05):
            degradation = pack("adapt_diffuse.degradation").parse_degradation(box, noise_std)
            y = measure(truth, parse_degradation(box, noise_std), generators_for(1, 1)).clamp(0, 1)
            for known in ("auto", "keep", "restore"):
                image = node.execute(
                    y.movedim(1, -1), host.model, host.vae, degradation, "default", 0.5, SEED, steps=STEPS,
                    known_pixels=known, detail=0.0,
                ).result[0].movedim(-1, 1)  # fmt: skip
                off = (image - y).abs().amax(1)[0]
                hole = (image - truth).abs().amax(1)[0][16:28, 20:34].mean()
                found[f"{known} {noise_std}"] = [float(off[:, :8].max()), float(hole)]
    return found


def text_model(prepare: Callable[[HostModel], None]) -> dict[str, Any]:
    """A model of the host's own kind, with a prompt: batch against one by one, without a prompt, with two."""
    with torch.inference_mode():
        host = native(True)
        prepare(host)
        degradation = pack("adapt_diffuse.degradation").GaussianBlur(1.0, 0.05)
        image = torch.cat([photos((40, 48))]).movedim(1, -1).contiguous()
        node = pack("nodes.restore").RestorePhoto

        def run(part: torch.Tensor, seed: int, positive: Any = host.conditioning[:1], **more: Any) -> torch.Tensor:
            options = {"positive": positive, "steps": 3, **more}
            return node.execute(part, host.model, host.vae, degradation, "default", 0.5, seed, **options).result[0]

        both = run(image, 0, negative=host.conditioning[1:], cfg=2.0)
        alone = [run(image[i : i + 1], i, negative=host.conditioning[1:], cfg=2.0) for i in range(2)]
        other = run(image, 0)
        two = [[torch.cat([text for text, _ in host.conditioning]), {}]]
        refused = []
        for positive in (None, two):
            try:
                run(image, 0, positive)
            except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
                refused.append(str(error))
        return {
            "shape": list(both.shape),
            "alone": float((both - torch.cat(alone)).abs().max()),
            "cfg_counts": float((both - other).abs().max()),
            "refused": refused,
        }


def bordered() -> dict[str, Any]:
    """A photo on paper beside one that fills its canvas."""
    text, _, size = KINDS["gaussian-blur"]
    y = measure(photos((size[0] + 32, size[1] + 32)), parse_degradation(text, 0.05), generators_for(1, 2))
    paper = torch.full_like(y[1:], 0.9)
    paper[:, :, 16:-16, 16:-16] = y[:1, :, 16:-16, 16:-16]
    both = torch.cat([paper, y[1:]]).clamp(0, 1)
    with torch.inference_mode():
        host = bundled()
        encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(default_encoder("gaussian-blur"))
        image, _, report = in_node(host, both, text, "default", severity_encoder=encoder)
        alone, _, other = in_node(host, both[1:], text, "default", SEED + 1, severity_encoder=encoder)
    change = (image.movedim(-1, 1) - both).abs()
    return {
        "border": float(change[0, :, :16].max()),
        "inside": float(change[0, :, 20:-20, 20:-20].mean()),
        "other": float((image[1:] - alone).abs().max()),
        "other's edge": float(change[1, :, :16].mean()),
        "report": report,
        "other's report": other,
    }


def interrupted() -> dict[str, Any]:
    """Cancel in the middle, and the run after it."""
    text, _, size = KINDS["gaussian-blur"]
    y = measure(photos(size), parse_degradation(text, 0.05), generators_for(1, 2))
    calls = []

    def stop(args: dict[str, Any]) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            comfy.model_management.interrupt_current_processing()
        return args["denoised"]

    with torch.inference_mode():
        host = bundled()
        encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(default_encoder("gaussian-blur"))
        first = in_node(host, y, text, "default", severity_encoder=encoder)[0]
        before = loaded_digest(host)
        watched = host._replace(model=host.model.clone())
        watched.model.set_model_sampler_post_cfg_function(stop)
        try:
            in_node(watched, y, text, "default", severity_encoder=encoder)
            raised = "nothing"
        except comfy.model_management.InterruptProcessingException as error:
            raised = type(error).__name__
        second = in_node(host, y, text, "default", severity_encoder=encoder)[0]
        return {
            "raised": raised,
            "calls": len(calls),
            "unchanged": before == loaded_digest(host),
            "again": float((first - second).abs().max()),
        }


def fidelity() -> dict[str, Any]:
    """How far the restoration, damaged again, is from the photo, over the dial."""
    text, _, size = KINDS["gaussian-blur"]
    degradation = parse_degradation(text, 0.05)
    y = measure(photos(size)[:1], degradation, generators_for(1, 1))
    found: dict[str, Any] = {"residual": []}
    with torch.inference_mode():
        host = bundled()
        encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(default_encoder("gaussian-blur"))
        node, same = pack("nodes.restore").RestorePhoto, pack("adapt_diffuse.degradation").parse_degradation(text, 0.05)
        for dial in (0.0, 0.5, 1.0):
            image = node.execute(
                y.movedim(1, -1), host.model, host.vae, same, "ldps", dial, SEED, encoder, steps=30
            ).result[0]
            found["residual"].append(float(Measurement.of(y, degradation).residual_ratio(image.movedim(-1, 1))[0]))
        found["eta"] = [pack("adapt_diffuse.hosts.comfy_restore").dialled_solver("ldps", same, d).eta for d in (0, 0.5)]
        found["trust"] = [
            pack("adapt_diffuse.hosts.comfy_restore").dialled_solver("default", same, d).trust for d in (0, 1)
        ]
        found["gamma"] = pack("adapt_diffuse.hosts.comfy_restore").dialled_solver("resample", same, 1).gamma
        try:
            pack("adapt_diffuse.hosts.comfy_restore").dialled_solver("ldps", same, 1.5)
        except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
            found["refused"] = str(error)
    return found


REPORTS: dict[str, Callable[[], Any]] = {
    **{kind: lambda kind=kind: trained(kind) for kind in KINDS},
    "mixed": mixed,
    "calibrated": calibrated,
    "chosen": chosen,
    "video": video,
    "parts": parts,
    "finish": finish,
    "text": lambda: text_model(lambda host: None),
    "text-flow": lambda: text_model(as_flow),
    "bordered": bordered,
    "interrupted": interrupted,
    "fidelity": fidelity,
}

if __name__ == "__main__":
    tell(REPORTS)
