"""Run by ComfyUI's interpreter, ComfyUI importable: progress bars and Cancel of nodes that look at photos, as JSON."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inside_tools import REPOSITORY, distance, module_at, pack, tell  # first: it makes this process a ComfyUI

# isort: split

import comfy.model_management
import comfy.utils
import torch

from adapt_diffuse.bundled import bundled_encoders, bundled_model
from adapt_diffuse.degradation import GaussianBlur, measure
from adapt_diffuse.estimate import cautious, estimate_damage, load_estimator
from adapt_diffuse.hosts.comfy_model import load_diffusers
from adapt_diffuse.restore import damage_generators
from adapt_diffuse.scratches import find_scratches

models = module_at("models of the tests", REPOSITORY / "tests" / "models.py")
COUNT, SIDE = 4, 64


def told(work: Callable[[], Any], cancel_at: int) -> tuple[list[int], Any]:
    """What the host's progress bar is told, and what comes of the work, which is cancelled at a value of it."""
    values: list[int] = []

    def hook(value: int, total: int, preview: Any, node_id: Any = None) -> None:
        values.append(value)
        if value == cancel_at:
            comfy.model_management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(hook)
    try:
        return values, work()
    except comfy.model_management.InterruptProcessingException:
        return values, "cancelled"
    finally:
        comfy.model_management.interrupt_current_processing(False)
        comfy.utils.set_progress_bar_global_hook(None)


def report(work: Callable[[], Any]) -> dict[str, Any]:
    """The bar of the whole work, and of one that is cancelled after the first photo."""
    with torch.inference_mode():
        whole, made = told(work, 0)
        part, ended = told(work, 1)
        return {"bar": whole, "made": made, "cancelled bar": part, "cancelled": ended}


def photos() -> torch.Tensor:
    return models.drawn_batch(COUNT, SIDE, SIDE)


def scratches() -> dict[str, Any]:
    photo = photos()
    photo[:, :, 20:22] = 1
    node, expected = pack("nodes.film").FindScratches, find_scratches(photo, 0.5, 4)[:, 0]
    image = photo.movedim(1, -1)
    return {
        **report(lambda: float((node.execute(image, 0.5, 4).result[0] - expected).abs().max())),
        "marked": float(expected.mean()),
    }


def estimated() -> dict[str, Any]:
    photo = photos()
    node, image = pack("nodes.estimate").EstimateDegradation, photo.movedim(1, -1)
    estimate = estimate_damage(photo, load_estimator())
    switched = dataclasses.replace(estimate.damage, factor=torch.ones(COUNT), quality=torch.full((COUNT,), 100.0))
    careful = cautious(dataclasses.replace(estimate, damage=switched), photo)

    def off() -> float:
        restore_with, _, found = node.execute(image, True, False, False).result
        pairs = ((restore_with, careful.degradation()), (found, switched.degradation()))
        return max(
            distance(made(photo), expected(photo)) + distance(made.noise_std, expected.noise_std)
            for made, expected in pairs
        )

    marked = [pack("nodes.wires").is_careful(one) for one in node.execute(image).result[::2]]
    return {**report(off), "blurred": int((switched.std + switched.length > 0).sum()), "marked": marked}


def degraded() -> dict[str, Any]:
    photo = photos()
    with torch.inference_mode(False):
        kernels = torch.rand(COUNT + 1, 5, 5, generator=torch.Generator().manual_seed(0))
        kind = pack("adapt_diffuse.degradation").KernelBlur
        blur, many = kind(kernels[:COUNT], 0.05), kind(kernels, 0.05)
    node, image = pack("nodes.degradation").ApplyDegradation, photo.movedim(1, -1)
    expected = measure(photo, blur, damage_generators(7, COUNT)).movedim(1, -1)
    refused = {}
    for name, count in (("too many", COUNT), ("too few", COUNT + 2)):
        try:
            node.execute(image[:1].expand(count, -1, -1, -1), many, 7)
        except pack("adapt_diffuse.errors").AdaptDiffuseError as error:
            refused[name] = str(error)
    return {**report(lambda: distance(node.execute(image, blur, 7).result[0], expected)), **refused}


def encoded(calibrated: bool) -> dict[str, Any]:
    with torch.inference_mode():
        host, image = load_diffusers(bundled_model()), photos().movedim(1, -1)
        with torch.inference_mode(False):
            blur = GaussianBlur(1.0, 0.05)
        if calibrated:
            encoder = pack("nodes.calibrate").CalibrateSeverity.execute(host.model, host.vae, blur, image).result[0]
        else:
            path = bundled_encoders()["severity-flowers-128-gaussian-blur"]
            encoder = pack("adapt_diffuse.hosts.comfy_encoder").HostSeverityEncoder.load(path)
        node = pack("nodes.severity").EncodeSeverity
        alone = [node.execute(image[i : i + 1], host.vae, encoder, blur).result for i in range(COUNT)]
        expected = torch.cat([severity.latent for severity, *_ in alone])
        sigmas = torch.cat([severity.sigma_hat for severity, *_ in alone])

        def off() -> float:
            found = node.execute(image, host.vae, encoder, blur).result[0]
            return distance(found.latent, expected) + distance(found.sigma_hat, sigmas)

        return report(off)


def read() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp())
    models.draw_photos(folder, COUNT, 70, 80)
    paths, by_photo = sorted(folder.iterdir()), pack("adapt_diffuse.hosts.comfy_progress").photo_by_photo
    return report(lambda: len(pack("adapt_diffuse.photo_crops").PhotoCrops(by_photo(paths), SIDE)))


REPORTS: dict[str, Callable[[], Any]] = {
    "scratches": scratches,
    "estimated": estimated,
    "degraded": degraded,
    "encoded": lambda: encoded(False),
    "calibrated": lambda: encoded(True),
    "read": read,
}

if __name__ == "__main__":
    tell(REPORTS)
